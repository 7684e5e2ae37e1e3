//! Tenants' frames that the stack has received: on an uplink, or on netpath's own tunnel device.

use aya_ebpf::{
    bindings::{BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO, bpf_tunnel_key},
    helpers::generated as helper,
};
use netpath_common::{
    DropReason, Frame, Mac, Packet as _,
    frame::{EtherType, Ports, Protocol},
    maps::{Destination, EndpointKey, Segment, UplinkKey, destination_kind, segment_flags, stage},
    vxlan::{self, Arrival, OUTER_LEN},
};
use network_types::eth::EthHdr;

use crate::{
    admit,
    arrival::{self, Inner},
    event, flood,
    handover::Handover,
    learn, maps, meter,
    packet::{Rewrite as _, TcPacket},
    public,
    redirect::Verdict,
    vlan,
};

/// Whether the kernel knows `BPF_F_ADJ_ROOM_DECAP_L3_IPV6` (Linux 6.3): set by the loader. Without it a super-packet of
/// IPv6 that is taken out of IPv4 keeps IPv4's protocol number, and is cut up wrongly.
#[unsafe(no_mangle)]
static DECAP_L3: u32 = 0;

/// The mark of a tunnel packet that was judged on an uplink and is left to netpath's tunnel device. The device listens
/// on every interface of the host; what comes to it by another way is refused.
const JUDGED: u32 = 0x6e70_6a64;

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
        return deliver(pkt, note.network, from_tunnel(note.network, note.tunnel), Host::Apart, 0);
    }
    match pkt.tag() {
        Some(tag) if !vlan::is_priority_tag(tag) => {
            let vid = tag.1 & vlan::VID;
            let Some(segment) = arrival::segment(ifindex, 0, u32::from(vid)) else {
                return foreign_vlan(ifindex, vid);
            };
            on_segment(pkt, &segment, true, Host::Apart, owner)
        }
        tag => {
            // The kernel has taken a tag out of the frame by now, if there was one.
            if (tag.is_none() || pkt.has_offloaded_tag())
                && let Some(verdict) = tunnelled(pkt, ifindex, owner)?
            {
                return Ok(verdict);
            }
            let Some(segment) = arrival::segment(ifindex, 0, 0) else { return Ok(Verdict::PASS) };
            on_segment(pkt, &segment, tag.is_some(), Host::Shares, owner)
        }
    }
}

/// A frame of a VLAN or untagged network, or of a public link, in its tag if it has one.
#[inline(always)]
fn on_segment(
    pkt: &mut TcPacket,
    segment: &Segment,
    tagged: bool,
    host: Host,
    owner: &mut u32,
) -> Result<Verdict, DropReason> {
    if arrival::has(segment, segment_flags::PUBLIC) {
        return public::arrive(pkt, segment.network, tagged, owner);
    }
    *owner = segment.network;
    if is_the_bridges(pkt, segment, 0)? {
        return Ok(Verdict::PASS);
    }
    let priority = if tagged { vlan::pop(pkt)? } else { 0 };
    let target = maps::NETWORKS.get(segment.network).map_or(segment.ifindex, |network| network.uplink);
    let kind = destination_kind::UPLINK;
    let origin = Destination { network: segment.network, kind, target, ..Destination::default() };
    deliver(pkt, segment.network, origin, host, priority)
}

/// Whether a bridge beside netpath has the frame at `start` bytes: it is for no defined port of this host and not for the gateway, and its
/// network says `on_miss: pass`.
#[inline(always)]
fn is_the_bridges(pkt: &TcPacket, segment: &Segment, start: usize) -> Result<bool, DropReason> {
    if !arrival::has(segment, segment_flags::ON_MISS_PASS) {
        return Ok(false);
    }
    let destination = Inner::read(pkt, start)?.destination;
    let ours = learn::find(segment.network, destination)
        .is_some_and(|row| matches!(row.kind, destination_kind::LOCAL | destination_kind::GATEWAY));
    Ok(destination.is_group() || !ours)
}

/// A VLAN that no network has: passed, but for the reserved id on a trunk of netpath's.
#[inline(never)]
fn foreign_vlan(ifindex: u32, vid: u16) -> Result<Verdict, DropReason> {
    // SAFETY: only whether the row exists is asked.
    let trunk = unsafe { maps::UPLINKS.get(UplinkKey { ifindex, udp_port: 0 }) }.is_some();
    if trunk && vid == vlan::VID { Err(DropReason::ReservedVlan) } else { Ok(Verdict::PASS) }
}

/// A tunnel packet that XDP did not take: judged, marked and left to the kernel's tunnel device; or, where another
/// device holds the port, its outer headers taken off here. `None` for what is not netpath's.
#[inline(always)]
fn tunnelled(pkt: &mut TcPacket, ifindex: u32, owner: &mut u32) -> Result<Option<Verdict>, DropReason> {
    let Some(outer) = vxlan::arrival(pkt) else {
        // Fragments and headers with options cannot be judged before the kernel has put them together.
        if vxlan::is_unreadable_udp(pkt) {
            pkt.set_mark(JUDGED);
        }
        return Ok(None);
    };
    let Some(packet) = arrival::tunnelled(pkt, ifindex, &outer, owner)? else { return Ok(None) };
    let is_stripped_here = arrival::is_stripped_here(&packet);
    // A trace has no tunnel device to go through.
    if is_stripped_here || event::is_trace() {
        if is_stripped_here && is_the_bridges(pkt, &packet.segment, outer.inner())? {
            return Ok(Some(Verdict::PASS));
        }
        if pkt.has_offloaded_tag() {
            pkt.pop_tag()?;
        }
        decapsulate(pkt, &outer)?;
        let network = packet.segment.network;
        return deliver(pkt, network, from_tunnel(network, packet.tunnel), Host::Apart, 0).map(Some);
    }
    if let Some(header) = vxlan::without_reserved_bits(pkt, &outer) {
        if let Some(check) = vxlan::check_without_reserved_bits(pkt, &outer) {
            pkt.write(outer.vxlan - size_of_val(&check), &check)?;
        }
        pkt.write(outer.vxlan, &header)?;
    }
    pkt.set_mark(JUDGED);
    Ok(Some(Verdict::PASS))
}

