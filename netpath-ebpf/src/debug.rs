//! What the programs say of themselves in a build for debugging (feature `log`): a line for each packet that one is done with.
//!
//! The line goes through a ring of aya-log's, which the agent of such a build reads. In any other build nothing of this is there.

/// A program is done with a packet: the hook that it ran at, the network, what became of it (`event_action`), and the code of the
/// reason where it was refused.
#[inline(always)]
#[cfg_attr(not(feature = "log"), expect(unused_variables, reason = "nothing is said"))]
pub fn done(hook: u8, network: u32, action: u8, reason: u32) {
    #[cfg(feature = "log")]
    netpath_debug(hook.into(), network, action.into(), reason);
}

/// [`done`] as a [global](crate::global) function.
#[cfg(feature = "log")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_debug(hook: u32, network: u32, action: u32, reason: u32) -> u32 {
    aya_log_ebpf::debug!((), "hook {}, network {}: action {}, reason {}", hook, network, action, reason);
    0
}
