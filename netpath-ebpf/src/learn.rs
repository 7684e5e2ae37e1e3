//! Where undefined MAC addresses were last seen: a bare-metal host on the trunk, a virtual router's VRRP address.

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    Mac,
    maps::{Destination, FdbKey, LEARNED_IDLE_NS, Learned, destination_kind, event_step, segment_kind},
};

use crate::{event, maps};

/// How old a row may be before a frame renews it: writing for each frame would cost more than it tells.
const RENEW_NS: u64 = 1_000_000_000;

/// Notes that `mac` was seen at `place`, unless it is defined: a definition is never overridden.
#[inline(never)]
pub fn note(mac: Mac, place: &Destination) {
    if mac.is_group() || is_defined(place.network, mac) {
        return;
    }
    let key = FdbKey::new(place.network, mac);
    // SAFETY: no arguments, no side effects.
    let now = unsafe { helper::bpf_ktime_get_coarse_ns() };
    // SAFETY: the row is read at once; a stale read renews the row too early or too late by one frame.
    let fresh = unsafe { maps::LEARNED.get(key) }
        .is_some_and(|row| row.destination == *place && now.wrapping_sub(row.last_seen_ns) < RENEW_NS);
    if !fresh {
        // A full map has evicted another hint; the worst that comes of it is a flood.
        let _ = maps::LEARNED.insert(key, Learned { destination: *place, last_seen_ns: now }, 0);
    }
}

/// Whether `mac` is one of a network's definitions: nothing is learned of it.
#[inline(always)]
pub fn is_defined(network: u32, mac: Mac) -> bool {
    // SAFETY: only whether the row exists is asked.
    unsafe { maps::FDB.get(FdbKey::new(network, mac)) }.is_some()
}

/// Where `mac` lives: as defined, else as learned within the last five minutes.
#[inline(always)]
pub fn find(network: u32, mac: Mac) -> Option<Destination> {
    let found = look_up(network, mac);
    if event::is_trace() {
        let (kind, target) = found.map_or((0, 0), |row| (u32::from(row.kind), row.target));
        event::step(event_step::STATION, 0, network, kind, target);
    }
    found
}

#[inline(always)]
fn look_up(network: u32, mac: Mac) -> Option<Destination> {
    let key = FdbKey::new(network, mac);
    // SAFETY: the row is copied at once, and `network` tells whether it is still the row that was asked for.
    if let Some(row) = unsafe { maps::FDB.get(key) }.copied() {
        return (row.network == network).then_some(row);
    }
    learned(key)
}

#[inline(never)]
fn learned(key: FdbKey) -> Option<Destination> {
    // SAFETY: as in `look_up`.
    let row = unsafe { maps::LEARNED.get(key) }.copied()?;
    // SAFETY: no arguments, no side effects.
    let now = unsafe { helper::bpf_ktime_get_coarse_ns() };
    let alive = now.wrapping_sub(row.last_seen_ns) < LEARNED_IDLE_NS;
    (alive && row.destination.network == key.network && is_in_place(&row.destination)).then_some(row.destination)
}

/// Whether what was learned still leads into its network: a device, an uplink or a tunnel may be another's by now.
#[inline(always)]
fn is_in_place(place: &Destination) -> bool {
    let Some(network) = maps::NETWORKS.get(place.network) else { return false };
    match place.kind {
        // SAFETY: two numbers are read at once.
        destination_kind::LOCAL => unsafe { maps::PORTS.get(place.target) }
            .is_some_and(|port| port.network == place.network && port.slot == place.slot),
        destination_kind::UPLINK => network.uplink == place.target,
        destination_kind::TUNNEL => network.kind == segment_kind::VXLAN,
        _ => true,
    }
}
