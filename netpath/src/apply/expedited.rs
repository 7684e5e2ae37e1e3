//! Short grace periods while programs are attached.
//!
//! The first program on a device makes the kernel wait for a grace period under its big network lock (`tcx_entry_sync`),
//! 10 to 30 ms each: 20 s for a thousand guests, and for one the longest part of what its guest waits for. With
//! `/sys/kernel/rcu_expedited` on, a grace period interrupts the CPUs instead of waiting for them, and takes a millisecond. The
//! kernel does the same by itself several times whenever a device comes or goes (`synchronize_net`).

use std::fs;

use super::steps::Step;

/// The kernel's switch: off at 0, on at any other number, for the whole machine.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// What an apply writes there, which says whose it is: the port of VXLAN.
const OURS: &str = "4789";

/// Grace periods are expedited until this is dropped. A kill before that leaves the switch on, with [`OURS`] in it, and the
/// next apply turns it off.
#[derive(Debug)]
pub(super) struct Expedited;

impl Expedited {
    /// Turns the switch on if there is something to attach or to take off, it is off, and it can be turned. One that a killed
    /// apply left on is taken over. One that somebody else turned on stays as it is.
    pub(super) fn during(steps: &[Step]) -> Option<Self> {
        let waits = steps.iter().any(|step| matches!(step, Step::Attach { .. } | Step::Detach { .. }));
        match fs::read_to_string(SWITCH).ok()?.trim() {
            OURS => Some(Self),
            "0" if waits => match fs::write(SWITCH, OURS) {
                Ok(()) => Some(Self),
                Err(error) => {
                    tracing::debug!("{SWITCH} stays off: {error}");
                    None
                }
            },
            _ => None,
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, "0") {
            tracing::warn!("{SWITCH} was turned on and cannot be turned off: {error}");
        }
    }
}
