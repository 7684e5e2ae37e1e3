//! The arithmetic of a rewrite: addresses, ports, time to live, and checksums without a look at what they cover (RFC 1624).
//!
//! A difference is the one's complement sum of what is taken out and what is put in, in the memory's byte order, as
//! `bpf_l4_csum_replace` wants it with a size of 0: the new checksum is `!fold(!checksum + difference)`. It is 0 where nothing
//! changes.

use network_types::ip::Ipv4Hdr;

use crate::{
    checksum,
    maps::{Flow, FlowKey},
};

/// The addresses and ports of a packet, before a rewrite or after it. Addresses in wire order, ports in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

impl Change {
    /// What a packet has as it arrives.
    #[inline(always)]
    pub fn before(key: &FlowKey) -> Self {
        Self {
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
        }
    }

    /// What a packet has as it leaves.
    #[inline(always)]
    pub fn after(flow: &Flow) -> Self {
        Self {
            source: flow.source,
            destination: flow.destination,
            source_port: flow.source_port,
            destination_port: flow.destination_port,
        }
    }

    /// The same of a packet the other way: what an ICMP error quotes.
    #[inline(always)]
    pub fn opposite(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The difference that the addresses make, to the IP header's checksum and to a pseudo-header.
    #[inline(always)]
    pub fn address_difference(&self, after: &Self) -> u32 {
        let long = |bytes: [u8; 4]| u64::from(u32::from_ne_bytes(bytes));
        let not = |bytes: [u8; 4]| u64::from(!u32::from_ne_bytes(bytes));
        let sum = not(self.source) + not(self.destination) + long(after.source) + long(after.destination);
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        match ((sum & 0xffff_ffff) + (sum >> 32)) as u32 {
            u32::MAX => 0,
            sum => sum,
        }
    }

    /// The difference that the ports make.
    #[inline(always)]
    pub fn port_difference(&self, after: &Self) -> u32 {
        let word = |port: u16| u64::from(port.to_be());
        let not = |port: u16| u64::from(!port.to_be());
        let ports = not(self.source_port) + not(self.destination_port);
        match checksum::fold(ports + word(after.source_port) + word(after.destination_port)) {
            u16::MAX => 0,
            sum => u32::from(sum),
        }
    }
}

/// The difference that the addresses of a flow make.
#[inline(always)]
pub fn address_difference(before: &FlowKey, flow: &Flow) -> u32 {
    Change::before(before).address_difference(&Change::after(flow))
}

/// The difference that the ports of a flow make; of ICMP, the identifier's.
#[inline(always)]
pub fn port_difference(before: &FlowKey, flow: &Flow) -> u32 {
    Change::before(before).port_difference(&Change::after(flow))
}

/// The identifier of an ICMP query after a rewrite: whichever of the two ports is the querier's, the other one is zero.
#[inline(always)]
pub fn icmp_identifier(flow: &Flow) -> u16 {
    flow.source_port | flow.destination_port
}

/// A checksum field after a difference (RFC 1624 equation 3).
#[inline(always)]
pub fn apply(check: [u8; 2], difference: u32) -> [u8; 2] {
    let not = u64::from(!u16::from_ne_bytes(check));
    (!checksum::fold(not + u64::from(difference))).to_ne_bytes()
}

/// The checksum field of UDP over IPv4 after a difference: 0 says that there is none and stays, and what would become 0 is
/// sent as all ones (RFC 768).
#[inline(always)]
pub fn apply_udp(check: [u8; 2], difference: u32) -> [u8; 2] {
    if check == [0, 0] {
        return check;
    }
    match apply(check, difference) {
        [0, 0] => [0xff, 0xff],
        check => check,
    }
}

/// Counts a hop off the time to live, which must not be 0.
#[inline(always)]
pub fn decrement_ttl(ip: &mut Ipv4Hdr) {
    rewrite(ip, 0, true, (0, false));
}

/// Rewrites an IPv4 header: the addresses become the flow's, which make `address_difference`; a hop is counted where
/// `decrement` says so (the time to live must not be 0), and the identification becomes the first of `id` (in host order) if the
/// second is true. The header's checksum follows.
#[inline(always)]
pub fn ipv4(ip: &mut Ipv4Hdr, flow: &Flow, address_difference: u32, decrement: bool, id: (u16, bool)) {
    ip.src_addr = flow.source;
    ip.dst_addr = flow.destination;
    rewrite(ip, address_difference, decrement, id);
}

#[inline(always)]
fn rewrite(ip: &mut Ipv4Hdr, address_difference: u32, decrement: bool, (id, replace): (u16, bool)) {
    let word = |bytes: [u8; 2]| u64::from(u16::from_ne_bytes(bytes));
    let not = |bytes: [u8; 2]| u64::from(!u16::from_ne_bytes(bytes));
    let mut sum = not(ip.check) + u64::from(address_difference);
    if decrement {
        sum += not([ip.ttl, ip.proto]);
        ip.ttl = ip.ttl.wrapping_sub(1);
        sum += word([ip.ttl, ip.proto]);
    }
    if replace {
        sum += not(ip.id);
        ip.id = id.to_be_bytes();
        sum += word(ip.id);
    }
    ip.check = (!checksum::fold(sum)).to_ne_bytes();
}
