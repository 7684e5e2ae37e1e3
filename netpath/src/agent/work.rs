//! What takes its time: reading the definitions and applying them. It is done beside the agent's loop, one thing at a time,
//! by the very functions that `netpath apply` runs.
//!
//! ```text
//!            read                 applied
//! files ──────────► [candidate] ──────────► [in force] ◄── applied again whenever the host changes
//!   │ broken            │ refused
//!   └──► error          └──► error, and it is tried again; what is in force stays so
//! ```

use std::{
    error::Error as _,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{interest::Interest, paths::files_of};
use crate::{
    apply::{self, Instance, Outcome},
    definitions::{self, Zone},
    error::Error,
    history::{Cause, Draft, History, Keep},
    netlink,
    preflight::Look,
};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// The files have changed: read them, and apply what they say.
    pub(super) read: bool,
    /// The host has changed: apply what is in force again.
    pub(super) apply: bool,
    /// What was told of the host's devices is not all that happened.
    pub(super) look: bool,
}

impl Order {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What came of an order.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What was applied.
    pub(super) applied: Option<Applied>,
    /// What is wrong with the definitions, or with the host.
    pub(super) error: Option<String>,
    /// An apply was refused or failed, and may do better later.
    pub(super) retry: bool,
    /// What matters from now on, after definitions were read or devices were lost sight of.
    pub(super) interest: Option<Interest>,
}

/// An apply that was made.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    pub(super) edits: usize,
    pub(super) steps: usize,
    pub(super) waiting: usize,
    pub(super) took: Duration,
}

/// What was read and is not in force yet.
#[derive(Debug)]
struct Candidate {
    zone: Zone,
    text: String,
}

/// The definitions that the agent works with.
#[derive(Debug)]
pub(super) struct Work {
    definitions: PathBuf,
    host: String,
    root: PathBuf,
    state_dir: PathBuf,
    in_force: Option<Zone>,
    candidate: Option<Candidate>,
    /// What is wrong with the files, as long as they are as they are.
    broken: Option<String>,
}

impl Work {
    pub(super) fn new(definitions: &Path, host: &str, root: &Path, state_dir: &Path) -> Self {
        let (definitions, root, state_dir) = (definitions.to_owned(), root.to_owned(), state_dir.to_owned());
        Self { definitions, host: host.to_owned(), root, state_dir, in_force: None, candidate: None, broken: None }
    }

    /// Does what is asked for.
    pub(super) fn perform(&mut self, order: Order) -> Done {
        let mut done = Done::default();
        if order.read {
            self.read();
        }
        done.error = self.broken.clone();
        if let Some(candidate) = self.candidate.take() {
            match self.take_up(&candidate) {
                Ok(applied) => {
                    self.in_force = Some(candidate.zone);
                    done.applied = Some(applied);
                }
                Err(error) => {
                    self.candidate = Some(candidate);
                    (done.error, done.retry) = (Some(described(&error)), true);
                }
            }
        }
        if let Some(zone) = self.in_force.as_ref().filter(|_| order.apply && done.applied.is_none()) {
            match self.apply(zone) {
                Ok(applied) => done.applied = Some(applied),
                Err(error) => (done.error, done.retry) = (Some(described(&error)), true),
            }
        }
        if order.read || order.look {
            done.interest = self.interest();
        }
        done
    }

    /// Reads the files. What was read while somebody wrote counts for nothing: he is heard of, and they are read once more.
    fn read(&mut self) {
        let before = stamps(&self.definitions);
        let source = self.definitions.display().to_string();
        let loaded = definitions::read(&self.definitions)
            .and_then(|text| Ok(Candidate { zone: definitions::parse(&source, &text)?, text }));
        if stamps(&self.definitions) != before {
            tracing::debug!("the definitions changed while they were read");
            return;
        }
        match loaded {
            Ok(candidate) => (self.candidate, self.broken) = (Some(candidate), None),
            Err(error) => (self.candidate, self.broken) = (None, Some(described(&error.into()))),
        }
    }

    /// Brings a document into force that was not before, and keeps it as a revision where it can be kept.
    fn take_up(&self, Candidate { zone, text }: &Candidate) -> Result<Applied, Error> {
        let source = self.definitions.display().to_string();
        let draft = Draft::new(text, &self.host, &source, Cause::Agent);
        let history = History::open(&self.state_dir, &self.root);
        Ok(history.record(&draft, Keep::IfPossible, |_| self.apply(zone))?.outcome)
    }

    fn apply(&self, zone: &Zone) -> Result<Applied, Error> {
        let start = Instant::now();
        let at = Instance { root: &self.root, state_dir: &self.state_dir };
        let Outcome { plan, made, .. } = apply::apply(zone, &self.host, at, Look::Errors, &|_, _| {})?;
        Ok(Applied {
            edits: plan.edits.len(),
            steps: made.len() + plan.steps().count(),
            waiting: plan.waiting.len(),
            took: start.elapsed(),
        })
    }

    /// What matters of the host, as it is now. `None` where it cannot be told: then every change is taken for one that does.
    fn interest(&self) -> Option<Interest> {
        let zones = self.in_force.iter().chain(self.candidate.as_ref().map(|candidate| &candidate.zone));
        let mut interest = Interest::of(zones, &self.host);
        match netlink::devices() {
            Ok(devices) => interest.look(&devices),
            Err(error) => {
                tracing::warn!("devices cannot be listed: {}", described(&error.into()));
                return None;
            }
        }
        Some(interest)
    }
}

/// Inode, size, and the time of the last change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// Which files there are, and what tells one writing of them from another.
fn stamps(definitions: &Path) -> Vec<(PathBuf, Option<Stamp>)> {
    let stamp = |path: PathBuf| {
        let found = fs::metadata(&path).ok();
        let stamp = found.map(|found| (found.ino(), found.size(), found.mtime(), found.mtime_nsec()));
        (path, stamp)
    };
    files_of(definitions).into_iter().map(stamp).collect()
}

/// An error with its causes.
pub(super) fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
