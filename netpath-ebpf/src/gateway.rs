//! A routed packet: its connection is looked up, the packet rewritten and sent on. One lookup, if the connection is known.
//!
//! What is not known here goes to `connect` and comes back.

use netpath_common::{
    DropReason, Frame, Packet as _,
    frame::Protocol,
    maps::{
        self as rows, Flow, FlowKey, Gateway, GatewayState, Network, PUBLIC_SIDE, PublicKey, event_hook, flow_flags,
        flow_state, gateway_flags, hop, stage,
    },
    stage::{idle, tcp},
};

use crate::{
    account,
    atomic::Word,
    bind, event,
    handover::{Answer, Handover},
    inward, maps, meter,
    packet::TcPacket,
    redirect::Verdict,
    rewrite, send,
    tuple::{self, Routed, Tuple, fragment, icmp},
};

/// How many programs a packet may go through: the first packet of a connection through a hairpin wants seven.
const MOST_ROUNDS: u32 = 12;

/// Runs the pipeline. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    if handover.rounds > MOST_ROUNDS {
        return Err(DropReason::RoutedTooOften);
    }
    let Routed { frame, tuple } = match Routed::read(pkt, handover.side) {
        // Of the host's own packets nobody here knows the first fragment.
        Err(reason @ DropReason::FragmentBeforeFirst) => return inward::unclaimed(pkt, &handover, reason),
        routed => routed?,
    };
    if let Some(network) = inside(handover.side)
        && network.gateway_ip4 == tuple.key.destination
    {
        return for_the_gateway(pkt, handover, tuple);
    }
    if frame.protocol == Protocol::ICMP && tuple.is_icmp_error() {
        charge_sender(pkt, &handover)?;
        handover.to(pkt, stage::ICMP_ERROR);
        return Err(DropReason::RoutedTooOften);
    }
    let now = tuple::now();
    let Some((flow, gateway)) = established(&tuple.key, now).filter(|(flow, _)| !tuple.asks_otherwise(flow)) else {
        handover.to(pkt, stage::CONNECT);
        return Err(DropReason::RoutedTooOften);
    };
    *owner = flow.network;
    follow(pkt, frame, handover, tuple, Known { flow, gateway, now })
}

/// The network that a side is; `None` for a public link.
#[inline(always)]
pub fn inside(side: u32) -> Option<&'static Network> {
    if side & PUBLIC_SIDE != 0 { None } else { maps::NETWORKS.get(side) }
}

/// A connection that is known, alive, and judged by the rules in force.
pub struct Known {
    /// This direction of it.
    pub flow: &'static mut Flow,
    /// The gateway of the network that it belongs to.
    pub gateway: &'static Gateway,
    /// The time, in seconds.
    pub now: u32,
}

/// The flow of a key, if it may be followed as it is.
#[inline(always)]
pub fn established(key: &FlowKey, now: u32) -> Option<(&'static mut Flow, &'static Gateway)> {
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let flow = unsafe { &mut *maps::FLOWS.get_ptr_mut(key)? };
    if flow.tag != key.tag() {
        return None;
    }
    let gateway = maps::GATEWAYS.get(flow.network)?;
    if flow.epoch != gateway.epoch || is_idle(flow, key.protocol, gateway, now) {
        return None;
    }
    event::met(flow);
    Some((flow, gateway))
}

/// Whether this direction of a connection has been silent for too long. An idle row counts as absent, swept or not.
#[inline(always)]
pub fn is_idle(flow: &Flow, protocol: u8, gateway: &Gateway, now: u32) -> bool {
    idle::is_idle(flow, protocol, &gateway.timeouts, now)
}

