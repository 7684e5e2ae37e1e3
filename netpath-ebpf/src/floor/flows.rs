//! Packets of many connections, from guests on another host or from the outside, and what counts them behind a gateway.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    btf_maps::Array,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use netpath_common::floor::{LONG, SCATTER, SHORT, Traffic};

use crate::{ACTION, RECEIVED, TEMPLATE};

/// Room for the public ends of connections.
const MAPPINGS: usize = 1 << 20;
/// Networks that connections are spread over; guests of each.
const NETWORKS: u32 = 4;
const GUESTS: u32 = 256;
/// The first ports of neighbouring guests are this far apart, so that most keep theirs behind a common address.
const PORT_STRIDE: u32 = 200;

/// The public end of a connection, in host order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Public {
    address: [u16; 2],
    port: u16,
    pad: u16,
}

/// What is generated.
/// Key: 0. Written by: the benchmark, `send_flows`, `send_nics`, `send_replies`. Read by: these.
#[btf_map]
pub static TRAFFIC: Array<Traffic, 1> = Array::new();

/// The public end of each connection, in the order in which they are generated.
/// Key: position. Written by: the sinks. Read by: `send_replies`.
#[btf_map]
pub static PUBLIC: Array<Public, MAPPINGS> = Array::new();

/// The position and the connection of the next packet.
#[inline(always)]
fn next(traffic: *mut Traffic) -> (u32, u32, Traffic) {
    // SAFETY: a row of the map; one CPU generates.
    let traffic = unsafe { &mut *traffic };
    let position = traffic.next & traffic.mask;
    traffic.next = traffic.next.wrapping_add(1);
    (position, position.wrapping_mul(SCATTER) & traffic.mask, *traffic)
}

/// The Internet checksum of a sum, in host order.
#[inline(always)]
fn checksum(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}

/// Writes a word in wire order.
///
/// # Safety
/// The word lies in the frame.
#[inline(always)]
unsafe fn put(start: usize, offset: usize, word: u32) {
    // SAFETY: the caller's; the offset is even, and the processor loads and stores at any address.
    unsafe { *((start + offset) as *mut u16) = (word as u16).to_be() };
}

/// Copies the template's first `LEN` bytes; the frame's start.
#[inline(always)]
fn copy<const LEN: usize>(ctx: &XdpContext) -> Option<usize> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + LEN > end {
        return None;
    }
    let template = TEMPLATE.get(0)?;
    // SAFETY: the frame's length was compared, and the template is as long as the longer frame.
    unsafe { core::ptr::copy_nonoverlapping(template.as_ptr(), start as *mut u8, LEN) };
    Some(start)
}

/// Generates a frame of a guest on another host, in a tunnel. Network, guest and port are the connection's.
#[xdp]
pub fn send_flows(ctx: XdpContext) -> u32 {
    let Some(start) = copy::<LONG>(&ctx) else { return xdp_action::XDP_ABORTED };
    let Some(traffic) = TRAFFIC.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    let (position, connection, traffic) = next(traffic);
    let network = connection & (NETWORKS - 1);
    let guest = (connection / NETWORKS) & (GUESTS - 1);
    let port = 1024 + connection / NETWORKS / GUESTS + guest * PORT_STRIDE;
    let common = network + guest;
    // SAFETY: all of it lies in the LONG bytes that were compared.
    unsafe {
        *((start + 48) as *mut u8) += network as u8;
        *((start + 59) as *mut u8) = 1 + network as u8;
        *((start + 61) as *mut u8) = guest as u8;
        put(start, 74, u32::from(checksum(traffic.ip_sum + common)));
        put(start, 76, 0x0a01 + network);
        put(start, 78, 0x0100 + guest);
        put(start, 84, port);
        let sum = traffic.udp_sum + common + port + (position >> 16) + (position & 0xffff);
        put(start, 90, u32::from(checksum(sum)));
        put(start, 92, position >> 16);
        put(start, 94, position);
    }
    ACTION.load()
}

