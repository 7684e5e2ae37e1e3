//! Two shapes of a flow table, looked up in scattered order: the kernel's hash, and rows of an array that are found by probing.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, HashMap},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use netpath_common::{
    floor::{PROBES, Row, SCATTER, Walk, hash, key},
    maps::{Flow, FlowKey},
};

/// What is looked up.
/// Key: 0. Written by: the benchmark, the programs here. Read by: the same.
#[btf_map]
pub static WALK: Array<Walk, 1> = Array::new();

/// The kernel's hash.
/// Key: a connection's. Written by: the benchmark. Read by: `look_up_hash`.
#[btf_map]
pub static HASHED: HashMap<FlowKey, Flow, 1> = HashMap::new();

/// The array.
/// Key: from the hash of a connection's key, up to `PROBES` on. Written by: the benchmark. Read by: `look_up_array`.
#[btf_map]
pub static ROWS: Array<Row, 1> = Array::new();

/// The next key, and what is walked.
#[inline(always)]
fn next() -> Option<(FlowKey, &'static mut Walk)> {
    // SAFETY: a row of the map; one CPU looks up.
    let walk = unsafe { &mut *WALK.get_ptr_mut(0)? };
    let connection = walk.next.wrapping_mul(SCATTER) & walk.mask;
    walk.next = walk.next.wrapping_add(1);
    Some((key(connection), walk))
}

#[inline(always)]
fn count(flow: *mut Flow, walk: &mut Walk) {
    // SAFETY: in a map's value; one CPU looks up.
    unsafe { (*flow).packets = (*flow).packets.wrapping_add(1) };
    walk.found += 1;
}

/// What a look-up costs without one.
#[xdp]
pub fn look_up_nothing(_ctx: XdpContext) -> u32 {
    let Some((key, walk)) = next() else { return xdp_action::XDP_ABORTED };
    walk.found += u32::from(core::hint::black_box(key).side == 1);
    xdp_action::XDP_DROP
}

/// One look-up in the kernel's hash.
#[xdp]
pub fn look_up_hash(_ctx: XdpContext) -> u32 {
    let Some((key, walk)) = next() else { return xdp_action::XDP_ABORTED };
    if let Some(flow) = HASHED.get_ptr_mut(key) {
        count(flow, walk);
    }
    xdp_action::XDP_DROP
}

/// One look-up in the array.
#[xdp]
pub fn look_up_array(_ctx: XdpContext) -> u32 {
    let Some((key, walk)) = next() else { return xdp_action::XDP_ABORTED };
    let hash = hash(&key);
    for probe in 0..PROBES {
        let Some(row) = ROWS.get_ptr_mut(hash.wrapping_add(probe) & walk.slots) else { break };
        // SAFETY: a row of the map.
        let row = unsafe { &mut *row };
        if row.key == key {
            count(&raw mut row.flow, walk);
            break;
        }
        if row.key.side == 0 {
            break;
        }
    }
    xdp_action::XDP_DROP
}