/// Sends a packet of a known connection on its way.
#[inline(always)]
fn follow(
    pkt: &mut TcPacket,
    frame: &Frame,
    handover: Handover,
    tuple: &Tuple,
    known: Known,
) -> Result<Verdict, DropReason> {
    let Known { flow, gateway, now } = known;
    let transit = flow.flags & flow_flags::TRANSIT != 0;
    if flow.flags & flow_flags::HAIRPIN != 0 && handover.is_from_public_wire() {
        return Err(DropReason::MartianSource);
    }
    if tuple.ip.ttl <= 1 && !transit {
        return answer(pkt, handover, flow.network, DropReason::TtlExpired, Answer::TTL_EXCEEDED);
    }
    let way = send::find(pkt, flow, now)?;
    if way.is_unreachable() {
        return answer(pkt, handover, flow.network, DropReason::NeighbourUnresolved, Answer::HOST_UNREACHABLE);
    }
    if pkt.wire_len(frame) > usize::from(way.mtu) {
        return answer(pkt, handover, flow.network, DropReason::PacketTooBig, Answer::too_big(way.mtu));
    }
    let sender = (handover.port != 0).then_some(handover.slot);
    charge(pkt, sender, tuple.key.side & PUBLIC_SIDE != 0, flow, way.is_paced)?;
    note_packet(pkt, frame, tuple, flow, gateway, now);
    if transit {
        if tuple.fragment == fragment::FIRST {
            tuple::note_first_fragment(tuple, u16::from_be_bytes(tuple.ip.id), now);
        }
        return send::unchanged(pkt, frame, flow, &way, handover.priority);
    }
    let id = identification(tuple, flow, now, || pkt.segments());
    rewrite::packet(pkt, frame, tuple, flow, id)?;
    if flow.hop == hop::AGAIN {
        handover.again(flow.out).to(pkt, stage::GATEWAY);
        return Err(DropReason::RoutedTooOften);
    }
    send::along(pkt, frame, flow, &way, handover.priority)
}

/// Charges a packet that no connection carries to the guest that sent it here, and counts it.
#[inline(always)]
fn charge_sender(pkt: &mut TcPacket, handover: &Handover) -> Result<(), DropReason> {
    if handover.port == 0 { Ok(()) } else { meter::from_guest(pkt, handover.slot, false) }
}

/// Charges a packet to the meters of the guest that sent it here, of the public address that it goes through, and of the guest here
/// that it comes to by that ([`send::is_charged`]): to all or to none. Counts it for the sender's slot and the address.
#[inline(always)]
pub fn charge(
    pkt: &mut TcPacket,
    sender: Option<u32>,
    inward: bool,
    flow: &Flow,
    is_paced: bool,
) -> Result<(), DropReason> {
    let slot = if send::is_charged(flow) { Some(flow.slot) } else { sender };
    let meters = slot.map_or(&meter::NONE, meter::of_port);
    let how = if inward { meter::How::TO_GUEST } else { meter::How::from_guest(is_paced) };
    meter::charge_skb(pkt, meters, slot.unwrap_or(0), how.through(flow.address))?;
    if let Some(sender) = sender {
        account::from_guest(sender, pkt.len());
    }
    if flow.address != 0 {
        account::public(flow.address, inward, pkt.len());
    }
    Ok(())
}

/// Notes a packet of a connection: what it tells of its state, how long it is, and that it lives.
#[inline(always)]
pub fn note_packet(pkt: &TcPacket, frame: &Frame, tuple: &Tuple, flow: &mut Flow, gateway: &Gateway, now: u32) {
    let changed = track(pkt, frame, tuple, flow, now);
    count(tuple, flow, gateway, pkt.len() as u64, now, changed);
}

/// A packet to the gateway itself: it answers ping, and says that there is nothing else.
#[inline(always)]
fn for_the_gateway(pkt: &mut TcPacket, handover: Handover, tuple: &Tuple) -> Result<Verdict, DropReason> {
    charge_sender(pkt, &handover)?;
    if tuple.key.protocol == Protocol::ICMP.0 {
        if tuple.icmp_type != icmp::ECHO || tuple.fragment != fragment::WHOLE {
            return Err(DropReason::GatewayClosed);
        }
        Handover { answer: Answer::ECHO_REPLY.word(), ..handover }.to(pkt, stage::ANSWER);
        return Err(DropReason::RoutedTooOften);
    }
    let told = Answer::closed(tuple.key.protocol);
    answer(pkt, handover, handover.side, DropReason::GatewayClosed, told)
}

/// Counts a refusal and has its sender told.
#[inline(always)]
pub fn answer(
    pkt: &mut TcPacket,
    handover: Handover,
    owner: u32,
    reason: DropReason,
    answer: Answer,
) -> Result<Verdict, DropReason> {
    account::dropped(owner, reason);
    event::dropped(pkt.skb(), event_hook::GATEWAY, owner, reason);
    Handover { answer: answer.word(), owner, ..handover }.to(pkt, stage::ANSWER);
    Ok(Verdict::CONSUMED)
}

