//! Answers that the data path gives itself: the guest's own frame, turned into the reply.

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    Address, DropReason, Frame, Packet as _, checksum,
    frame::EtherType,
    icmp,
    maps::{NeighbourKey, Network, Port, event_hook},
    stage::arp,
    too_big::{self, ICMP_LEN, QUOTE_LEN, TooBig},
};
use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    account, event, maps,
    packet::{Rewrite as _, TcPacket},
    redirect::Verdict,
    scratch,
};

/// Answers an ARP request for an address whose owner is defined; `None` where the question goes on.
///
/// A request to a single station, other than the gateway, is a question whether it is alive: it goes on.
#[inline(never)]
pub fn arp(pkt: &mut TcPacket, frame: &Frame, port: &Port, network: &Network) -> Result<Option<Verdict>, DropReason> {
    let arp = arp::parse(pkt, frame)?;
    if !arp.asks() || pkt.tag().is_some() {
        return Ok(None);
    }
    let key = NeighbourKey { network: port.network, address: Address::v4(arp.target_address) };
    // SAFETY: the row is copied at once, and `network` tells whether it is still the row that was asked for.
    let Some(owner) = unsafe { maps::NEIGHBOURS.get(key) }.copied() else { return Ok(None) };
    let to_all = frame.destination.is_group() || owner.mac == network.gateway_mac;
    if owner.network != port.network || owner.mac == arp.sender || !to_all {
        return Ok(None);
    }
    let (eth, reply) = arp.reply(owner.mac);
    pkt.write(0, &eth)?;
    pkt.write(EthHdr::LEN, &reply)?;
    account::to_guest(port.slot, EthHdr::LEN + ArpHdr::LEN);
    Ok(Some(Verdict::redirect(port.ifindex)))
}

/// Refuses an oversized packet, and tells its sender the size that fits where there is a gateway to say so.
#[inline(always)]
pub fn too_big(
    pkt: &mut TcPacket,
    frame: &Frame,
    network: &Network,
    port: &Port,
    mtu: u16,
) -> Result<Verdict, DropReason> {
    let len = match frame.ether_type {
        EtherType::IPV4 => netpath_too_big_ipv4(pkt.skb(), frame, network, mtu.into()),
        _ => netpath_too_big_ipv6(pkt.skb(), frame, network, mtu.into()),
    };
    if len == 0 {
        return Err(DropReason::PacketTooBig);
    }
    account::dropped(port.network, DropReason::PacketTooBig);
    event::dropped(pkt.skb(), event_hook::FROM_GUEST, port.network, DropReason::PacketTooBig);
    account::to_guest(port.slot, len as usize);
    Ok(Verdict::redirect(port.ifindex))
}

