//! A frame from the wire: whose is it, and to which guest does it go.
//!
//! ```text
//!   XDP  a tunnel or trunk frame for one local guest, not TCP: outer headers or tag off, out of the guest's device
//!        everything else that is a tenant's: on to the stack, where GRO merges it, then
//!   TC   on netpath's own tunnel device (the kernel has taken the outer headers off), or
//!        on the uplink: what XDP stripped, VLAN and untagged networks
//! ```
//!
//! The way is chosen by protocol, so a flow has one way and is never reordered.

use netpath_common::{
    DropReason, Mac, Packet, checksum,
    frame::{EtherType, Protocol},
    maps::{
        Destination, EndpointKey, Segment, SegmentKey, Uplink, UplinkKey, destination_flags, destination_kind,
        segment_flags, uplink_flags,
    },
    vxlan::{self, Arrival, Ecn},
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

use crate::{
    account, learn, maps,
    packet::{Stripped, XdpPacket},
    redirect::Verdict,
    vlan as tag,
};

/// A tunnel packet for a network of this host.
pub struct Tunnelled {
    /// The segment of its VNI.
    pub segment: Segment,
    /// Row of TUNNELS that leads back to its sender.
    pub tunnel: u32,
}

#[inline(always)]
pub fn segment(ifindex: u32, udp_port: u32, id: u32) -> Option<Segment> {
    // SAFETY: the row is copied at once, and `ifindex` tells whether it is still the row that was asked for.
    let row = unsafe { maps::SEGMENTS.get(SegmentKey { ifindex, udp_port, id }) }.copied()?;
    (row.ifindex == ifindex).then_some(row)
}

#[inline(always)]
fn uplink(ifindex: u32, udp_port: u32) -> Option<Uplink> {
    // SAFETY: the row is copied at once.
    unsafe { maps::UPLINKS.get(UplinkKey { ifindex, udp_port }) }.copied()
}

/// Whose tunnel packet this is: `None` for what is not netpath's.
#[inline(always)]
pub fn tunnelled<P: Packet>(
    pkt: &P,
    ifindex: u32,
    arrival: &Arrival,
    owner: &mut u32,
) -> Result<Option<Tunnelled>, DropReason> {
    let vni = match vxlan::vni(pkt, arrival) {
        Ok(vni) => vni,
        Err(reason) => return stranger(ifindex, arrival, reason),
    };
    let Some(segment) = segment(ifindex, u32::from(arrival.udp_port), vni) else {
        return stranger(ifindex, arrival, DropReason::UnknownSegment);
    };
    let key = EndpointKey { physical_network: segment.physical_network, remote: arrival.remote };
    // SAFETY: the row is copied at once.
    let Some(endpoint) = unsafe { maps::ENDPOINTS.get(key) }.copied() else {
        return stranger(ifindex, arrival, DropReason::UnknownEndpoint);
    };
    if endpoint.local != arrival.local {
        return Ok(None);
    }
    *owner = segment.network;
    Ok(Some(Tunnelled { segment, tunnel: endpoint.tunnel }))
}

/// A packet on some UDP port that belongs to no network: refused where the port and the address are netpath's own,
/// and none of its business otherwise.
#[inline(never)]
fn stranger(ifindex: u32, arrival: &Arrival, reason: DropReason) -> Result<Option<Tunnelled>, DropReason> {
    match uplink(ifindex, u32::from(arrival.udp_port)) {
        Some(row) if row.local == arrival.local && row.flags & uplink_flags::OWNS_PORT != 0 => Err(reason),
        _ => Ok(None),
    }
}

/// The XDP program's pipeline. `owner` becomes the network's index as soon as it is known.
#[inline(always)]
pub fn process(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let Some(eth) = pkt.header::<EthHdr>(0) else { return Ok(Verdict::Pass) };
    if EtherType(u16::from_be(eth.ether_type)).is_tag() {
        return trunk(pkt, owner);
    }
    let Some(arrival) = vxlan::arrival(pkt) else { return Ok(Verdict::Pass) };
    // A group's packets go to whoever joined it: the kernel's tunnel device.
    if arrival.local[0] & 0xf0 == 0xe0 || pkt.has_fragments() {
        return Ok(Verdict::Pass);
    }
    let ifindex = pkt.ifindex();
    let Some(packet) = tunnelled(pkt, ifindex, &arrival, owner)? else { return Ok(Verdict::Pass) };
    let strip = packet.segment.flags & segment_flags::STRIP != 0;
    // Only the kernel verifies an outer checksum.
    if !arrival.checksum_absent && !strip {
        return Ok(Verdict::Pass);
    }
    let inner = Inner::read(pkt, arrival.inner())?;
    if inner.ether_type.is_tag() {
        return Err(DropReason::TaggedFrame);
    }
    match to_guest(packet.segment.network, &inner)? {
        Some(guest) => {
            mark_congestion(pkt, &arrival, &inner)?;
            pkt.shrink_head(arrival.inner())?;
            account::to_guest(guest.slot, pkt.len());
            Ok(Verdict::Redirect(guest.target))
        }
        None if strip => {
            mark_congestion(pkt, &arrival, &inner)?;
            pkt.shrink_head(arrival.inner())?;
            // Without the note TC would not know the frame's network, and the host must not see it.
            if pkt.note(Stripped::new(packet.segment.network, packet.tunnel)) {
                return Ok(Verdict::Pass);
            }
            Err(DropReason::EncapsulationRefused)
        }
        None => {
            if let Some(header) = vxlan::without_reserved_bits(pkt, &arrival) {
                pkt.write(arrival.vxlan, &header)?;
            }
            Ok(Verdict::Pass)
        }
    }
}

/// A frame with a VLAN tag in it.
#[inline(always)]
fn trunk(pkt: &mut XdpPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let ifindex = pkt.ifindex();
    let Some(vlan) = pkt.header::<VlanHdr>(EthHdr::LEN) else { return Ok(Verdict::Pass) };
    let vid = u32::from(u16::from_be_bytes(vlan.tci) & tag::VID);
    if vid == 0 || pkt.has_fragments() {
        return Ok(Verdict::Pass);
    }
    let Some(segment) = segment(ifindex, 0, vid) else { return Ok(Verdict::Pass) };
    *owner = segment.network;
    let mut inner = Inner::read(pkt, 0)?;
    inner.l3 += VlanHdr::LEN;
    let vlan = pkt.header::<VlanHdr>(EthHdr::LEN).ok_or(DropReason::MalformedFrame)?;
    inner.ether_type = EtherType(u16::from_be(vlan.ether_type));
    let Some(guest) = to_guest(segment.network, &inner.with_protocol(pkt))? else { return Ok(Verdict::Pass) };
    let origin = Destination {
        network: segment.network,
        kind: destination_kind::UPLINK,
        target: ifindex,
        ..Destination::default()
    };
    learn::note(inner.source, &origin);
    let eth =
        EthHdr { dst_addr: inner.destination.0, src_addr: inner.source.0, ether_type: inner.ether_type.0.to_be() };
    pkt.write(VlanHdr::LEN, &eth)?;
    pkt.shrink_head(VlanHdr::LEN)?;
    account::to_guest(guest.slot, pkt.len());
    Ok(Verdict::Redirect(guest.target))
}

/// What XDP reads of a tenant's frame.
#[derive(Clone, Copy)]
struct Inner {
    destination: Mac,
    source: Mac,
    ether_type: EtherType,
    /// Offset of the network header in bytes.
    l3: usize,
    protocol: Protocol,
    tos: u8,
}

impl Inner {
    #[inline(always)]
    fn read(pkt: &XdpPacket, start: usize) -> Result<Self, DropReason> {
        let eth = pkt.header::<EthHdr>(start).ok_or(DropReason::MalformedFrame)?;
        let inner = Self {
            destination: Mac(eth.dst_addr),
            source: Mac(eth.src_addr),
            ether_type: EtherType(u16::from_be(eth.ether_type)),
            l3: start + EthHdr::LEN,
            protocol: Protocol(0),
            tos: 0,
        };
        Ok(inner.with_protocol(pkt))
    }

    #[inline(always)]
    fn with_protocol(mut self, pkt: &XdpPacket) -> Self {
        if self.ether_type == EtherType::IPV4
            && let Some(ip) = pkt.header::<Ipv4Hdr>(self.l3)
        {
            (self.protocol, self.tos) = (Protocol(ip.proto), ip.tos);
        }
        if self.ether_type == EtherType::IPV6
            && let Some(ip) = pkt.header::<Ipv6Hdr>(self.l3)
        {
            (self.protocol, self.tos) = (Protocol(ip.next_hdr), ip.vcf[0] << 4 | ip.vcf[1] >> 4);
        }
        self
    }

    #[inline(always)]
    fn is_ip(&self) -> bool {
        self.ether_type == EtherType::IPV4 || self.ether_type == EtherType::IPV6
    }
}

/// The guest to whose device XDP redirects the frame; `None` where the stack has to take it: TCP (for GRO), floods, devices
/// that take no redirected frames, stations that are not defined.
#[inline(always)]
fn to_guest(network: u32, inner: &Inner) -> Result<Option<Destination>, DropReason> {
    if inner.destination.is_link_local_group() {
        return Err(DropReason::LinkLocalGroup);
    }
    if inner.destination.is_group() {
        return Ok(None);
    }
    let Some(row) = learn::find(network, inner.destination) else { return Ok(None) };
    if row.kind != destination_kind::LOCAL {
        return Err(DropReason::NotOnThisHost);
    }
    let redirects = row.flags & destination_flags::XDP_TARGET != 0 && inner.protocol != Protocol::TCP;
    Ok(redirects.then_some(row))
}

/// Carries the underlay's congestion mark into the inner header (RFC 6040 §4.2).
#[inline(always)]
fn mark_congestion(pkt: &mut XdpPacket, arrival: &Arrival, inner: &Inner) -> Result<(), DropReason> {
    let ecn = match vxlan::decapsulate_ecn(arrival.tos, inner.tos, inner.is_ip())? {
        Ecn::Keep => return Ok(()),
        Ecn::MarkCe => 3,
        Ecn::MarkEct1 => 1,
    };
    rewrite_ecn(pkt, inner, ecn)
}

#[inline(never)]
fn rewrite_ecn(pkt: &mut XdpPacket, inner: &Inner, ecn: u8) -> Result<(), DropReason> {
    if inner.ether_type == EtherType::IPV6 {
        let [a, b, ..] = pkt.header::<Ipv6Hdr>(inner.l3).ok_or(DropReason::MalformedIpv6)?.vcf;
        return pkt.write(inner.l3, &[a, b & 0xcf | ecn << 4]);
    }
    let mut ip = *pkt.header::<Ipv4Hdr>(inner.l3).ok_or(DropReason::MalformedIpv4)?;
    let tos = ip.tos & 0xfc | ecn;
    ip.check = checksum::replace(ip.check, [ip.vihl, ip.tos], [ip.vihl, tos]);
    ip.tos = tos;
    pkt.write(inner.l3, &ip)
}
