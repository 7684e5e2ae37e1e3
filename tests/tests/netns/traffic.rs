//! Traffic that goes on beside what a test does.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use netpath_tests::{packet::guest, topology::TwoHypervisors};

use crate::scene::{A, B, delivers};

/// What traffic is told, and tells.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    is_over: AtomicBool,
    passed: AtomicU64,
}

impl Traffic {
    /// Whether it is to go on.
    pub(crate) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Counts frames that have passed.
    pub(crate) fn passed(&self, frames: u64) {
        self.passed.fetch_add(frames, Ordering::Relaxed);
    }
}

/// Ends traffic also where a test fails beside it, which would wait for it for ever and not say why.
struct End<'s>(&'s AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something beside traffic, which fails the test where it loses a frame: `act` can ask whether it has. How many frames passed.
pub(crate) fn beside(traffic: impl FnOnce(&Traffic) + Send, act: impl FnOnce(&dyn Fn() -> bool)) -> u64 {
    let state = Traffic::default();
    thread::scope(|scope| {
        let thread = scope.spawn(|| traffic(&state));
        let end = End(&state.is_over);
        act(&|| thread.is_finished());
        drop(end);
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
    state.passed.into_inner()
}

/// Frames from A to B and back, one after the other; a lost one fails the test.
pub(crate) fn between_guests(topology: &TwoHypervisors, traffic: &Traffic) {
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    while traffic.goes_on() {
        delivers(a, b, &guest(A).to(B));
        delivers(b, a, &guest(B).to(A).tcp(80, 1000, 0x10));
        traffic.passed(2);
    }
}
