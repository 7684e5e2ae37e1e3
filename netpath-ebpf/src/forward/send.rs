//! A packet as planned: rewritten, and with what stands before it where it goes.

use netpath_common::{
    DropReason, Packet as _,
    frame::{EtherType, Protocol},
    stage::translate,
    vxlan::{OUTER_LEN, Outer},
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr, vlan::VlanHdr};

use super::{Encapsulation, Plan};
use crate::{
    maps, next_hop,
    packet::{Rewrite as _, XdpPacket},
};

/// Sends the packet whose IPv4 header is at `l3` as planned; answers the device that it goes out of, or 0 where the kernel
/// refuses to make room.
#[inline(never)]
pub fn send(pkt: &mut XdpPacket, l3: usize) -> u32 {
    let Some(plan) = Plan::scratch() else { return 0 };
    let sent = rewrite(pkt, l3, plan).and_then(|()| match plan.encapsulation {
        Encapsulation::NONE => plain(pkt, l3, plan),
        Encapsulation::TAG => tagged(pkt, l3, plan),
        _ => tunnelled(pkt, l3, plan),
    });
    sent.unwrap_or(0)
}

/// Writes the new header and ports, and the checksum that covers them.
#[inline(always)]
fn rewrite(pkt: &mut XdpPacket, l3: usize, plan: &Plan) -> Result<(), DropReason> {
    pkt.write(l3, &plan.tuple.ip)?;
    let (l4, malformed) = (l3 + Ipv4Hdr::LEN, DropReason::MalformedTransport);
    match Protocol(plan.tuple.key.protocol) {
        Protocol::TCP => {
            let check = *pkt.header::<[u8; 2]>(l4 + 16).ok_or(malformed)?;
            pkt.write(l4 + 16, &translate::apply(translate::apply(check, plan.addresses), plan.ports))?;
            pkt.write(l4, &plan.new_ports)
        }
        Protocol::UDP => {
            let check = *pkt.header::<[u8; 2]>(l4 + 6).ok_or(malformed)?;
            pkt.write(l4 + 6, &translate::apply_udp(translate::apply_udp(check, plan.addresses), plan.ports))?;
            pkt.write(l4, &plan.new_ports)
        }
        Protocol::ICMP => {
            let check = *pkt.header::<[u8; 2]>(l4 + 2).ok_or(malformed)?;
            pkt.write(l4 + 2, &translate::apply(check, plan.ports))?;
            let [a, b, ..] = plan.new_ports;
            pkt.write(l4 + 4, &[a, b])
        }
        Protocol::UDP_LITE => {
            let check = *pkt.header::<[u8; 2]>(l4 + 6).ok_or(malformed)?;
            pkt.write(l4 + 6, &translate::apply_udp(check, plan.addresses))
        }
        Protocol::DCCP => {
            let check = *pkt.header::<[u8; 2]>(l4 + 6).ok_or(malformed)?;
            pkt.write(l4 + 6, &translate::apply(check, plan.addresses))
        }
        _ => Ok(()),
    }
}

#[inline(always)]
fn eth(plan: &Plan, ether_type: EtherType) -> EthHdr {
    EthHdr { dst_addr: plan.destination.0, src_addr: plan.source.0, ether_type: ether_type.0.to_be() }
}

#[inline(always)]
fn plain(pkt: &mut XdpPacket, l3: usize, plan: &Plan) -> Result<u32, DropReason> {
    pkt.move_head(l3 as i32 - EthHdr::LEN as i32)?;
    pkt.write(0, &eth(plan, EtherType::IPV4))?;
    Ok(plan.ifindex)
}

#[inline(always)]
fn tagged(pkt: &mut XdpPacket, l3: usize, plan: &Plan) -> Result<u32, DropReason> {
    pkt.move_head(l3 as i32 - (EthHdr::LEN + VlanHdr::LEN) as i32)?;
    pkt.write(0, &eth(plan, EtherType::VLAN))?;
    pkt.write(EthHdr::LEN, &VlanHdr { tci: plan.tci.to_be_bytes(), ether_type: EtherType::IPV4.0.to_be() })?;
    Ok(plan.ifindex)
}

#[inline(always)]
fn tunnelled(pkt: &mut XdpPacket, l3: usize, plan: &Plan) -> Result<u32, DropReason> {
    let unresolved = DropReason::UnderlayUnresolved;
    let tunnel = maps::TUNNELS.get(plan.tunnel).ok_or(unresolved)?;
    let next = next_hop::last(plan.tunnel).ok_or(unresolved)?;
    let inner_len = pkt.len() - l3 + EthHdr::LEN;
    pkt.move_head(l3 as i32 - (OUTER_LEN + EthHdr::LEN) as i32)?;
    pkt.write(OUTER_LEN, &eth(plan, EtherType::IPV4))?;
    let outer = Outer::of(tunnel, next, plan.segment, plan.tuple.ip.tos, plan.hash, inner_len);
    pkt.write(0, outer.as_bytes())?;
    Ok(next.ifindex)
}
