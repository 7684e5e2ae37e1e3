//! Sweeps what is over, a few thousand rows at a time: idle connections and bindings take room until somebody removes them.
//!
//! ```text
//! every few minutes ─► every row of FLOWS, then of BINDINGS, in steps ─ idle? ─► [reap] looks once more, removes, counts
//! ```
//!
//! Nothing depends on it. The data path makes room itself where none is left, and takes what is idle for absent.

use std::{collections::HashMap, path::Path, time::Duration};

use netpath_common::{
    maps::{Binding, BindingKey, Flow, FlowKey, PUBLIC_SIDE, Timeouts},
    stage::idle,
};

use crate::datapath::{DatapathError, Place, Reaper, Root, Tables};

/// Rows of a step: a millisecond's work, and a third of a MiB.
const ROWS: usize = 4096;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(100);
/// From the end of a pass over all rows to the next one: a million rows take a second of a core, which is half a percent of it.
const REST: Duration = Duration::from_secs(180);

/// A pass over the tables, where one is under way.
#[derive(Default)]
pub(super) struct Sweep {
    pass: Option<Pass>,
}

/// What a pass works on. The maps are opened anew for each: those of an earlier apply may be gone.
struct Pass {
    tables: Tables,
    reaper: Reaper,
    /// When it began, by the data path's clock in seconds.
    begun: u32,
    flows: Option<Place>,
    bindings: Place,
    swept: Swept,
}

/// How much was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Swept {
    /// Directions of connections.
    flows: u32,
    bindings: u32,
}

impl Sweep {
    /// Does one step; gives how long until the next.
    ///
    /// # Errors
    /// When the kernel refuses. The next step begins a new pass.
    pub(super) fn step(&mut self, root: &Path) -> Result<Duration, DatapathError> {
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => match Pass::begin(root)? {
                Some(pass) => pass,
                None => return Ok(REST),
            },
        };
        if pass.step()? {
            self.pass = Some(pass);
            return Ok(PAUSE);
        }
        if pass.swept != Swept::default() {
            tracing::info!(flows = pass.swept.flows, bindings = pass.swept.bindings, "swept what was idle");
        }
        Ok(REST)
    }

    /// Whether a pass has begun that is not through.
    pub(super) fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// When to go on after a failure.
    pub(super) const AFTER_FAILURE: Duration = REST;
}

impl Pass {
    /// `None` where nothing is applied, or by another build.
    fn begin(root: &Path) -> Result<Option<Self>, DatapathError> {
        let root = match Root::open(root) {
            Err(DatapathError::NothingApplied { .. }) => return Ok(None),
            root => root?,
        };
        let Some(reaper) = Reaper::open(&root)? else { return Ok(None) };
        let tables = match Tables::open(&root) {
            Err(DatapathError::NothingApplied { .. }) => return Ok(None),
            tables => tables?,
        };
        let (flows, bindings) = (Some(Place::default()), Place::default());
        Ok(Some(Self { tables, reaper, begun: now(), flows, bindings, swept: Swept::default() }))
    }

    /// `false` when the pass is through.
    fn step(&mut self) -> Result<bool, DatapathError> {
        let Some(place) = &mut self.flows else { return self.sweep_bindings() };
        let now = now();
        let mut timeouts = Networks { tables: &self.tables, known: HashMap::new() };
        let (mut over, mut failed) = (Vec::new(), None);
        let goes_on = self.tables.flows.visit_some(place, ROWS, |key, flow| match timeouts.of(flow.network) {
            Ok(timeouts) if is_worth_a_look(key, flow, timeouts, now) => over.push(*key),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !goes_on {
            self.flows = None;
        }
        self.swept.flows += self.reaper.flows(&over)?;
        Ok(true)
    }

    /// Bindings that are over by what connections said when they were asked: one that has been silent since may not have been asked yet,
    /// however long ago that was (a stopped agent, a large table). Its packets have renewed its binding each [`idle::RENEWAL`].
    fn sweep_bindings(&mut self) -> Result<bool, DatapathError> {
        let now = now().min(self.begun + idle::RENEWAL);
        let mut over = Vec::new();
        let goes_on = self.tables.bindings.visit_some(&mut self.bindings, ROWS, |key, binding| {
            if is_binding_over(key, binding, now) {
                over.push(*key);
            }
        })?;
        self.swept.bindings += self.reaper.bindings(&over)?;
        Ok(goes_on)
    }
}

/// Idle times by network, asked for once in a step.
struct Networks<'t> {
    tables: &'t Tables,
    known: HashMap<u32, Option<Timeouts>>,
}

impl Networks<'_> {
    /// `None` for a network that there is not.
    fn of(&mut self, network: u32) -> Result<Option<&Timeouts>, DatapathError> {
        if let std::collections::hash_map::Entry::Vacant(free) = self.known.entry(network) {
            free.insert(self.tables.gateways.get(network)?.map(|row| row.timeouts));
        }
        Ok(self.known.get(&network).and_then(Option::as_ref))
    }
}

/// Whether a row is worth a look of the data path's, which knows better: it looks at the other direction as well before it removes one,
/// and has one that lives keep its binding.
fn is_worth_a_look(key: &FlowKey, flow: &Flow, timeouts: Option<&Timeouts>, now: u32) -> bool {
    timeouts.is_none_or(|timeouts| {
        idle::is_idle(flow, key.protocol, timeouts, now) || idle::keeps_binding(key, flow, timeouts, now)
    })
}

fn is_binding_over(key: &BindingKey, binding: &Binding, now: u32) -> bool {
    key.side & PUBLIC_SIDE == 0 && idle::is_released(binding, now)
}

/// The data path's clock, in seconds.
fn now() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{HOLD_DOWN, flow_flags, flow_state};

    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { udp: 300, udp_one_way: 120, tcp_established: 7440, tcp_opening: 240, tcp_closing: 240, icmp: 60 };

    #[test]
    fn only_what_is_past_its_own_timeout_is_over() {
        let key = |protocol| FlowKey { protocol, ..FlowKey::default() };
        let seen = |last_seen| Flow { last_seen, state: flow_state::ESTABLISHED, ..Flow::default() };
        let is_over = |protocol, flow: &Flow| is_worth_a_look(&key(protocol), flow, Some(&TIMEOUTS), 10_000);
        assert!(!is_over(6, &seen(10_000 - 7440)));
        assert!(is_over(6, &seen(10_000 - 7441)));
        assert!(is_over(6, &Flow { flags: flow_flags::BOUND, ..seen(10_000 - 7440) }), "for its binding");
        assert!(!is_over(17, &seen(10_000 - 120)));
        assert!(is_over(17, &seen(10_000 - 121)));
        assert!(!is_over(17, &Flow { flags: flow_flags::ANSWERED, ..seen(10_000 - 300) }));
        assert!(!is_over(1, &seen(10_060)), "the clock of another processor is ahead");
        assert!(is_worth_a_look(&key(6), &seen(10_000), None, 10_000), "its network is gone");
    }

    #[test]
    fn a_binding_is_judged_by_its_inside_end_alone() {
        let binding = Binding { expires: 1000, ..Binding::default() };
        let inside = BindingKey { side: 5, ..BindingKey::default() };
        let outside = BindingKey { side: PUBLIC_SIDE | 5, ..inside };
        assert!(!is_binding_over(&inside, &binding, 1000 + HOLD_DOWN));
        assert!(is_binding_over(&inside, &binding, 1001 + HOLD_DOWN));
        assert!(!is_binding_over(&outside, &binding, 1001 + HOLD_DOWN));
    }
}
