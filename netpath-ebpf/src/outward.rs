//! A connection that a guest begins: to another network of its router, to a static route, or to the outside.

use aya_ebpf::btf_maps::lpm_trie::Key;
use netpath_common::{
    DropReason,
    maps::{FlowKey, Gateway, Route, RouteKey, StaticKey, StaticNat, flow_flags, gateway_flags, hop, nat_place},
    stage::martian,
};

use crate::{
    bind,
    connection::{self, Connection, Place, is_within},
    judge::{self, Judgement},
    maps,
};

/// Judges a connection from a network.
#[inline(always)]
pub fn judge(connection: &mut Connection, now: u32) -> Result<(), DropReason> {
    let network = connection.key.side;
    connection.belongs_to(network);
    let gateway = connection::routed(network)?;
    is_sane(&connection.key, gateway)?;
    unchanged(connection);
    let mut route = Route { network: 0, via: [0; 4] };
    find_route(&connection.key, gateway, &mut route);
    // To another tier its question may have been routed by the host of whoever asked.
    if connection.answers != 0 && route.network == 0 {
        return Err(DropReason::Unsolicited);
    }
    if gateway.flags & gateway_flags::ACL != 0
        && judge::list(gateway.acl_egress, connection, connection.key.destination, connection.key.destination_port)
            == Judgement::Deny
    {
        return Err(DropReason::AclDenied);
    }
    if route.network != 0 {
        return to_network(connection, &route);
    }
    to_outside(connection, gateway, now)
}

/// Addresses that nothing is routed from or to (RFC 1812 §5.3.7).
#[inline(never)]
fn is_sane(key: &FlowKey, gateway: &Gateway) -> Result<(), DropReason> {
    if martian::source(key.source) {
        return Err(DropReason::MartianSource);
    }
    if martian::destination(key.destination)
        || martian::is_directed_broadcast(key.destination, gateway.prefix, gateway.mask)
    {
        return Err(DropReason::MartianDestination);
    }
    if is_within(&key.source, &gateway.prefix, &gateway.mask) {
        return Ok(());
    }
    // Somebody behind a station of the network, to whom a static route leads.
    let route = maps::ROUTES.get(&route_key(key.side, &key.source));
    if route.is_some_and(|route| route.network == key.side) { Ok(()) } else { Err(DropReason::MartianSource) }
}

#[inline(always)]
fn route_key(network: u32, address: &[u8; 4]) -> Key<RouteKey> {
    Key::new(64, RouteKey { network: network.to_be_bytes(), address: *address })
}

/// The way as it is without any translation.
#[inline(always)]
fn unchanged(connection: &mut Connection) {
    let (key, flow) = (&connection.key, &mut connection.flow);
    (flow.source, flow.source_port) = (key.source, key.source_port);
    (flow.destination, flow.destination_port) = (key.destination, key.destination_port);
}

/// The route of a packet; its network stays 0 where the packet is for the outside.
#[inline(never)]
fn find_route(key: &FlowKey, gateway: &Gateway, route: &mut Route) {
    if is_within(&key.destination, &gateway.prefix, &gateway.mask) {
        route.network = key.side;
        return;
    }
    if gateway.flags & gateway_flags::NO_ROUTES == 0 {
        self::route(key.side, &key.destination, route);
    }
}

/// To a station of a network of the same router.
#[inline(always)]
fn to_network(connection: &mut Connection, route: &Route) -> Result<(), DropReason> {
    let target = connection::routed(route.network)?;
    if maps::NETWORKS.get(route.network).is_some_and(|row| row.gateway_ip4 == connection.key.destination) {
        return Err(DropReason::GatewayClosed);
    }
    let (destination, port) = (connection.key.destination, connection.key.destination_port);
    if martian::is_directed_broadcast(destination, target.prefix, target.mask) {
        return Err(DropReason::MartianDestination);
    }
    if route.network != connection.key.side
        && target.flags & gateway_flags::ACL != 0
        && judge::list(target.acl_ingress, connection, destination, port) != Judgement::Allow
    {
        return Err(DropReason::AclDenied);
    }
    let via = if route.via == [0; 4] { destination } else { route.via };
    let mut place = Place::NONE;
    connection::station(route.network, &via, &mut place)?;
    place.put(&mut connection.flow);
    connection.flow.out = route.network;
    back_to_guest(connection)
}

