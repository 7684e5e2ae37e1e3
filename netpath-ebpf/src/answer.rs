//! A packet becomes its own answer: an ICMP error, an echo reply, a neighbour advertisement.

use netpath_common::{
    Address, DropReason, Frame, Mac, Packet as _, checksum,
    frame::{EtherType, Protocol},
    icmp::{self, ICMP_LEN},
    maps::{PUBLIC_SIDE, stage},
    stage::answer::{self as say, ADVERTISEMENT_LEN, Advertisement, ERRORS_PER_SECOND, LONGEST_QUOTE},
    too_big,
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    atomic::Word,
    handover::{Answer, Handover},
    maps,
    packet::{Rewrite as _, TcPacket},
    redirect::Verdict,
    scratch::Scratch,
    tuple::{self, Routed},
    way_back::WayBack,
};

/// Runs the pipeline. The packet was counted as dropped by whoever wants an error about it, so that no reason is told
/// where there is none. `owner` becomes the network that refusals are counted for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    let frame = Routed::read_frame(pkt)?;
    if frame.is_tagged() || pkt.tag().is_some() {
        return Ok(Verdict::CONSUMED);
    }
    let Some(back) = WayBack::find(pkt, &handover, frame) else { return Ok(Verdict::CONSUMED) };
    pkt.overwrite(0, &say::eth(back.mac, frame.source, frame))?;
    let made = if frame.ether_type == EtherType::IPV6 {
        ipv6(pkt, frame, handover.side, back.mac)?
    } else {
        ipv4(pkt, frame, &handover)?
    };
    // A tunnel's header says of congestion what the packet in it says (RFC 6040 §4.1), which is another one now.
    if Answer::from_word(handover.answer) != Answer::ECHO_REPLY {
        frame.tos &= !0b11;
    }
    if !made {
        return Ok(Verdict::CONSUMED);
    }
    (frame.destination, frame.source) = (frame.source, back.mac);
    if back.is_again() {
        handover.again(handover.side).to(pkt, stage::GATEWAY);
        return Err(DropReason::RoutedTooOften);
    }
    back.send(pkt, frame, handover.side)
}

/// Makes a packet of IPv4 its answer; `false` where there is none.
#[inline(always)]
fn ipv4(pkt: &mut TcPacket, frame: &Frame, handover: &Handover) -> Result<bool, DropReason> {
    let ip = *pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?;
    if Answer::from_word(handover.answer) == Answer::ECHO_REPLY {
        echo4(pkt, frame, &ip)?;
        return Ok(true);
    }
    let from = own_address(handover, &ip);
    if from == [0; 4] || !may_tell(handover, frame, &ip) {
        return Ok(false);
    }
    become_error(pkt, frame, from, ip.src_addr, handover.answer)?;
    Ok(true)
}

/// Turns an echo request into its reply.
#[inline(always)]
fn echo4(pkt: &mut TcPacket, frame: &Frame, ip: &Ipv4Hdr) -> Result<(), DropReason> {
    let request = *pkt.header::<[u8; 4]>(frame.l4).ok_or(DropReason::MalformedIcmp)?;
    if frame.l4 == 0 || request[0] != 8 {
        return Err(DropReason::GatewayClosed);
    }
    pkt.write(frame.l3, &say::echo_ipv4(ip))?;
    pkt.write(frame.l4, &say::echo(request, 0))
}

/// Whether an error may tell of the packet, and the network has not had its share of this second.
#[inline(always)]
fn may_tell(handover: &Handover, frame: &Frame, ip: &Ipv4Hdr) -> bool {
    let (prefix, mask) = if handover.side & PUBLIC_SIDE == 0 {
        maps::GATEWAYS.get(handover.side).map_or(([0; 4], [0; 4]), |row| (row.prefix, row.mask))
    } else {
        maps::UPSTREAMS.get(handover.side & !PUBLIC_SIDE).map_or(([0; 4], [0; 4]), |row| (row.prefix, row.mask))
    };
    // Whoever is outside can use up no more than half of what a network's own guests are to be told.
    let most = if handover.side & PUBLIC_SIDE == 0 { ERRORS_PER_SECOND } else { ERRORS_PER_SECOND / 2 };
    say::may_tell(frame, ip, prefix, mask) && has_share(handover.owner, most)
}

/// Counts one more error of a network; `false` where it has had as many as may be in this second.
#[inline(always)]
fn has_share(network: u32, most: u32) -> bool {
    const ATTEMPTS: usize = 4;
    let Some(row) = maps::GATEWAY_STATE.get_ptr_mut(network) else { return false };
    // SAFETY: a map's row.
    let errors = unsafe { Word::at(&raw mut (*row).errors) };
    let now = tuple::now();
    for _ in 0..ATTEMPTS {
        let seen = errors.load();
        let Some(next) = say::count(seen, now, most) else { return false };
        if errors.replace(seen, next) == seen {
            return true;
        }
    }
    // So many others are answered at this moment that one more is not missed.
    false
}

/// The address that errors come from: the gateway's, or the one that the packet was sent to where that is public, or has
/// nobody who listens (it may be a sibling network's gateway's); zero for none.
#[inline(always)]
fn own_address(handover: &Handover, ip: &Ipv4Hdr) -> [u8; 4] {
    let says = handover.answer;
    let closed = says == Answer::PORT_UNREACHABLE.word() || says == Answer::PROTOCOL_UNREACHABLE.word();
    if closed || handover.side & PUBLIC_SIDE != 0 {
        return ip.dst_addr;
    }
    maps::NETWORKS.get(handover.side).map_or([0; 4], |network| network.gateway_ip4)
}

