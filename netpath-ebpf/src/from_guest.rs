//! A guest's frame: parse, judge, answer or forward.

use aya_ebpf::bindings::__sk_buff;
use netpath_common::{
    Address, DropReason, Frame,
    frame::{EtherType, Protocol},
    maps::{
        AddressKey, Destination, Network, Port, destination_kind, network_flags, port_flags, segment_kind, stage,
        tunnel_flags,
    },
    stage::{answer, antispoof},
    vxlan,
};

use crate::{
    global, handover::Handover, learn, maps, meter, next_hop, packet::TcPacket, redirect::Verdict, respond, tunnel,
    vlan,
};

/// Runs the pipeline. `owner` becomes the network's index as soon as it is known, for the account of refusals.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let ifindex = pkt.ifindex();
    // SAFETY: the row's own ifindex tells whether it is still the row that was asked for.
    let port = unsafe { maps::PORTS.get(ifindex) }.filter(|port| port.ifindex == ifindex);
    let port = port.ok_or(DropReason::UnknownPort)?;
    let network = maps::NETWORKS.get(port.network).filter(|n| n.kind != segment_kind::NONE);
    let network = network.ok_or(DropReason::UnknownPort)?;
    *owner = port.network;

    let priority = vlan::strip_from_guest(pkt, network)?;
    let frame = pkt.frame()?;
    if frame.ether_type.is_tag() {
        return Err(DropReason::TaggedFrame);
    }
    check_sender(pkt, &frame, port)?;
    if frame.destination.is_link_local_group() {
        return Err(DropReason::LinkLocalGroup);
    }
    if port.flags & port_flags::TRUSTED != 0 && frame.source != port.mac {
        learn::note(frame.source, &here(port));
    }
    if frame.ether_type == EtherType::ARP
        && let Some(verdict) = respond::arp(pkt, &frame, port, network)?
    {
        meter::from_guest(pkt, port.slot, false)?;
        return Ok(verdict);
    }
    if frame.protocol == Protocol::ICMPV6
        && frame.destination.is_group()
        && pkt.tag().is_none()
        && solicits_gateway(pkt, &frame, network)
    {
        return to_gateway(pkt, &frame, port, priority);
    }
    let wanted = if frame.destination.is_group() { None } else { learn::find(port.network, frame.destination) };
    match wanted {
        Some(destination) if destination.kind == destination_kind::GATEWAY => to_gateway(pkt, &frame, port, priority),
        Some(destination) => forward(pkt, &frame, port, network, &destination, priority),
        None => miss(pkt, &frame, port, network, priority),
    }
}

/// Refuses a frame that is not the guest's to send.
#[inline(always)]
fn check_sender(pkt: &mut TcPacket, frame: &Frame, port: &Port) -> Result<(), DropReason> {
    if frame.ether_type == EtherType::IPV6 {
        return global::result(netpath_check_ipv6(pkt.skb(), frame, port));
    }
    antispoof::check(pkt, frame, port, |address| owns(port, address))
}

/// [`check_sender`] for IPv6, as a [global](crate::global) function: Linux 6.1 walks through the options of neighbour discovery in
/// more states than through all the rest.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_check_ipv6(skb: *mut __sk_buff, frame: *const Frame, port: *const Port) -> u32 {
    // SAFETY: the caller's frame and a row of PORTS; or null, says the verifier.
    let (Some(frame), Some(port)) = (unsafe { (frame.as_ref(), port.as_ref()) }) else { return 0 };
    if frame.ether_type != EtherType::IPV6 {
        return 0;
    }
    global::word(antispoof::check(&TcPacket::from_raw(skb), frame, port, |address| owns(port, address)))
}

/// Whether a further address is the port's.
#[inline(never)]
fn owns(port: &Port, address: Address) -> bool {
    // SAFETY: only whether the row exists is asked.
    unsafe { maps::ADDRESSES.get(AddressKey { ifindex: port.ifindex, address }) }.is_some()
}

/// The port itself, as a place where stations are.
#[inline(always)]
fn here(port: &Port) -> Destination {
    Destination {
        network: port.network,
        kind: destination_kind::LOCAL,
        target: port.ifindex,
        slot: port.slot,
        ..Destination::default()
    }
}

/// A frame for everybody, or for somebody unknown.
#[inline(always)]
fn miss(
    pkt: &mut TcPacket,
    frame: &Frame,
    port: &Port,
    network: &Network,
    priority: u16,
) -> Result<Verdict, DropReason> {
    if network.flags & network_flags::ON_MISS_PASS != 0 {
        meter::from_guest(pkt, port.slot, false)?;
        return Ok(Verdict::PASS);
    }
    if pkt.wire_len(frame) > usize::from(network.mtu) {
        return Err(DropReason::PacketTooBig);
    }
    Handover { priority, ..Handover::from_port(port) }.to(pkt, stage::FLOOD);
    Err(DropReason::NoRoute)
}

/// A frame for one station.
#[inline(always)]
fn forward(
    pkt: &mut TcPacket,
    frame: &Frame,
    port: &Port,
    network: &Network,
    destination: &Destination,
    priority: u16,
) -> Result<Verdict, DropReason> {
    let len = pkt.wire_len(frame);
    if len > usize::from(network.mtu) {
        return respond::too_big(pkt, frame, network, port, network.mtu);
    }
    match destination.kind {
        destination_kind::LOCAL if destination.target == port.ifindex => Err(DropReason::SamePort),
        destination_kind::LOCAL => {
            meter::from_guest(pkt, port.slot, false)?;
            meter::to_guest(pkt, destination.slot)?;
            Ok(Verdict::redirect(destination.target))
        }
        destination_kind::TUNNEL => {
            let row = maps::TUNNELS.get(destination.target).ok_or(DropReason::UnderlayUnresolved)?;
            let way = next_hop::resolve(pkt, destination.target, row);
            let path_mtu = way.map_or(usize::from(u16::MAX), |way| way.hop.mtu as usize);
            let fits = path_mtu.saturating_sub(vxlan::MTU_OVERHEAD);
            if len > fits {
                return respond::too_big(pkt, frame, network, port, fits as u16);
            }
            meter::from_guest(pkt, port.slot, row.flags & tunnel_flags::PACED != 0)?;
            tunnel::send(pkt, frame, network, row, way)
        }
        destination_kind::UPLINK => {
            meter::from_guest(pkt, port.slot, network.flags & network_flags::PACED != 0)?;
            vlan::push(pkt, network, priority)?;
            Ok(Verdict::redirect(destination.target))
        }
        _ => Err(DropReason::NoRoute),
    }
}

/// Whether the frame asks for the MAC address of the gateway's IPv6 address.
#[inline(never)]
fn solicits_gateway(pkt: &TcPacket, frame: &Frame, network: &Network) -> bool {
    answer::solicits(pkt, frame, network.gateway_ip6) == Ok(true)
}

/// A frame for the gateway: another program routes it, or answers it.
#[inline(always)]
fn to_gateway(pkt: &mut TcPacket, frame: &Frame, port: &Port, priority: u16) -> Result<Verdict, DropReason> {
    // A tag of the guest's own is for stations of its segment: nobody routes what is in it.
    if pkt.tag().is_some() {
        return Err(DropReason::TaggedFrame);
    }
    let mut next = stage::GATEWAY;
    if frame.ether_type == EtherType::IPV6 {
        meter::from_guest(pkt, port.slot, false)?;
        next = stage::ANSWER;
    }
    Handover { priority, ..Handover::from_port(port) }.to(pkt, next);
    Err(DropReason::NoRoute)
}