/// Generates a frame for one of the NICs in use, in a tunnel: their addresses end with the same two octets.
#[xdp]
pub fn send_nics(ctx: XdpContext) -> u32 {
    const FIRST: u64 = 1024;
    let Some(start) = copy::<LONG>(&ctx) else { return xdp_action::XDP_ABORTED };
    let Some(traffic) = TRAFFIC.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: a row of the map; one CPU generates.
    let traffic = unsafe { &mut *traffic };
    traffic.next = traffic.next.wrapping_add(1);
    let nics = u64::from(traffic.mask) + 1;
    let nic = (FIRST + u64::from(traffic.next) * u64::from(SCATTER) % nics) as u32;
    // SAFETY: all of it lies in the LONG bytes that were compared.
    unsafe {
        put(start, 54, nic);
        put(start, 74, u32::from(checksum(traffic.ip_sum + nic)));
        put(start, 82, nic);
    }
    ACTION.load()
}

/// Generates a frame from the outside to the public end of a connection.
#[xdp]
pub fn send_replies(ctx: XdpContext) -> u32 {
    let Some(start) = copy::<SHORT>(&ctx) else { return xdp_action::XDP_ABORTED };
    let Some(traffic) = TRAFFIC.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    let (position, _, traffic) = next(traffic);
    let Some(public) = PUBLIC.get(position) else { return xdp_action::XDP_ABORTED };
    let [high, low] = public.address.map(u32::from);
    let port = u32::from(public.port);
    // SAFETY: all of it lies in the SHORT bytes that were compared.
    unsafe {
        put(start, 24, u32::from(checksum(traffic.ip_sum + high + low)));
        put(start, 30, high);
        put(start, 32, low);
        put(start, 36, port);
        let sum = traffic.udp_sum + high + low + port + (position >> 16) + (position & 0xffff);
        put(start, 40, u32::from(checksum(sum)));
        put(start, 42, position >> 16);
        put(start, 44, position);
    }
    ACTION.load()
}

/// Whether a frame is the link's own business, and no packet of a connection.
#[inline(always)]
fn is_arp(start: usize, end: usize) -> bool {
    // SAFETY: the frame's length was compared first.
    start + 14 <= end && unsafe { *((start + 12) as *const u16) } == 0x0806_u16.to_be()
}

/// Counts a frame that has become what it should, and notes the public end of its connection.
#[inline(always)]
fn count_translated(start: usize, end: usize, len: u32) {
    let Some(traffic) = TRAFFIC.get(0) else { return };
    if len != traffic.counted || start + SHORT > end {
        return;
    }
    // SAFETY: the frame's length was compared.
    let word = |offset: usize| u32::from(u16::from_be(unsafe { *((start + offset) as *const u16) }));
    let first = word(26) >> 8;
    // From the gateway's public addresses; in a tunnel between hosts; from the outside, past a bare redirect.
    if first != 203 && first != 192 && first != 198 {
        return;
    }
    if let Some(row) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
        unsafe { *row += 1 };
    }
    if traffic.note == 0 || first != 203 {
        return;
    }
    if let Some(row) = PUBLIC.get_ptr_mut(word(42) << 16 | word(44)) {
        let address = [word(26) as u16, word(28) as u16];
        // SAFETY: a row of the map; one CPU counts.
        unsafe { *row = Public { address, port: word(34) as u16, pad: 0 } };
    }
}

/// Counts and drops what a gateway sends, in the driver.
#[xdp]
pub fn sink_flows_xdp(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if is_arp(start, end) {
        return xdp_action::XDP_PASS;
    }
    count_translated(start, end, (end - start) as u32);
    xdp_action::XDP_DROP
}

/// Counts and drops what a gateway sends, in the stack.
#[classifier]
pub fn sink_flows_tc(ctx: TcContext) -> i32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if is_arp(start, end) {
        return TC_ACT_OK;
    }
    count_translated(start, end, ctx.len());
    TC_ACT_SHOT
}
