//! What is told while somebody watches: see `netpath_common::maps::Event`.
//!
//! Nobody watching costs one look at WATCH, where something happens: a refusal, a new connection, a frame's way in and
//! out. A record is built in the ring's own memory by a function of its own, for the programs have no stack to spare.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated as helper,
};
use netpath_common::{
    DropReason,
    maps::{CAPTURE_BYTES, EVENT_BYTES, Event, Flow, FlowKey, Watch, event_action, event_kind, event_step, hop},
};

use crate::{maps, redirect::Verdict};

/// Set by the loader where the programs are a copy that a packet is traced through, over copies of the tables: steps are
/// told, and nothing is sent.
#[unsafe(no_mangle)]
static TRACE: u32 = 0;

/// Whether these programs are a trace's. The verifier knows, and removes what is for the other kind.
#[inline(always)]
pub fn is_trace() -> bool {
    // SAFETY: the loader sets the constant before the program is loaded; volatile, so that its value here is not.
    unsafe { (&raw const TRACE).read_volatile() != 0 }
}

/// A program's context: where a packet's bytes come from.
pub trait Source: Copy {
    /// The device that the program runs on.
    fn ifindex(self) -> u32;
    /// A VLAN tag that the device took off, as [`Event::tag`].
    fn tag(self) -> u32;
    /// Length of the packet in bytes.
    fn len(self) -> u64;
    /// Copies the first bytes.
    ///
    /// # Safety
    /// `to` has room for `len` bytes.
    unsafe fn copy(self, to: *mut u8, len: u64) -> bool;
    /// Tells of the packet: [`tell`], as this context's global function.
    fn tell(self, word: u32, network: u32, reason: u32, target: u32);
}

