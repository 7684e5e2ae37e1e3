//! A routed packet in XDP: it is followed before there is a socket buffer.
//!
//! ```text
//!   public link ─┐                                              ┌─► a guest's device (not TCP: GRO merges that)
//!   tunnel ──────┼─► FLOWS: known, judged, nothing new to it ───┼─► a tunnel
//!   VLAN ────────┘     │ not known ─► connect: written down ─┘   ├─► a VLAN
//!                      │ anything else                           └─► a public link
//!                      └─► left to TC, as it came
//! ```
//!
//! In functions, each with a stack of its own: [`plan`] decides and changes nothing of the packet, [`send`] rewrites it. What
//! [`begin`] does for a first one wants the stack of a program of its own.

mod begin;
mod plan;
mod send;

use aya_ebpf::programs::XdpContext;
use netpath_common::{
    DropReason, Mac, Packet as _,
    maps::{CONNECTION_WORDS, PUBLIC_SIDE, connection_row, event_hook, stage},
};
use network_types::eth::EthHdr;

use crate::{
    connection::Connection, event, from_uplink, global, maps, packet::XdpPacket, public, redirect::Verdict,
    tuple::Tuple, vlan,
};

/// What is to become of a packet: noted in the memory of its processor between the two functions.
#[repr(C)]
struct Plan {
    /// Where its IPv4 header is, in bytes. From here to the tuple it is what [`connect`] is told: within one ABI any build's
    /// program may be the one that reads it.
    l3: u32,
    /// Where it came from.
    side: u32,
    /// [`Carry`].
    carry: u32,
    /// The network that a refusal is counted for.
    owner: u32,
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
        const { assert!(core::mem::offset_of!(Self, tuple) == 16 && size_of::<Tuple>() == 48) };
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
    const FIRST: u32 = 1 << 9;

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
        Self(u32::from(tci & vlan::PRIORITY) << 16)
    }

    /// The same of a packet that [`begin`] has noted the connection of.
    #[inline(always)]
    fn first(self) -> Self {
        Self(self.0 | Self::FIRST)
    }

    /// Whether the connection is as this packet has made it.
    #[inline(always)]
    fn is_first(self) -> bool {
        self.0 & Self::FIRST != 0
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

/// What [`plan`] and [`begin`] answer.
mod answer {
    use netpath_common::DropReason;

    use crate::global;

    /// The packet is left to TC.
    pub const PASS: u32 = 0;
    /// The packet goes as planned; of [`begin`](super::begin): its connection is known now.
    pub const SEND: u32 = u32::MAX;
    /// The packet's connection is not known, or not judged by the rules in force.
    pub const UNKNOWN: u32 = u32::MAX - 1;
    /// The packet has made its connection.
    pub const BEGUN: u32 = u32::MAX - 2;

    /// The packet is refused: any other answer, as [`global::result`] reads it.
    #[inline(always)]
    pub fn refused(reason: DropReason) -> u32 {
        global::word(Err(reason))
    }
}

/// Follows a packet on public link `index` whose IPv4 header is at `l3`; `None` where it is left to TC, as it came. `owner`
/// becomes the network that a refusal is counted for.
#[inline(always)]
pub fn from_public(
    pkt: &mut XdpPacket,
    index: u32,
    l3: usize,
    carry: Carry,
    owner: &mut u32,
) -> Result<Option<Verdict>, DropReason> {
    let Some(eth) = pkt.header::<EthHdr>(0) else { return Ok(None) };
    let Some(link) = public::link(index) else { return Ok(None) };
    if Mac(eth.dst_addr) != link.mac {
        return Ok(None);
    }
    along(pkt, l3, PUBLIC_SIDE | index, carry, owner)
}

/// Follows a packet from `side` whose IPv4 header is at `l3`; `None` where it is left to TC, as it came. One whose connection
/// is not known is handed to [`connect`], and nothing comes back. `owner` becomes the network that a refusal is counted for.
#[inline(always)]
pub fn along(
    pkt: &mut XdpPacket,
    l3: usize,
    side: u32,
    carry: Carry,
    owner: &mut u32,
) -> Result<Option<Verdict>, DropReason> {
    let answer = plan::plan(pkt, l3, side, carry);
    if answer == answer::UNKNOWN {
        if let Some(plan) = Plan::scratch() {
            (plan.l3, plan.side, plan.carry) = (l3 as u32, side, carry.0);
        }
        // SAFETY: the context is the kernel's. It returns where the program is not there: TC has the packet then.
        unsafe { maps::STAGES_XDP.tail_call(&XdpContext::new(pkt.raw()), stage::CONNECT_XDP) };
    }
    finish(pkt, l3, answer, owner)
}

/// Runs the pipeline for a packet whose connection is not known. What cannot be sent from here is left to TC as
/// `from_uplink_xdp` leaves it: packets of one flow go one way. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn connect(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let Some(&mut Plan { l3, side, carry, owner: network, .. }) = Plan::scratch() else { return Ok(Verdict::PASS) };
    *owner = network;
    let (l3, carry) = (l3 as usize, Carry(carry));
    let mut answer = begin::begin();
    if answer == answer::BEGUN {
        if let Some(connection) = Connection::current() {
            event::connected(pkt.raw(), event_hook::CONNECT_XDP, &connection.key);
        }
        answer = plan::plan(pkt, l3, side, carry.first());
    } else if answer == answer::SEND {
        answer = plan::plan(pkt, l3, side, carry);
    }
    if let Some(verdict) = finish(pkt, l3, answer, owner)? {
        return Ok(verdict);
    }
    if carry.outer_tos().is_some() {
        global::result(from_uplink::leave(pkt))?;
    }
    Ok(Verdict::PASS)
}

/// Does what [`plan`] or [`begin`] has answered.
#[inline(always)]
fn finish(pkt: &mut XdpPacket, l3: usize, answer: u32, owner: &mut u32) -> Result<Option<Verdict>, DropReason> {
    match answer {
        answer::PASS | answer::UNKNOWN => Ok(None),
        answer::SEND => match send::send(pkt, l3) {
            0 => Err(DropReason::EncapsulationRefused),
            ifindex => Ok(Some(Verdict::redirect(ifindex))),
        },
        refused => {
            if let Some(plan) = Plan::scratch() {
                *owner = plan.owner;
            }
            global::result(refused).map(|()| None)
        }
    }
}
