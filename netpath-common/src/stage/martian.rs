//! Addresses that nothing is routed from or to (RFC 1812 §5.3.7, RFC 3927 §7, RFC 2644).

use crate::address::is_unroutable;

/// Whether no packet is routed from an address: this network, loopback, link-local, groups, class E, the limited broadcast.
#[inline(always)]
pub fn source(ip: [u8; 4]) -> bool {
    is_unroutable(ip)
}

/// Whether no packet is routed to an address: the same ones, since groups are not routed.
#[inline(always)]
pub fn destination(ip: [u8; 4]) -> bool {
    is_unroutable(ip)
}

/// Whether an address is the broadcast address of a prefix (RFC 919 §7); prefixes of 31 and 32 bits have none (RFC 3021 §2.1).
#[inline(always)]
pub fn is_directed_broadcast(ip: [u8; 4], prefix: [u8; 4], mask: [u8; 4]) -> bool {
    let host = !u32::from_be_bytes(mask);
    host > 1 && (u32::from_be_bytes(prefix) | host) == u32::from_be_bytes(ip)
}
