//! A frame from the wire: whose is it, and to which guest does it go.
//!
//! ```text
//!   XDP  a tunnel or trunk frame for one local guest, not TCP: outer headers or tag off, out of the guest's device
//!        a packet that the gateway routes: see `forward`
//!        everything else that is a tenant's: on to the stack, where GRO merges it, then
//!   TC   on netpath's own tunnel device (the kernel has taken the outer headers off), or
//!        on the uplink: what XDP stripped, VLAN and untagged networks
//! ```
//!
//! The way is chosen by protocol, so a flow has one way and is never reordered.

use netpath_common::{
    DropReason, Packet,
    frame::{EtherType, Protocol},
    maps::{Destination, Segment, destination_flags, destination_kind, segment_flags},
    vxlan,
};
use network_types::{eth::EthHdr, vlan::VlanHdr};

use crate::{
    admit,
    arrival::{self, Inner, Tunnelled},
    event,
    forward::{self, Carry},
    global, learn, maps, meter,
    packet::{Rewrite as _, Stripped, XdpPacket},
    redirect::Verdict,
    vlan as tag,
};

/// Runs the pipeline. `owner` becomes the network's index as soon as it is known.
#[inline(always)]
pub fn process(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let Some(eth) = pkt.header::<EthHdr>(0) else { return Ok(Verdict::PASS) };
    if EtherType(u16::from_be(eth.ether_type)).is_tag() {
        return trunk(pkt, owner);
    }
    let Some(outer) = vxlan::arrival(pkt) else { return untagged(pkt, owner) };
    // A group's packets go to whoever joined it, by way of the stack. The helper that tells of fragments is asked only
    // where the packet is longer than what can be read: it costs as much as a lookup.
    if arrival::is_group(&outer) || outer.frame_len > pkt.len() && pkt.has_fragments() {
        return Ok(Verdict::PASS);
    }
    let ifindex = pkt.ifindex();
    let Some(packet) = arrival::tunnelled(pkt, ifindex, &outer, owner)? else { return untagged(pkt, owner) };
    // Only the kernel verifies an outer checksum.
    if !outer.checksum_absent && !arrival::is_stripped_here(&packet) {
        return Ok(Verdict::PASS);
    }
    let inner = Inner::read(pkt, outer.inner())?;
    if inner.ether_type.is_tag() {
        return Err(DropReason::TaggedFrame);
    }
    let mut next = next(&packet.segment, &inner)?;
    let is_routed = next.who == Who::Gateway;
    if is_routed {
        let carry = Carry::tunnelled(outer.tos);
        if inner.ether_type == EtherType::IPV4
            && let Some(verdict) = forward::along(pkt, inner.l3, packet.segment.network, carry, owner)?
        {
            return Ok(verdict);
        }
        next.who = Who::Stack;
    }
    match next.who {
        Who::Guest => {
            arrival::mark_congestion(pkt, &outer, &inner)?;
            pkt.shrink_head(outer.inner())?;
            meter::to_guest_early(pkt, next.slot)?;
            Ok(Verdict::redirect(next.target))
        }
        Who::Gateway | Who::Stack => {
            to_stack(pkt, &packet, &outer, &inner, is_routed)?;
            Ok(Verdict::PASS)
        }
        Who::Bridge => Ok(Verdict::PASS),
    }
}

/// Leaves a routed tunnel packet to TC, as [`process`] would: for `connect_xdp`, in a stack of its own. A
/// [`global::word`](crate::global::word).
#[inline(never)]
pub fn leave(pkt: &mut XdpPacket) -> u32 {
    let attempt = |pkt: &mut XdpPacket| {
        let Some(outer) = vxlan::arrival(pkt) else { return Ok(()) };
        let ifindex = pkt.ifindex();
        let Some(packet) = arrival::tunnelled(pkt, ifindex, &outer, &mut 0)? else { return Ok(()) };
        let inner = Inner::read(pkt, outer.inner())?;
        to_stack(pkt, &packet, &outer, &inner, true)
    };
    global::word(attempt(pkt))
}

/// Makes a tunnel packet what TC takes. What is routed, but for TCP, which GRO merges in the kernel's tunnel device, comes
/// without a second way through the stack.
#[inline(always)]
fn to_stack(
    pkt: &mut XdpPacket,
    packet: &Tunnelled,
    outer: &vxlan::Arrival,
    inner: &Inner,
    is_routed: bool,
) -> Result<(), DropReason> {
    // A trace hands frames from hook to hook without notes.
    if event::is_trace() {
        return Ok(());
    }
    let is_stripped_here = arrival::is_stripped_here(packet);
    let strips =
        is_stripped_here || is_routed && inner.ether_type == EtherType::IPV4 && inner.protocol != Protocol::TCP;
    if strips && strip(pkt, packet, outer, inner)? || is_stripped_here {
        return Ok(());
    }
    if let Some(header) = vxlan::without_reserved_bits(pkt, outer) {
        pkt.write(outer.vxlan, &header)?;
    }
    Ok(())
}

