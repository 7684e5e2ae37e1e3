//! Whether a packet is followed in XDP, and where to.

use aya_ebpf::{bindings::xdp_md, helpers::generated as helper};
use netpath_common::{
    DropReason, Mac, Packet as _, checksum,
    frame::{Protocol, mix},
    maps::{
        FdbKey, Flow, PUBLIC_SIDE, destination_flags, flow_flags, flow_state, hop, network_flags, public_flags,
        segment_kind, upstream_flags,
    },
    stage::{tcp, translate},
    vxlan::{self, Ecn},
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr};

use super::{Carry, Encapsulation, Plan, answer};
use crate::{
    account, arrival, gateway, learn, maps,
    meter::{self, How},
    next_hop,
    packet::XdpPacket,
    public, send, sweep,
    tuple::{Tuple, fragment, icmp},
    vlan,
};

/// Decides on a packet from `side` whose IPv4 header is at `l3`, counts it, and notes what is to become of it. Answers one of
/// [`answer`].
#[inline(always)]
pub fn plan(pkt: &XdpPacket, l3: usize, side: u32, carry: Carry) -> u32 {
    netpath_plan(pkt.raw(), l3 as u32, side, carry.0)
}

/// [`plan`] as a [global](crate::global) function: packets come here from three places, and the first of a connection twice.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_plan(xdp: *mut xdp_md, l3: u32, side: u32, carry: u32) -> u32 {
    attempt(&XdpPacket::from_raw(xdp), l3 as usize, side, Carry(carry)).unwrap_or(answer::PASS)
}

#[inline(always)]
fn attempt(pkt: &XdpPacket, l3: usize, side: u32, carry: Carry) -> Option<u32> {
    let plan = Plan::scratch()?;
    let ports = read(pkt, l3, side, &mut plan.tuple)?;
    // SAFETY: no arguments, no side effects.
    let now_ns = unsafe { helper::bpf_ktime_get_coarse_ns() };
    let now = (now_ns / 1_000_000_000) as u32;
    // As TC does, where a tunnel's headers come off before anything is judged.
    if let Some(outer_tos) = carry.outer_tos()
        && !mark_congestion(&mut plan.tuple.ip, outer_tos)
    {
        plan.owner = side;
        return Some(answer::refused(DropReason::CongestionNotEcn));
    }
    let known = gateway::established(&plan.tuple.key, now);
    let Some((flow, gateway)) = known.filter(|(flow, _)| !plan.tuple.asks_otherwise(flow)) else {
        return first(pkt, l3, plan, carry);
    };
    plan.owner = flow.network;
    if tells_news(&plan.tuple, flow, carry.is_first()) {
        return None;
    }
    let len = pkt.len() - l3;
    let mtu = way(pkt, plan, flow, now, now_ns)?;
    if len > mtu {
        return None;
    }
    plan.tci |= carry.priority();
    plan.hash = hash(&plan.tuple, ports);
    translate(plan, flow, now);
    let len = len + EthHdr::LEN;
    if let Some(refused) = charge(&mut plan.tuple, flow, side & PUBLIC_SIDE != 0, len) {
        return Some(refused);
    }
    gateway::count(&plan.tuple, flow, gateway, len as u64, now, false);
    if plan.tuple.tcp_flags & tcp::ACK != 0
        && let Some(word) = pkt.header::<[u8; 4]>(l3 + Ipv4Hdr::LEN + 8)
    {
        flow.acknowledged = u32::from_be_bytes(*word);
    }
    if flow.hop == hop::LOCAL {
        account::to_guest(flow.slot, len);
    }
    Some(answer::SEND)
}

/// Whether the first packet of a connection is judged in XDP. `None` for what TC answers, may give to the host, or has to learn
/// from.
#[inline(always)]
fn first(pkt: &XdpPacket, l3: usize, plan: &mut Plan, carry: Carry) -> Option<u32> {
    let key = &plan.tuple.key;
    if key.side & PUBLIC_SIDE != 0 {
        let address = public::address(key.side & !PUBLIC_SIDE, key.destination)?;
        if address.flags & public_flags::HOST != 0 {
            return None;
        }
        plan.owner = address.network;
        return Some(answer::UNKNOWN);
    }
    let start = if carry.outer_tos().is_some() { l3 - EthHdr::LEN } else { 0 };
    let source = Mac(pkt.header::<EthHdr>(start)?.src_addr);
    let network = gateway::inside(key.side)?;
    let limit = maps::GATEWAYS.get(key.side)?.flow_limit;
    if network.gateway_ip4 == key.destination
        || !source.is_wire() && !learn::is_defined(key.side, source)
        || sweep::is_at_limit(key.side, limit)
    {
        return None;
    }
    plan.owner = key.side;
    Some(answer::UNKNOWN)
}

