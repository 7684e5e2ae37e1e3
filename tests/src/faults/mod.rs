//! `cargo xtask faults`: faults in a random order at a hypervisor under traffic, and what each of them has cost.
//!
//! ```text
//! ┌► look at the state ─► the fault ─► apply ─► plan: nothing to do ─► all traffic flows ─► compare the state ┐
//! └──────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every frame is counted. A fault says which streams it may take frames from, and until when: up to the apply that follows it and
//! the first frames of each stream after that. All other frames have to arrive.

mod disk;
mod kernel;
mod lab;
mod processes;
mod report;
mod state;
mod traffic;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use anyhow::{Result, bail, ensure};

pub use self::report::Report;
use self::{lab::Lab, state::State};
use crate::packet::mutate::Random;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many faults; one of each kind where there is no number.
    pub count: Option<usize>,
    /// What order and details are drawn from.
    pub seed: u64,
    /// Only kinds whose name holds one of these words; all where there is none.
    pub only: Vec<String>,
}

/// What a fault may cost, besides frames of the streams that it takes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing.
    Nothing,
    /// What is in the tables: they themselves were destroyed.
    Tables,
}

/// A kind of fault: its name, and what makes one.
type Kind = (&'static str, fn(&Lab, &mut Random) -> Cost);

/// Every kind. A panic of one is a fault that was not survived.
const KINDS: &[Kind] = &[
    ("agent killed", processes::agent_killed),
    ("apply killed", processes::apply_killed),
    ("rollback killed", processes::rollback_killed),
    ("detach killed", processes::detach_killed),
    ("confirm killed", processes::confirm_killed),
    ("doctor --release killed", processes::release_killed),
    ("two applies at once", processes::two_applies),
    ("clock jumped", processes::clock_jumped),
    ("definitions torn", disk::definitions_torn),
    ("disk full", disk::disk_full),
    ("bpffs unmounted", kernel::bpffs_unmounted),
    ("links' pins removed", kernel::links_removed),
    ("programs' pins removed", kernel::programs_removed),
    ("maps' pins removed", kernel::maps_removed),
    ("root removed", kernel::root_removed),
    ("device deleted", kernel::device_deleted),
    ("flow table full", kernel::flows_full),
    ("binding table full", kernel::bindings_full),
    ("event ring full", kernel::ring_full),
];

/// Makes the faults.
///
/// # Errors
/// When the site cannot be built, or a hypervisor does not recover at all.
pub fn run(options: &Options) -> Result<Report> {
    let kinds: Vec<_> = KINDS.iter().filter(|(name, _)| is_wanted(&options.only, name)).collect();
    ensure!(!kinds.is_empty(), "no fault is called {}", options.only.join(" or "));
    let mut random = Random::of(options.seed);
    let mut lab = Lab::build()?;
    let mut report = Report { seed: options.seed, rows: Default::default(), took: Default::default(), delivered: 0 };
    let began = Instant::now();
    let mut order = Vec::new();
    for number in 1..=options.count.unwrap_or(kinds.len()) {
        if order.is_empty() {
            order = shuffled(&kinds, &mut random);
        }
        let Some((name, make)) = order.pop() else { break };
        let started = Instant::now();
        let (frames, kills) = (lab.traffic.frames(), lab.kills());
        let survived = catch_unwind(AssertUnwindSafe(|| survive(&mut lab, *make, &mut random)));
        let (lost, failure) = match &survived {
            Ok(lost) => (lost.as_slice(), None),
            Err(panic) => (&[][..], Some(said(panic.as_ref()))),
        };
        println!("{number:4}  {name}: {} ms", started.elapsed().as_millis());
        lost.iter().map(String::as_str).chain(failure).for_each(|what| println!("      LOST: {what}"));
        if failure.is_some() {
            recover(&mut lab, name)?;
        }
        let row = report.rows.entry(name).or_default();
        row.kills += lab.kills() - kills;
        row.note(frames, lab.traffic.frames(), lost.len(), failure.is_some());
    }
    (report.took, report.delivered) = (began.elapsed(), lab.traffic.frames().delivered);
    Ok(report)
}

fn is_wanted(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|word| name.contains(word))
}

/// Makes a fault; gives what was lost by it that should not be.
///
/// # Panics
/// When the fault could not be made as it was meant, or the host does not come back from it.
fn survive(lab: &mut Lab, make: fn(&Lab, &mut Random) -> Cost, random: &mut Random) -> Vec<String> {
    let before = State::of(lab);
    let cost = make(lab, random);
    settle(lab);
    let after = State::of(lab);
    if cost == Cost::Tables {
        lab.reconnect();
    }
    before.lost(&after, cost == Cost::Tables)
}

/// What an operator does after a fault, whatever it was: apply. It converges, and all traffic flows.
#[track_caller]
fn settle(lab: &Lab) {
    lab.netpath.apply(&lab.whole);
    assert!(lab.netpath.is_converged(&lab.whole), "a plan after the apply still finds something to do");
    lab.traffic.flows();
}

/// After a fault that was not survived, makes the next one possible.
fn recover(lab: &mut Lab, name: &str) -> Result<()> {
    lab.mend()?;
    let recovered = catch_unwind(AssertUnwindSafe(|| {
        settle(lab);
        lab.reconnect();
    }));
    match recovered {
        Ok(()) => Ok(()),
        Err(panic) => bail!("the host does not recover from: {name}: {}", said(panic.as_ref())),
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words")
}

fn shuffled<'k>(kinds: &[&'k Kind], random: &mut Random) -> Vec<&'k Kind> {
    let mut left = kinds.to_vec();
    (0..kinds.len()).map(|_| left.swap_remove(random.below(left.len()))).collect()
}
