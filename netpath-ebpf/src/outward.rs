//! A connection that a guest begins: to another network of its router, to a static route, or to the outside.

use aya_ebpf::btf_maps::lpm_trie::Key;
use netpath_common::{
    DropReason, Mac,
    maps::{
        FlowKey, Forward, Gateway, Route, RouteKey, StaticKey, StaticNat, flow_flags, forward_flags, gateway_flags,
        hop, nat_place,
    },
    stage::martian,
};

use crate::{
    bind,
    connection::{self, Connection, Place, is_within},
    inward,
    judge::{self, Judgement},
    maps,
};

/// Judges a connection from a network.
#[inline(always)]
pub fn judge(connection: &mut Connection) -> Result<(), DropReason> {
    let network = connection.key.side;
    connection.belongs_to(network);
    let gateway = connection::routed(network)?;
    is_sane(&connection.key, gateway)?;
    unchanged(connection);
    let mut route = Route { network: 0, via: [0; 4] };
    self::route(network, &connection.key.destination, &mut route);
    if route.network != 0 {
        // To another tier its question may have been routed by the host of whoever asked.
        leaves(connection, gateway)?;
        return to_network(connection, &route);
    }
    let exit = Exit::find(&connection.key, gateway);
    // The NAT host judges: only there it is known what is an answer.
    if connection.from_guest != 0 && matches!(exit.place, nat_place::TUNNEL | nat_place::UPLINK) {
        through_another_host(connection, &exit);
        return Ok(());
    }
    if connection.answers != 0 {
        return Err(DropReason::Unsolicited);
    }
    leaves(connection, gateway)?;
    to_outside(connection, gateway, &exit)
}

/// Whether the egress rules of the network's ACL, if it has one, let the connection out.
#[inline(always)]
fn leaves(connection: &Connection, gateway: &Gateway) -> Result<(), DropReason> {
    if gateway.flags & gateway_flags::ACL != 0
        && judge::list(gateway.acl_egress, connection, connection.key.destination, connection.key.destination_port)
            == Judgement::Deny
    {
        return Err(DropReason::AclDenied);
    }
    Ok(())
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
    if is_from_network(key, gateway) { Ok(()) } else { Err(DropReason::MartianSource) }
}

/// Whether the source is of the network, or somebody behind one of its stations, to whom a static route leads.
#[inline(always)]
pub fn is_from_network(key: &FlowKey, gateway: &Gateway) -> bool {
    is_within(&key.source, &gateway.prefix, &gateway.mask)
        || maps::ROUTES.get(&route_key(key.side, &key.source)).is_some_and(|route| route.network == key.side)
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

/// Where an address is, seen from a network; `route` stays as it is where it is outside. The network's own prefix is no row of
/// ROUTES, and comes before all of them: a static route may cover it.
#[inline(never)]
pub fn route(network: u32, address: &[u8; 4], route: &mut Route) {
    let Some(gateway) = maps::GATEWAYS.get(network) else { return };
    if is_within(address, &gateway.prefix, &gateway.mask) {
        *route = Route { network, via: [0; 4] };
    } else if gateway.flags & gateway_flags::NO_ROUTES == 0
        && let Some(found) = maps::ROUTES.get(&route_key(network, address))
    {
        *route = *found;
    }
}

/// Whether packets of a network for an address stay in its router: another host's guest would not answer by the NAT host.
#[inline(always)]
pub fn is_routed(network: u32, address: &[u8; 4]) -> bool {
    let mut route = Route { network: 0, via: [0; 4] };
    self::route(network, address, &mut route);
    route.network != 0
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
    let mut found = Route { network: 0, via: [0; 4] };
    route(network, address, &mut found);
    let via = if found.network == network && found.via != [0; 4] { found.via } else { *address };
    connection::station(network, &via, place)
}

/// Where packets of a network leave for the public side.
struct Exit {
    /// The public address that is the guest's own, if it has one.
    own: Option<&'static StaticNat>,
    /// One of [`nat_place`].
    place: u32,
    target: u32,
    mac: Mac,
}

impl Exit {
    #[inline(always)]
    fn find(key: &FlowKey, gateway: &Gateway) -> Self {
        match static_nat(key, gateway) {
            own @ Some(&StaticNat { place, target, mac, .. }) => Self { own, place, target, mac },
            None => Self { own: None, place: gateway.nat_place, target: gateway.nat_target, mac: gateway.nat_mac },
        }
    }
}

/// On to the host that translates, as it is.
#[inline(always)]
fn through_another_host(connection: &mut Connection, exit: &Exit) {
    let network = connection.key.side;
    let flow = &mut connection.flow;
    (flow.hop, flow.target, flow.mac) = (hop::UPLINK, exit.target, exit.mac);
    if exit.place == nat_place::TUNNEL {
        flow.hop = hop::TUNNEL;
        flow.mac = maps::NETWORKS.get(network).map_or(exit.mac, |row| row.gateway_mac);
    }
    flow.out = network;
    flow.flags |= flow_flags::TRANSIT;
}

/// To the public side.
#[inline(always)]
fn to_outside(connection: &mut Connection, gateway: &Gateway, exit: &Exit) -> Result<(), DropReason> {
    let key = connection.key;
    match exit.place {
        nat_place::HERE => {}
        nat_place::NONE => return Err(DropReason::NoPublicAddress),
        // It has come from a host that takes this one for the NAT host: one of them has older definitions.
        _ => return Err(DropReason::NotOnThisHost),
    }
    if gateway.flags & gateway_flags::TUNNEL_ADDRESS != 0 && is_tunnel(&key) {
        return Err(DropReason::MartianDestination);
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
    match exit.own {
        Some(row) => become_public(connection, row),
        // Before it has a public port: what is refused takes none.
        None if connection::is_one_too_many(connection, gateway) => return Err(DropReason::ConnectionLimit),
        None => bind::source(connection, gateway)?,
    }
    let (side, destination) = (connection.flow.out, key.destination);
    let mut way = Place::NONE;
    connection::public(side, &destination, &mut way)?;
    way.put(&mut connection.flow);
    back_to_guest(connection)
}

/// Whether a connection leads into a host's tunnel.
#[inline(never)]
fn is_tunnel(key: &FlowKey) -> bool {
    let mut row = Forward::default();
    inward::forwarded(&FlowKey { side: 0, ..*key }, &mut row);
    row.flags & forward_flags::RESERVED != 0
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