/// Charges a packet to the public address that it goes through and the guest that it is for, and counts it for the address. Its
/// header in `tuple` is as it is to be. Answers a refusal, if it is one.
#[inline(always)]
fn charge(tuple: &mut Tuple, flow: &Flow, is_inward: bool, len: usize) -> Option<u32> {
    let meters = if flow.hop == hop::LOCAL { meter::of_port(flow.slot) } else { &meter::NONE };
    let how = if is_inward || flow.hop == hop::LOCAL { How::TO_GUEST } else { How::from_guest(false) };
    if let Err(reason) = meter::charge(tuple, meters, flow.slot, how.through(flow.address), len) {
        return Some(answer::refused(reason));
    }
    if flow.address != 0 {
        account::public(flow.address, is_inward, len);
    }
    None
}

/// Reads a whole, plain IPv4 packet; answers its ports as they stand in it.
#[inline(always)]
fn read(pkt: &XdpPacket, l3: usize, side: u32, tuple: &mut Tuple) -> Option<u32> {
    let ip = *pkt.header::<Ipv4Hdr>(l3)?;
    let len = usize::from(u16::from_be_bytes(ip.tot_len));
    let is_fragment = u16::from_be_bytes(ip.frags) & 0x3fff != 0;
    if ip.vihl != 0x45 || ip.ttl <= 1 || is_fragment || checksum::ipv4_header(&ip) != [0, 0] || l3 + len > pkt.len() {
        return None;
    }
    *tuple = Tuple { ip, fragment: fragment::WHOLE, ..Tuple::ZERO };
    (tuple.key.side, tuple.key.protocol) = (side, ip.proto);
    (tuple.key.source, tuple.key.destination) = (ip.src_addr, ip.dst_addr);
    let (l4, room) = (l3 + Ipv4Hdr::LEN, len.checked_sub(Ipv4Hdr::LEN)?);
    match Protocol(ip.proto) {
        Protocol::TCP if room >= 20 => tuple.tcp_flags = pkt.header::<[u8; 2]>(l4 + 12)?[1],
        Protocol::UDP if room >= 8 => {}
        Protocol::ICMP if room >= 8 => {
            let [kind, code, _, _, a, b, _, _] = *pkt.header::<[u8; 8]>(l4)?;
            (tuple.icmp_type, tuple.icmp_code) = (kind, code);
            let id = u16::from_be_bytes([a, b]);
            if icmp::asks(kind) {
                tuple.key.source_port = id;
            } else if icmp::answers(kind) {
                tuple.key.destination_port = id;
            } else {
                return None;
            }
            return Some(0);
        }
        Protocol::UDP_LITE | Protocol::DCCP if room >= 8 => return Some(0),
        Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::UDP_LITE | Protocol::DCCP => return None,
        _ => return Some(0),
    }
    let [a, b, c, d] = *pkt.header::<[u8; 4]>(l4)?;
    (tuple.key.source_port, tuple.key.destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(u32::from_ne_bytes([a, b, c, d]))
}

/// Whether the packet changes what is known of its connection, goes where only TC sends, or comes from where no wire is. What
/// the first one tells is known: it has made the connection.
#[inline(always)]
fn tells_news(tuple: &Tuple, flow: &Flow, is_first: bool) -> bool {
    let is_tcp = tuple.key.protocol == Protocol::TCP.0;
    let first_answer = flow.flags & (flow_flags::REPLY | flow_flags::ANSWERED) == flow_flags::REPLY;
    let event = tuple.tcp_flags & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK) != tcp::ACK;
    flow.flags & (flow_flags::TRANSIT | flow_flags::HAIRPIN) != 0
        || first_answer
        || is_tcp && (flow.hop == hop::LOCAL || !is_first && (event || flow.state != flow_state::ESTABLISHED))
}

