//! Guests reach the world: each is seen with the public address that its network, or it alone, has there.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    ptr,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use netpath::definitions::{Network, Zone};

use super::{
    inward::lets_out,
    visit::{Server, visit},
};
use crate::{
    demo::{
        report::Report,
        site::{Guest, Outside, Site},
    },
    guest::{KernelGuest, PATIENCE, raw::wait_readable},
};

const HTTP: u16 = 80;
/// The port that traceroute begins with.
const TRACEROUTE: u16 = 33434;
/// `SO_EE_ORIGIN_ICMP` of linux/errqueue.h.
const FROM_ICMP: u8 = 2;
const TIME_EXCEEDED: u8 = 11;

pub(super) fn check(site: &Site, zone: &Zone, outside: &Outside, report: &mut Report) {
    let internet = outside.host.station().ip;
    for network in &zone.networks {
        for guest in site.guests.iter().filter(|guest| guest.network == network.name.as_str()) {
            let Some(public) = public_address(network, guest) else { continue };
            let server =
                Server { ns: outside.host.ns(), at: SocketAddr::from((internet, HTTP)), name: "internet".to_owned() };
            let page = visit(guest.kernel.ns(), server.at, &server).map(|visit| visit.text());
            let what = format!("{} browses {internet}", guest.title());
            report.row(site, &what, &format!("internet, sees {public}, 4 MiB"), page);
        }
        let first = site.guests.iter().find(|guest| guest.network == network.name.as_str());
        if let (Some(guest), Some(gateway), false) = (first, network.gateway, network.source_nat.is_empty()) {
            let pings = |to: Ipv4Addr| guest.kernel.ping(to).map(|()| "answered".to_owned());
            report.row(site, &format!("{} pings its gateway {}", guest.title(), *gateway), "answered", pings(*gateway));
            report.row(site, &format!("{} pings {internet}", guest.title()), "answered", pings(internet));
            if !lets_out(zone, network, TRACEROUTE) {
                continue;
            }
            let hop = first_hop(&guest.kernel, internet).map(|router| format!("time exceeded, from {router}"));
            let what = format!("{} traces the way to {internet}: TTL 1", guest.title());
            report.row(site, &what, &format!("time exceeded, from {}", *gateway), hop);
        }
    }
}

/// The address that a guest has outside; `None` where it is one of several, or there is none.
pub(super) fn public_address(network: &Network, guest: &Guest) -> Option<Ipv4Addr> {
    let own = network.static_nat.iter().find(|nat| nat.nic.as_str() == guest.instance);
    match (own, &network.source_nat[..]) {
        (Some(own), _) => Some(*own.public),
        (None, [shared]) => Some(**shared),
        _ => None,
    }
}

/// Sends a datagram that may make one hop only, and gives the router that tells of its end.
fn first_hop(guest: &KernelGuest, to: Ipv4Addr) -> Result<IpAddr> {
    let socket = guest.udp(0)?;
    socket.set_ttl(1)?;
    let on: libc::c_int = 1;
    // SAFETY: an open socket, and an option of the length that is given.
    let set = unsafe {
        let len = mem::size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, (&raw const on).cast(), len)
    };
    ensure!(set == 0, "asking for errors: {}", std::io::Error::last_os_error());
    socket.send_to(b"netpath demo", (to, TRACEROUTE))?;
    ensure!(wait_readable(socket.as_fd(), Instant::now() + PATIENCE), "nobody tells of the datagram's end");
    let mut control = [0u64; 32];
    // SAFETY: a struct of integers and pointers; zero is a value of each.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the message points to a buffer of its length, which outlives the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    ensure!(got >= 0, "reading the error: {}", std::io::Error::last_os_error());
    offender(&message).context("an error that no router has sent")
}

/// Who has sent the "time exceeded" that a message of the error queue tells of.
fn offender(message: &libc::msghdr) -> Result<IpAddr> {
    // SAFETY: the kernel has filled in the message; headers and data are read unaligned, within the length that it gives.
    let (error, from) = unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        ensure!(!header.is_null() && (*header).cmsg_type == libc::IP_RECVERR, "no error came with it");
        let data = libc::CMSG_DATA(header).cast::<libc::sock_extended_err>();
        (ptr::read_unaligned(data), ptr::read_unaligned(data.add(1).cast::<libc::sockaddr_in>()))
    };
    if error.ee_origin != FROM_ICMP || error.ee_type != TIME_EXCEEDED {
        bail!("it is of type {} and code {}", error.ee_type, error.ee_code);
    }
    Ok(IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()))
}
