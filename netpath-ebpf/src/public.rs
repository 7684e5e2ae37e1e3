//! The link layer of the public side: who has an address there, and frames to them.

use netpath_common::{
    DropReason, Mac,
    frame::EtherType,
    maps::{Flow, PUBLIC_SIDE, PublicKey, Resolved, Upstream, hop},
};
use network_types::eth::EthHdr;

use crate::{maps, packet::TcPacket, redirect::Verdict};

/// Who takes a packet on a public link.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hop {
    /// The MAC address, for [`state::READY`] and [`state::REFRESH`].
    pub mac: Mac,
    /// [`state`].
    pub state: u8,
    /// Zero.
    pub pad: u8,
}

/// What is known of a next hop: [`Hop::state`].
pub mod state {
    /// Nothing has to be known.
    pub const NONE: u8 = 0;
    /// The MAC address is known and was confirmed lately.
    pub const READY: u8 = 1;
    /// The MAC address is known, and it is time to ask again.
    pub const REFRESH: u8 = 2;
    /// Nobody has answered yet.
    pub const UNKNOWN: u8 = 3;
    /// Nobody has answered for some time.
    pub const UNREACHABLE: u8 = 4;
}

impl Hop {
    /// Not on a public link.
    pub const NONE: Self = Self { mac: Mac::ZERO, state: state::NONE, pad: 0 };
}

/// Who takes packets to `destination` on the link with this index.
#[inline(always)]
pub fn next_hop(kind: u8, link: u32, destination: [u8; 4], _now: u32) -> Hop {
    let row = if kind == hop::UPSTREAM {
        maps::UPSTREAM_MACS.get(link)
    } else {
        let key = PublicKey { side: PUBLIC_SIDE | link, address: destination };
        // SAFETY: one word is read.
        unsafe { maps::ON_LINK.get(key) }
    };
    match row.and_then(Resolved::known) {
        Some(mac) => Hop { mac, state: state::READY, pad: 0 },
        None => Hop { mac: Mac::ZERO, state: state::UNKNOWN, pad: 0 },
    }
}

/// Sends a rewritten packet out of a public link.
#[inline(always)]
pub fn send(pkt: &mut TcPacket, flow: &Flow, hop: Hop) -> Result<Verdict, DropReason> {
    let link = maps::UPSTREAMS.get(flow.target).ok_or(DropReason::NoRoute)?;
    if hop.state == state::UNKNOWN {
        return Err(DropReason::NeighbourUnresolved);
    }
    transmit(pkt, link, hop.mac)
}

/// Puts the frame on the link.
#[inline(always)]
pub fn transmit(pkt: &mut TcPacket, link: &Upstream, mac: Mac) -> Result<Verdict, DropReason> {
    let eth = EthHdr { dst_addr: mac.0, src_addr: link.mac.0, ether_type: EtherType::IPV4.0.to_be() };
    pkt.overwrite(0, &eth)?;
    if link.vlan != 0 {
        pkt.push_tag(link.vlan)?;
    }
    Ok(Verdict::redirect(link.ifindex))
}
