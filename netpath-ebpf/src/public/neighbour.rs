//! The stations on public links: their MAC addresses, as they have said.

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    Mac,
    maps::{PUBLIC_SIDE, PublicKey, Resolved, Upstream, hop},
    stage::neighbour,
};

pub use netpath_common::stage::neighbour::state;

use super::link;
use crate::maps;

/// The next hop on a public link.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hop {
    /// Its MAC address, where the state says that there is one.
    pub mac: Mac,
    /// [`state`]; 0 where there is no such hop.
    pub state: u8,
    pad: u8,
}

impl Hop {
    /// No hop on a public link.
    pub const NONE: Self = Self { mac: Mac::ZERO, state: 0, pad: 0 };

    #[inline(always)]
    fn new(word: u64, state: u8) -> Self {
        let [a, b, c, d, e, f, ..] = word.to_le_bytes();
        Self { mac: Mac([a, b, c, d, e, f]), state, pad: 0 }
    }
}

/// How a station was heard of.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It asked for an address of this host.
    Request,
    /// It answered.
    Reply,
    /// It told everybody of its address (RFC 5227 §3): a router that took over from another one.
    Announcement,
}

/// Seconds of the coarse monotonic clock.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: no arguments, no side effects.
    (unsafe { helper::bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// The row of a station: of the router by its link, of others by their address.
#[inline(always)]
fn row(index: u32, link: &Upstream, address: [u8; 4]) -> Option<&'static mut Resolved> {
    let row = if address == link.gateway {
        maps::UPSTREAM_MACS.get_ptr_mut(index)
    } else {
        maps::ON_LINK.get_ptr_mut(PublicKey { side: PUBLIC_SIDE | index, address })
    };
    // SAFETY: words that are written one by one; of two CPUs that write, either is right.
    row.map(|row| unsafe { &mut *row })
}

/// Who takes a packet for `destination` that leaves by [`hop`] `kind` on public link `index`, and what becomes of the
/// packet. To be asked once for each packet, before it is changed.
#[inline(always)]
pub fn next_hop(kind: u8, index: u32, destination: [u8; 4], now: u32) -> Hop {
    let Some(link) = link(index) else { return Hop::new(0, state::UNREACHABLE) };
    let target = if kind == hop::UPSTREAM { link.gateway } else { destination };
    if let Some(row) = row(index, link, target)
        && neighbour::is_fresh(row, now)
    {
        return Hop::new(row.mac, state::READY);
    }
    let found = stale(index, u32::from_ne_bytes(target), now);
    Hop::new(found, (found >> 56) as u8)
}

/// The MAC address that [`next_hop`] would find, where nothing is to be done for it.
#[inline(always)]
pub fn fresh_hop(kind: u8, index: u32, destination: [u8; 4], now: u32) -> Option<Mac> {
    let link = link(index)?;
    let target = if kind == hop::UPSTREAM { link.gateway } else { destination };
    let row = row(index, link, target).filter(|row| neighbour::is_fresh(row, now))?;
    Some(Hop::new(row.mac, state::READY).mac)
}

/// A hop that is not fresh: its MAC address, and [`state`] in the highest byte.
#[inline(never)]
fn stale(index: u32, target: u32, now: u32) -> u64 {
    let address = target.to_ne_bytes();
    let Some(link) = link(index) else { return u64::from(state::UNREACHABLE) << 56 };
    let Some(row) = row(index, link, address) else {
        let row = Resolved { asked: now, waiting_since: now, ..Resolved::default() };
        // A full map has evicted the station that was used longest ago.
        let _ = maps::ON_LINK.insert(PublicKey { side: PUBLIC_SIDE | index, address }, row, 0);
        return u64::from(state::ASK) << 56;
    };
    let state = neighbour::advance(row, now);
    u64::from(state) << 56 | row.mac & 0xffff_ffff_ffff
}

/// Notes what a station has said of itself. An answer counts only where it was asked for, an announcement only where
/// the station is known.
#[inline(never)]
pub fn note(index: u32, mac: u64, address: u32, heard: u32) {
    let address = address.to_ne_bytes();
    let Some(link) = link(index) else { return };
    if !is_on_link(link, address) {
        return;
    }
    let now = now();
    let said = Resolved { mac, confirmed: now, ..Resolved::default() };
    let Some(row) = row(index, link, address) else {
        if heard == Heard::Request as u32 {
            // As above.
            let _ = maps::ON_LINK.insert(PublicKey { side: PUBLIC_SIDE | index, address }, said, 0);
        }
        return;
    };
    let believed = if heard == Heard::Reply as u32 {
        neighbour::is_awaited(row, now)
    } else if heard == Heard::Request as u32 {
        !neighbour::is_fresh(row, now)
    } else {
        row.mac != 0
    };
    if believed {
        neighbour::confirm(row, said.mac, now);
    }
}

/// Whether the address is one of the link's stations; the router is, wherever its address lies.
#[inline(always)]
fn is_on_link(link: &Upstream, address: [u8; 4]) -> bool {
    let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    address == link.gateway || word(address) != 0 && word(address) & word(link.mask) == word(link.prefix)
}