/// Makes the packet the error that tells of it, but for the Ethernet header. A function of its own for its stack.
#[inline(never)]
fn become_error(pkt: &mut TcPacket, frame: &Frame, from: [u8; 4], to: [u8; 4], answer: u32) -> Result<(), DropReason> {
    let answer = Answer::from_word(answer);
    let quoted = if frame.l3_len > LONGEST_QUOTE { LONGEST_QUOTE } else { frame.l3_len };
    let unfinished = unfinished_field(pkt, frame, quoted);
    pkt.cut(EthHdr::LEN + quoted)?;
    let mut quote = Scratch::copy(pkt, EthHdr::LEN, quoted).ok_or(DropReason::MalformedIpv4)?;
    if unfinished != 0 {
        let field = unfinished - EthHdr::LEN;
        quote.set(field, [0; 2]);
        let header = quote.sum_of(0, (frame.l4 - frame.l3) & 0x3c);
        let steady = checksum::steady_field(quote.sum() + u64::from(!checksum::fold(header)));
        quote.set(field, steady);
        pkt.write(unfinished, &steady)?;
    }
    let sum = quote.sum();
    pkt.adjust_room((Ipv4Hdr::LEN + ICMP_LEN) as i32, 0)?;
    pkt.write(EthHdr::LEN, &icmp::ipv4(from, to, quoted as u16))?;
    pkt.write(EthHdr::LEN + Ipv4Hdr::LEN, &icmp::header(answer.kind, answer.code, answer.mtu, sum))
}

/// Offset in bytes of a checksum field in the quote that its sender has left to a device; 0 for none.
///
/// Such a field is made one that a device may still finish without spoiling the error's: no helper takes the mark
/// (`CHECKSUM_PARTIAL`) off the buffer that becomes the error.
#[inline(always)]
fn unfinished_field(pkt: &TcPacket, frame: &Frame, quoted: usize) -> usize {
    let Some(offset) = too_big::checksum_offset(frame.protocol) else { return 0 };
    let at = frame.l4 + offset;
    if at + 2 > frame.l3 + quoted {
        return 0;
    }
    match (too_big::pseudo_header(pkt, frame), pkt.header::<[u8; 2]>(at)) {
        (Some(pseudo), Some(field)) if pseudo.is_unfinished(*field) => at,
        _ => 0,
    }
}

/// Makes a packet of IPv6 for the gateway its answer: who has the gateway's address, and is it there.
#[inline(always)]
fn ipv6(pkt: &mut TcPacket, frame: &Frame, side: u32, mac: Mac) -> Result<bool, DropReason> {
    let gateway = maps::NETWORKS.get(side).map_or(Address::NONE, |network| network.gateway_ip6);
    if say::solicits(pkt, frame, gateway)? {
        solicited(pkt, frame, mac, &gateway)?;
        return Ok(true);
    }
    let to = pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?.dst_addr;
    if to != gateway.0 || gateway == Address::NONE {
        return Err(DropReason::Ipv6NotRouted);
    }
    if frame.protocol != Protocol::ICMPV6 || frame.l4 == 0 || frame.ports.source != 128 << 8 {
        return Err(DropReason::GatewayClosed);
    }
    echo6(pkt, frame)?;
    Ok(true)
}

/// Turns an echo request into its reply.
#[inline(never)]
fn echo6(pkt: &mut TcPacket, frame: &Frame) -> Result<(), DropReason> {
    let ip = say::echo_ipv6(pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?);
    let echo = say::echo(*pkt.header::<[u8; 4]>(frame.l4).ok_or(DropReason::MalformedIpv6)?, 129);
    pkt.write(frame.l3, &ip)?;
    pkt.write(frame.l4, &echo)
}

/// Turns a solicitation into the gateway's advertisement. Written piece by piece, for want of stack.
#[inline(always)]
fn solicited(pkt: &mut TcPacket, frame: &Frame, mac: Mac, gateway: &Address) -> Result<(), DropReason> {
    let asker = Address(pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?.src_addr);
    check_solicitation(pkt, frame)?;
    pkt.cut(EthHdr::LEN + ADVERTISEMENT_LEN)?;
    let advertisement = Advertisement { mac, gateway: *gateway, asker };
    pkt.overwrite(0, &advertisement.eth(frame.source))?;
    write_ipv6(pkt, &advertisement)?;
    write_message(pkt, &advertisement)
}

/// Refuses what has been routed, is cut short, or has a wrong checksum (RFC 4861 §7.1.1).
#[inline(never)]
fn check_solicitation(pkt: &mut TcPacket, frame: &Frame) -> Result<(), DropReason> {
    let ip = pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?;
    let len = frame.l3 + frame.l3_len - frame.l4;
    let (pseudo, in_order) = (say::pseudo_header6(ip, len as u16), ip.hop_limit == 255 && len >= 24);
    let message = Scratch::copy(pkt, frame.l4, len).ok_or(DropReason::MalformedIpv6)?;
    let intact = checksum::fold(message.sum() + pseudo) == 0xffff;
    if in_order && intact { Ok(()) } else { Err(DropReason::MalformedIpv6) }
}

#[inline(never)]
fn write_ipv6(pkt: &mut TcPacket, advertisement: &Advertisement) -> Result<(), DropReason> {
    pkt.write(EthHdr::LEN, &advertisement.ipv6())
}

#[inline(never)]
fn write_message(pkt: &mut TcPacket, advertisement: &Advertisement) -> Result<(), DropReason> {
    pkt.write(EthHdr::LEN + Ipv6Hdr::LEN, &advertisement.message())
}