/// Notes what a packet tells of its connection's state; nearly always nothing new. Answers whether it was.
#[inline(always)]
fn track(pkt: &TcPacket, frame: &Frame, tuple: &Tuple, flow: &mut Flow, now: u32) -> bool {
    const EVENTS: u8 = tcp::FIN | tcp::SYN | tcp::RST;
    let reply = flow.flags & flow_flags::REPLY != 0;
    let first_answer = reply && flow.flags & flow_flags::ANSWERED == 0;
    if tuple.key.protocol != Protocol::TCP.0 || tuple.fragment == fragment::LATER {
        if first_answer {
            note(&tuple.key, flow, flow_state::NONE, now);
        }
        return first_answer;
    }
    let mut changed = false;
    if first_answer || flow.state != flow_state::ESTABLISHED || tuple.tcp_flags & EVENTS != 0 {
        changed = event(pkt, frame, tuple, flow, now);
    }
    if tuple.tcp_flags & tcp::ACK != 0
        && let Some(acknowledged) = pkt_word(pkt, frame.l4 + 8)
    {
        flow.acknowledged = acknowledged;
    }
    changed
}

#[inline(always)]
fn pkt_word(pkt: &TcPacket, offset: usize) -> Option<u32> {
    pkt.header::<[u8; 4]>(offset).map(|word| u32::from_be_bytes(*word))
}

/// A segment that may change the state of its connection. A reset or a FIN counts only where its sequence number is one
/// that the other end would take (RFC 7857 §2.2).
#[inline(never)]
fn event(pkt: &TcPacket, frame: &Frame, tuple: &Tuple, flow: &mut Flow, now: u32) -> bool {
    let reply = flow.flags & flow_flags::REPLY != 0;
    let mut flags = tuple.tcp_flags;
    if flags & (tcp::RST | tcp::FIN) != 0 {
        let opposite = tuple.key.opposite(flow);
        // SAFETY: one word is read.
        let acknowledged = unsafe { maps::FLOWS.get(opposite) }.map_or(0, |other| other.acknowledged);
        let sequence = pkt_word(pkt, frame.l4 + 4).unwrap_or(0);
        if !tcp::may_reset(sequence, acknowledged) {
            flags &= !(tcp::RST | tcp::FIN);
            if tuple.tcp_flags & tcp::RST != 0 {
                return false;
            }
        }
    }
    let state = next_state(flow.state, flags, reply);
    let changed = state != flow.state || reply && flow.flags & flow_flags::ANSWERED == 0;
    if changed {
        note(&tuple.key, flow, state, now);
    }
    changed
}

/// [`tcp::next`], which is far too many paths for the verifier, as a table.
#[inline(always)]
fn next_state(state: u8, flags: u8, reply: bool) -> u8 {
    static NEXT: [u8; tcp::TABLE_LEN] = tcp::table();
    let index = tcp::table_index(state, flags, reply);
    // SAFETY: the index is masked to the table's length. Read back, so that the mask is the last that is done to it: of an
    // index that is added up from parts Linux 6.1 does not know that it is small.
    unsafe {
        let index = (&raw const index).read_volatile() & (tcp::TABLE_LEN - 1);
        NEXT.as_ptr().add(index).read_volatile()
    }
}

/// Writes a connection's state into both of its directions. One that was established and ends lives for the time of its new
/// state from now on, however long it was silent before, and whoever's packet it is that ends it.
#[inline(never)]
fn note(key: &FlowKey, flow: &mut Flow, state: u8, now: u32) {
    let answered = flow.flags & (flow_flags::REPLY | flow_flags::ANSWERED);
    let opposite = key.opposite(flow);
    let ends = flow.state == flow_state::ESTABLISHED && state != flow.state;
    flow.state = state;
    if ends {
        flow.last_seen = now;
    }
    if answered != 0 {
        flow.flags |= flow_flags::ANSWERED;
    }
    if let Some(other) = maps::FLOWS.get_ptr_mut(opposite) {
        // SAFETY: `tag` tells whether the row is still the one that was asked for; a few bytes are written.
        let other = unsafe { &mut *other };
        if other.tag == opposite.tag() {
            other.state = state;
            if ends {
                other.last_seen = now;
            }
            if answered != 0 {
                other.flags |= flow_flags::ANSWERED;
            }
        }
    }
}

