//! What is over: rows of connections and bindings that nobody uses any more.
//!
//! An idle row counts as absent wherever it is met, so that sweeping is about room only. It happens when room is wanted,
//! once a second at most.

use core::ffi::c_void;

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    DropReason,
    maps::{Binding, BindingKey, Flow, FlowKey, PUBLIC_SIDE, flow_flags, stage},
    stage::{idle, tcp},
};

use crate::{atomic::Word, bind, gateway, handover::Handover, maps, packet::TcPacket, redirect::Verdict, tuple};

/// Adds to one of a network's counts.
#[inline(always)]
fn add(word: *mut u64, by: u64) {
    // SAFETY: in a map's value.
    unsafe { Word::at(word) }.add(by);
}

/// Counts a new row of FLOWS.
#[inline(always)]
pub fn added(network: u32) {
    if let Some(state) = gateway::state(network) {
        // SAFETY: a row of the map.
        add(unsafe { &raw mut (*state).flows }, 1);
    }
}

#[inline(always)]
fn removed(network: u32) {
    if let Some(state) = gateway::state(network) {
        // SAFETY: a row of the map.
        add(unsafe { &raw mut (*state).flows }, u64::MAX);
    }
}

/// Counts a row that another network has now.
#[inline(always)]
pub fn moved(from: u32, to: u32) {
    removed(from);
    added(to);
}

/// Counts a new binding.
#[inline(always)]
pub fn bound(network: u32) {
    if let Some(state) = gateway::state(network) {
        // SAFETY: a row of the map.
        add(unsafe { &raw mut (*state).bindings }, 1);
    }
}

/// Whether a network has as many connections as it may have, dead ones that were not swept yet among them.
#[inline(always)]
pub fn is_at_limit(network: u32, limit: u32) -> bool {
    let Some(state) = gateway::state(network) else { return true };
    // SAFETY: in a map's value.
    count(unsafe { Word::at(&raw mut (*state).flows) }) + 2 > i64::from(limit)
}

/// Whether a network has as many bindings as it may have, those that rest among them.
#[inline(always)]
pub fn is_at_binding_limit(network: u32, flow_limit: u32) -> bool {
    let Some(state) = gateway::state(network) else { return true };
    // SAFETY: in a map's value.
    count(unsafe { Word::at(&raw mut (*state).bindings) }) >= idle::binding_limit(flow_limit) as i64
}

/// A count of rows. Where an apply has removed rows beside the data path it may be less than what there is, and then less than
/// none: that must not be more than any limit.
#[inline(always)]
fn count(word: Word<u64>) -> i64 {
    word.load() as i64
}

/// Removes a connection.
#[inline(never)]
pub fn forget(key: &FlowKey, flow: &Flow) {
    let opposite = key.opposite(flow);
    forget_one(key);
    forget_one(&opposite);
}

/// Removes both directions of a connection.
#[inline(always)]
pub fn forget_both(key: &FlowKey, opposite: &FlowKey) {
    forget_one(key);
    forget_one(opposite);
}

/// Removes a row.
#[inline(never)]
pub fn forget_one(key: &FlowKey) {
    // SAFETY: one word is read.
    let network = unsafe { maps::FLOWS.get(key) }.map_or(0, |row| row.network);
    if maps::FLOWS.remove(key).is_ok() {
        removed(network);
    }
}

/// Whether room may be made now: once a second, for the first who asks.
#[inline(always)]
pub fn is_due(now: u32) -> bool {
    // Row 0 is no network's: it says when this was done last.
    let Some(state) = gateway::state(0) else { return false };
    // SAFETY: in a map's value.
    let last = unsafe { Word::at(&raw mut (*state).swept) };
    let before = last.load();
    before != u64::from(now) && last.replace(before, now.into()) == before
}

