//! Where a flow's packets leave, and how: to a guest here, through a tunnel, on a trunk, on a public link.

use netpath_common::{
    DropReason, Frame, Mac, Packet as _,
    frame::EtherType,
    maps::{Flow, Network, PUBLIC_SIDE, flow_flags, hop, network_flags, tunnel_flags, upstream_flags},
    vxlan,
};
use network_types::eth::EthHdr;

use crate::{
    account, maps, meter,
    next_hop::{self, Way as TunnelWay},
    packet::TcPacket,
    public,
    redirect::Verdict,
    tunnel, vlan,
};

/// The way of a flow, looked up before its packet is changed.
pub struct Way {
    /// The largest IP packet that goes this way, in bytes.
    pub mtu: u16,
    /// On a public link: who takes the packet, see [`public::state`].
    pub hop: public::Hop,
    /// The device that it leaves by keeps it until its time of departure.
    pub is_paced: bool,
    /// Through a tunnel.
    tunnel: Option<TunnelWay>,
}

impl Way {
    /// Whether the next hop has been asked for in vain for some time.
    #[inline(always)]
    pub fn is_unreachable(&self) -> bool {
        self.hop.state == public::state::UNREACHABLE
    }
}

/// Finds the way of a flow.
#[inline(always)]
pub fn find(pkt: &mut TcPacket, flow: &Flow, now: u32) -> Result<Way, DropReason> {
    let mut way = Way { mtu: u16::MAX, hop: public::Hop::NONE, is_paced: false, tunnel: None };
    match flow.hop {
        hop::UPSTREAM | hop::ON_LINK => {
            let link = maps::UPSTREAMS.get(flow.target).ok_or(DropReason::NoRoute)?;
            way.mtu = link.mtu;
            way.is_paced = link.flags & upstream_flags::PACED != 0;
            way.hop = public::next_hop(flow.hop, flow.target, flow.destination, now);
        }
        hop::AGAIN => {}
        _ => {
            let network = network(flow)?;
            way.mtu = network.mtu;
            way.is_paced = flow.hop == hop::UPLINK && network.flags & network_flags::PACED != 0;
            if flow.hop == hop::TUNNEL {
                let row = maps::TUNNELS.get(flow.target).ok_or(DropReason::UnderlayUnresolved)?;
                way.tunnel = next_hop::resolve(pkt, flow.target, row);
                way.is_paced = row.flags & tunnel_flags::PACED != 0;
                let path = way.tunnel.map_or(u16::MAX, |way| way.hop.mtu.min(u32::from(u16::MAX)) as u16);
                way.mtu = way.mtu.min(path.saturating_sub(vxlan::MTU_OVERHEAD as u16));
            }
        }
    }
    Ok(way)
}

#[inline(always)]
fn network(flow: &Flow) -> Result<&'static Network, DropReason> {
    let index = if flow.flags & flow_flags::TRANSIT != 0 { flow.network } else { flow.out };
    maps::NETWORKS.get(index & !PUBLIC_SIDE).ok_or(DropReason::NoRoute)
}

/// Whether a packet goes to a guest here through a public address that counts: then it is charged to both at once, before it is
/// rewritten, or the address would pay for what the guest's own limit refuses.
#[inline(always)]
pub fn is_charged(flow: &Flow) -> bool {
    flow.address != 0 && flow.hop == hop::LOCAL
}

/// Sends a packet that was rewritten; a tag that it gets has `priority`.
#[inline(always)]
pub fn along(pkt: &mut TcPacket, frame: &Frame, flow: &Flow, way: &Way, priority: u16) -> Result<Verdict, DropReason> {
    if flow.hop == hop::UPSTREAM || flow.hop == hop::ON_LINK {
        return public::send(pkt, flow, way.hop, priority);
    }
    let network = network(flow)?;
    let source = if flow.hop == hop::UPLINK { wire_mac(flow.out) } else { network.gateway_mac };
    station(pkt, frame, flow, network, source, way, priority)
}

/// Sends a packet on to its network's NAT host: only the station on the wire may be a new one.
#[inline(always)]
pub fn unchanged(
    pkt: &mut TcPacket,
    frame: &Frame,
    flow: &Flow,
    way: &Way,
    priority: u16,
) -> Result<Verdict, DropReason> {
    station(pkt, frame, flow, network(flow)?, frame.source, way, priority)
}

/// What routed frames of a network come from on its wire.
#[inline(always)]
pub fn wire_mac(network: u32) -> Mac {
    maps::GATEWAYS.get(network).map_or(Mac::ZERO, |gateway| gateway.wire_mac)
}

/// Sends a frame to a station of a network.
#[inline(always)]
fn station(
    pkt: &mut TcPacket,
    frame: &Frame,
    flow: &Flow,
    network: &Network,
    source: Mac,
    way: &Way,
    priority: u16,
) -> Result<Verdict, DropReason> {
    let eth = EthHdr { dst_addr: flow.mac.0, src_addr: source.0, ether_type: EtherType::IPV4.0.to_be() };
    pkt.overwrite(0, &eth)?;
    match flow.hop {
        hop::LOCAL => {
            if is_charged(flow) {
                account::to_guest(flow.slot, pkt.len());
            } else {
                meter::to_guest(pkt, flow.slot)?;
            }
            Ok(Verdict::redirect(flow.target))
        }
        hop::TUNNEL => {
            let row = maps::TUNNELS.get(flow.target).ok_or(DropReason::UnderlayUnresolved)?;
            let frame = Frame { destination: flow.mac, source, ..*frame };
            tunnel::send(pkt, &frame, network, row, way.tunnel)
        }
        _ => {
            vlan::push(pkt, network, priority)?;
            Ok(Verdict::redirect(flow.target))
        }
    }
}
