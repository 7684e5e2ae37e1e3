//! Tenants' frames that the stack has received: on an uplink, or on netpath's own tunnel device.

use aya_ebpf::{
    bindings::{BPF_F_ADJ_ROOM_FIXED_GSO, bpf_tunnel_key},
    helpers::generated as helper,
};
use netpath_common::{
    DropReason, Frame, Mac, Packet as _,
    frame::{EtherType, Ports, Protocol},
    maps::{Destination, EndpointKey, UplinkKey, destination_kind, segment_flags},
    vxlan::{self, OUTER_LEN},
};
use network_types::eth::EthHdr;

use crate::{
    account, flood,
    from_uplink::{segment, tunnelled},
    learn, maps,
    packet::TcPacket,
    redirect::Verdict,
    vlan,
};

/// What becomes of a frame that no definition claims, on a segment that the host may share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    /// The segment is the tenants' alone.
    Apart,
    /// The host may be a station of it: what is not a guest's is passed, and broadcasts are passed too.
    Shares,
}

/// A frame on an uplink. `owner` becomes the network's index as soon as it is known.
#[inline(always)]
pub fn uplink(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let ifindex = pkt.ifindex();
    if let Some(note) = pkt.note() {
        *owner = note.network;
        return deliver(pkt, note.network, from_tunnel(note.network, note.tunnel), Host::Apart);
    }
    match pkt.tag() {
        Some(tag) if !vlan::is_priority_tag(tag) => {
            let vid = tag.1 & vlan::VID;
            let Some(segment) = segment(ifindex, 0, u32::from(vid)) else { return foreign_vlan(ifindex, vid) };
            *owner = segment.network;
            pkt.pop_tag()?;
            deliver(pkt, segment.network, from_trunk(segment.network, ifindex), Host::Apart)
        }
        tag => {
            if tag.is_none()
                && let Some(arrival) = vxlan::arrival(pkt)
                && let Some(verdict) = decapsulate(pkt, ifindex, &arrival, owner)?
            {
                return Ok(verdict);
            }
            let Some(segment) = segment(ifindex, 0, 0) else { return Ok(Verdict::Pass) };
            *owner = segment.network;
            if tag.is_some() {
                pkt.pop_tag()?;
            }
            deliver(pkt, segment.network, from_trunk(segment.network, ifindex), Host::Shares)
        }
    }
}

/// A VLAN that no network has: passed, but for the reserved id on a trunk of netpath's.
#[inline(never)]
fn foreign_vlan(ifindex: u32, vid: u16) -> Result<Verdict, DropReason> {
    // SAFETY: only whether the row exists is asked.
    let trunk = unsafe { maps::UPLINKS.get(UplinkKey { ifindex, udp_port: 0 }) }.is_some();
    if trunk && vid == vlan::VID { Err(DropReason::ReservedVlan) } else { Ok(Verdict::Pass) }
}

/// A tunnel packet that XDP did not see: judged, and left to the kernel's tunnel device; or, where another device
/// holds the port, its outer headers taken off here.
#[inline(always)]
fn decapsulate(
    pkt: &mut TcPacket,
    ifindex: u32,
    arrival: &vxlan::Arrival,
    owner: &mut u32,
) -> Result<Option<Verdict>, DropReason> {
    let Some(packet) = tunnelled(pkt, ifindex, arrival, owner)? else { return Ok(None) };
    if packet.segment.flags & segment_flags::STRIP == 0 {
        // An outer checksum covers the header: the kernel judges such a packet as it came.
        if arrival.checksum_absent
            && let Some(header) = vxlan::without_reserved_bits(pkt, arrival)
        {
            pkt.write(arrival.vxlan, &header)?;
        }
        return Ok(Some(Verdict::Pass));
    }
    let inner = *pkt.header::<EthHdr>(arrival.inner()).ok_or(DropReason::VxlanMalformed)?;
    // A super-packet of UDP would lose its segments' borders with its outer headers.
    if pkt.gso_size() != 0 && inner_protocol(pkt, arrival.inner(), &inner) != Protocol::TCP {
        return Err(DropReason::EncapsulationRefused);
    }
    pkt.adjust_room(-(OUTER_LEN as i32), u64::from(BPF_F_ADJ_ROOM_FIXED_GSO))?;
    pkt.write(0, &inner)?;
    let network = packet.segment.network;
    deliver(pkt, network, from_tunnel(network, packet.tunnel), Host::Apart).map(Some)
}

