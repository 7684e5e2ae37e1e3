//! Echo requests (RFC 792) that may not be fragmented, to find what size a path takes.
//!
//! ```text
//! to each: one of the size that is needed, and a small one ─┬─ the large one is answered: the path is wide enough
//!                                                           ├─ only the small one: sizes between are tried
//!                                                           └─ none: silent
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recv, sendto, socket_with, sockopt,
    },
};

use crate::{
    doctor::host::{Echo, Peer},
    netlink::NetlinkError,
};

/// IPv4 and ICMP headers.
const HEADERS: u32 = 28;
/// A packet that every path takes (RFC 791 §3.2).
const SMALL: u32 = 68;
/// Sizes in between: jumbo frames, PPPoE, IPsec, IPv6's least, IPv4's least to be taken whole.
const SIZES: [u32; 12] = [9000, 8950, 4050, 1600, 1554, 1550, 1504, 1500, 1492, 1400, 1280, 576];
/// Requests are sent again this often, after so long.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(350);
/// So many are sent before answers are taken, and for so long they are waited for.
const GROUP: usize = 32;
const BREATH: Duration = Duration::from_millis(2);
/// Room for answers that come while others are still asked.
const ROOM: usize = 4 << 20;
/// `IP_PMTUDISC_PROBE`: packets may not be fragmented, and what the kernel believes of the path does not count.
const PROBE: libc::c_int = 3;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    local: Ipv4Addr,
    remote: Ipv4Addr,
    needed: u32,
}

impl Target {
    pub(super) fn of(peer: &Peer) -> Self {
        Self { local: peer.local, remote: peer.remote, needed: peer.needed }
    }
}

/// Asks all of them at once; waits no longer than twice `ROUNDS` times `ROUND`.
///
/// # Errors
/// When no socket can be had.
pub(super) fn ask(targets: &[Target]) -> Result<Vec<Echo>, NetlinkError> {
    let mut asker = Asker::new(targets)?;
    asker.ask(|_, target| vec![target.needed.max(SMALL), SMALL]);
    let narrow: Vec<bool> = (0..targets.len()).map(|place| asker.largest(place) == Some(SMALL)).collect();
    asker.ask(|place, target| match narrow[place] {
        true => SIZES.into_iter().filter(|size| *size < target.needed).collect(),
        false => Vec::new(),
    });
    let answer = |place| match asker.largest(place) {
        Some(largest) => Echo::Answered(largest),
        None => Echo::Silent,
    };
    Ok((0..targets.len()).map(answer).collect())
}

struct Asker<'t> {
    targets: &'t [Target],
    /// By the address that is asked from.
    sockets: BTreeMap<Ipv4Addr, OwnedFd>,
    /// Tells answers to this process from others.
    identifier: u16,
    /// What was sent, by sequence number: place of the target, size, answered.
    requests: Vec<(usize, u32, bool)>,
}

impl<'t> Asker<'t> {
    fn new(targets: &'t [Target]) -> Result<Self, NetlinkError> {
        let mut sockets = BTreeMap::new();
        for target in targets {
            if let Entry::Vacant(vacant) = sockets.entry(target.local) {
                vacant
                    .insert(socket(target.local).map_err(|source| NetlinkError::raw_socket("echo requests", source))?);
            }
        }
        let identifier = std::process::id() as u16;
        Ok(Self { targets, sockets, identifier, requests: Vec::new() })
    }

    /// The largest size that a target has answered.
    fn largest(&self, place: usize) -> Option<u32> {
        let answered = self.requests.iter().filter(|(target, _, is_answered)| *target == place && *is_answered);
        answered.map(|(_, size, _)| *size).max()
    }

    fn ask(&mut self, sizes: impl Fn(usize, &Target) -> Vec<u32>) {
        let first = self.requests.len();
        for (place, target) in self.targets.iter().enumerate() {
            self.requests.extend(sizes(place, target).into_iter().map(|size| (place, size, false)));
        }
        // A sequence number has 16 bits.
        self.requests.truncate(usize::from(u16::MAX));
        for _ in 0..ROUNDS {
            if self.requests[first..].iter().all(|(.., is_answered)| *is_answered) {
                return;
            }
            self.send(first);
            self.wait_for_answers(first, Instant::now() + ROUND);
        }
    }

