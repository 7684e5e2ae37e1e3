//! What takes its time: reading the definitions and applying them. It is done beside the agent's loop, one thing at a time,
//! by the very functions that `netpath apply` runs.
//!
//! ```text
//!            read                 applied               others applied, rolled back, or did not confirm
//! files ──────────► [candidate] ──────────► [in force] ◄──────────────────── history
//!   │ broken            │ refused               ▲
//!   └──► error          ├──► error, tried again └── applied again whenever the host changes, or others have replaced half of it
//!                       └──► taken back, or as it was taken up before what is in force: dropped
//! ```

use std::{
    error::Error as _,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    interest::Interest,
    paths::files_of,
    revisions::{self, Kept, Stood},
};
use crate::{
    apply::{self, Instance, Outcome},
    definitions::{self, DefinitionsError, Zone},
    error::Error,
    history::{Cause, Draft, History, HistoryError, Keep, Revision, Standing, Unfinished, sha256},
    netlink::{self, Device},
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
    /// Others have brought something into force, or have confirmed it.
    pub(super) follow: bool,
    /// Whoever has asked for `read` waits to be told that it was done.
    pub(super) is_awaited: bool,
}

impl Order {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether other devices than now may matter afterwards.
    pub(super) fn changes_interest(self) -> bool {
        self.read || self.look || self.follow
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
    /// What matters was worked out of devices that were listed after the plan: one that came in between is in neither.
    pub(super) again: bool,
    /// Something is kept in force.
    pub(super) keeps_any: bool,
    /// The files were read after they could not be: there may be other folders to watch.
    pub(super) is_readable_again: bool,
    /// The revision that is kept in force, where that is not the definitions as they are.
    pub(super) keeps: Option<u64>,
}

/// An apply that was made.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    pub(super) edits: usize,
    pub(super) steps: usize,
    pub(super) waiting: usize,
    pub(super) took: Duration,
    /// Nothing is left of what was in force before.
    pub(super) is_put_away: bool,
}

/// What was read and is not in force yet.
#[derive(Debug)]
struct Candidate {
    zone: Zone,
    text: String,
    sha256: String,
}

/// A document that was refused by the host as it was.
#[derive(Debug)]
struct Refused {
    sha256: String,
    /// What stood when that was first so.
    beside: Stood,
}

/// The definitions that the agent works with.
#[derive(Debug)]
pub(super) struct Work {
    definitions: PathBuf,
    host: String,
    root: PathBuf,
    state_dir: PathBuf,
    kept: Kept,
    /// What had been begun after that, and had not come into force, when that was applied last.
    unfinished: Option<Unfinished>,
    candidate: Option<Candidate>,
    /// The checksum of the definitions that were taken up last: what is read again is not a change.
    taken: Option<String>,
    /// The document that was refused last.
    refused: Option<Refused>,
    /// Why the files' document is not brought into force, as long as it is as it is.
    dropped: Option<String>,
    /// What is wrong with the files, as long as they are as they are.
    broken: Option<String>,
    /// The files could not be read at all: by somebody's permissions or mounts, of which nothing tells.
    is_unreadable: bool,
    /// What matters of the host has changed, or may have, since it was told last.
    is_stale: bool,
}

impl Work {
    pub(super) fn new(definitions: &Path, host: &str, root: &Path, state_dir: &Path) -> Self {
        let (definitions, root, state_dir) = (definitions.to_owned(), root.to_owned(), state_dir.to_owned());
        Self {
            definitions,
            host: host.to_owned(),
            root,
            state_dir,
            kept: Kept::default(),
            unfinished: None,
            candidate: None,
            taken: None,
            refused: None,
            dropped: None,
            broken: None,
            is_unreadable: false,
            is_stale: true,
        }
    }

    /// Lays out anew what is kept. It was read in between what is free now, and a page with any of it is not given back.
    pub(super) fn compact(&mut self) {
        let anew = self.kept.zone.clone();
        self.kept.zone = anew;
    }

