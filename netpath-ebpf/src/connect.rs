//! The first packet of a connection: judged, routed, translated, and written down for all that follow.
//!
//! ```text
//!   from a network      ACL egress ► own prefix, tier or static route ► ACL ingress of the target ► station
//!                       otherwise: egress rules ► static NAT, or source NAT here, or on to the NAT host
//!   from a public link  ingress rules of the address ► static NAT, forwarded port, or binding ► ACL ingress ► station
//! ```
//!
//! A connection that is known, but was judged by rules that are no longer in force, is judged again as its first packet
//! was, whichever direction the packet at hand has.

use netpath_common::{
    DropReason, Frame, frame,
    maps::{Flow, FlowKey, PUBLIC_SIDE, event_hook, flow_flags, flow_state, stage},
    stage::tcp,
};

use crate::{
    connection::{self, Connection},
    event, gateway, global,
    handover::{Answer, Handover},
    inward, maps, outward,
    packet::TcPacket,
    redirect::Verdict,
    sweep,
    tuple::{self, Routed, icmp},
};

/// Runs the pipeline. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    let routed = Routed::read(pkt, handover.side)?;
    let connection = Connection::scratch().ok_or(DropReason::FlowTableFull)?;
    connection.tuple = routed.tuple;
    connection.from_guest = u32::from(handover.port != 0);
    let now = tuple::now();
    recall(now);
    let judged = judge(now).and_then(|()| connection::install(now));
    let connection = Connection::current().ok_or(DropReason::FlowTableFull)?;
    *owner = if connection.flow.network == 0 { handover.owner } else { connection.flow.network };
    if let Err(reason) = judged {
        return refused(pkt, Handover { owner: *owner, ..handover }, &routed.frame, connection, now, reason);
    }
    if connection.known == 0 {
        event::connected(pkt.skb(), event_hook::CONNECT, &connection.key);
    }
    Handover { owner: *owner, ..handover }.to(pkt, stage::GATEWAY);
    Err(DropReason::RoutedTooOften)
}

/// Judges the connection that is being judged: whether it may be, and where its packets go.
#[inline(always)]
pub fn judge(now: u32) -> Result<(), DropReason> {
    global::result(netpath_judge(now))
}

/// [`judge`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_judge(now: u32) -> u32 {
    let Some(connection) = Connection::current() else {
        return global::word(Err(DropReason::FlowTableFull));
    };
    global::word(match connection.key.side & PUBLIC_SIDE {
        0 => outward::judge(connection, now),
        _ => inward::judge(connection, now),
    })
}

/// Fills in what the packet and the flow table tell of the connection: a known one is judged by its first direction, with
/// what it has come to; another one begins with this packet.
#[inline(always)]
pub fn recall(now: u32) {
    netpath_recall(now);
}

/// [`recall`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_recall(now: u32) -> u32 {
    if let Some(connection) = Connection::current() {
        fill(connection, now);
    }
    0
}

#[inline(always)]
fn fill(connection: &mut Connection, now: u32) {
    let tuple = connection.tuple;
    connection.key = tuple.key;
    connection.icmp_type = tuple.icmp_type;
    connection.flow.created = now;
    connection.flow.last_seen = now;
    connection.flow.icmp_type = tuple.icmp_type;
    if tuple.key.protocol == frame::Protocol::TCP.0 {
        connection.flow.state = tcp::next(flow_state::NONE, tuple.tcp_flags, false);
    }
    // A message that only answers begins nothing.
    connection.answers = u32::from(tuple.key.protocol == frame::Protocol::ICMP.0 && !icmp::asks(tuple.icmp_type));
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let Some(flow) = (unsafe { maps::FLOWS.get(tuple.key) }) else { return };
    if flow.tag != tuple.key.tag() {
        return;
    }
    let opposite = tuple.key.opposite(flow);
    if !is_alive(&tuple.key, flow, &opposite, now) {
        sweep::forget(&tuple.key, flow);
        return;
    }
    connection.known = 1;
    connection.answers = 0;
    connection.flow.state = flow.state;
    connection.flow.created = flow.created;
    connection.flow.icmp_type = flow.icmp_type;
    connection.icmp_type = flow.icmp_type;
    connection.flow.flags = flow.flags & flow_flags::ANSWERED;
    connection.known_opposite = opposite;
    if flow.flags & flow_flags::REPLY != 0 {
        connection.key = opposite;
        connection.known_opposite = tuple.key;
    }
}

/// Whether either direction of a connection has had a packet in time.
#[inline(never)]
fn is_alive(key: &FlowKey, flow: &Flow, opposite: &FlowKey, now: u32) -> bool {
    let Some(gateway) = maps::GATEWAYS.get(flow.network) else { return false };
    if !gateway::is_idle(flow, key.protocol, gateway, now) {
        return true;
    }
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let Some(other) = (unsafe { maps::FLOWS.get(opposite) }) else { return false };
    other.tag == opposite.tag() && other.network == flow.network && !gateway::is_idle(other, key.protocol, gateway, now)
}

/// A connection that may not be, or be any longer.
#[inline(always)]
fn refused(
    pkt: &mut TcPacket,
    handover: Handover,
    frame: &Frame,
    connection: &Connection,
    now: u32,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    if connection.known != 0 {
        sweep::forget_both(&connection.key, &connection.known_opposite);
    }
    let wants_room = matches!(
        reason,
        DropReason::PortsExhausted
            | DropReason::ConnectionLimit
            | DropReason::FlowTableFull
            | DropReason::BindingTableFull
    );
    if wants_room && sweep::is_due(now) {
        handover.to(pkt, stage::SWEEP);
    }
    if reason == DropReason::GatewayClosed && connection.asks_for_echo() && connection.known == 0 {
        Handover { answer: Answer::ECHO_REPLY.word(), ..handover }.to(pkt, stage::ANSWER);
        return Err(reason);
    }
    if handover.side & PUBLIC_SIDE != 0 {
        return inward::unclaimed(pkt, frame, handover.side, reason);
    }
    let told = match reason {
        DropReason::NoPublicAddress | DropReason::NoRoute => Answer::NET_UNREACHABLE,
        DropReason::NeighbourUnresolved => Answer::HOST_UNREACHABLE,
        DropReason::GatewayClosed if connection.key.protocol != frame::Protocol::ICMP.0 => {
            Answer::closed(connection.key.protocol)
        }
        _ if wants_room => Answer::PROHIBITED,
        _ => return Err(reason),
    };
    gateway::answer(pkt, handover, handover.owner, reason, told)
}
