//! A routed packet in XDP: a connection that is known is followed before there is a socket buffer.
//!
//! ```text
//!   public link ─┐                                              ┌─► a guest's device (not TCP: GRO merges that)
//!   tunnel ──────┼─► FLOWS: known, judged, nothing new to it ───┼─► a tunnel
//!   VLAN ────────┘     │ anything else                           ├─► a VLAN
//!                      └─► left to TC, as it came                └─► a public link
//! ```
//!
//! In two functions, each with a stack of its own: [`plan`] decides and changes nothing of the packet, [`send`] rewrites it.

mod plan;
mod send;

use netpath_common::{
    DropReason, Mac, Packet as _,
    maps::{CONNECTION_WORDS, PUBLIC_SIDE, connection_row},
};
use network_types::eth::EthHdr;

use crate::{maps, packet::XdpPacket, public, redirect::Verdict, tuple::Tuple, vlan};

/// What is to become of a packet: noted in the memory of its processor between the two functions.
#[repr(C)]
struct Plan {
    /// The packet, with its IPv4 header as it is to be.
    tuple: Tuple,
    /// The difference that its new addresses make to a checksum.
    addresses: u32,
    /// The difference that its new ports make.
    ports: u32,
    /// The new ports, as they stand in the packet; of ICMP the identifier in the first half.
    new_ports: [u8; 4],
    /// The hash of the flow, for a tunnel's source port.
    hash: u32,
    /// Destination MAC address.
    destination: Mac,
    /// Source MAC address.
    source: Mac,
    /// The device that it leaves by, but for a tunnel's.
    ifindex: u32,
    /// The VNI, for a tunnel.
    segment: u32,
    /// Row of TUNNELS, for [`Encapsulation::TUNNEL`].
    tunnel: u32,
    /// The tag control field, for [`Encapsulation::TAG`].
    tci: u16,
    /// [`Encapsulation`].
    encapsulation: u16,
}

/// What stands before the packet when it leaves.
struct Encapsulation;

impl Encapsulation {
    /// An Ethernet header.
    const NONE: u16 = 0;
    /// With a tag.
    const TAG: u16 = 1;
    /// In a tunnel.
    const TUNNEL: u16 = 2;
}

impl Plan {
    /// This processor's one, with what an earlier packet has left there.
    #[inline(always)]
    fn scratch() -> Option<&'static mut Self> {
        const { assert!(size_of::<Self>() <= CONNECTION_WORDS * 8 && align_of::<Self>() <= 8) };
        let row = maps::CONNECTION.get_ptr_mut(connection_row::PACKET)?;
        // SAFETY: the row is large enough and aligned, any bytes are a value of integers, and programs do not preempt each
        // other on a processor.
        Some(unsafe { &mut *row.cast() })
    }
}

/// What stood before the packet when it came, in one word.
#[derive(Clone, Copy)]
pub struct Carry(u32);

impl Carry {
    const TUNNELLED: u32 = 1 << 8;

    /// Nothing but an Ethernet header.
    pub const NONE: Self = Self(0);

    /// An outer header with this DSCP and ECN.
    #[inline(always)]
    pub fn tunnelled(tos: u8) -> Self {
        Self(Self::TUNNELLED | u32::from(tos))
    }

    /// A tag, whose priority bits (PCP and DEI) go on to the next one (802.1Q §6.9.3).
    #[inline(always)]
    pub fn tagged(tci: u16) -> Self {
        Self(u32::from(tci & !vlan::VID) << 16)
    }

    /// DSCP and ECN of the outer header.
    #[inline(always)]
    fn outer_tos(self) -> Option<u8> {
        (self.0 & Self::TUNNELLED != 0).then_some(self.0 as u8)
    }

    /// Priority bits of the tag.
    #[inline(always)]
    fn priority(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// What [`plan::plan`] answers; anything else is the code of the [`DropReason`] that the packet is refused for.
mod answer {
    /// The packet is left to TC.
    pub const PASS: u32 = 0;
    /// The packet goes as planned.
    pub const SEND: u32 = u32::MAX;
}

/// Follows a packet on public link `index` whose IPv4 header is at `l3`; `None` where it is left to TC, as it came.
#[inline(always)]
pub fn from_public(pkt: &mut XdpPacket, index: u32, l3: usize, carry: Carry) -> Result<Option<Verdict>, DropReason> {
    let Some(eth) = pkt.header::<EthHdr>(0) else { return Ok(None) };
    let Some(link) = public::link(index) else { return Ok(None) };
    if Mac(eth.dst_addr) != link.mac {
        return Ok(None);
    }
    along(pkt, l3, PUBLIC_SIDE | index, carry)
}

/// Follows a packet from `side` whose IPv4 header is at `l3`; `None` where it is left to TC, as it came.
#[inline(always)]
pub fn along(pkt: &mut XdpPacket, l3: usize, side: u32, carry: Carry) -> Result<Option<Verdict>, DropReason> {
    match plan::plan(pkt, l3, side, carry.0) {
        answer::PASS => Ok(None),
        answer::SEND => match send::send(pkt, l3) {
            0 => Err(DropReason::EncapsulationRefused),
            ifindex => Ok(Some(Verdict::redirect(ifindex))),
        },
        code => Err(DropReason::from_code(code).unwrap_or(DropReason::CongestionNotEcn)),
    }
}
