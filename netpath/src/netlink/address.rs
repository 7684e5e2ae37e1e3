//! The host's addresses, and multicast group membership through autojoin addresses (`ip address add 239.x.y.z/32 dev DEV autojoin`).
//!
//! A socket's membership ends with its process; an autojoin address keeps it for as long as the device exists,
//! and the kernel answers the querier.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    NetlinkError,
    codec::{ACK, CREATE, DUMP, EXCLUSIVE, Message, Reply, u32_at},
    socket::Socket,
};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// `struct ifaddrmsg`.
pub(super) const IFADDR_LEN: usize = 8;
/// Where it has the prefix's length.
const IFA_PREFIXLEN: usize = 1;
const AF_INET: u8 = 2;
/// Link scope: never chosen as the source of anything that leaves the link.
const RT_SCOPE_LINK: u8 = 253;
const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_MCAUTOJOIN: u32 = 0x400;

/// One group joined on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Membership {
    /// Index of the device that the group is joined on: the uplink, or the bridge above it.
    pub device: u32,
    /// The group.
    pub group: Ipv4Addr,
}

/// Every autojoin address of the namespace.
///
/// # Errors
/// When the kernel refuses the request.
pub fn memberships() -> Result<Vec<Membership>, NetlinkError> {
    let mut header = [0; IFADDR_LEN];
    header[0] = AF_INET;
    let replies = Socket::route()?.ask("list addresses", Message::new(RTM_GETADDR, DUMP, &header))?;
    Ok(replies.iter().filter_map(membership).collect())
}

/// Every IPv4 address of the namespace's devices, those that keep a multicast group joined aside.
///
/// # Errors
/// When the kernel refuses the request.
pub fn addresses() -> Result<Vec<Ipv4Addr>, NetlinkError> {
    Ok(by_device()?.into_iter().map(|(_, address)| address.addr()).collect())
}

/// The same, each with the index of the device that has it.
///
/// # Errors
/// When the kernel refuses the request.
pub fn by_device() -> Result<Vec<(u32, Ipv4Net)>, NetlinkError> {
    let mut header = [0; IFADDR_LEN];
    header[0] = AF_INET;
    let replies = Socket::route()?.ask("list addresses", Message::new(RTM_GETADDR, DUMP, &header))?;
    let address = |reply: &Reply| {
        let octets = <[u8; 4]>::try_from(reply.attributes(IFADDR_LEN).find(IFA_LOCAL)?).ok()?;
        let net = Ipv4Net::new(octets.into(), *reply.payload.get(IFA_PREFIXLEN)?).ok()?;
        Some((u32_at(&reply.payload, 4)?, net))
    };
    Ok(replies.iter().filter(|reply| membership(reply).is_none()).filter_map(address).collect())
}

/// Joins; a group already joined is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn join(membership: Membership) -> Result<(), NetlinkError> {
    let request = request(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, membership)
        .attribute(IFA_FLAGS, &IFA_F_MCAUTOJOIN.to_ne_bytes());
    let operation = format!("join multicast group {} on device {}", membership.group, membership.device);
    match Socket::route()?.ask(&operation, request) {
        Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => Ok(()),
        other => other.map(drop),
    }
}

/// Leaves; a group not joined is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn leave(membership: Membership) -> Result<(), NetlinkError> {
    let operation = format!("leave multicast group {} on device {}", membership.group, membership.device);
    match Socket::route()?.ask(&operation, request(RTM_DELADDR, ACK, membership)) {
        Err(error) if error.is_gone() => Ok(()),
        other => other.map(drop),
    }
}

fn request(kind: u16, flags: u16, membership: Membership) -> Message {
    let mut header = [AF_INET, 32, 0, RT_SCOPE_LINK, 0, 0, 0, 0];
    header[4..].copy_from_slice(&membership.device.to_ne_bytes());
    let group = membership.group.octets();
    Message::new(kind, flags, &header).attribute(IFA_LOCAL, &group).attribute(IFA_ADDRESS, &group)
}

fn membership(reply: &Reply) -> Option<Membership> {
    let attributes = reply.attributes(IFADDR_LEN);
    let flags = attributes.find(IFA_FLAGS).and_then(|p| u32_at(p, 0))?;
    let group = <[u8; 4]>::try_from(attributes.find(IFA_LOCAL)?).ok()?;
    let device = u32_at(&reply.payload, 4)?;
    (flags & IFA_F_MCAUTOJOIN != 0).then_some(Membership { device, group: group.into() })
}