    /// Sends what is not answered. Answers are taken in between: a socket has room for some dozens.
    fn send(&mut self, first: usize) {
        let unanswered = (first..self.requests.len()).filter(|sequence| !self.requests[*sequence].2);
        let unanswered: Vec<usize> = unanswered.collect();
        for group in unanswered.chunks(GROUP) {
            for sequence in group {
                let (place, size, _) = self.requests[*sequence];
                let target = self.targets[place];
                let Some(socket) = self.sockets.get(&target.local) else { continue };
                let to = SocketAddr::V4(SocketAddrV4::new(target.remote, 0));
                // What does not fit the device itself, or has no route, is not answered, which is what is asked for.
                let _ = sendto(socket, &request(self.identifier, *sequence as u16, size), SendFlags::DONTWAIT, &to);
            }
            if group.len() == GROUP && self.wait(Instant::now() + BREATH) {
                self.receive();
            }
        }
    }

    fn wait_for_answers(&mut self, first: usize, until: Instant) {
        while !self.requests[first..].iter().all(|(.., is_answered)| *is_answered) && self.wait(until) {
            self.receive();
        }
    }

    /// Takes the answers that have come.
    fn receive(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 256];
        for socket in self.sockets.values() {
            while let Ok(((packet, _), length)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)
            {
                let Some((from, sequence)) = reply(packet, self.identifier) else { continue };
                if let Some((place, size, is_answered)) = self.requests.get_mut(usize::from(sequence))
                    && self.targets[*place].remote == from
                    && length >= *size as usize
                {
                    *is_answered = true;
                }
            }
        }
    }

    /// Until there is something to receive; `false` when it is too late.
    fn wait(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        let mut polled: Vec<_> =
            self.sockets.values().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        !left.is_zero() && poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}

fn socket(local: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMP))?;
    let probe = PROBE;
    let length = size_of_val(&probe) as libc::socklen_t;
    // SAFETY: the option's value is an int, which outlives the call.
    let set = unsafe {
        let value = (&raw const probe).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, length)
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // Without the right to it, the usual room has to do.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, ROOM);
    bind(&socket, &SocketAddr::new(IpAddr::V4(local), 0))?;
    Ok(socket)
}

/// An echo request in an IPv4 packet of `size` bytes; the kernel puts the IPv4 header before it.
fn request(identifier: u16, sequence: u16, size: u32) -> Vec<u8> {
    let mut message = vec![REQUEST, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(message.len() + size.saturating_sub(HEADERS) as usize, 0x4e);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Who has answered which request, from an IPv4 packet.
fn reply(packet: &[u8], identifier: u16) -> Option<(Ipv4Addr, u16)> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let message = packet.get(header..)?;
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    (*message.first()? == REPLY && word(4)? == identifier).then(|| Some((from.into(), word(6)?)))?
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_is_asked_for_and_a_right_sum() {
        for size in [SMALL, 1499, 9000] {
            let message = request(7, 9, size);
            assert_eq!(message.len() + 20, size as usize);
            assert_eq!(checksum(&message), 0);
        }
    }

    #[test]
    fn hundreds_that_answer_at_once_are_all_heard() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let target = |number: u32| Target {
            local: Ipv4Addr::LOCALHOST,
            remote: Ipv4Addr::from(0x7f01_0001 + number),
            needed: 1500,
        };
        let targets: Vec<Target> = (0..500).map(target).collect();
        assert_eq!(ask(&targets).unwrap(), vec![Echo::Answered(1500); 500]);
    }

    #[test]
    fn only_answers_to_own_requests_count() {
        let mut packet = vec![0x45; 1];
        packet.resize(12, 0);
        packet.extend([192, 0, 2, 12, 192, 0, 2, 11]);
        packet.extend([REPLY, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(reply(&packet, 7), Some((Ipv4Addr::new(192, 0, 2, 12), 9)));
        assert_eq!(reply(&packet, 8), None);
        assert_eq!(reply(&packet[..24], 7), None);
        packet[20] = REQUEST;
        assert_eq!(reply(&packet, 7), None);
    }
}