#[inline(always)]
fn inner_protocol(pkt: &TcPacket, start: usize, eth: &EthHdr) -> Protocol {
    let offset = match EtherType(u16::from_be(eth.ether_type)) {
        EtherType::IPV4 => 9,
        EtherType::IPV6 => 6,
        _ => return Protocol(0),
    };
    pkt.header::<[u8; 2]>(start + EthHdr::LEN + offset).map_or(Protocol(0), |word| Protocol(word[0]))
}

/// A frame on netpath's own tunnel device, where nothing is anybody else's.
#[inline(always)]
pub fn tunnel_device(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    // SAFETY: a C struct of integers and unions of integers; zero is a value of each.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    // SAFETY: `key` is as large as said, and the context is the kernel's.
    let missing =
        unsafe { helper::bpf_skb_get_tunnel_key(pkt.skb(), &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0) };
    if missing != 0 {
        return Err(DropReason::UnknownSegment);
    }
    let ifindex = pkt.ifindex();
    let segment = segment(ifindex, 0, key.tunnel_id).ok_or(DropReason::UnknownSegment)?;
    *owner = segment.network;
    // SAFETY: IPv4 is the only family that the device is made for; the helper wrote the union.
    let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 }.to_be_bytes();
    let endpoint = EndpointKey { physical_network: segment.physical_network, remote };
    // SAFETY: the row is copied at once.
    let endpoint = unsafe { maps::ENDPOINTS.get(endpoint) }.copied().ok_or(DropReason::UnknownEndpoint)?;
    deliver(pkt, segment.network, from_tunnel(segment.network, endpoint.tunnel), Host::Apart)
}

#[inline(always)]
fn from_tunnel(network: u32, tunnel: u32) -> Destination {
    Destination { network, kind: destination_kind::TUNNEL, target: tunnel, ..Destination::default() }
}

#[inline(always)]
fn from_trunk(network: u32, ifindex: u32) -> Destination {
    Destination { network, kind: destination_kind::UPLINK, target: ifindex, ..Destination::default() }
}

/// Gives a tenant's frame to the guest, or the guests, that it is for.
#[inline(always)]
fn deliver(pkt: &mut TcPacket, network: u32, origin: Destination, host: Host) -> Result<Verdict, DropReason> {
    let eth = pkt.header::<EthHdr>(0).ok_or(DropReason::MalformedFrame)?;
    let frame = Frame {
        destination: Mac(eth.dst_addr),
        source: Mac(eth.src_addr),
        ether_type: EtherType(u16::from_be(eth.ether_type)),
        l3: EthHdr::LEN,
        l4: 0,
        l3_len: 0,
        protocol: Protocol(0),
        tos: 0,
        ports: Ports::default(),
        hash: 0,
    };
    if origin.kind == destination_kind::TUNNEL && pkt.tag().is_some() {
        return Err(DropReason::TaggedFrame);
    }
    if frame.destination.is_link_local_group() {
        return if host == Host::Shares { Ok(Verdict::Pass) } else { Err(DropReason::LinkLocalGroup) };
    }
    learn::note(frame.source, &origin);
    let wanted = if frame.destination.is_group() { None } else { learn::find(network, frame.destination) };
    match wanted {
        Some(guest) if guest.kind == destination_kind::LOCAL => {
            account::to_guest(guest.slot, pkt.len());
            Ok(Verdict::Redirect(guest.target))
        }
        _ if host == Host::Shares && !frame.destination.is_group() => Ok(Verdict::Pass),
        Some(_) => Err(DropReason::NotOnThisHost),
        None => {
            let row = maps::NETWORKS.get(network).ok_or(DropReason::UnknownSegment)?;
            flood::from_wire(pkt, &frame, row, network);
            Ok(if host == Host::Shares { Verdict::Pass } else { Verdict::Consumed })
        }
    }
}