/// Counts a packet, and keeps its connection alive where it may. A connection whose state has `changed` has another timeout,
/// which its binding has to outlive.
#[inline(always)]
pub fn count(tuple: &Tuple, flow: &mut Flow, gateway: &Gateway, len: u64, now: u32, changed: bool) {
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes += len;
    if flow.last_seen == now && !changed {
        return;
    }
    let from_outside = tuple.key.side & PUBLIC_SIDE != 0 && gateway.flags & gateway_flags::INBOUND_REFRESH == 0;
    // What only answers a stranger keeps nothing alive (RFC 7857 §4).
    let is_reset = tuple.tcp_flags & tcp::RST != 0;
    if from_outside || is_reset {
        let is_strangers = (tuple.key.side & PUBLIC_SIDE == 0) == (flow.flags & flow_flags::REPLY != 0);
        // The flow's own time does not move, but its timeout may have: the port is its for as long as it may live.
        if changed && flow.flags & flow_flags::BOUND != 0 && !(is_reset && is_strangers) {
            renew(&tuple.key, flow, gateway, flow.last_seen, changed);
        }
        return;
    }
    let turn = |at: u32| at.wrapping_sub(flow.created) / idle::RENEWAL;
    let boundary = turn(now) != turn(flow.last_seen);
    flow.last_seen = now;
    if (boundary || changed) && flow.flags & flow_flags::BOUND != 0 {
        renew(&tuple.key, flow, gateway, now, changed);
    }
}

/// Keeps the binding of a flow alive that lives `from` then on, or lets it end with the flow where that has `changed` to its end.
#[inline(never)]
fn renew(key: &FlowKey, flow: &Flow, gateway: &Gateway, from: u32, changed: bool) {
    let answered = flow.flags & flow_flags::ANSWERED != 0;
    let timeout = tcp::timeout(key.protocol, flow.state, answered, &gateway.timeouts);
    let inside = if key.side & PUBLIC_SIDE == 0 { *key } else { key.opposite(flow) };
    let expires = from + timeout + idle::MARGIN;
    // Where whoever knows of it may use it, a binding lives for as long as any connection of it might.
    if changed && key.protocol == Protocol::TCP.0 && idle::ends_binding(flow.state) && !gateway.is_open() {
        bind::shorten(&inside, expires);
    }
    bind::renew(&inside, expires);
}

/// The identification of the packet as it leaves, in the low half, and whether it is a new one above it.
///
/// Behind one public address are many senders, whose packets may have the same one (RFC 6864 §5.2); what is never
/// fragmented (DF) needs none. The `segments` of a super-packet get the ones that follow.
#[inline(always)]
pub fn identification(tuple: &Tuple, flow: &Flow, now: u32, segments: impl FnOnce() -> u32) -> u32 {
    const NEW: u32 = 1 << 16;
    if tuple.fragment == fragment::LATER {
        return NEW | u32::from(tuple.id);
    }
    if tuple.fragment == fragment::FIRST {
        return NEW | u32::from(first_fragment(tuple, flow, now));
    }
    let may_be_fragmented = tuple.ip.frags[0] & 0x40 == 0;
    if may_be_fragmented && flow.out & PUBLIC_SIDE != 0 {
        return NEW | u32::from(next_identification(flow, segments()));
    }
    0
}

#[inline(never)]
fn first_fragment(tuple: &Tuple, flow: &Flow, now: u32) -> u16 {
    let own = u16::from_be_bytes(tuple.ip.id);
    let id = match tuple::noted_identification(tuple, now) {
        known if known != 0 => known as u16,
        _ if flow.out & PUBLIC_SIDE != 0 => next_identification(flow, 1),
        _ => own,
    };
    tuple::note_first_fragment(tuple, id, now);
    id
}

/// How often a number is fought for with other processors.
const TRIES: u32 = 4;

/// Counted where the public address belongs: networks of one router may share it.
#[inline(never)]
fn next_identification(flow: &Flow, count: u32) -> u16 {
    let public = PublicKey { side: flow.out, address: flow.source };
    // SAFETY: one number is read, and `side` tells whether it is still the row that was asked for.
    let row = unsafe { maps::PUBLIC_ADDRESS.get(public) }.filter(|row| row.side == public.side);
    let Some(state) = state(row.map_or(flow.network, |row| row.network)) else { return 0 };
    // SAFETY: in a map's value.
    let word = unsafe { Word::at(&raw mut (*state).identification) };
    let mut before = word.load();
    // Not by adding: LLVM makes an addition without a result of one of which only the low half is read.
    for _ in 0..TRIES {
        let found = word.replace(before, before + u64::from(count));
        if found == before {
            break;
        }
        before = found;
    }
    before as u16
}

/// What the data path counts for a network.
#[inline(always)]
pub fn state(network: u32) -> Option<*mut GatewayState> {
    const { assert!(align_of::<rows::GatewayState>() == 8) };
    maps::GATEWAY_STATE.get_ptr_mut(network)
}