    /// Does what is asked for.
    pub(super) fn perform(&mut self, order: Order) -> Done {
        let mut done = Done::default();
        let was_unreadable = self.is_unreadable;
        let reads = order.read || was_unreadable && order.apply;
        // Before any plan: what comes after is heard of, and judged by what matters then.
        let devices = if order.changes_interest() || reads || self.is_stale { devices() } else { None };
        if reads {
            self.read();
        }
        done.is_readable_again = was_unreadable && !self.is_unreadable;
        (done.error, done.retry) = (self.broken.clone(), self.is_unreadable);
        let history = History::open(&self.state_dir, &self.root);
        if let Some(candidate) = self.candidate.take() {
            match self.take_up(&history, &candidate) {
                Ok(Ok((applied, stood))) => {
                    self.kept = Kept { zone: Some(candidate.zone), revision: None, stood };
                    self.taken = Some(candidate.sha256);
                    self.refused = None;
                    done.applied = Some(applied);
                }
                Ok(Err(dropped)) => self.dropped = Some(dropped),
                Err(error) => {
                    self.note_refusal(&history, &candidate, &error);
                    self.candidate = Some(candidate);
                    (done.error, done.retry) = (Some(described(&error)), true);
                }
            }
        }
        if done.applied.is_none() {
            match self.keep(&history, order.apply) {
                Ok(applied) => done.applied = applied,
                Err(error) => (done.error, done.retry) = (Some(described(&error)), true),
            }
        }
        done.retry |= done.applied.as_ref().is_some_and(|applied| !applied.is_put_away);
        self.is_stale |= reads || order.look;
        if self.is_stale {
            let is_late = devices.is_none();
            done.interest = devices.or_else(self::devices).map(|devices| self.interest(&devices));
            self.is_stale = done.interest.is_none();
            // What cannot be listed now may be later.
            (done.again, done.retry) = (is_late && !self.is_stale, done.retry || self.is_stale);
        }
        (done.keeps, done.keeps_any) = (self.kept.revision, self.kept.zone.is_some());
        // Where no revision is said to be kept instead, nothing else says so.
        if done.keeps.is_none() && done.error.is_none() {
            done.error = self.dropped.clone();
        }
        done
    }

    /// Reads the files. What was read while somebody wrote counts for nothing: he is heard of, and they are read once more.
    fn read(&mut self) {
        let before = stamps(&self.definitions);
        let source = self.definitions.display().to_string();
        let loaded = definitions::read(&self.definitions).and_then(|text| {
            let zone = definitions::parse(&source, &text)?;
            Ok(Candidate { zone, sha256: sha256(text.as_bytes()), text })
        });
        if stamps(&self.definitions) != before {
            tracing::debug!("the definitions changed while they were read");
            return;
        }
        self.is_unreadable = loaded.as_ref().is_err_and(DefinitionsError::is_unreadable);
        match loaded {
            Ok(candidate) => (self.candidate, self.broken) = (Some(candidate), None),
            Err(error) => (self.candidate, self.broken) = (None, Some(described(&error.into()))),
        }
        self.dropped = None;
    }

    /// Brings the document of the files into force, and keeps it as a revision where it can be kept; or says why it
    /// does not before it changes.
    fn take_up(&self, history: &History, candidate: &Candidate) -> Result<Result<(Applied, Stood), String>, Error> {
        let Candidate { zone, text, .. } = candidate;
        let source = self.definitions.display().to_string();
        let Some(writer) = history.write_if_possible()? else {
            return Ok(Ok((self.apply(zone)?, revisions::stood(history))));
        };
        let standing = match told(history.standing()) {
            Some(Standing::Revision(standing)) => Some(standing),
            Some(Standing::Nothing | Standing::Unknown) | None => None,
        };
        if !standing.as_ref().is_some_and(|standing| standing.is(text, &self.host)) {
            if let Some(why) = self.why_not(history, candidate, standing.as_deref()) {
                let dropped = format!("{source} {why}: it is applied when it changes, or by `netpath apply`");
                tracing::warn!("{dropped}");
                return Ok(Err(dropped));
            }
            writer.refuse_while_awaiting(Keep::IfPossible)?;
        }
        let draft = Draft::new(text, &self.host, &source, Cause::Agent);
        let applied = writer.record(&draft, Keep::IfPossible, |_| self.apply(zone))?.outcome;
        writer.take(text, &self.host);
        Ok(Ok((applied, revisions::stood(history))))
    }

    /// Notes that the host refused a document, and what stood then. Who waits for others to be done is not refused.
    fn note_refusal(&mut self, history: &History, candidate: &Candidate, error: &Error) {
        let waits = matches!(error, Error::History(HistoryError::Awaiting { .. } | HistoryError::Locked(_)));
        let is_known = self.refused.as_ref().is_some_and(|refused| refused.sha256 == candidate.sha256);
        if !waits && !is_known {
            self.refused = Some(Refused { sha256: candidate.sha256.clone(), beside: revisions::stood(history) });
        }
    }