/// Takes the outer headers off.
#[inline(always)]
fn decapsulate(pkt: &mut TcPacket, outer: &Arrival) -> Result<(), DropReason> {
    let inner = Inner::read(pkt, outer.inner())?;
    let ipv6 = inner.ether_type == EtherType::IPV6;
    // SAFETY: the loader sets the constant before the program is loaded; volatile, so that its value here is not.
    let knows_ipv6 = unsafe { (&raw const DECAP_L3).read_volatile() } != 0;
    // A super-packet of UDP would lose its segments' borders with its outer headers.
    if pkt.gso_size() != 0 && (inner.protocol != Protocol::TCP || ipv6 && !knows_ipv6) {
        return Err(DropReason::EncapsulationRefused);
    }
    arrival::mark_congestion(pkt, outer, &inner)?;
    let mut flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    if ipv6 && knows_ipv6 {
        flags |= u64::from(BPF_F_ADJ_ROOM_DECAP_L3_IPV6);
    }
    pkt.adjust_room(-(OUTER_LEN as i32), flags)?;
    pkt.write(0, &inner.eth())
}

/// A frame on netpath's own tunnel device, where nothing is anybody else's.
#[inline(always)]
pub fn tunnel_device(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    if pkt.mark() != JUDGED {
        return Err(DropReason::UnknownEndpoint);
    }
    pkt.set_mark(0);
    // SAFETY: a C struct of integers and unions of integers; zero is a value of each.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    // SAFETY: `key` is as large as said, and the context is the kernel's.
    let missing =
        unsafe { helper::bpf_skb_get_tunnel_key(pkt.skb(), &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0) };
    if missing != 0 {
        return Err(DropReason::UnknownSegment);
    }
    let ifindex = pkt.ifindex();
    let segment = arrival::segment(ifindex, 0, key.tunnel_id).ok_or(DropReason::UnknownSegment)?;
    *owner = segment.network;
    // SAFETY: IPv4 is the only family that the device is made for; the helper wrote the union.
    let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 }.to_be_bytes();
    let endpoint = EndpointKey { physical_network: segment.physical_network, remote };
    // SAFETY: the row is copied at once.
    let endpoint = unsafe { maps::ENDPOINTS.get(endpoint) }.copied().ok_or(DropReason::UnknownEndpoint)?;
    deliver(pkt, segment.network, from_tunnel(segment.network, endpoint.tunnel), Host::Apart, 0)
}

#[inline(always)]
fn from_tunnel(network: u32, tunnel: u32) -> Destination {
    Destination { network, kind: destination_kind::TUNNEL, target: tunnel, ..Destination::default() }
}

/// Gives a tenant's frame to the guest, or the guests, that it is for; what is routed on keeps its tag's `priority`.
#[inline(always)]
fn deliver(
    pkt: &mut TcPacket,
    network: u32,
    origin: Destination,
    host: Host,
    priority: u16,
) -> Result<Verdict, DropReason> {
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
    let is_tagged = pkt.tag().is_some();
    if origin.kind == destination_kind::TUNNEL && is_tagged {
        return Err(DropReason::TaggedFrame);
    }
    if frame.destination.is_link_local_group() {
        return if host == Host::Shares { Ok(Verdict::PASS) } else { Err(DropReason::LinkLocalGroup) };
    }
    learn::note(frame.source, &origin);
    let wanted = if frame.destination.is_group() { None } else { learn::find(network, frame.destination) };
    match wanted {
        Some(guest) if guest.kind == destination_kind::LOCAL => {
            if frame.ether_type == EtherType::IPV4 && !is_tagged && admit::is_routed(network, frame.source) {
                Handover::new(network, 0, network).to(pkt, stage::ADMIT);
            }
            meter::to_guest(pkt, guest.slot)?;
            Ok(Verdict::redirect(guest.target))
        }
        Some(place) if place.kind == destination_kind::GATEWAY && is_tagged => Err(DropReason::TaggedFrame),
        Some(place) if place.kind == destination_kind::GATEWAY => {
            let next = if frame.ether_type == EtherType::IPV6 { stage::ANSWER } else { stage::GATEWAY };
            Handover { priority, ..Handover::new(network, 0, network) }.to(pkt, next);
            Err(DropReason::NoRoute)
        }
        _ if host == Host::Shares && !frame.destination.is_group() => Ok(Verdict::PASS),
        Some(_) => Err(DropReason::NotOnThisHost),
        None => {
            let row = maps::NETWORKS.get(network).ok_or(DropReason::UnknownSegment)?;
            flood::from_wire(pkt, &frame, row, network);
            Ok(if host == Host::Shares { Verdict::PASS } else { Verdict::CONSUMED })
        }
    }
}
