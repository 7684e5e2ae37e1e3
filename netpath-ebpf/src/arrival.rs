//! Whose frame from the wire this is, and what both hooks of an uplink do to it.

use netpath_common::{
    DropReason, Mac, Packet, checksum,
    frame::{EtherType, Protocol},
    maps::{EndpointKey, Segment, SegmentKey, Uplink, UplinkKey, segment_flags, uplink_flags},
    vxlan::{self, Arrival, Ecn},
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{maps, packet::Rewrite};

/// A tunnel packet for a network of this host.
pub struct Tunnelled {
    /// The segment of its VNI.
    pub segment: Segment,
    /// Row of TUNNELS that leads back to its sender.
    pub tunnel: u32,
}

/// The segment that `id` names on a device.
#[inline(always)]
pub fn segment(ifindex: u32, udp_port: u32, id: u32) -> Option<Segment> {
    // SAFETY: the row is copied at once, and `ifindex` tells whether it is still the row that was asked for.
    let row = unsafe { maps::SEGMENTS.get(SegmentKey { ifindex, udp_port, id }) }.copied()?;
    (row.ifindex == ifindex).then_some(row)
}

/// Whether the segment has a flag of [`segment_flags`].
#[inline(always)]
pub fn has(segment: &Segment, flag: u32) -> bool {
    segment.flags & flag != 0
}

#[inline(always)]
fn uplink(ifindex: u32, udp_port: u32) -> Option<Uplink> {
    // SAFETY: the row is copied at once.
    unsafe { maps::UPLINKS.get(UplinkKey { ifindex, udp_port }) }.copied()
}

/// Whether `arrival` was sent to a multicast group.
#[inline(always)]
pub fn is_group(arrival: &Arrival) -> bool {
    arrival.local[0] & 0xf0 == 0xe0
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
    if endpoint.local != arrival.local && !is_group(arrival) {
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

/// Whether nobody but netpath takes the packet's outer headers off.
#[inline(always)]
pub fn is_stripped_here(packet: &Tunnelled) -> bool {
    has(&packet.segment, segment_flags::STRIP)
}

/// What is read of a tenant's frame before it is out of its tunnel.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
    /// What the frame carries.
    pub ether_type: EtherType,
    /// Offset of the network header in bytes.
    pub l3: usize,
    /// What IP carries; IPv6 extension headers are not walked.
    pub protocol: Protocol,
    /// DSCP and ECN.
    pub tos: u8,
}

impl Inner {
    /// Reads the frame that starts at `start` bytes.
    #[inline(always)]
    pub fn read<P: Packet>(pkt: &P, start: usize) -> Result<Self, DropReason> {
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

    /// Reads what the network header says.
    #[inline(always)]
    pub fn with_protocol<P: Packet>(mut self, pkt: &P) -> Self {
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

    /// The Ethernet header, without the tags that may have stood behind it.
    #[inline(always)]
    pub fn eth(&self) -> EthHdr {
        EthHdr { dst_addr: self.destination.0, src_addr: self.source.0, ether_type: self.ether_type.0.to_be() }
    }

    #[inline(always)]
    fn is_ip(&self) -> bool {
        self.ether_type == EtherType::IPV4 || self.ether_type == EtherType::IPV6
    }
}

/// Carries the underlay's congestion mark into the inner header (RFC 6040 §4.2).
#[inline(always)]
pub fn mark_congestion<P: Rewrite>(pkt: &mut P, arrival: &Arrival, inner: &Inner) -> Result<(), DropReason> {
    let ecn = match vxlan::decapsulate_ecn(arrival.tos, inner.tos, inner.is_ip())? {
        Ecn::Keep => return Ok(()),
        Ecn::MarkCe => 3,
        Ecn::MarkEct1 => 1,
    };
    rewrite_ecn(pkt, inner, ecn)
}

/// Marks an ECN-capable packet as having met congestion (RFC 3168 §5); `false` where it is not capable.
#[inline(always)]
pub fn mark_ce<P: Rewrite>(pkt: &mut P, inner: &Inner) -> bool {
    inner.is_ip() && inner.tos & 3 != 0 && rewrite_ecn(pkt, inner, 3).is_ok()
}

#[inline(never)]
fn rewrite_ecn<P: Rewrite>(pkt: &mut P, inner: &Inner, ecn: u8) -> Result<(), DropReason> {
    if inner.ether_type == EtherType::IPV6 {
        let [a, b, ..] = pkt.header::<Ipv6Hdr>(inner.l3).ok_or(DropReason::MalformedIpv6)?.vcf;
        return pkt.write(inner.l3, &[a, b & 0xcf | ecn << 4]);
    }
    let mut ip = *pkt.header::<Ipv4Hdr>(inner.l3).ok_or(DropReason::MalformedIpv4)?;
    set_ecn(&mut ip, ecn);
    pkt.write(inner.l3, &ip)
}

/// Writes ECN into a header, and mends its checksum.
#[inline(always)]
pub fn set_ecn(ip: &mut Ipv4Hdr, ecn: u8) {
    let tos = ip.tos & 0xfc | ecn;
    ip.check = checksum::replace(ip.check, [ip.vihl, ip.tos], [ip.vihl, tos]);
    ip.tos = tos;
}