/// Notes where the packet goes; answers the largest packet that does, `None` where TC has to look for the way.
#[inline(always)]
fn way(pkt: &XdpPacket, plan: &mut Plan, flow: &Flow, now: u32, now_ns: u64) -> Option<usize> {
    (plan.ifindex, plan.encapsulation, plan.tci) = (flow.target, Encapsulation::NONE, 0);
    match flow.hop {
        hop::UPSTREAM | hop::ON_LINK => {
            let link = public::link(flow.target).filter(|link| link.flags & upstream_flags::NOT_FROM_XDP == 0)?;
            plan.destination = public::fresh_hop(flow.hop, flow.target, flow.destination, now)?;
            (plan.source, plan.ifindex) = (link.mac, link.ifindex);
            put_tag(plan, link.vlan);
            Some(usize::from(link.mtu))
        }
        hop::LOCAL | hop::TUNNEL | hop::UPLINK => {
            let network = maps::NETWORKS.get(flow.out & !PUBLIC_SIDE)?;
            (plan.destination, plan.source) = (flow.mac, network.gateway_mac);
            let mtu = usize::from(network.mtu);
            if flow.hop == hop::TUNNEL {
                let row = maps::TUNNELS.get(flow.target)?;
                let next = next_hop::resolve_early(pkt, flow.target, row, now_ns)?;
                // Another device, such as a bridge over the uplink, sends nothing for XDP.
                if next.ifindex != row.egress {
                    return None;
                }
                (plan.tunnel, plan.segment, plan.encapsulation) = (flow.target, network.segment, Encapsulation::TUNNEL);
                return Some(mtu.min((next.mtu as usize).saturating_sub(vxlan::MTU_OVERHEAD)));
            }
            if flow.hop == hop::UPLINK {
                if network.flags & network_flags::NOT_FROM_XDP != 0 {
                    return None;
                }
                plan.source = send::wire_mac(flow.out);
                if network.kind == segment_kind::VLAN {
                    put_tag(plan, network.segment as u16 & vlan::VID);
                }
            } else if !takes_redirects(flow) {
                return None;
            }
            Some(mtu)
        }
        _ => None,
    }
}

#[inline(always)]
fn put_tag(plan: &mut Plan, vid: u16) {
    if vid != 0 {
        (plan.tci, plan.encapsulation) = (vid, Encapsulation::TAG);
    }
}

/// Whether the guest's device takes frames that XDP redirects.
#[inline(always)]
fn takes_redirects(flow: &Flow) -> bool {
    // SAFETY: the row is read at once, and `network` tells whether it is still the row that was asked for.
    unsafe { maps::FDB.get(FdbKey::new(flow.out, flow.mac)) }.is_some_and(|row| {
        row.network == flow.out && row.target == flow.target && row.flags & destination_flags::XDP_TARGET != 0
    })
}

/// Carries the underlay's congestion mark into the header (RFC 6040 §4.2); `false` where it cannot be.
#[inline(always)]
fn mark_congestion(ip: &mut Ipv4Hdr, outer_tos: u8) -> bool {
    let ecn = match vxlan::decapsulate_ecn(outer_tos, ip.tos, true) {
        Ok(Ecn::Keep) => return true,
        Ok(Ecn::MarkCe) => 3,
        Ok(Ecn::MarkEct1) => 1,
        Err(_) => return false,
    };
    arrival::set_ecn(ip, ecn);
    true
}

/// The packet's new header and ports.
#[inline(always)]
fn translate(plan: &mut Plan, flow: &Flow, now: u32) {
    plan.addresses = translate::address_difference(&plan.tuple.key, flow);
    plan.ports = translate::port_difference(&plan.tuple.key, flow);
    let id = gateway::identification(&plan.tuple, flow, now, || 1);
    translate::ipv4(&mut plan.tuple.ip, flow, plan.addresses, true, (id as u16, id >> 16 != 0));
    let [a, b] = flow.source_port.to_be_bytes();
    let [c, d] = flow.destination_port.to_be_bytes();
    plan.new_ports = if plan.tuple.key.protocol == Protocol::ICMP.0 { [a | c, b | d, 0, 0] } else { [a, b, c, d] };
}

/// The hash that `netpath_common::frame::parse` finds of what arrived.
#[inline(always)]
fn hash(tuple: &Tuple, ports: u32) -> u32 {
    let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    let addresses = mix(word(tuple.key.source), word(tuple.key.destination));
    mix(mix(addresses, ports), u32::from(tuple.key.protocol))
}
