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
    DropReason,
    clock::since,
    frame,
    maps::{Flow, FlowKey, PUBLIC_SIDE, event_hook, flow_flags, flow_state, stage},
    stage::tcp,
};

use crate::{
    bind,
    connection::{self, Connection},
    event, gateway, global,
    handover::{Answer, Handover},
    inward, maps, outward,
    packet::TcPacket,
    public,
    redirect::Verdict,
    sweep,
    tuple::{self, Routed, fragment, icmp},
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
    connection.again = u8::from(handover.answer == Handover::AGAIN);
    let now = tuple::now();
    recall(now);
    let judged = settle(now);
    let connection = Connection::current().ok_or(DropReason::FlowTableFull)?;
    *owner = if connection.flow.network == 0 { handover.owner } else { connection.flow.network };
    if let Err(reason) = judged {
        return refused(pkt, Handover { owner: *owner, ..handover }, connection, now, reason);
    }
    if connection.known == 0 {
        event::connected(pkt.skb(), event_hook::CONNECT, &connection.key);
    }
    Handover { owner: *owner, ..handover }.to(pkt, stage::GATEWAY);
    Err(DropReason::RoutedTooOften)
}

/// Judges the connection at hand and writes it down; one that may not be leaves nothing behind.
#[inline(always)]
pub fn settle(now: u32) -> Result<(), DropReason> {
    let settled = judge(now).and_then(|()| connection::install());
    if settled.is_err() {
        bind::take_back();
    }
    settled
}

/// Judges the connection that is being judged: whether it may be, and where its packets go.
#[inline(always)]
fn judge(now: u32) -> Result<(), DropReason> {
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
        0 => outward::judge(connection),
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
    connection.flow.icmp_type = tuple.query();
    if tuple.key.protocol == frame::Protocol::TCP.0 {
        connection.flow.state = tcp::next(flow_state::NONE, tuple.tcp_flags, false);
    }
    // A message that only answers begins nothing.
    connection.answers = u32::from(tuple.key.protocol == frame::Protocol::ICMP.0 && !icmp::asks(tuple.icmp_type));
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let Some(flow) = (unsafe { maps::FLOWS.get(tuple.key) }) else { return };
    if flow.tag != tuple.key.tag() || tuple.asks_back(flow) {
        return;
    }
    let opposite = tuple.key.opposite(flow);
    let Some(last_seen) = last_seen(&tuple.key, flow, &opposite, now) else {
        sweep::forget(&tuple.key, flow);
        return;
    };
    if flow.flags & flow_flags::REPLY != 0 && is_taken(&tuple.key, &opposite) {
        sweep::forget_one(&tuple.key);
        return;
    }
    connection.known = 1;
    // Whether this packet keeps it alive is for the gateway to say, as of any other.
    connection.flow.last_seen = last_seen;
    connection.answers = 0;
    connection.flow.state = flow.state;
    connection.flow.created = flow.created;
    if !tuple.asks_otherwise(flow) {
        connection.flow.icmp_type = flow.icmp_type;
        connection.icmp_type = tuple::query_type(flow);
    }
    connection.flow.flags = flow.flags & flow_flags::ANSWERED;
    connection.known_bound = u8::from(flow.flags & flow_flags::BOUND != 0);
    connection.known_opposite = opposite;
    if flow.flags & flow_flags::REPLY != 0 {
        connection.key = opposite;
        connection.known_opposite = tuple.key;
        connection.is_reply = 1;
    }
}

/// Whether the first direction of a connection has become another one's, whose own first or other direction that is. What was
/// revoked, and what is idle, gives way to newcomers.
#[inline(never)]
fn is_taken(key: &FlowKey, first: &FlowKey) -> bool {
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    unsafe { maps::FLOWS.get(first) }.is_some_and(|row| row.tag == first.tag() && first.opposite(row) != *key)
}

/// When a connection last had a packet that kept it alive, in either direction; `None` where both have been idle for too long.
#[inline(never)]
fn last_seen(key: &FlowKey, flow: &Flow, opposite: &FlowKey, now: u32) -> Option<u32> {
    let gateway = maps::GATEWAYS.get(flow.network)?;
    let mut elapsed = since(now, flow.last_seen);
    let mut alive = !gateway::is_idle(flow, key.protocol, gateway, now);
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    if let Some(other) = unsafe { maps::FLOWS.get(opposite) }
        && other.tag == opposite.tag()
        && other.network == flow.network
    {
        elapsed = elapsed.min(since(now, other.last_seen));
        alive |= !gateway::is_idle(other, key.protocol, gateway, now);
    }
    alive.then(|| now - elapsed)
}

