//! The one exit of a program: what becomes of the packet.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated as helper,
};

use crate::packet::TcPacket;

/// What becomes of a packet that is not refused.
#[must_use]
#[derive(Clone, Copy)]
pub enum Verdict {
    /// Not netpath's: the next program, or the kernel, has it.
    Pass,
    /// Out of the device with this ifindex.
    Redirect(u32),
    /// Out of the device with this ifindex, with the link layer addresses that the kernel's neighbours say.
    RedirectNeighbour(u32),
    /// Copies have gone where they should; the original is done.
    Consumed,
}

/// The verdict as TC wants it. Passing means "go on", so that filters behind netpath's still run.
#[inline(always)]
pub fn tc_action(verdict: Verdict) -> i32 {
    // SAFETY: the helpers take numbers and note them for after the program's end.
    unsafe {
        match verdict {
            Verdict::Pass => TC_ACT_UNSPEC,
            Verdict::Redirect(ifindex) => helper::bpf_redirect(ifindex, 0) as i32,
            Verdict::RedirectNeighbour(ifindex) => {
                helper::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32
            }
            Verdict::Consumed => TC_ACT_SHOT,
        }
    }
}

/// The verdict as XDP wants it.
#[inline(always)]
pub fn xdp_action(verdict: Verdict) -> u32 {
    match verdict {
        // SAFETY: as above.
        Verdict::Redirect(ifindex) => unsafe { helper::bpf_redirect(ifindex, 0) as u32 },
        Verdict::Consumed | Verdict::RedirectNeighbour(_) => xdp_action::XDP_DROP,
        Verdict::Pass => xdp_action::XDP_PASS,
    }
}

/// Sends a copy of the packet, as it stands, out of a device. What the device does with it is not the original's
/// concern: a member that is down must not keep a flood from the others.
#[inline(always)]
pub fn clone_to(pkt: &mut TcPacket, ifindex: u32) {
    // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut`.
    unsafe { helper::bpf_clone_redirect(pkt.skb(), ifindex, 0) };
}