/// Takes the outer headers off and leaves TC a note whose frame it is. `false` where the driver keeps none: then the whole
/// packet is TC's.
#[inline(always)]
fn strip(pkt: &mut XdpPacket, packet: &Tunnelled, outer: &vxlan::Arrival, inner: &Inner) -> Result<bool, DropReason> {
    // The note moves along with the head.
    let noted = pkt.note(Stripped::new(packet.segment.network, packet.tunnel));
    if noted {
        arrival::mark_congestion(pkt, outer, inner)?;
        pkt.shrink_head(outer.inner())?;
    }
    Ok(noted)
}

/// A frame without a tag that is in no tunnel of netpath's: on an untagged public link, or not netpath's.
#[inline(always)]
fn untagged(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let is_ipv4 = pkt.header::<EthHdr>(0).is_some_and(|eth| eth.ether_type == EtherType::IPV4.0.to_be());
    let ifindex = pkt.ifindex();
    let segment = if is_ipv4 { arrival::segment(ifindex, 0, 0) } else { None };
    let Some(segment) = segment.filter(|row| arrival::has(row, segment_flags::PUBLIC)) else {
        return Ok(Verdict::PASS);
    };
    Ok(forward::from_public(pkt, segment.network, EthHdr::LEN, Carry::NONE, owner)?.unwrap_or(Verdict::PASS))
}

/// A frame with a VLAN tag in it.
#[inline(always)]
fn trunk(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let ifindex = pkt.ifindex();
    let Some(vlan) = pkt.header::<VlanHdr>(EthHdr::LEN) else { return Ok(Verdict::PASS) };
    let (tci, ether_type) = (u16::from_be_bytes(vlan.tci), EtherType(u16::from_be(vlan.ether_type)));
    let vid = tci & tag::VID;
    if vid == 0 || pkt.has_fragments() {
        return Ok(Verdict::PASS);
    }
    let Some(segment) = arrival::segment(ifindex, 0, u32::from(vid)) else { return Ok(Verdict::PASS) };
    let l3 = EthHdr::LEN + VlanHdr::LEN;
    if arrival::has(&segment, segment_flags::PUBLIC) {
        if ether_type != EtherType::IPV4 {
            return Ok(Verdict::PASS);
        }
        let followed = forward::from_public(pkt, segment.network, l3, Carry::tagged(tci), owner)?;
        return Ok(followed.unwrap_or(Verdict::PASS));
    }
    *owner = segment.network;
    let mut inner = Inner::read(pkt, 0)?;
    inner.l3 += VlanHdr::LEN;
    inner.ether_type = ether_type;
    let inner = inner.with_protocol(pkt);
    let next = next(&segment, &inner)?;
    if next.who == Who::Gateway && ether_type == EtherType::IPV4 {
        let followed = forward::along(pkt, l3, segment.network, Carry::tagged(tci), owner)?;
        return Ok(followed.unwrap_or(Verdict::PASS));
    }
    if next.who != Who::Guest {
        return Ok(Verdict::PASS);
    }
    // The network's uplink, not the device: on a bond, XDP sees the slave, through which no answer should be sent.
    if let Some(network) = maps::NETWORKS.get(segment.network) {
        let kind = destination_kind::UPLINK;
        let target = network.uplink;
        learn::note(inner.source, &Destination { network: segment.network, kind, target, ..Destination::default() });
    }
    pkt.write(VlanHdr::LEN, &inner.eth())?;
    pkt.shrink_head(VlanHdr::LEN)?;
    meter::to_guest_early(pkt, next.slot)?;
    Ok(Verdict::redirect(next.target))
}

/// Where a tenant's frame goes next. The port is whole for every `Who`: see [`Verdict`] on fields that a variant lacks.
struct Next {
    who: Who,
    /// The guest's device and its row in COUNTERS, for [`Who::Guest`].
    target: u32,
    slot: u32,
}

/// Who has a tenant's frame next.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A guest's device.
    Guest,
    /// The network's gateway: this host.
    Gateway,
    /// netpath's programs behind the stack: TCP (for GRO), floods, devices that take no redirected frames.
    Stack,
    /// A bridge beside netpath, which has the stations that are not defined (`on_miss: pass`).
    Bridge,
}

#[inline(always)]
fn next(segment: &Segment, inner: &Inner) -> Result<Next, DropReason> {
    let miss = if arrival::has(segment, segment_flags::ON_MISS_PASS) { Who::Bridge } else { Who::Stack };
    let miss = Next { who: miss, target: 0, slot: 0 };
    if inner.destination.is_group() {
        let refused = inner.destination.is_link_local_group() && miss.who == Who::Stack;
        return if refused { Err(DropReason::LinkLocalGroup) } else { Ok(miss) };
    }
    match learn::find(segment.network, inner.destination) {
        Some(row) if row.kind == destination_kind::LOCAL => {
            let routed = arrival::has(segment, segment_flags::TIER) && admit::is_routed(segment.network, inner.source);
            let redirects =
                !routed && row.flags & destination_flags::XDP_TARGET != 0 && inner.protocol != Protocol::TCP;
            let who = if redirects { Who::Guest } else { Who::Stack };
            Ok(Next { who, target: row.target, slot: row.slot })
        }
        Some(row) if row.kind == destination_kind::GATEWAY => Ok(Next { who: Who::Gateway, ..miss }),
        Some(_) if miss.who == Who::Stack => Err(DropReason::NotOnThisHost),
        _ => Ok(miss),
    }
}
