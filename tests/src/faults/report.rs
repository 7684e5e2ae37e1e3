//! What faults have cost.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::traffic::Frames;

/// What all faults have cost; the table that is printed at the end.
#[derive(Debug)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) rows: BTreeMap<&'static str, Row>,
    pub(super) took: Duration,
    pub(super) delivered: u64,
}

/// Faults of one kind.
#[derive(Debug, Default)]
pub(super) struct Row {
    tried: usize,
    /// Processes that were killed before their end.
    pub(super) kills: u64,
    lost_inside: u64,
    lost_outside: u64,
    state_lost: usize,
    failed: usize,
}

impl Row {
    /// Notes one fault: what became of frames meanwhile, and what is wrong after it.
    pub(super) fn note(&mut self, before: Frames, after: Frames, state_lost: usize, has_failed: bool) {
        self.tried += 1;
        self.lost_inside += after.lost_inside - before.lost_inside;
        self.lost_outside += after.lost_outside - before.lost_outside;
        self.state_lost += state_lost;
        self.failed += usize::from(has_failed);
    }

    fn is_clean(&self) -> bool {
        self.lost_outside == 0 && self.state_lost == 0 && self.failed == 0
    }
}

impl Report {
    /// Whether nothing was lost that should not be, and every apply after a fault has converged.
    pub fn is_clean(&self) -> bool {
        !self.rows.is_empty() && self.rows.values().all(Row::is_clean)
    }

    /// Faults that were tried.
    pub fn tried(&self) -> usize {
        self.rows.values().map(|row| row.tried).sum()
    }

    /// Kinds of faults that were tried.
    pub fn kinds(&self) -> usize {
        self.rows.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.keys().map(|name| name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}  TRIED  KILLS  LOST IN IT  LOST OUTSIDE  STATE LOST  FAILED", "FAULT")?;
        for (name, row) in &self.rows {
            let Row { tried, kills, lost_inside, lost_outside, state_lost, failed } = row;
            write!(f, "{name:width$}  {tried:5}  {kills:5}  {lost_inside:10}  ")?;
            writeln!(f, "{lost_outside:12}  {state_lost:10}  {failed:6}")?;
        }
        let sum = |of: fn(&Row) -> u64| self.rows.values().map(of).sum::<u64>();
        writeln!(
            f,
            "{} faults, {} processes killed, in {:.0} s, seed {}: {} frames delivered, {} lost outside of faults; state lost: {}; \
             failed: {}",
            self.tried(),
            sum(|row| row.kills),
            self.took.as_secs_f64(),
            self.seed,
            self.delivered,
            sum(|row| row.lost_outside),
            sum(|row| row.state_lost as u64),
            sum(|row| row.failed as u64),
        )
    }
}
