//! What the agent has found to be over: looked at once more, and removed. Between the two looks a packet may have come. And what an
//! apply wants done to rows that only the data path writes.

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    Packet as _,
    maps::{Binding, BindingKey, FlowKey, PUBLIC_SIDE},
    reap,
    stage::idle,
};

use crate::{
    bind, maps,
    packet::{TcPacket, copied},
    sweep, tuple,
};

/// The walk over the keys.
#[repr(C)]
struct Walk {
    skb: *mut __sk_buff,
    kind: u32,
    now: u32,
    done: u32,
}

/// Does what the packet says to the rows whose keys are in it; gives to how many.
#[inline(always)]
pub fn process(pkt: &mut TcPacket) -> i32 {
    let Some(head) = pkt.header::<[u8; reap::HEAD_LEN]>(0) else { return 0 };
    let (kind, count) = (u32::from(head[14]), usize::from(head[15]).min(reap::KEYS_MAX));
    let mut walk = Walk { skb: pkt.skb(), kind, now: tuple::now(), done: 0 };
    // SAFETY: the visitor takes the loop's counter and this walk, which outlives the loop.
    unsafe {
        let visit: *const () = visit as *const ();
        helper::bpf_loop(count as u32, visit.cast_mut().cast::<c_void>(), (&raw mut walk).cast(), 0);
    }
    walk.done as i32
}

/// Visits a key.
unsafe extern "C" fn visit(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    let offset = reap::HEAD_LEN as u32 + position * reap::KEY_LEN as u32;
    let is_done = if walk.kind == u32::from(reap::FLOWS) {
        let Some(key) = copied::<FlowKey>(walk.skb, offset) else { return 1 };
        flow(&key, walk.now)
    } else {
        let Some([key, outside]) = copied::<[BindingKey; 2]>(walk.skb, offset) else { return 1 };
        match walk.kind as u8 {
            // What is known of a binding is known by its inside end.
            _ if key.side & PUBLIC_SIDE != 0 => false,
            reap::BINDINGS => take_away(&key, |row| idle::is_released(row, walk.now)),
            reap::OPEN => bind::open(&key),
            // Nothing of the definitions has it any more.
            reap::RELEASE => take_away(&key, |row| bind::outside_key(&key, row) == outside),
            _ => false,
        }
    };
    walk.done += u32::from(is_done);
    0
}

#[inline(always)]
fn flow(key: &FlowKey, now: u32) -> bool {
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let Some(row) = (unsafe { maps::FLOWS.get(key) }) else { return false };
    if row.tag != key.tag() {
        return false;
    }
    if !sweep::is_over(key, row, now) {
        sweep::keep_binding(key, row, now);
        return false;
    }
    sweep::forget_one(key);
    true
}

/// Takes a binding away, if its row is as it has to be for that.
#[inline(always)]
fn take_away(key: &BindingKey, is_due: impl FnOnce(&Binding) -> bool) -> bool {
    let Some(row) = maps::BINDINGS.get_ptr_mut(key) else { return false };
    // SAFETY: a row of the map; whether it is still the one that was asked for is asked before it is taken away.
    let row = unsafe { &mut *row };
    if !is_due(row) {
        return false;
    }
    let expires = row.expires;
    sweep::release(key, row, expires);
    true
}
