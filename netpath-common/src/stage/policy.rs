//! What a rule of a firewall or an ACL says of the first packet of a connection.

use crate::{frame::Protocol, maps::Rule};

/// What rules are asked about: addresses in wire order, ports in host order, as the packet has them where it is judged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Destination port of TCP or UDP; not looked at otherwise.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// ICMP type; not looked at otherwise.
    pub icmp_type: u8,
    /// ICMP code; not looked at otherwise.
    pub icmp_code: u8,
}

/// Whether an address lies in a prefix; a zero mask is everywhere.
#[inline(always)]
pub fn is_in(address: [u8; 4], prefix: [u8; 4], mask: [u8; 4]) -> bool {
    let word = u32::from_ne_bytes;
    (word(address) ^ word(prefix)) & word(mask) == 0
}

#[inline(always)]
fn is_any_or(wanted: u16, value: u8) -> bool {
    wanted == Rule::ANY || wanted == u16::from(value)
}

/// Whether a rule is about a packet. Its ports are asked for where the packet is TCP or UDP, its type and code where the packet
/// is ICMP.
#[inline(always)]
pub fn matches(rule: &Rule, subject: &Subject) -> bool {
    if !is_in(subject.source, rule.source, rule.source_mask)
        || !is_in(subject.destination, rule.destination, rule.destination_mask)
        || !is_any_or(rule.protocol, subject.protocol)
    {
        return false;
    }
    let protocol = Protocol(subject.protocol);
    if protocol == Protocol::TCP || protocol == Protocol::UDP {
        let any = rule.first_port == 0 && rule.last_port == 0;
        any || rule.first_port <= subject.port && subject.port <= rule.last_port
    } else if protocol == Protocol::ICMP {
        is_any_or(rule.icmp_type, subject.icmp_type) && is_any_or(rule.icmp_code, subject.icmp_code)
    } else {
        true
    }
}
