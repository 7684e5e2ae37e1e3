//! The connection that an ICMP error is about, as the way of packets that answer the quoted one.
//!
//! Mostly the flow table has it. Where it has not, an error may still be of use: a binding outlives its flows, and what a
//! guest has received may have been translated, or routed, by another host.

use netpath_common::{
    DropReason,
    icmp::Quoted,
    maps::{
        BindingKey, Flow, FlowKey, Gateway, PUBLIC_SIDE, Route, StaticKey, flow_flags, gateway_flags, hop, nat_place,
    },
};

use crate::{
    bind,
    connection::{self, Place},
    gateway, maps, outward,
};

/// The key of packets that answer the quoted one.
#[inline(always)]
pub fn answers(quoted: &Quoted, side: u32) -> FlowKey {
    FlowKey {
        side,
        source: quoted.destination,
        destination: quoted.source,
        source_port: quoted.destination_port,
        destination_port: quoted.source_port,
        protocol: quoted.protocol,
        pad: [0; 3],
    }
}

/// The flow of a key, if its connection was judged by the rules in force and has been heard of in time, in either
/// direction: a connection that is answered by errors only is alive.
#[inline(always)]
pub fn flow(key: &FlowKey, now: u32) -> Option<&'static Flow> {
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let flow = unsafe { &*maps::FLOWS.get_ptr(key)? };
    let gateway = maps::GATEWAYS.get(flow.network)?;
    if flow.tag != key.tag() || flow.epoch != gateway.epoch {
        return None;
    }
    (!gateway::is_idle(flow, key.protocol, gateway, now) || is_alive(&key.opposite(flow), gateway, now)).then_some(flow)
}

#[inline(never)]
fn is_alive(opposite: &FlowKey, gateway: &Gateway, now: u32) -> bool {
    // SAFETY: as in `flow`.
    let Some(flow) = (unsafe { maps::FLOWS.get(opposite) }) else { return false };
    flow.tag == opposite.tag()
        && flow.epoch == gateway.epoch
        && !gateway::is_idle(flow, opposite.protocol, gateway, now)
}

/// Makes `flow`, which is empty, one that would answer the quoted packet. It is written down nowhere.
///
/// # Errors
/// [`DropReason::IcmpErrorUnmatched`] where nobody here knows of such a packet.
#[inline(never)]
pub fn stand_in(key: &FlowKey, flow: &mut Flow, from_guest: bool, now: u32) -> Result<(), DropReason> {
    (flow.source, flow.source_port) = (key.source, key.source_port);
    (flow.destination, flow.destination_port) = (key.destination, key.destination_port);
    if key.side & PUBLIC_SIDE != 0 {
        return bound(key, flow, now);
    }
    (flow.network, flow.out) = (key.side, key.side);
    let gateway = connection::routed(key.side)?;
    if !outward::is_from_network(key, gateway) {
        return Err(DropReason::IcmpErrorUnmatched);
    }
    let mut route = Route { network: 0, via: [0; 4] };
    outward::route(key.side, &key.destination, &mut route);
    if route.network != 0 {
        return routed(key, flow, gateway, &route);
    }
    if from_guest { translated(key, flow, gateway) } else { Err(DropReason::IcmpErrorUnmatched) }
}

/// Of a binding that lets in whoever sends to it, whatever has become of the flow.
#[inline(always)]
fn bound(key: &FlowKey, flow: &mut Flow, now: u32) -> Result<(), DropReason> {
    let unmatched = DropReason::IcmpErrorUnmatched;
    let outside = BindingKey {
        side: key.side,
        address: key.destination,
        port: key.destination_port,
        protocol: key.protocol,
        pad: 0,
    };
    let inside = bind::inside_of(&outside, now).ok_or(unmatched)?;
    let gateway = connection::routed(inside.side)?;
    if !gateway.is_open() {
        return Err(unmatched);
    }
    (flow.network, flow.out) = (inside.side, inside.side);
    (flow.destination, flow.destination_port) = (inside.address, inside.port);
    to_station(flow, inside.side, &inside.address)
}

/// To a station of a network of the router, whose host has routed the quoted packet. Behind an ACL every connection that
/// was let in has a flow.
#[inline(always)]
fn routed(key: &FlowKey, flow: &mut Flow, gateway: &Gateway, route: &Route) -> Result<(), DropReason> {
    let target = connection::routed(route.network)?;
    if route.network != key.side && (gateway.flags | target.flags) & gateway_flags::ACL != 0 {
        return Err(DropReason::IcmpErrorUnmatched);
    }
    flow.out = route.network;
    to_station(flow, route.network, if route.via == [0; 4] { &key.destination } else { &route.via })
}

#[inline(always)]
fn to_station(flow: &mut Flow, network: u32, address: &[u8; 4]) -> Result<(), DropReason> {
    let mut place = Place::NONE;
    connection::station(network, address, &mut place)?;
    place.put(flow);
    Ok(())
}

/// On to the host that has translated the quoted packet.
#[inline(always)]
fn translated(key: &FlowKey, flow: &mut Flow, gateway: &Gateway) -> Result<(), DropReason> {
    // SAFETY: the row is read at once, and `network` tells whether it is still the row that was asked for.
    let own = unsafe { maps::STATIC_NAT.get(StaticKey { network: key.side, address: key.source }) }
        .filter(|row| row.network == key.side);
    let (place, target, mac) = match own {
        Some(row) => (row.place, row.target, row.mac),
        None => (gateway.nat_place, gateway.nat_target, gateway.nat_mac),
    };
    let network = maps::NETWORKS.get(key.side).ok_or(DropReason::NoRoute)?;
    (flow.hop, flow.mac) = match place {
        nat_place::TUNNEL => (hop::TUNNEL, network.gateway_mac),
        nat_place::UPLINK => (hop::UPLINK, mac),
        _ => return Err(DropReason::IcmpErrorUnmatched),
    };
    flow.target = target;
    flow.flags = flow_flags::TRANSIT;
    Ok(())
}
