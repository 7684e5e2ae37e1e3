//! An ICMP error about a connection, translated either way (RFC 5508 §4): it quotes a packet as it left here.
//!
//! ```text
//!   message's checksum ► quote ► flow of the quoted packet's answers ► quote's addresses, ports, checksums
//!                                                                    ► message's checksum ► header ► (sent)
//! ```
//!
//! The flow is only read: an error neither keeps a connection alive nor ends it.

use netpath_common::{
    DropReason, Frame, Packet as _, checksum,
    frame::Protocol,
    icmp::{self, ICMP_LEN, Quoted},
    maps::{Flow, FlowKey, PUBLIC_SIDE, flow_flags, hop, stage},
    stage::{
        martian,
        translate::{self, Change},
    },
};
use network_types::ip::Ipv4Hdr;

use crate::{
    connection::Connection,
    gateway,
    handover::Handover,
    inward,
    packet::TcPacket,
    quoted,
    redirect::Verdict,
    scratch::{self, Scratch},
    send,
    tuple::{self, Routed},
};

/// Bytes in which all headers stand, both with the longest options.
const HEADERS: usize = 192;

/// Runs the pipeline. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    match follow(pkt, &handover, owner) {
        Err(reason @ DropReason::IcmpErrorUnmatched) => inward::unclaimed(pkt, &handover, reason),
        followed => followed,
    }
}

/// Translates the error and sends it on.
#[inline(always)]
fn follow(pkt: &mut TcPacket, handover: &Handover, owner: &mut u32) -> Result<Verdict, DropReason> {
    let Routed { frame, tuple } = Routed::read(pkt, handover.side)?;
    if !icmp::is_error(tuple.icmp_type) {
        return Err(DropReason::IcmpErrorUnmatched);
    }
    let ip = &tuple.ip;
    verify(pkt, frame)?;
    // SAFETY: integers and arrays of integers; this is the only reference.
    let About { quoted, key } = unsafe { scratch::place() }.ok_or(DropReason::MalformedIcmp)?;
    read(pkt, frame, quoted)?;
    if martian::source(ip.src_addr) {
        return Err(DropReason::MartianSource);
    }
    if ip.dst_addr != quoted.source {
        return Err(DropReason::IcmpErrorUnmatched);
    }
    let now = tuple::now();
    *key = quoted::answers(quoted, handover.side);
    let flow = match quoted::flow(key, now) {
        Some(flow) => flow,
        None => {
            let flow = &mut Connection::scratch().ok_or(DropReason::IcmpErrorUnmatched)?.flow;
            quoted::stand_in(key, flow, handover.port != 0, now)?;
            flow
        }
    };
    *owner = flow.network;
    let way = send::find(pkt, flow, now)?;
    if way.is_unreachable() {
        return Err(DropReason::NeighbourUnresolved);
    }
    if frame.l3_len > usize::from(way.mtu) {
        return Err(DropReason::PacketTooBig);
    }
    if flow.flags & flow_flags::TRANSIT != 0 {
        return send::unchanged(pkt, frame, flow, &way, handover.priority);
    }
    if ip.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let source = visible_source(ip, quoted, flow, handover.side);
    rewrite_quote(pkt, frame, quoted, flow)?;
    rewrite_header(pkt, frame, source, flow.destination)?;
    // Its sender here was charged before.
    gateway::charge(pkt, None, handover.side & PUBLIC_SIDE != 0, flow, way.is_paced)?;
    if flow.hop == hop::AGAIN {
        handover.again(flow.out).to(pkt, stage::GATEWAY);
        return Err(DropReason::RoutedTooOften);
    }
    send::along(pkt, frame, flow, &way, handover.priority)
}

/// What an error is about.
struct About {
    quoted: Quoted,
    key: FlowKey,
}

/// Refuses a message whose checksum is wrong, and one that is too long or too short for an error, or fragmented.
#[inline(never)]
fn verify(pkt: &mut TcPacket, frame: &Frame) -> Result<(), DropReason> {
    let frags = pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIcmp)?.frags;
    let len = frame.l3 + frame.l3_len - frame.l4;
    if u16::from_be_bytes(frags) & 0x3fff != 0 || len > Scratch::MOST_SUMMED {
        return Err(DropReason::MalformedIcmp);
    }
    let message = Scratch::copy(pkt, frame.l4, len).ok_or(DropReason::MalformedIcmp)?;
    if checksum::fold(message.sum()) != 0xffff {
        return Err(DropReason::MalformedIcmp);
    }
    let all = pkt.len();
    pkt.pull(if all < HEADERS { all } else { HEADERS });
    Ok(())
}

