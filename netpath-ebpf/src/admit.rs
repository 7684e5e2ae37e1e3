//! A packet that another host has routed into a network of this one.
//!
//! That host has judged its connection. This one notes it, so that the guest's replies, which are routed here, are known
//! for replies: rules about new connections do not stop them. A reply to what a guest of this host has begun is judged here by
//! the rules in force, as that connection is.

use netpath_common::{
    DropReason, Mac, Packet as _,
    maps::{FlowKey, Route, destination_kind, gateway_flags},
};
use network_types::eth::EthHdr;

use crate::{
    connect,
    connection::{self, Connection, Place},
    gateway,
    handover::Handover,
    learn, maps, meter, outward,
    packet::TcPacket,
    redirect::Verdict,
    tuple::{self, Routed, Tuple, fragment},
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
    match Routed::read(pkt, handover.side) {
        Ok(routed) => note_packet(pkt, routed, handover.side)?,
        // The host that has routed it knew its first fragment, and has judged all of them by that one.
        Err(DropReason::FragmentBeforeFirst) => {}
        Err(reason) => return Err(reason),
    }
    let destination = Mac(pkt.header::<EthHdr>(0).ok_or(DropReason::MalformedFrame)?.dst_addr);
    let guest = learn::find(handover.side, destination).filter(|row| row.kind == destination_kind::LOCAL);
    let guest = guest.ok_or(DropReason::NotOnThisHost)?;
    meter::to_guest(pkt, guest.slot)?;
    Ok(Verdict::redirect(guest.target))
}

/// Notes a packet of a connection from another network of the router.
#[inline(always)]
fn note_packet(pkt: &TcPacket, routed: &mut Routed, network: u32) -> Result<(), DropReason> {
    let Routed { frame, tuple } = routed;
    let mut route = Route { network: 0, via: [0; 4] };
    outward::route(network, &tuple.key.source, &mut route);
    if route.network == 0 || route.network == network || tuple.is_other_icmp() {
        return Ok(());
    }
    let now = tuple::now();
    if tuple.fragment == fragment::FIRST {
        tuple::note_first_fragment(tuple, u16::from_be_bytes(tuple.ip.id), now);
    }
    tuple.key.side = route.network;
    match gateway::established(&tuple.key, now) {
        Some((flow, row)) => gateway::note_packet(pkt, frame, tuple, flow, row, now),
        None => return begin(tuple, network, now),
    }
    Ok(())
}

/// Notes the first packet of a connection, or judges a reply to one that was begun here by rules that are no longer in force.
///
/// Judged from here and not from a function of its own: before Linux 6.8 its frame would be one too many.
#[inline(always)]
fn begin(tuple: &Tuple, network: u32, now: u32) -> Result<(), DropReason> {
    let Some(connection) = Connection::scratch() else { return Ok(()) };
    connection.tuple = *tuple;
    connect::recall(now);
    let Some(connection) = Connection::current() else { return Ok(()) };
    // A connection that there is no room for is delivered all the same: its replies are judged as they come.
    let settled = if connection.key.side == network {
        connection.flow.last_seen = now;
        connect::settle(now)
    } else {
        note(network, now)
    };
    if settled == Err(DropReason::AclDenied) { settled } else { Ok(()) }
}

/// Writes both directions of a connection down that another host has judged.
#[inline(never)]
fn note(network: u32, now: u32) -> Result<(), DropReason> {
    let connection = Connection::current().ok_or(DropReason::FlowTableFull)?;
    let FlowKey { side, source, destination, source_port, destination_port, .. } = connection.key;
    connection.belongs_to(side);
    connection.flow.out = network;
    (connection.flow.source, connection.flow.source_port) = (source, source_port);
    (connection.flow.destination, connection.flow.destination_port) = (destination, destination_port);
    let mut forth = Place::NONE;
    outward::station(connection.flow.out, &destination, &mut forth)?;
    forth.put(&mut connection.flow);
    outward::station(side, &source, &mut connection.back)?;
    // Between networks of a router every packet keeps its connection alive.
    connection.flow.last_seen = now;
    connection::install()
}