/// [`become_too_big`] as a [global](crate::global) function; 0 where nothing can be told.
///
/// Nothing is called from here that has a stack frame: before Linux 6.8 each is rounded up to 32 bytes, and with
/// `from_guest`'s own the 512 bytes are used up. For the same reason it is one function for each version of IP.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_too_big_ipv4(
    skb: *mut __sk_buff,
    frame: *const Frame,
    network: *const Network,
    mtu: u32,
) -> u32 {
    // SAFETY: the caller's frame and a row of NETWORKS; or null, says the verifier.
    let (Some(frame), Some(network)) = (unsafe { (frame.as_ref(), network.as_ref()) }) else { return 0 };
    become_too_big::<true>(&mut TcPacket::from_raw(skb), frame, network, mtu as u16).unwrap_or(0)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_too_big_ipv6(
    skb: *mut __sk_buff,
    frame: *const Frame,
    network: *const Network,
    mtu: u32,
) -> u32 {
    // SAFETY: as above.
    let (Some(frame), Some(network)) = (unsafe { (frame.as_ref(), network.as_ref()) }) else { return 0 };
    become_too_big::<false>(&mut TcPacket::from_raw(skb), frame, network, mtu as u16).unwrap_or(0)
}

/// Whether the packet is one that an error may be about: neither an error itself, nor to many.
#[inline(always)]
fn may_tell<const IPV4: bool>(pkt: &TcPacket, frame: &Frame) -> bool {
    // Of an ICMP message this is where its type is.
    let message = (frame.ports.source >> 8) as u8;
    if IPV4 {
        return pkt.header::<Ipv4Hdr>(frame.l3).is_some_and(|ip| icmp::may_answer(frame.destination, ip, message));
    }
    pkt.header::<Ipv6Hdr>(frame.l3).is_some_and(|ip| icmp::may_answer_ipv6(ip, frame.protocol, message))
}

/// Makes the packet the error that tells of it; answers the error's length in bytes.
#[inline(always)]
fn become_too_big<const IPV4: bool>(
    pkt: &mut TcPacket,
    frame: &Frame,
    network: &Network,
    mtu: u16,
) -> Result<u32, DropReason> {
    let whole = frame.l3 == EthHdr::LEN && pkt.len() >= EthHdr::LEN + QUOTE_LEN;
    if !may_tell::<IPV4>(pkt, frame) {
        return Err(DropReason::PacketTooBig);
    }
    let Some(error) = TooBig::answer(frame, network, mtu).filter(|_| whole) else {
        return Err(DropReason::PacketTooBig);
    };
    pkt.cut(EthHdr::LEN + QUOTE_LEN)?;
    pkt.pull(EthHdr::LEN + QUOTE_LEN);
    steady_quote(pkt, frame)?;
    let quote = quote_sum(pkt)?;
    let len = if IPV4 {
        let to = too_big::ipv4_sender(pkt, frame).ok_or(DropReason::PacketTooBig)?;
        pkt.adjust_room((Ipv4Hdr::LEN + ICMP_LEN) as i32, 0)?;
        pkt.write(EthHdr::LEN, &error.ipv4(network, to))?;
        pkt.write(EthHdr::LEN + Ipv4Hdr::LEN, &error.icmp(quote))?;
        Ipv4Hdr::LEN
    } else {
        let to = too_big::ipv6_sender(pkt, frame).ok_or(DropReason::PacketTooBig)?;
        // SAFETY: integers take any bytes, and it is the only such reference here.
        let ip = unsafe { scratch::place::<Ipv6Hdr>() }.ok_or(DropReason::PacketTooBig)?;
        *ip = error.ipv6(network, to);
        pkt.adjust_room((Ipv6Hdr::LEN + ICMP_LEN) as i32, 0)?;
        pkt.write(EthHdr::LEN, ip)?;
        pkt.write(EthHdr::LEN + Ipv6Hdr::LEN, &error.icmpv6(ip, quote))?;
        Ipv6Hdr::LEN
    };
    pkt.write(0, &error.eth(frame.ether_type))?;
    Ok((EthHdr::LEN + len + ICMP_LEN + QUOTE_LEN) as u32)
}

/// The one's complement sum of the quoted packet.
#[inline(always)]
fn quote_sum(pkt: &TcPacket) -> Result<u64, DropReason> {
    let quote = pkt.header::<[u8; QUOTE_LEN]>(EthHdr::LEN).ok_or(DropReason::PacketTooBig)?;
    Ok(sum_of(quote.as_ptr(), QUOTE_LEN))
}

#[inline(always)]
fn sum_of(bytes: *const u8, len: usize) -> u64 {
    // SAFETY: the caller's reference covers `len` bytes, a multiple of four.
    let sum = unsafe { helper::bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast_mut().cast(), len as u32, 0) };
    sum as u64 & 0xffff_ffff
}

/// Makes the quote's own checksum field one that a device may still finish without spoiling the error's.
///
/// The guest may have left the checksum to its device (`CHECKSUM_PARTIAL`), no helper takes that mark off, and
/// the mark stays with the buffer that becomes the error. A checksum that the guest finished is left alone.
#[inline(always)]
fn steady_quote(pkt: &mut TcPacket, frame: &Frame) -> Result<(), DropReason> {
    let Some(offset) = too_big::checksum_offset(frame.protocol) else { return Ok(()) };
    let at = frame.l4 + offset;
    let pseudo = too_big::pseudo_header(pkt, frame).ok_or(DropReason::PacketTooBig)?;
    let field = *pkt.header::<[u8; 2]>(at).ok_or(DropReason::PacketTooBig)?;
    if !pseudo.is_unfinished(field) {
        return Ok(());
    }
    pkt.write(at, &[0u8; 2])?;
    pkt.pull(EthHdr::LEN + QUOTE_LEN);
    let all = quote_sum(pkt)?;
    let before = too_big::header_sum(pkt, frame).ok_or(DropReason::PacketTooBig)?;
    pkt.write(at, &checksum::steady_field(all + u64::from(!checksum::fold(before))))?;
    pkt.pull(EthHdr::LEN + QUOTE_LEN);
    Ok(())
}
