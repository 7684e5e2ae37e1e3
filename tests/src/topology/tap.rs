//! A tap device with virtio headers, held open as QEMU holds it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    os::unix::fs::OpenOptionsExt,
};

use anyhow::{Context, Result};

use super::Link;

/// The length of `struct virtio_net_hdr`, which comes before each frame.
pub const VNET_HEADER: usize = 10;
const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;

/// What the far side of the tap says it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Whole wire frames only: the kernel finishes checksums and segments.
    None,
    /// Partial checksums and TCP super-packets of both families, as a virtio guest has it.
    All,
}

/// An open tap device; closing it removes the device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    link: Link,
}

impl Tap {
    /// Makes a tap in the current namespace and takes it up.
    pub fn new(name: &str, offloads: Offloads) -> Result<Self> {
        let tap = Self::open(name, offloads, 0)?;
        tap.link.up()?;
        Ok(tap)
    }

    /// Makes a tap with several queues, each of them open.
    pub fn with_queues(name: &str, offloads: Offloads, queues: usize) -> Result<Vec<Self>> {
        let taps =
            (0..queues).map(|_| Self::open(name, offloads, libc::IFF_MULTI_QUEUE)).collect::<Result<Vec<_>>>()?;
        Link::named(name).up()?;
        Ok(taps)
    }

    fn open(name: &str, offloads: Offloads, flags: libc::c_int) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun")?;
        // SAFETY: ifreq is plain data for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | flags) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes the ifreq it is given.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) }, "TUNSETIFF", name)?;
        let features = match offloads {
            Offloads::None => 0,
            Offloads::All => libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6,
        };
        // SAFETY: TUNSETOFFLOAD takes a number.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) };
        check(set, "TUNSETOFFLOAD", name)?;
        Ok(Self { file, link: Link::named(name) })
    }

    /// The device in its namespace.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The descriptor, for poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Sends a whole frame as the guest, nothing left to offload.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0; VNET_HEADER];
        bytes.extend(frame);
        (&self.file).write(&bytes).map(drop)
    }

    /// The next frame to the guest, if there is one, its checksum finished where the kernel left that to the guest.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; VNET_HEADER + 65_536];
        match (&self.file).read(&mut bytes) {
            Ok(got) => {
                bytes.truncate(got);
                finish_checksum(&mut bytes);
                Ok(Some(bytes.split_off(VNET_HEADER.min(got))))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a frame with its virtio header, as it is.
    pub(crate) fn read_raw(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes a frame with its virtio header, as it is.
    pub(crate) fn write_raw(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }
}

/// Does what a guest's stack does with `VIRTIO_NET_HDR_F_NEEDS_CSUM` (virtio 1.2, section 5.1.6.2).
pub(crate) fn finish_checksum(bytes: &mut [u8]) {
    if bytes.len() <= VNET_HEADER || bytes[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM == 0 {
        return;
    }
    let start = VNET_HEADER + usize::from(u16::from_ne_bytes([bytes[6], bytes[7]]));
    let field = start + usize::from(u16::from_ne_bytes([bytes[8], bytes[9]]));
    if field + 2 > bytes.len() {
        return;
    }
    let sum = crate::packet::checksum::internet(&bytes[start..]);
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

fn check(result: libc::c_int, what: &str, name: &str) -> Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("{what} on {name}"));
    }
    Ok(())
}
