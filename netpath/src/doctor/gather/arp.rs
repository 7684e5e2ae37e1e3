//! ARP probes (RFC 5227 §2.1.1) for upstream routers: questions without a sender's address, so that nobody notes anything, and
//! whose answers netpath's own programs pass.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use netpath_common::{Mac, maps::Upstream, stage::arp};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with},
};

use crate::{apply, netlink::frame::Sender};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(300);
/// Ethernet's header; a tag is taken out before a packet socket sees the frame.
const ETHERNET: usize = 14;

/// Whether the router of a link answers, before the rounds are over.
///
/// # Errors
/// When the device is gone or down.
pub(super) fn answers(link: &Upstream) -> io::Result<bool> {
    let socket = listen(link.ifindex)?;
    let sender = Sender::open().map_err(io::Error::other)?;
    let question = apply::router_question(link, [0; 4]);
    for _ in 0..ROUNDS {
        sender.send(link.ifindex, &question).map_err(io::Error::other)?;
        let until = Instant::now() + ROUND;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
            if poll(&mut polled, Some(&timeout))? == 0 {
                break;
            }
            let mut buffer = [MaybeUninit::uninit(); 128];
            if let Ok(((frame, _), _)) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)
                && is_answer(frame, link)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_answer(frame: &[u8], link: &Upstream) -> bool {
    let at = |from: usize, to: usize| frame.get(ETHERNET + from..ETHERNET + to).unwrap_or_default();
    let is_reply = at(6, 8) == arp::REPLY.to_be_bytes() && frame.get(..6) == Some(&link.mac.0);
    is_reply && at(14, 18) == link.gateway && at(8, 14) != Mac::ZERO.0
}

/// A packet socket that sees the ARP packets of one device, also those that programs at its ingress take.
fn listen(device: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    filter(&socket)?;
    // SAFETY: plain data, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device as i32;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is valid for the call, and its length is its.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A busy uplink's other frames are not copied: `ldh [12]; jeq 0x0806; ret 128; ret 0`.
fn filter(socket: &OwnedFd) -> io::Result<()> {
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        instruction(0x28, 0, 0, 12),
        instruction(0x15, 0, 1, 0x0806),
        instruction(0x06, 0, 0, 128),
        instruction(0x06, 0, 0, 0),
    ];
    let attached = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let length = size_of_val(&attached) as libc::socklen_t;
    // SAFETY: the program and what points at it outlive the call, which copies them.
    let set = unsafe {
        let value = (&raw const attached).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_routers_answer_to_this_host_counts() {
        let link = Upstream { gateway: [203, 0, 113, 1], mac: Mac([2, 0, 0, 0, 0, 9]), ..Upstream::default() };
        let frame = |to: [u8; 6], operation: u8, from: [u8; 4]| {
            let mut frame = [to, [2, 0, 0, 0, 0, 1]].concat();
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1]);
            frame.extend(from);
            frame.extend([0; 10]);
            frame
        };
        assert!(is_answer(&frame(link.mac.0, 2, link.gateway), &link));
        assert!(!is_answer(&frame(link.mac.0, 1, link.gateway), &link));
        assert!(!is_answer(&frame([0xff; 6], 2, link.gateway), &link));
        assert!(!is_answer(&frame(link.mac.0, 2, [203, 0, 113, 2]), &link));
        assert!(!is_answer(&[0; 10], &link));
    }
}
