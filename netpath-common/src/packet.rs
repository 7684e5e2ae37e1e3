//! What a parser asks of a packet.

use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
    vlan::VlanHdr,
    vxlan::VxlanHdr,
};

use crate::{
    icmp::QUOTE_LEN,
    vxlan::{OUTER_LEN, Wrapped},
};

/// A header that any bytes make: no invalid bit patterns, no padding. Two bytes at least: for one byte the compiler
/// turns `offset + 1 > end` into `offset >= end`, from which the verifier learns nothing.
///
/// # Safety
/// Any `size_of::<Self>()` bytes are a value of the type.
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: each is `repr(C)` of integers and integer arrays without padding.
        $(unsafe impl Wire for $type {})+
    };
}

wire!([u8; 2], [u8; 4], [u8; 6], [u8; 8], [u8; 16], [u8; 24], [u8; 32], [u8; OUTER_LEN], [u8; QUOTE_LEN]);
wire!(EthHdr, VlanHdr, ArpHdr, Ipv4Hdr, Ipv6Hdr, UdpHdr, VxlanHdr, Wrapped);
// What the loader tells its programs.
wire!(crate::maps::FlowKey, [crate::maps::BindingKey; 2], crate::carry::Row);

#[expect(clippy::len_without_is_empty, reason = "nobody asks a packet whether it is empty")]
/// A packet whose headers can be read: an XDP buffer, a socket buffer, or bytes in a test.
pub trait Packet {
    /// The header at `offset` bytes from the start, where all of it can be read.
    fn header<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Length of the packet in bytes, read or not.
    fn len(&self) -> usize;
}

/// Bytes in memory: packets of host tests. Headers must lie at offsets that their alignment allows.
#[cfg(any(test, not(target_arch = "bpf")))]
impl Packet for [u8] {
    fn header<T: Wire>(&self, offset: usize) -> Option<&T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        let start = bytes.as_ptr().cast::<T>();
        assert!(
            start.is_aligned(),
            "a test packet lies at an address that {} cannot have",
            core::any::type_name::<T>()
        );
        // SAFETY: `bytes` holds `size_of::<T>()` bytes at an aligned address, and `Wire` allows any of them.
        Some(unsafe { &*start })
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}
