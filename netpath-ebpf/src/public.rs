//! The public side of a host: public addresses on an uplink, and the stations beside them.
//!
//! ```text
//!   in    a public address of this host, to the uplink's MAC address ──► tag off, to the gateway
//!         ARP for one of them ──► answered;  an answer that was asked for ──► noted
//!         everything else on the link is the host's: passed as it is
//!   out   Ethernet header, tag, out of the uplink; where the next hop is not known, the packet becomes the question
//! ```

mod neighbour;
mod out;

use netpath_common::{
    DropReason, Mac, Packet as _,
    frame::EtherType,
    maps::{PUBLIC_SIDE, PublicAddress, PublicKey, Resolved, Upstream, event_hook, public_flags, stage},
    stage::arp::{self, Arp},
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr, vlan::VlanHdr};

pub use self::{
    neighbour::{Hop, fresh_hop, next_hop, state},
    out::{push_tag, send},
};
use crate::{
    account, event,
    handover::Handover,
    maps,
    packet::{Rewrite as _, TcPacket},
    redirect::Verdict,
    vlan,
};
use neighbour::Heard;

/// What becomes of an ARP packet. A number and not a [`Verdict`]: it crosses a call.
mod outcome {
    pub const PASS: u32 = 0;
    pub const ANSWER: u32 = 1;
    pub const CONSUMED: u32 = 2;
}

/// A public link of this host.
#[inline(always)]
pub fn link(index: u32) -> Option<&'static Upstream> {
    maps::UPSTREAMS.get(index).filter(|link| link.ifindex != 0)
}

/// A public address of this host on a link.
#[inline(always)]
pub fn address(index: u32, address: [u8; 4]) -> Option<&'static PublicAddress> {
    let side = PUBLIC_SIDE | index;
    // SAFETY: `side` tells whether the row is still one of the link that was asked for.
    unsafe { maps::PUBLIC_ADDRESS.get(PublicKey { side, address }) }.filter(|row| row.side == side)
}

/// A frame on public link `index`, in its tag if it has one. `owner` becomes the network whose address it is for.
#[inline(always)]
pub fn arrive(pkt: &mut TcPacket, index: u32, tagged: bool, owner: &mut u32) -> Result<Verdict, DropReason> {
    let (Some(link), Some(eth)) = (link(index), pkt.header::<EthHdr>(0)) else { return Ok(Verdict::PASS) };
    let (destination, mut ether_type) = (Mac(eth.dst_addr), EtherType(u16::from_be(eth.ether_type)));
    let mut l3 = EthHdr::LEN;
    if ether_type.is_tag() && tagged && !pkt.has_offloaded_tag() {
        let Some(tag) = pkt.header::<VlanHdr>(EthHdr::LEN) else { return Ok(Verdict::PASS) };
        ether_type = EtherType(u16::from_be(tag.ether_type));
        l3 += VlanHdr::LEN;
    }
    match ether_type {
        EtherType::IPV4 if destination == link.mac => {
            let Some(ip) = pkt.header::<Ipv4Hdr>(l3) else { return Ok(Verdict::PASS) };
            let Some(row) = address(index, ip.dst_addr) else { return Ok(Verdict::PASS) };
            *owner = row.network;
            let priority = if tagged { vlan::pop(pkt)? } else { 0 };
            Handover { priority, ..Handover::new(PUBLIC_SIDE | index, 0, row.network) }.to(pkt, stage::GATEWAY);
            Err(DropReason::RoutedTooOften)
        }
        EtherType::ARP => match hear(pkt, index, l3, destination == link.mac) {
            outcome::ANSWER => answer(pkt, link, l3, tagged),
            outcome::CONSUMED => Ok(Verdict::CONSUMED),
            _ => Ok(Verdict::PASS),
        },
        _ => Ok(Verdict::PASS),
    }
}

/// What an ARP packet is to this host. What cannot be read, and a group for a sender, tells nothing.
#[inline(never)]
fn hear(pkt: &TcPacket, index: u32, l3: usize, to_uplink: bool) -> u32 {
    let Ok(arp) = arp::parse_at(pkt, l3) else { return outcome::PASS };
    let Some(link) = link(index) else { return outcome::PASS };
    if arp.sender.is_group() || arp.sender == link.mac || arp.sender == Mac::ZERO {
        return outcome::PASS;
    }
    if let Some(row) = address(index, arp.sender_address) {
        account::dropped(row.network, DropReason::AddressConflict);
        event::dropped(pkt.raw().cast_mut(), event_hook::FROM_UPLINK, row.network, DropReason::AddressConflict);
        return outcome::PASS;
    }
    let note = |heard: Heard| {
        neighbour::note(index, Resolved::word(arp.sender), u32::from_ne_bytes(arp.sender_address), heard as u32);
    };
    if arp.sender_address == arp.target_address {
        note(Heard::Announcement);
        return outcome::PASS;
    }
    let Some(ours) = address(index, arp.target_address) else { return outcome::PASS };
    if arp.operation == arp::REQUEST {
        note(Heard::Request);
        return outcome::ANSWER;
    }
    if !to_uplink {
        return outcome::PASS;
    }
    note(Heard::Reply);
    // The host asks with the address too: the answer may be to its question.
    if ours.flags & public_flags::HOST != 0 { outcome::PASS } else { outcome::CONSUMED }
}

/// Turns a request for a public address into the reply.
#[inline(never)]
fn answer(pkt: &mut TcPacket, link: &Upstream, l3: usize, tagged: bool) -> Result<Verdict, DropReason> {
    let request: Arp = arp::parse_at(pkt, l3)?;
    if tagged {
        pkt.pop_tag()?;
    }
    let (eth, reply) = request.reply(link.mac);
    pkt.write(0, &eth)?;
    pkt.write(EthHdr::LEN, &reply)?;
    push_tag(pkt, link, 0)?;
    Ok(Verdict::redirect(link.ifindex))
}