    /// Why definitions are not brought again in the place of what stands: others have taken them back, or have brought
    /// something else since they were taken up.
    fn why_not(&self, history: &History, candidate: &Candidate, standing: Option<&Revision>) -> Option<String> {
        // They have been in force since others did anything: what differs from them was written after that.
        if self.has_own(history) {
            return None;
        }
        let text = &candidate.text;
        let number = standing.map(|standing| standing.meta.number);
        let is_refused = |refused: &&Refused| refused.sha256 == candidate.sha256;
        if self.refused.as_ref().filter(is_refused).is_some_and(|refused| refused.beside != revisions::stood(history)) {
            let by = number.map_or_else(|| "what others have done".to_owned(), |number| format!("revision {number}"));
            return Some(format!("was refused, and {by} came after it"));
        }
        if let Some(back) = told(history.taken_back(text, &self.host)).flatten() {
            return Some(format!("is revision {}, which was taken back", back.meta.number));
        }
        let number = number?;
        let is_as_taken = match &self.taken {
            Some(taken) => *taken == candidate.sha256,
            None => self.was_taken_before(history, text, standing?),
        };
        // One that was to be confirmed, and that nobody waits for any more, as after a reboot, is nobody's choice.
        let is_forgotten =
            told(history.awaited()).flatten().is_some_and(|awaited| awaited.revision == number && !awaited.is_watched);
        (is_as_taken && !is_forgotten)
            .then(|| format!("has not changed since it was applied, and revision {number} came after it"))
    }

    /// Did an agent before this one take up these definitions, and somebody else bring `standing` after that? It has to be one that
    /// can be kept in force: otherwise there would be nothing after a reboot. One that an agent brought, and was killed before
    /// it could say that it had, is what the definitions were in between.
    fn was_taken_before(&self, history: &History, text: &str, standing: &Revision) -> bool {
        let taken = told(history.taken()).flatten();
        taken.is_some_and(|taken| taken.is(text, &self.host) && taken.revision < standing.meta.number)
            && standing.meta.cause != Cause::Agent
            && standing.meta.host == self.host
            && definitions::parse_applied(&standing.name(), &standing.document).is_ok()
    }

    /// Are the definitions themselves in force, as they were taken up, and nothing that others have brought since?
    fn has_own(&self, history: &History) -> bool {
        self.kept.zone.is_some()
            && self.kept.revision.is_none()
            && self.kept.stood == revisions::stood(history)
            // There may have been no room to say what was restored.
            && !told(history.is_last_unconfirmed()).unwrap_or_default()
    }

    /// Applies what is in force again, if that `is_due`, others have brought something else, or have begun to and left it half
    /// done.
    fn keep(&mut self, history: &History, is_due: bool) -> Result<Option<Applied>, Error> {
        // Nobody brings another one while this one is applied.
        let writer = history.write_if_possible()?;
        let unfinished = writer.as_ref().and_then(|writer| told(writer.unfinished()).flatten());
        let is_left = unfinished.is_some() && unfinished != self.unfinished;
        let followed = self.kept.follow(history, &self.host, &self.root);
        let is_other = followed.unwrap_or_else(|error| {
            tracing::warn!("whether others have applied anything is not known: {}", described(&error));
            false
        });
        self.is_stale |= is_other;
        let zone = self.kept.zone.as_ref().filter(|_| is_due || is_other || is_left);
        if let Some(left) = unfinished.as_ref().filter(|_| zone.is_some() && is_left) {
            tracing::warn!(
                "revision {} was begun and did not come into force: what is kept is applied again",
                left.number
            );
        }
        let applied = zone.map(|zone| self.apply(zone)).transpose()?;
        self.unfinished = unfinished;
        Ok(applied)
    }

    fn apply(&self, zone: &Zone) -> Result<Applied, Error> {
        let start = Instant::now();
        let at = Instance { root: &self.root, state_dir: &self.state_dir };
        let Outcome { plan, made, is_put_away, .. } = apply::apply(zone, &self.host, at, Look::Errors, &|_, _| {})?;
        Ok(Applied {
            edits: plan.edits.len(),
            steps: made.len() + plan.steps().count(),
            waiting: plan.waiting.len(),
            took: start.elapsed(),
            is_put_away,
        })
    }

    /// What matters of a host with these devices.
    fn interest(&self, devices: &[Device]) -> Interest {
        let zones = self.kept.zone.iter().chain(self.candidate.as_ref().map(|candidate| &candidate.zone));
        let mut interest = Interest::of(zones, &self.host);
        interest.look(devices);
        interest
    }
}

/// The host's devices as they are now. `None` where they cannot be listed: then every change is taken for one that matters.
fn devices() -> Option<Vec<Device>> {
    let listed = netlink::devices();
    listed.inspect_err(|error| tracing::warn!("devices cannot be listed: {error}")).ok()
}

/// What the history says. One that cannot be read keeps nothing from coming into force: it is warned of, and says nothing.
fn told<T>(said: Result<T, HistoryError>) -> Option<T> {
    said.inspect_err(|error| tracing::warn!("{error}")).ok()
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
pub(crate) fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
