//! The one exit of a program: what becomes of the packet.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated as helper,
};

use netpath_common::maps::{event_action, event_step};

use crate::{event, packet::TcPacket};

/// What becomes of a packet that is not refused.
///
/// A struct and not an enum with fields: of an enum, the field that a variant lacks is undefined, compilers pack it into
/// a register all the same, and the verifier refuses to read what was never written.
#[must_use]
#[derive(Clone, Copy)]
pub struct Verdict {
    action: Action,
    ifindex: u32,
}

#[repr(u32)]
#[derive(Clone, Copy)]
enum Action {
    Pass = event_action::PASS as u32,
    Redirect = event_action::REDIRECT as u32,
    RedirectNeighbour = event_action::REDIRECT_NEIGHBOUR as u32,
    Consumed = event_action::CONSUMED as u32,
}

impl Verdict {
    /// Not netpath's: the next program, or the kernel, has it.
    pub const PASS: Self = Self { action: Action::Pass, ifindex: 0 };
    /// Copies have gone where they should; the original is done.
    pub const CONSUMED: Self = Self { action: Action::Consumed, ifindex: 0 };

    /// Out of the device with this ifindex.
    #[inline(always)]
    pub fn redirect(ifindex: u32) -> Self {
        Self { action: Action::Redirect, ifindex }
    }

    /// The same as `netpath_common::maps::event_action` has it.
    #[inline(always)]
    pub fn told(&self) -> u8 {
        self.action as u8
    }

    /// The device that it goes out of; 0 for none.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Out of the device with this ifindex, with the link layer addresses that the kernel's neighbours say.
    #[inline(always)]
    pub fn redirect_neighbour(ifindex: u32) -> Self {
        Self { action: Action::RedirectNeighbour, ifindex }
    }
}

/// The verdict as TC wants it. Passing means "go on", so that filters behind netpath's still run.
#[inline(always)]
pub fn tc_action(verdict: Verdict) -> i32 {
    // SAFETY: the helpers take numbers and note them for after the program's end.
    unsafe {
        match verdict.action {
            Action::Pass => TC_ACT_UNSPEC,
            Action::Redirect => helper::bpf_redirect(verdict.ifindex, 0) as i32,
            Action::RedirectNeighbour => {
                helper::bpf_redirect_neigh(verdict.ifindex, core::ptr::null_mut(), 0, 0) as i32
            }
            Action::Consumed => TC_ACT_SHOT,
        }
    }
}

/// The verdict as XDP wants it.
#[inline(always)]
pub fn xdp_action(verdict: Verdict) -> u32 {
    match verdict.action {
        // SAFETY: as above.
        Action::Redirect => unsafe { helper::bpf_redirect(verdict.ifindex, 0) as u32 },
        Action::Consumed | Action::RedirectNeighbour => xdp_action::XDP_DROP,
        Action::Pass => xdp_action::XDP_PASS,
    }
}

/// Sends a copy of the packet, as it stands, out of a device. What the device does with it is not the original's
/// concern: a member that is down must not keep a flood from the others.
#[inline(always)]
pub fn clone_to(pkt: &mut TcPacket, ifindex: u32) {
    if event::is_trace() {
        return event::step(event_step::COPY, 0, 0, 0, ifindex);
    }
    // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut`.
    unsafe { helper::bpf_clone_redirect(pkt.skb(), ifindex, 0) };
}
