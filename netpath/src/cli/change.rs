//! Bringing a document into force, as `apply` and `rollback` do: kept as a revision, and taken back by itself unless it
//! is confirmed, where that is asked for.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use serde::Serialize;

use super::{Global, confirm::Guard, plan::Report};
use crate::{
    apply::{self, Outcome},
    definitions::Zone,
    error::Error,
    history::{Draft, History, Keep, Recorded, rfc3339},
    preflight::Look,
};

/// A day: whoever has not confirmed by then does not know of it.
const WITHIN_MAX: u64 = 86_400;

/// How a document is brought into force.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Take it back by itself unless `netpath confirm` is run in time (60s, 5m, 1h)
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<Duration>,
    /// Touch nothing when the document cannot be kept in the history
    #[arg(long)]
    require_history: bool,
}

/// What `-o json` prints of `apply` and `rollback`.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    #[serde(flatten)]
    report: Report,
    /// The revision that holds the document.
    revision: Option<u64>,
    /// The revision was made now.
    is_new_revision: bool,
    /// The revision whose document it brought back.
    rollback_of: Option<u64>,
    /// Until when it can be confirmed.
    confirm_until: Option<String>,
}

/// Brings the document into force and keeps it.
pub(super) fn bring_into_force(
    zone: &Zone,
    draft: &Draft<'_>,
    options: &Options,
    global: &Global,
) -> Result<Made, Error> {
    let history = History::open(&global.state_dir, &global.root);
    let must = options.require_history || options.confirm_within.is_some();
    let keep = if must { Keep::Must } else { Keep::IfPossible };
    let recorded = history.record(draft, keep, |revision| {
        let guard = match (options.confirm_within, revision) {
            (Some(within), Some(revision)) => Guard::start(&history, draft, revision, within, global)?,
            _ => None,
        };
        guarded(guard, || apply::apply(zone, draft.host, global.instance(), Look::All, &show_progress))
    })?;
    let Recorded { outcome: (outcome, until), revision, is_new } = recorded;
    Ok(Made::of(zone, draft, &Recorded { outcome, revision, is_new }, until))
}

/// Does the work under the eyes of whoever takes it back, and says until when it is to be confirmed.
fn guarded(
    guard: Option<Guard>,
    work: impl FnOnce() -> Result<Outcome, Error>,
) -> Result<(Outcome, Option<u64>), Error> {
    let Some(guard) = guard else { return Ok((work()?, None)) };
    match work() {
        Ok(outcome) => Ok((outcome, guard.begin_waiting())),
        Err(error) => {
            // What could not all be taken back is the guard's: it restores when this process says nothing.
            if !matches!(&error, Error::Apply { left, .. } if !left.is_empty()) {
                guard.stand_down();
            }
            Err(error)
        }
    }
}

impl Made {
    /// What was recorded of a draft, and until when it can be confirmed.
    pub(super) fn of(zone: &Zone, draft: &Draft<'_>, recorded: &Recorded<Outcome>, until: Option<u64>) -> Self {
        Self {
            report: Report::of(zone, &recorded.outcome.plan, &recorded.outcome.made),
            revision: recorded.revision,
            is_new_revision: recorded.is_new,
            rollback_of: draft.rollback_of,
            confirm_until: until.map(rfc3339),
        }
    }

    pub(super) fn render(&self) -> String {
        self.report.render(false) + &self.render_revision()
    }

    /// What is left to say after the plan.
    pub(super) fn render_revision(&self) -> String {
        let of = self.rollback_of.map(|of| format!(", a rollback of {of}")).unwrap_or_default();
        let mut text = match self.revision {
            Some(revision) if self.is_new_revision => format!("kept as revision {revision}{of}\n"),
            Some(revision) => format!("this document is revision {revision}\n"),
            None => String::new(),
        };
        if let Some(until) = &self.confirm_until {
            text += &format!("taken back at {until} unless `netpath confirm` is run before\n");
        }
        text
    }
}

/// A time with its unit: `90s`, `5m`, `1h`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let found = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let seconds = found.and_then(|(number, seconds)| number.parse::<u64>().ok()?.checked_mul(seconds));
    match seconds {
        Some(seconds @ 1..=WITHIN_MAX) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err("use 1s to 24h".to_owned()),
        None => Err("use a number with its unit: 90s, 5m, 1h".to_owned()),
    }
}

/// Steps are a grace period of the kernel each: thousands of devices take a while, and a terminal is told.
pub(super) fn show_progress(done: usize, all: usize) {
    const MANY: usize = 50;
    let mut stderr = io::stderr();
    if all < MANY || !stderr.is_terminal() {
        return;
    }
    let end = if done + 1 == all { "\r\x1b[K" } else { "" };
    // A terminal that is gone needs no telling.
    let _ = write!(stderr, "\rstep {done} of {all}{end}").and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_ends_within_a_day() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(time("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in ["", "90", "s", "-1s", "0s", "25h", "1d", "99999999999999999999h", "18446744073709551615h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