/// Removes every idle connection and every binding that is past its time of rest, and hands the packet back.
#[inline(always)]
pub fn process(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let handover = Handover::read(pkt);
    *owner = handover.owner;
    let mut time = tuple::now();
    // SAFETY: the visitors take what the helper passes: map, key, value, and this word, which outlives the walk.
    unsafe {
        let flow: *const () = visit_flow as *const ();
        let binding: *const () = visit_binding as *const ();
        let time = (&raw mut time).cast::<c_void>();
        helper::bpf_for_each_map_elem((&raw const maps::FLOWS).cast_mut().cast(), flow.cast_mut().cast(), time, 0);
        helper::bpf_for_each_map_elem(
            (&raw const maps::BINDINGS).cast_mut().cast(),
            binding.cast_mut().cast(),
            time,
            0,
        );
    }
    handover.to(pkt, stage::CONNECT);
    Err(DropReason::RoutedTooOften)
}

/// Visits a direction of a connection.
unsafe extern "C" fn visit_flow(_map: *mut c_void, key: *const FlowKey, flow: *mut Flow, time: *const u32) -> i64 {
    // SAFETY: the helper passes a row of FLOWS and the word that it was given.
    let (key, flow, now) = unsafe { (&*key, &*flow, *time) };
    if is_over(key, flow, now) {
        let network = flow.network;
        if maps::FLOWS.remove(key).is_ok() {
            removed(network);
        }
    } else {
        keep_binding(key, flow, now);
    }
    0
}

/// Has a connection that lives keep its binding, before bindings are looked at.
#[inline(always)]
pub fn keep_binding(key: &FlowKey, flow: &Flow, now: u32) {
    if let Some(gateway) = maps::GATEWAYS.get(flow.network)
        && idle::keeps_binding(key, flow, &gateway.timeouts, now)
    {
        let timeout = tcp::timeout(key.protocol, flow.state, true, &gateway.timeouts);
        bind::renew(key, flow.last_seen + timeout + idle::MARGIN);
    }
}

/// Whether a connection is over: silent for too long in both directions.
#[inline(always)]
pub fn is_over(key: &FlowKey, flow: &Flow, now: u32) -> bool {
    let Some(gateway) = maps::GATEWAYS.get(flow.network) else { return true };
    if !gateway::is_idle(flow, key.protocol, gateway, now) {
        return false;
    }
    if flow.flags & flow_flags::TRANSIT != 0 {
        return true;
    }
    let opposite = key.opposite(flow);
    // SAFETY: read at once.
    unsafe { maps::FLOWS.get(opposite) }.is_none_or(|other| gateway::is_idle(other, key.protocol, gateway, now))
}

/// Visits an end of a binding; what is to be done is known by the inside one.
unsafe extern "C" fn visit_binding(
    _map: *mut c_void,
    key: *const BindingKey,
    row: *mut Binding,
    time: *const u32,
) -> i64 {
    // SAFETY: the helper passes a row of BINDINGS and the word that it was given.
    let (key, row, now) = unsafe { (&*key, &mut *row, *time) };
    if key.side & PUBLIC_SIDE == 0 && idle::is_released(row, now) {
        let (inside, expires) = (*key, row.expires);
        release(&inside, row, expires);
    }
    0
}

/// Takes a binding away, unless it was renewed in the meantime, or somebody else does.
#[inline(never)]
pub fn release(inside: &BindingKey, row: &mut Binding, expires: u32) {
    let (outside, pool) = (bind::outside_key(inside, row), row.pool);
    if expires == 0 || !bind::is_still(inside, row) {
        return;
    }
    // SAFETY: in a map's value.
    let word = unsafe { Word::at(&raw mut row.expires) };
    if word.replace(expires, 0) != expires {
        return;
    }
    if bind::points_to(&outside, inside) {
        let _ = maps::BINDINGS.remove(outside);
    }
    // Who removes the row gives its port back, and nobody else.
    if maps::BINDINGS.remove(inside).is_err() {
        // Where the kernel could not, it is there still, for the next one who looks.
        word.replace(0, expires);
        return;
    }
    let pool = match pool {
        0 => maps::GATEWAYS.get(inside.side).map_or(0, |gateway| bind::pool_of(gateway, &outside)),
        pool => pool.into(),
    };
    if pool != 0 {
        bind::free(&outside, pool - 1);
    }
    if let Some(state) = gateway::state(inside.side) {
        // SAFETY: a row of the map.
        add(unsafe { &raw mut (*state).bindings }, u64::MAX);
    }
}
