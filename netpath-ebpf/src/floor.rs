//! The benchmark's own programs: a generator of packets, sinks that count them, and the least that a program can do
//! to forward a packet, which is what the data path is measured against.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the hook macros make public, undocumented wrappers of documented functions")]

use aya_ebpf::{
    Global,
    bindings::{TC_ACT_SHOT, xdp_action},
    btf_maps::{Array, PerCpuArray},
    helpers::generated as helper,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use netpath_common::floor::{LONG, SHORT};

#[path = "floor/flows.rs"]
mod flows;
#[path = "floor/tables.rs"]
mod tables;

/// The device that the floors redirect to.
#[unsafe(no_mangle)]
static TARGET: Global<u32> = Global::new(0);
/// What becomes of a generated frame: an XDP action.
#[unsafe(no_mangle)]
static ACTION: Global<u32> = Global::new(xdp_action::XDP_DROP);

/// Length in bytes of the frames that sinks count; others are not the generator's.
#[unsafe(no_mangle)]
static COUNTED: Global<u32> = Global::new(0);

/// The bytes of a generated frame.
/// Key: 0. Written by: the benchmark. Read by: `send_short`, `send_long`.
#[btf_map]
pub static TEMPLATE: Array<[u8; LONG], 1> = Array::new();

/// Frames that a sink has received on each CPU.
/// Key: 0. Written by: the sinks. Read by: the benchmark.
#[btf_map]
pub static RECEIVED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Writes the first `LEN` bytes of the template over the frame: frames are recycled, with what became of them.
#[inline(always)]
fn generate<const LEN: usize>(ctx: &XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + LEN > end {
        return xdp_action::XDP_ABORTED;
    }
    let Some(template) = TEMPLATE.get(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the frame's length was compared, and the template is as long as the longer frame.
    unsafe { core::ptr::copy_nonoverlapping(template.as_ptr(), start as *mut u8, LEN) };
    ACTION.load()
}

/// Generates a small frame.
#[xdp]
pub fn send_short(ctx: XdpContext) -> u32 {
    generate::<SHORT>(&ctx)
}

/// Generates a small frame behind outer headers.
#[xdp]
pub fn send_long(ctx: XdpContext) -> u32 {
    generate::<LONG>(&ctx)
}

#[inline(always)]
fn count(len: u32) {
    if len != COUNTED.load() {
        return;
    }
    if let Some(row) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
        unsafe { *row += 1 };
    }
}

/// Counts and drops what a device receives, in the driver.
#[xdp]
pub fn sink_xdp(ctx: XdpContext) -> u32 {
    count((ctx.data_end() - ctx.data()) as u32);
    xdp_action::XDP_DROP
}

/// Counts and drops what a device receives, in the stack.
#[classifier]
pub fn sink_tc(ctx: TcContext) -> i32 {
    count(ctx.len());
    TC_ACT_SHOT
}

/// The floor of XDP.
#[xdp]
pub fn redirect_xdp(_ctx: XdpContext) -> u32 {
    // SAFETY: the helper takes numbers and notes them for after the program's end.
    unsafe { helper::bpf_redirect(TARGET.load(), 0) as u32 }
}

/// The floor of TC.
#[classifier]
pub fn redirect_tc(_ctx: TcContext) -> i32 {
    // SAFETY: as above.
    unsafe { helper::bpf_redirect(TARGET.load(), 0) as i32 }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
