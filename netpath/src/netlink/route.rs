//! Which way the kernel would send.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::{
    NetlinkError,
    codec::{ACK, Message, u32_at},
    socket::Socket,
};

/// `struct rtmsg`.
const RTMSG_LEN: usize = 12;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;

/// The index of the device through which `to` is reached; `None` where there is no route.
///
/// # Errors
/// When the kernel refuses.
pub fn device_towards(to: Ipv4Addr) -> Result<Option<u32>, NetlinkError> {
    let mut header = [0; RTMSG_LEN];
    header[0] = AF_INET;
    header[1] = 32;
    let request = Message::new(RTM_GETROUTE, ACK, &header).attribute(RTA_DST, &to.octets());
    let replies = match Socket::route()?.ask(&format!("ask for the route to {to}"), request) {
        Err(error) if error.errno().is_some_and(is_no_route) => return Ok(None),
        replies => replies?,
    };
    let route = replies.iter().find(|reply| reply.kind == RTM_NEWROUTE);
    Ok(route.and_then(|reply| u32_at(reply.attributes(RTMSG_LEN).find(RTA_OIF)?, 0)))
}

fn is_no_route(code: i32) -> bool {
    [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::INVAL, Errno::ACCESS].iter().any(|e| e.raw_os_error() == code)
}