impl Source for *mut __sk_buff {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        unsafe { (*self).ifindex }
    }

    #[inline(always)]
    fn tag(self) -> u32 {
        // SAFETY: as above.
        let (present, protocol, tci) = unsafe { ((*self).vlan_present, (*self).vlan_proto, (*self).vlan_tci) };
        if present == 0 { 0 } else { u32::from((protocol as u16).to_be()) << 16 | (tci & 0xffff) }
    }

    #[inline(always)]
    fn len(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self).len as u64 }
    }

    #[inline(always)]
    unsafe fn copy(self, to: *mut u8, len: u64) -> bool {
        // SAFETY: the context is the kernel's, and the caller says that there is room.
        unsafe { helper::bpf_skb_load_bytes(self.cast(), 0, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    fn tell(self, word: u32, network: u32, reason: u32, target: u32) {
        netpath_tell_skb(self, word, network, reason, target);
    }
}

impl Source for *mut xdp_md {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        unsafe { (*self).ingress_ifindex }
    }

    #[inline(always)]
    fn tag(self) -> u32 {
        0
    }

    #[inline(always)]
    fn len(self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { helper::bpf_xdp_get_buff_len(self) }
    }

    #[inline(always)]
    unsafe fn copy(self, to: *mut u8, len: u64) -> bool {
        // SAFETY: the context is the kernel's, and the caller says that there is room.
        unsafe { helper::bpf_xdp_load_bytes(self, 0, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    fn tell(self, word: u32, network: u32, reason: u32, target: u32) {
        netpath_tell_xdp(self, word, network, reason, target);
    }
}

/// A record: the event and a packet's bytes.
#[repr(C)]
struct Record<const BYTES: usize> {
    event: Event,
    bytes: [u8; BYTES],
}

/// A packet was counted as refused, and goes on as something else: an error for its sender, a question for a neighbour.
#[inline(always)]
pub fn dropped<S: Source>(from: S, hook: u8, network: u32, reason: DropReason) {
    let kind = if reason.is_exhaustion() { event_kind::EXHAUSTION } else { event_kind::DROP };
    if wanted() & (1 << kind) != 0 {
        from.tell(word(kind, hook, 0), network, reason as u32, 0);
    }
}

/// A packet was refused, and is done with.
#[inline(always)]
pub fn refused<S: Source>(from: S, hook: u8, network: u32, reason: DropReason) {
    dropped(from, hook, network, reason);
    if wanted() & (1 << event_kind::EXIT) != 0 {
        from.tell(word(event_kind::EXIT, hook, event_action::REFUSED), network, reason as u32, 0);
    }
}

/// A frame came in at a hook.
#[inline(always)]
pub fn entered<S: Source>(from: S, hook: u8) {
    if wanted() & (1 << event_kind::ENTRY) != 0 {
        from.tell(word(event_kind::ENTRY, hook, 0), 0, 0, 0);
    }
}

/// A frame is done with.
#[inline(always)]
pub fn left<S: Source>(from: S, hook: u8, network: u32, verdict: Verdict) {
    if wanted() & (1 << event_kind::EXIT) != 0 {
        from.tell(word(event_kind::EXIT, hook, verdict.told()), network, 0, verdict.ifindex());
    }
}

/// A traced packet met something.
#[inline(always)]
pub fn step(step: u8, hook: u8, network: u32, reason: u32, target: u32) {
    if is_trace() {
        note(word(event_kind::STEP, hook, step), network, reason, target);
    }
}

/// A traced packet met a connection that is known.
#[inline(always)]
pub fn met(flow: &Flow) {
    if is_trace() {
        from_flow(flow);
    }
}

/// The first packet of a connection was let pass, and its rows written.
#[inline(never)]
pub fn connected<S: Source>(from: S, hook: u8, key: &FlowKey) {
    if wanted() & (1 << event_kind::CONNECTION) == 0 {
        return;
    }
    let (Some(watch), ifindex) = (maps::WATCH.get(0), from.ifindex()) else { return };
    // SAFETY: read at once; a recycled row would be told wrongly, nothing worse.
    let Some(flow) = (unsafe { maps::FLOWS.get(key) }) else { return };
    let target = if flow.hop == hop::LOCAL { flow.target } else { 0 };
    if !is_wanted(watch, flow.network, 0, [ifindex, target]) {
        return;
    }
    record::<_, EVENT_BYTES>(from, watch, |event| {
        (event.kind, event.hook, event.network) = (event_kind::CONNECTION, hook, flow.network);
        translated(event, flow);
    });
}

/// Which kinds are wanted, somebody watching or not.
#[inline(always)]
fn wanted() -> u32 {
    // SAFETY: a word of a map's row. Volatile: what is wanted may change between one look and the next, and each is one.
    maps::WATCH.get(0).map_or(0, |watch| unsafe { (&raw const watch.kinds).read_volatile() })
}

/// Kind, program and action in one word: a call has five registers.
#[inline(always)]
const fn word(kind: u8, hook: u8, action: u8) -> u32 {
    kind as u32 | (hook as u32) << 8 | (action as u32) << 16
}

#[inline(always)]
fn put_word(event: &mut Event, word: u32) {
    [event.kind, event.hook, event.action, _] = word.to_le_bytes();
}

#[inline(always)]
fn translated(event: &mut Event, flow: &Flow) {
    (event.hop, event.target, event.out) = (flow.hop, flow.target, flow.out);
    (event.source, event.source_port) = (flow.source, flow.source_port);
    (event.destination, event.destination_port) = (flow.destination, flow.destination_port);
}

/// [`tell`] in TC, as a [global](crate::global) function: a pipeline ends in many states.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_tell_skb(skb: *mut __sk_buff, word: u32, network: u32, reason: u32, target: u32) -> u32 {
    tell(skb, word, network, reason, target);
    0
}

/// [`tell`] in XDP, as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_tell_xdp(xdp: *mut xdp_md, word: u32, network: u32, reason: u32, target: u32) -> u32 {
    tell(xdp, word, network, reason, target);
    0
}

/// An event of a packet. It calls nothing that has a stack.
#[inline(always)]
fn tell<S: Source>(from: S, word: u32, network: u32, reason: u32, target: u32) {
    let Some(watch) = maps::WATCH.get(0) else { return };
    let ifindex = from.ifindex();
    if !is_wanted(watch, network, reason, [ifindex, target]) {
        return;
    }
    let fill = |event: &mut Event| {
        put_word(event, word);
        (event.network, event.reason, event.target) = (network, reason, target);
    };
    if watch.bytes as usize > EVENT_BYTES {
        record::<_, CAPTURE_BYTES>(from, watch, fill);
    } else {
        record::<_, EVENT_BYTES>(from, watch, fill);
    }
}

/// Whether the watcher asked for this one, is still there, and has not had too many. The devices are those that the packet came in on,
/// and that it is sent out of.
#[inline(always)]
fn is_wanted(watch: &Watch, network: u32, reason: u32, [ifindex, target]: [u32; 2]) -> bool {
    // SAFETY: no arguments, no side effects.
    let now = unsafe { helper::bpf_ktime_get_ns() };
    if now > watch.until_ns {
        return false;
    }
    if watch.network != 0 && network != 0 && watch.network != network
        || watch.reason != 0 && reason != 0 && watch.reason != reason
        || watch.ifindex != 0 && watch.ifindex != ifindex && watch.ifindex != target
    {
        return false;
    }
    // A frame that comes in has no network yet, but a guest's device has: what others send is not to use up the rate.
    if watch.network != 0 && network == 0 {
        // SAFETY: read at once; a recycled row would have one event told too many, or too few.
        if let Some(port) = unsafe { maps::PORTS.get(ifindex) }
            && port.network != watch.network
        {
            return false;
        }
    }
    const SECOND: u64 = 1_000_000_000;
    let Some(told) = maps::WATCHED.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    let told = unsafe { &mut *told };
    if now.wrapping_sub(told.second_ns) >= SECOND {
        (told.second_ns, told.count) = (now, 0);
    }
    if told.count >= u64::from(watch.rate) {
        told.suppressed += 1;
        return false;
    }
    told.count += 1;
    true
}

/// Puts a record together in the ring's memory, and gives it to the watcher.
#[inline(always)]
fn record<S: Source, const BYTES: usize>(from: S, watch: &Watch, fill: impl FnOnce(&mut Event)) {
    const { assert!(BYTES.is_power_of_two()) };
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<Record<BYTES>>(0) else {
        if let Some(told) = maps::WATCHED.get_ptr_mut(0) {
            // SAFETY: as above.
            unsafe { (*told).lost += 1 };
        }
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is this function's until it is submitted; any bytes are a value of its integers. What is not
    // written of `bytes` is not read either: `kept` says how many there are.
    unsafe {
        let event = &mut (*record).event;
        *event = core::mem::zeroed();
        event.time_ns = helper::bpf_ktime_get_ns();
        (event.ifindex, event.tag) = (from.ifindex(), from.tag());
        event.cpu = helper::bpf_get_smp_processor_id();
        fill(event);
        let len = from.len();
        event.len = len as u32;
        let most = BYTES as u64;
        let wanted = u64::from(watch.bytes);
        let kept = len.min(wanted).min(most);
        if kept > 0 {
            // The verifier learns the bounds here: 1 to `BYTES`.
            let kept = ((kept - 1) & (most - 1)) + 1;
            if from.copy((&raw mut (*record).bytes).cast(), kept) {
                event.kept = kept as u32;
            }
        }
    }
    entry.submit(0);
}

/// A step without a packet.
#[inline(never)]
fn note(word: u32, network: u32, reason: u32, target: u32) {
    bare(|event| {
        put_word(event, word);
        (event.network, event.reason, event.target) = (network, reason, target);
    });
}

#[inline(never)]
fn from_flow(flow: &Flow) {
    bare(|event| {
        put_word(event, word(event_kind::STEP, 0, event_step::FLOW));
        event.network = flow.network;
        translated(event, flow);
    });
}

#[inline(always)]
fn bare(fill: impl FnOnce(&mut Event)) {
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<Event>(0) else { return };
    let event: *mut Event = MaybeUninit::as_mut_ptr(&mut entry);
    // SAFETY: the record is this function's until it is submitted; zero is a value of its integers.
    unsafe {
        *event = core::mem::zeroed();
        fill(&mut *event);
    }
    entry.submit(0);
}