/// A connection that may not be, or be any longer.
#[inline(always)]
fn refused(
    pkt: &mut TcPacket,
    handover: Handover,
    connection: &Connection,
    now: u32,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    if connection.known != 0 && !is_revoked(reason, connection) {
        sweep::forget_both(&connection.key, &connection.known_opposite);
    }
    if wants_room(reason) && sweep::is_due(now) {
        handover.to(pkt, stage::SWEEP);
    }
    let is_whole = connection.tuple.fragment == fragment::WHOLE;
    if reason == DropReason::GatewayClosed && connection.asks_for_echo() && connection.known == 0 && is_whole {
        Handover { answer: Answer::ECHO_REPLY.word(), ..handover }.to(pkt, stage::ANSWER);
        return Err(reason);
    }
    // Whoever may reach a guest is told that it is not there; nothing else is told to the outside.
    if handover.side & PUBLIC_SIDE != 0 && reason != DropReason::NeighbourUnresolved {
        return if is_unclaimed(reason, connection) { inward::unclaimed(pkt, &handover, reason) } else { Err(reason) };
    }
    match told(reason, connection.key.protocol) {
        Some(told) => gateway::answer(pkt, handover, handover.owner, reason, told),
        None => Err(reason),
    }
}

/// Whether a rule has refused what one has let pass. The rows stay until they are idle, judged by rules that are no longer in
/// force: without them the next packet of the other direction would begin a connection that nobody refuses, and the one that
/// was revoked would go on as its answer. A SYN of the other direction's own is another connection, and the next one begins it.
/// Of a public address that is no longer here, and of a binding that is gone, nothing comes in: what the guest goes on sending
/// has another way.
#[inline(always)]
pub fn is_revoked(reason: DropReason, connection: &Connection) -> bool {
    use DropReason::{AclDenied, EgressDenied, ForwardDenied, IngressDenied, Unsolicited, UnsolicitedSource};
    let begins = connection.tuple.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    let FlowKey { side, destination, .. } = connection.key;
    let is_by_rule = match reason {
        AclDenied | EgressDenied | ForwardDenied | IngressDenied => true,
        Unsolicited | UnsolicitedSource => {
            connection.known_bound == 0 && public::address(side & !PUBLIC_SIDE, destination).is_some()
        }
        _ => false,
    };
    is_by_rule && !(begins && connection.is_reply != 0)
}

/// Whether nobody here has what a connection from a public link is to: no rule, no guest. Where the rules let no ping in, that
/// is nobody's either.
#[inline(always)]
fn is_unclaimed(reason: DropReason, connection: &Connection) -> bool {
    use DropReason::{IngressDenied, Unsolicited, UnsolicitedSource};
    matches!(reason, Unsolicited | UnsolicitedSource) || reason == IngressDenied && connection.asks_for_echo()
}

/// Whether there would have been a connection, with more room for it.
#[inline(always)]
fn wants_room(reason: DropReason) -> bool {
    use DropReason::{BindingTableFull, ConnectionLimit, FlowTableFull, PortsExhausted};
    matches!(reason, BindingTableFull | ConnectionLimit | FlowTableFull | PortsExhausted)
}

/// What the sender is told whose connection by a protocol was refused.
#[inline(always)]
fn told(reason: DropReason, protocol: u8) -> Option<Answer> {
    match reason {
        DropReason::NoPublicAddress | DropReason::NoRoute => Some(Answer::NET_UNREACHABLE),
        DropReason::NeighbourUnresolved => Some(Answer::HOST_UNREACHABLE),
        DropReason::GatewayClosed if protocol != frame::Protocol::ICMP.0 => Some(Answer::closed(protocol)),
        _ if wants_room(reason) => Some(Answer::PROHIBITED),
        _ => None,
    }
}

/// Whether a connection by a protocol that was refused leaves nothing to be done: no room to be made, nobody to be told.
#[inline(always)]
pub fn is_silent(reason: DropReason, protocol: u8) -> bool {
    reason != DropReason::GatewayClosed && told(reason, protocol).is_none()
}