/// Where replies go: to the guest, or to the station before it.
#[inline(always)]
fn back_to_guest(connection: &mut Connection) -> Result<(), DropReason> {
    let (network, source) = (connection.key.side, connection.key.source);
    station(network, &source, &mut connection.back)
}

/// Finds the station of a network that has an address, or that a static route to it leads through.
#[inline(never)]
pub fn station(network: u32, address: &[u8; 4], place: &mut Place) -> Result<(), DropReason> {
    let mut via = *address;
    let has_routes = maps::GATEWAYS.get(network).is_none_or(|row| row.flags & gateway_flags::NO_ROUTES == 0);
    if has_routes
        && let Some(found) = maps::ROUTES.get(&route_key(network, address))
        && found.network == network
    {
        via = found.via;
    }
    connection::station(network, &via, place)
}

/// Where an address is, seen from a network; `route` stays as it is where no route leads there.
#[inline(always)]
pub fn route(network: u32, address: &[u8; 4], route: &mut Route) {
    if let Some(found) = maps::ROUTES.get(&route_key(network, address)) {
        *route = *found;
    }
}

/// To the public side.
#[inline(always)]
fn to_outside(connection: &mut Connection, gateway: &Gateway, now: u32) -> Result<(), DropReason> {
    let key = connection.key;
    let own = static_nat(&connection.key, gateway);
    let (place, target, mac) = match own {
        Some(row) => (row.place, row.target, row.mac),
        None => (gateway.nat_place, gateway.nat_target, gateway.nat_mac),
    };
    match place {
        nat_place::HERE => {}
        nat_place::TUNNEL | nat_place::UPLINK if connection.from_guest != 0 => {
            let flow = &mut connection.flow;
            flow.hop = if place == nat_place::TUNNEL { hop::TUNNEL } else { hop::UPLINK };
            (flow.target, flow.mac) = (target, mac);
            if place == nat_place::TUNNEL {
                flow.mac = maps::NETWORKS.get(key.side).map_or(mac, |network| network.gateway_mac);
            }
            flow.out = key.side;
            flow.flags |= flow_flags::TRANSIT;
            return Ok(());
        }
        nat_place::NONE => return Err(DropReason::NoPublicAddress),
        // It has come from a host that takes this one for the NAT host: one of them has older definitions.
        _ => return Err(DropReason::NotOnThisHost),
    }
    if gateway.flags & gateway_flags::ACL == 0 {
        let verdict = judge::list(gateway.egress, connection, key.destination, key.destination_port);
        let passes = match verdict {
            Judgement::None => gateway.flags & gateway_flags::EGRESS_ALLOW != 0,
            verdict => verdict == Judgement::Allow,
        };
        if !passes {
            return Err(DropReason::EgressDenied);
        }
    }
    match own {
        Some(row) => become_public(connection, row),
        None => bind::source(connection, gateway, now)?,
    }
    let (side, destination) = (connection.flow.out, key.destination);
    let mut way = Place::NONE;
    connection::public(side, &destination, &mut way)?;
    way.put(&mut connection.flow);
    back_to_guest(connection)
}

/// The public address that is a guest's own.
#[inline(never)]
fn static_nat(key: &FlowKey, gateway: &Gateway) -> Option<&'static StaticNat> {
    if gateway.flags & gateway_flags::NO_STATIC_NAT != 0 {
        return None;
    }
    // SAFETY: the row is read at once, and `network` tells whether it is still the row that was asked for.
    unsafe { maps::STATIC_NAT.get(StaticKey { network: key.side, address: key.source }) }
        .filter(|row| row.network == key.side)
}

/// The guest's own public address; ports stay.
#[inline(always)]
fn become_public(connection: &mut Connection, row: &StaticNat) {
    connection.flow.source = row.address;
    connection.flow.out = row.side;
}
