//! What is counted: frames of a port, and refusals of a network.

use netpath_common::{
    DropReason,
    maps::{Counters, DropKey},
};

use crate::maps;

#[inline(always)]
fn counters(slot: u32) -> Option<&'static mut Counters> {
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    maps::COUNTERS.get_ptr_mut(slot).map(|row| unsafe { &mut *row })
}

/// A frame that a guest sent and netpath accepted.
#[inline(always)]
pub fn from_guest(slot: u32, len: usize) {
    if let Some(row) = counters(slot) {
        row.from_guest_packets += 1;
        row.from_guest_bytes += len as u64;
    }
}

/// A frame that goes to a guest.
#[inline(always)]
pub fn to_guest(slot: u32, len: usize) {
    if let Some(row) = counters(slot) {
        row.to_guest_packets += 1;
        row.to_guest_bytes += len as u64;
    }
}

/// A packet that goes through a public address: out of it, or in to it.
#[inline(always)]
pub fn public(address: u16, is_inward: bool, len: usize) {
    if let Some(row) = maps::PUBLIC_COUNTERS.get_ptr_mut(u32::from(address)) {
        // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
        let row = unsafe { &mut *row };
        if is_inward {
            row.to_guest_packets += 1;
            row.to_guest_bytes += len as u64;
        } else {
            row.from_guest_packets += 1;
            row.from_guest_bytes += len as u64;
        }
    }
}

/// A refused packet.
#[inline(never)]
pub fn dropped(network: u32, reason: DropReason) {
    let key = DropKey { network, reason: reason as u32 };
    if let Some(row) = maps::DROPS.get_ptr_mut(key) {
        // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
        unsafe { *row += 1 };
    } else {
        // A full map refuses the row: the packet is dropped all the same, uncounted.
        let _ = maps::DROPS.insert(key, 1, 0);
    }
}