/// Reads what the message quotes.
#[inline(never)]
fn read(pkt: &TcPacket, frame: &Frame, quoted: &mut Quoted) -> Result<(), DropReason> {
    *quoted = icmp::quoted(pkt, frame.l4 + ICMP_LEN, frame.l3 + frame.l3_len)?;
    Ok(())
}

/// Whom the error seems to come from: the connection's other end has the address that the connection gives it, and a
/// router inside hides behind the public address (RFC 5508 REQ-5 b). A router elsewhere has its own.
#[inline(always)]
fn visible_source(ip: &Ipv4Hdr, quoted: &Quoted, flow: &Flow, side: u32) -> [u8; 4] {
    let translated = flow.source != quoted.destination;
    let hides = side & PUBLIC_SIDE == 0 && flow.out & PUBLIC_SIDE != 0 && translated;
    if ip.src_addr == quoted.destination || hides { flow.source } else { ip.src_addr }
}

/// Makes the quote the packet that the error's receiver has sent, and mends the message's checksum.
///
/// The quoted IP header sums to ones before and after, and so does the whole message: no sum that a device took of the
/// packet changes.
#[inline(never)]
fn rewrite_quote(pkt: &mut TcPacket, frame: &Frame, quoted: &Quoted, flow: &Flow) -> Result<(), DropReason> {
    let malformed = DropReason::MalformedIcmp;
    let (before, after) = (quoted.change(), Change::after(flow).opposite());
    let (addresses, ports) = (before.address_difference(&after), before.port_difference(&after));
    let ip_check = *pkt.header::<[u8; 2]>(quoted.l3 + 10).ok_or(malformed)?;
    pkt.overwrite(quoted.l3 + 10, &translate::apply(ip_check, addresses))?;
    pkt.overwrite(quoted.l3 + 12, &after.source)?;
    pkt.overwrite(quoted.l3 + 16, &after.destination)?;
    let mut changed = u64::from(ports);
    if (before.source_port, before.destination_port) != (after.source_port, after.destination_port) {
        let [a, b] = after.source_port.to_be_bytes();
        let [c, d] = after.destination_port.to_be_bytes();
        if quoted.icmp_type == 0 && quoted.protocol != 1 {
            pkt.overwrite(quoted.ports, &[a, b, c, d])?;
        } else {
            pkt.overwrite(quoted.ports, &[a | c, b | d])?;
        }
    }
    if quoted.check != 0 {
        let old = *pkt.header::<[u8; 2]>(quoted.check).ok_or(malformed)?;
        let new = new_check(old, quoted.protocol, addresses, ports);
        pkt.overwrite(quoted.check, &new)?;
        changed += u64::from(!u16::from_ne_bytes(old)) + u64::from(u16::from_ne_bytes(new));
    }
    let check = *pkt.header::<[u8; 2]>(frame.l4 + 2).ok_or(malformed)?;
    pkt.overwrite(frame.l4 + 2, &translate::apply(check, u32::from(checksum::fold(changed))))
}

/// The quoted transport checksum after a change of addresses, which ICMP does not cover, and of ports.
#[inline(always)]
fn new_check(old: [u8; 2], protocol: u8, addresses: u32, ports: u32) -> [u8; 2] {
    let both = u32::from(checksum::fold(u64::from(addresses) + u64::from(ports)));
    match Protocol(protocol) {
        Protocol::ICMP => translate::apply(old, ports),
        Protocol::UDP | Protocol::UDP_LITE => translate::apply_udp(old, both),
        _ => translate::apply(old, both),
    }
}

/// The header of the error itself: new addresses, one hop less.
#[inline(never)]
fn rewrite_header(pkt: &mut TcPacket, frame: &Frame, source: [u8; 4], destination: [u8; 4]) -> Result<(), DropReason> {
    let mut ip = *pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?;
    let before = Change { source: ip.src_addr, destination: ip.dst_addr, ..Change::default() };
    let after = Change { source, destination, ..before };
    ip.check = translate::apply(ip.check, before.address_difference(&after));
    (ip.src_addr, ip.dst_addr) = (source, destination);
    translate::decrement_ttl(&mut ip);
    pkt.overwrite(frame.l3, &ip)
}
