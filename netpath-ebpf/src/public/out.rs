//! Out on a public link: the packet, and the question for its next hop.

use netpath_common::{
    DropReason, Mac,
    frame::EtherType,
    maps::{Flow, Upstream, event_hook, hop},
    stage::arp,
};
use network_types::{arp::ArpHdr, eth::EthHdr};

use super::{Hop, link, state};
use crate::{
    account, event,
    packet::{Rewrite as _, TcPacket},
    redirect::{self, Verdict},
    vlan,
};

/// Sends a rewritten packet to the next hop that [`super::next_hop`] found; without its MAC address, the packet is
/// counted as lost and its frame goes out as the question.
#[inline(always)]
pub fn send(pkt: &mut TcPacket, flow: &Flow, next: Hop, priority: u16) -> Result<Verdict, DropReason> {
    let link = link(flow.target).ok_or(DropReason::NoRoute)?;
    if next.state == state::READY {
        address(pkt, link, next.mac, priority)?;
        return Ok(Verdict::redirect(link.ifindex));
    }
    match next.state {
        state::REFRESH | state::SEEK => {
            address(pkt, link, next.mac, priority)?;
            redirect::clone_to(pkt, link.ifindex);
        }
        state::ASK => {
            account::dropped(flow.network, DropReason::NeighbourUnresolved);
            event::dropped(pkt.skb(), event_hook::GATEWAY, flow.network, DropReason::NeighbourUnresolved);
            push_tag(pkt, link, 0)?;
        }
        _ => return Err(DropReason::NeighbourUnresolved),
    }
    let target = if flow.hop == hop::UPSTREAM { link.gateway } else { flow.destination };
    let to = if next.state == state::REFRESH { next.mac } else { Mac::BROADCAST };
    let [a, b, c, d, e, f] = to.0;
    let to = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let asks = ask(pkt, link, u32::from_ne_bytes(flow.source), u32::from_ne_bytes(target), to);
    Ok(if asks { Verdict::redirect(link.ifindex) } else { Verdict::CONSUMED })
}

/// The link's Ethernet header and tag.
#[inline(always)]
fn address(pkt: &mut TcPacket, link: &Upstream, mac: Mac, priority: u16) -> Result<(), DropReason> {
    let eth = EthHdr { dst_addr: mac.0, src_addr: link.mac.0, ether_type: EtherType::IPV4.0.to_be() };
    pkt.overwrite(0, &eth)?;
    push_tag(pkt, link, priority)
}

/// The link's tag, with `priority`, where it has one.
#[inline(always)]
pub fn push_tag(pkt: &mut TcPacket, link: &Upstream, priority: u16) -> Result<(), DropReason> {
    if link.vlan == 0 { Ok(()) } else { pkt.push_tag(link.vlan & vlan::VID | priority) }
}

/// What is kept of the packet: up to the last byte of TCP's checksum field, behind which the kernel does not cut a packet
/// whose checksum was left to a device.
const KEPT: usize = 52;
/// By how much it grows at the front: such a checksum, of UDP too, is then written behind the ARP packet.
const GROWTH: usize = 8;

/// Turns the packet, whose tag the device will put on, into the request of a public address of this host for `target`, to
/// everybody or to the station that had it last; `false` where the kernel refuses that.
#[inline(never)]
fn ask(pkt: &mut TcPacket, link: &Upstream, sender: u32, target: u32, to: u64) -> bool {
    let [a, b, c, d, e, f, ..] = to.to_le_bytes();
    let (eth, request) = arp::request((link.mac, sender.to_ne_bytes()), target.to_ne_bytes(), Mac([a, b, c, d, e, f]));
    let become_request = |pkt: &mut TcPacket| {
        pkt.cut(KEPT)?;
        pkt.grow_head(GROWTH)?;
        pkt.write(0, &eth)?;
        pkt.write(EthHdr::LEN, &request)?;
        // Padding: nothing of the packet goes out with the question.
        const PADDING: usize = EthHdr::LEN + ArpHdr::LEN;
        pkt.write(PADDING, &[0u8; 16])?;
        pkt.write(PADDING + 16, &[0u8; 2])
    };
    become_request(pkt).is_ok()
}
const _: () = assert!(KEPT + GROWTH == EthHdr::LEN + ArpHdr::LEN + 18);
