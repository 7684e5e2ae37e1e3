//! What another ABI's programs have counted, added to what these count.

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    Packet as _, carry,
    maps::{Counters, DropKey, GatewayState, MeterEvents},
};

use crate::{
    atomic::Word,
    maps,
    packet::{TcPacket, copied},
};

/// Adds the rows in the packet; gives how many there was a place for.
#[inline(always)]
pub fn process(pkt: &mut TcPacket) -> i32 {
    let Some(head) = pkt.header::<[u8; carry::HEAD_LEN]>(0) else { return 0 };
    let (map, count) = (u32::from(head[14]), usize::from(head[15]).min(carry::ROWS_MAX));
    let mut walk = Walk { skb: pkt.skb(), map, added: 0 };
    // SAFETY: the visitor takes the loop's counter and this walk, which outlives the loop.
    unsafe {
        let visit: *const () = visit as *const ();
        helper::bpf_loop(count as u32, visit.cast_mut().cast::<c_void>(), (&raw mut walk).cast(), 0);
    }
    walk.added as i32
}

/// The walk over the rows.
#[repr(C)]
struct Walk {
    skb: *mut __sk_buff,
    map: u32,
    added: u32,
}

/// Visits a row.
unsafe extern "C" fn visit(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    let offset = carry::HEAD_LEN as u32 + position * size_of::<carry::Row>() as u32;
    let Some(row) = copied::<carry::Row>(walk.skb, offset) else { return 1 };
    if add_to(walk.map as u8, &row).is_some() {
        walk.added += 1;
    }
    0
}

#[inline(always)]
fn add_to(map: u8, row: &carry::Row) -> Option<()> {
    const COUNTERS: usize = size_of::<Counters>() / 8;
    const METER_EVENTS: usize = size_of::<MeterEvents>() / 8;
    const GATEWAY_STATE: usize = size_of::<GatewayState>() / 8;
    let index = row.key[0];
    match map {
        carry::COUNTERS => add::<COUNTERS>(maps::COUNTERS.get_ptr_mut(index)?.cast(), row),
        carry::PUBLIC_COUNTERS => add::<COUNTERS>(maps::PUBLIC_COUNTERS.get_ptr_mut(index)?.cast(), row),
        carry::METER_EVENTS => add::<METER_EVENTS>(maps::METER_EVENTS.get_ptr_mut(index)?.cast(), row),
        carry::GATEWAY_STATE => add::<GATEWAY_STATE>(maps::GATEWAY_STATE.get_ptr_mut(index)?.cast(), row),
        carry::DROPS => {
            let key = DropKey { network: index, reason: row.key[1] };
            match maps::DROPS.get_ptr_mut(key) {
                Some(place) => add::<1>(place, row),
                None => maps::DROPS.insert(key, row.words[0], 0).ok()?,
            }
        }
        _ => return None,
    }
    Some(())
}

/// Adds to `N` words of a map's value.
#[inline(always)]
fn add<const N: usize>(place: *mut u64, row: &carry::Row) {
    const { assert!(N <= carry::WORDS) };
    let mut word = 0;
    while word < N {
        // SAFETY: the value has `N` words.
        unsafe { Word::at(place.add(word)) }.add(row.words[word]);
        word += 1;
    }
}
