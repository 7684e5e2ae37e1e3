//! A packet that another host has routed into a network of this one.
//!
//! That host has judged its connection. This one notes it, so that the guest's replies, which are routed here, are known
//! for replies: rules about new connections do not stop them.

use netpath_common::{
    DropReason, Mac,
    maps::{FlowKey, Route, destination_kind, gateway_flags},
};

use crate::{
    connect,
    connection::{self, Connection, Place},
    gateway,
    handover::Handover,
    learn, maps, meter, outward,
    packet::TcPacket,
    redirect::Verdict,
    tuple::{self, Routed, Tuple},
};

/// Whether a frame from this station was routed by another host, into a network whose router has ACLs.
#[inline(always)]
pub fn is_routed(network: u32, source: Mac) -> bool {
    maps::GATEWAYS.get(network).is_some_and(|gateway| gateway.flags & gateway_flags::TIER != 0)
        && (source.is_wire() || maps::NETWORKS.get(network).is_some_and(|row| row.gateway_mac == source))
}

/// Runs the pipeline. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    let Routed { frame, tuple } = Routed::read(pkt, handover.side)?;
    let now = tuple::now();
    let mut route = Route { network: 0, via: [0; 4] };
    outward::route(handover.side, &tuple.key.source, &mut route);
    if route.network != 0 && route.network != handover.side && !tuple.is_other_icmp() {
        tuple.key.side = route.network;
        match gateway::established(&tuple.key, now) {
            Some((flow, row)) => gateway::note_packet(pkt, frame, tuple, flow, row, now),
            // A connection that there is no room for is delivered all the same: its replies are judged as they come.
            None => drop(note(tuple, handover.side, now)),
        }
    }
    let guest = learn::find(handover.side, frame.destination).filter(|row| row.kind == destination_kind::LOCAL);
    let guest = guest.ok_or(DropReason::NotOnThisHost)?;
    meter::to_guest(pkt, guest.slot)?;
    Ok(Verdict::redirect(guest.target))
}

/// Writes both directions of a connection down.
#[inline(never)]
fn note(tuple: &Tuple, network: u32, now: u32) -> Result<(), DropReason> {
    Connection::scratch().ok_or(DropReason::FlowTableFull)?.tuple = *tuple;
    connect::recall(now);
    let connection = Connection::current().ok_or(DropReason::FlowTableFull)?;
    let FlowKey { side, source, destination, source_port, destination_port, .. } = connection.key;
    // Known in the other direction: it was begun here.
    let begun_here = side == network;
    connection.belongs_to(side);
    connection.flow.out = if begun_here { tuple.key.side } else { network };
    (connection.flow.source, connection.flow.source_port) = (source, source_port);
    (connection.flow.destination, connection.flow.destination_port) = (destination, destination_port);
    let mut forth = Place::NONE;
    outward::station(connection.flow.out, &destination, &mut forth)?;
    forth.put(&mut connection.flow);
    outward::station(side, &source, &mut connection.back)?;
    connection::install(now)
}
