//! An endpoint that sends frames and looks at every frame it gets.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{PATIENCE, PacketSocket};
use crate::{
    packet::{dissect, verify_checksums},
    topology::Tap,
};

static MARKERS: AtomicU32 = AtomicU32::new(1);

/// A guest (or a wire) without a stack: the test is the stack.
#[derive(Debug)]
pub struct RawGuest {
    name: String,
    port: Port,
}

#[derive(Debug)]
enum Port {
    Tap(Tap),
    Packet(PacketSocket),
}

impl RawGuest {
    /// On a tap.
    pub fn on_tap(name: &str, tap: Tap) -> Self {
        Self { name: name.to_owned(), port: Port::Tap(tap) }
    }

    /// On a packet socket.
    pub fn on_socket(name: &str, socket: PacketSocket) -> Self {
        Self { name: name.to_owned(), port: Port::Packet(socket) }
    }

    /// Sends a frame.
    pub fn send(&self, frame: impl AsRef<[u8]>) {
        self.try_send(frame.as_ref()).unwrap_or_else(|error| panic!("{} cannot send: {error}", self.name));
    }

    /// Sends a frame that the device may refuse.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        match &self.port {
            Port::Tap(tap) => tap.send(frame),
            Port::Packet(socket) => socket.send(frame),
        }
    }

    /// The first frame that `is_wanted`, its checksums verified; other frames are passed over (and verified).
    ///
    /// # Panics
    /// When none came within [`PATIENCE`], naming `what` and what came instead; when a checksum is wrong.
    #[track_caller]
    pub fn expect(&self, what: &str, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut others = Vec::new();
        match self.until(Instant::now() + PATIENCE, |frame| {
            let wanted = is_wanted(frame);
            if !wanted {
                others.push(summary(frame));
            }
            wanted
        }) {
            Some(frame) => frame,
            None => panic!("{} waited for {what}; instead came {others:#?}", self.name),
        }
    }

    /// The very bytes of `frame`.
    #[track_caller]
    pub fn expect_frame(&self, frame: &[u8]) {
        self.expect(&format!("{}: {frame:02x?}", summary(frame)), |got| got == frame);
    }

    /// Fails if a frame that `is_forbidden` comes before one that `is_marker`. Send the marker, on the same way,
    /// after what must not arrive.
    #[track_caller]
    pub fn expect_none_before(&self, is_forbidden: impl Fn(&[u8]) -> bool, is_marker: impl Fn(&[u8]) -> bool) {
        self.expect("the marker", |frame| {
            assert!(!is_forbidden(frame), "{} got {}: {frame:02x?}", self.name, summary(frame));
            is_marker(frame)
        });
    }

    /// The next frame that `is_wanted` before the deadline.
    #[track_caller]
    pub fn until(&self, deadline: Instant, mut is_wanted: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
        loop {
            while let Some(frame) = self.receive() {
                if let Err(error) = verify_checksums(&frame) {
                    panic!("{} got a bad checksum: {error:#}\n{frame:02x?}", self.name);
                }
                if is_wanted(&frame) {
                    return Some(frame);
                }
            }
            if !wait_readable(self.fd(), deadline) {
                return None;
            }
        }
    }

    /// Throws away what has come so far.
    pub fn drain(&self) {
        while self.receive().is_some() {}
    }

    /// Throws away frames, whatever their checksums, until one that `is_last` was thrown away too.
    #[track_caller]
    pub fn discard_until(&self, is_last: impl Fn(&[u8]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.receive() {
                if is_last(&frame) {
                    return;
                }
            }
            assert!(wait_readable(self.fd(), deadline), "{} waited for the last frame in vain", self.name);
        }
    }

    fn receive(&self) -> Option<Vec<u8>> {
        match &self.port {
            Port::Tap(tap) => tap.receive(),
            Port::Packet(socket) => socket.receive(),
        }
        .unwrap_or_else(|error| panic!("{} cannot receive: {error}", self.name))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.port {
            Port::Tap(tap) => tap.fd(),
            Port::Packet(socket) => socket.fd(),
        }
    }
}

/// A payload that no other packet of this process has.
pub fn marker() -> Vec<u8> {
    format!("netpath-marker-{:08}", MARKERS.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

/// Whether these bytes stand anywhere in the frame.
pub fn contains(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}

/// Waits until `fd` is readable; false when the deadline passed first.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let left = left + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// A frame in one line, for messages.
pub fn summary(frame: &[u8]) -> String {
    let Some(parts) = dissect(frame) else { return format!("{} bytes", frame.len()) };
    let tags: String = parts.tags.iter().map(|(tpid, tci)| format!(" tag {tpid:#06x}:{tci:#06x}")).collect();
    let mut text = format!("{:02x?} → {:02x?}{tags} {:#06x}", parts.src_mac, parts.dst_mac, parts.ethertype);
    if let Some(arp) = parts.arp() {
        text += &format!(" arp {arp:02x?}");
    }
    if let Some(ip) = &parts.ip {
        text += &format!(" {} → {} protocol {}", ip.src, ip.dst, ip.protocol);
    }
    match (parts.vxlan(), parts.ports(), parts.icmp()) {
        (Some((vni, _, inner)), ..) => text += &format!(" vni {vni} [{}]", summary(inner)),
        (_, Some((src, dst, payload)), _) => text += &format!(" {src} → {dst}, {} bytes", payload.len()),
        (.., Some((kind, code))) => text += &format!(" icmp {kind}/{code}"),
        _ => {}
    }
    text
}
