//! History: every applied document is kept as a numbered revision, so that it can be looked at, compared and brought back.
//!
//! State is the kernel's, and nothing of the data path is read from here. What cannot be written is warned of and keeps
//! nothing from coming into force, unless it is said that it must be kept.
//!
//! ```text
//! record ─► lock ─► NNN.pending written ─► the work ─┬─► NNN.applied
//!                                                    ├─► NNN.failed        its steps were taken back
//!                                                    ├─► removed           refused before anything was touched
//!                                                    └─► NNN.interrupted   killed; the next one to write says so, or the agent
//! NNN.applied ─► NNN.unconfirmed   was to be confirmed and was not; what was before it is restored
//! ```

mod author;
mod confirmation;
mod diff;
mod error;
mod record;
mod revision;
mod store;
mod taken;
mod time;

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

pub(crate) use self::revision::sha256;
pub use self::{
    author::Author,
    confirmation::{Awaited, Restores, Watch},
    diff::unified,
    error::HistoryError,
    record::{Draft, Keep, Recorded, Unfinished, Writer},
    revision::{Cause, Damage, Meta, Outcome, Revision},
    taken::Taken,
    time::{now, rfc3339},
};
use self::{
    confirmation::MARKER,
    record::UNKEPT,
    store::{Contents, Folder, Slot},
};
use crate::definitions;

/// How much is kept; the oldest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Revisions.
    pub revisions: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { revisions: 100, bytes: 64 << 20 }
    }
}

/// The history of one instance.
#[derive(Debug, Clone)]
pub struct History {
    folder: Folder,
    bounds: Bounds,
}

/// A revision as a list shows it.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What is known about it, or what is wrong with its file.
    pub meta: Result<Meta, Damage>,
}

/// What is in force, as far as the history knows.
#[derive(Debug)]
pub enum Standing {
    /// Nothing has come into force that is still there.
    Nothing,
    /// This revision.
    Revision(Box<Revision>),
    /// Something else than any revision that can be read: the newest one's file is damaged, or there was no room for it.
    Unknown,
}

/// The folder in `state_dir` of the instance whose pins are under `root`. Nothing is made.
pub(crate) fn instance_folder(state_dir: &Path, root: &Path) -> PathBuf {
    Folder::of(state_dir, root).path().to_owned()
}

impl History {
    /// The history in `state_dir` of the instance whose pins are under `root`. Nothing is made or read yet.
    #[must_use]
    pub fn open(state_dir: &Path, root: &Path) -> Self {
        Self { folder: Folder::of(state_dir, root), bounds: Bounds::default() }
    }

    /// The same with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Every revision, the newest last.
    ///
    /// # Errors
    /// When the folder or a file cannot be read; a damaged file is an entry.
    pub fn list(&self) -> Result<Vec<Entry>, HistoryError> {
        let slots = self.slots()?;
        let is_written = slots.iter().any(|slot| slot.outcome == Outcome::Pending)
            && self.folder.is_locked().map_err(|source| self.unreadable(source))?;
        let mut entries = Vec::new();
        for slot in slots {
            let outcome = match slot.outcome {
                Outcome::Pending if !is_written => Outcome::Interrupted,
                outcome => outcome,
            };
            let meta = match self.read(&slot) {
                Ok(revision) => Ok(revision.meta),
                Err(HistoryError::Damaged { damage, .. }) => Err(damage),
                // It went, or got another name, since the folder was read.
                Err(HistoryError::NoRevision { .. }) => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry { number: slot.number, outcome, meta });
        }
        Ok(entries)
    }

    /// A revision by its number.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn revision(&self, number: u64) -> Result<Revision, HistoryError> {
        let slot = self.slots()?.into_iter().find(|slot| slot.number == number);
        self.read(&slot.ok_or_else(|| self.no_revision(number))?)
    }

    /// The newest revision of all that is not damaged.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn newest(&self) -> Result<Option<Revision>, HistoryError> {
        self.find(|_, _| true)
    }

    /// The newest good revision that came into force. Whether something came after it, [`History::standing`] tells.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn in_force(&self) -> Result<Option<Revision>, HistoryError> {
        self.find(|outcome, _| outcome == Outcome::Applied)
    }

    /// What is in force, as far as netpath has done it.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn standing(&self) -> Result<Standing, HistoryError> {
        self.newest_that(|outcome| outcome == Outcome::Applied)
    }

    /// The newest revision of this document that was taken back, in whose place another one was restored: by a rollback, or
    /// because it was not confirmed. `None` as soon as somebody has brought something into force after that.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn taken_back(&self, document: &str, host: &str) -> Result<Option<Revision>, HistoryError> {
        // The one that was restored in the place of those before it.
        let mut restored: Option<Revision> = None;
        for slot in self.slots()?.iter().rev() {
            if matches!(slot.outcome, Outcome::Failed | Outcome::Pending)
                || slot.outcome == Outcome::Interrupted && restored.is_none()
            {
                continue;
            }
            let revision = match self.read(slot) {
                Err(HistoryError::Damaged { .. } | HistoryError::NoRevision { .. }) => continue,
                read => read?,
            };
            let is_restored = restored.as_ref().is_some_and(|by| revision.is(&by.document, &by.meta.host));
            let is_replaced = slot.outcome == Outcome::Unconfirmed || restored.is_some() && !is_restored;
            match revision.is(document, host) {
                true if is_replaced => return Ok(Some(revision)),
                // It stands.
                true if slot.outcome == Outcome::Applied && restored.is_none() => return Ok(None),
                _ => {}
            }
            if slot.outcome == Outcome::Applied {
                match revision.meta.cause {
                    Cause::Rollback | Cause::Unconfirmed => restored = Some(revision),
                    // What came before this one was replaced by choice.
                    Cause::Apply | Cause::Agent => return Ok(None),
                }
            }
        }
        Ok(None)
    }

    /// Was the last one that came into force taken back, with none in its place?
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn is_last_unconfirmed(&self) -> Result<bool, HistoryError> {
        let came = |slot: &&Slot| matches!(slot.outcome, Outcome::Applied | Outcome::Unconfirmed);
        Ok(self.slots()?.iter().rev().find(came).is_some_and(|slot| slot.outcome == Outcome::Unconfirmed))
    }

    /// Does a file of this name, in the history's folder, tell what is in force, whether that is confirmed, or that it may be in
    /// force no more?
    #[must_use]
    pub fn tells_of_force(name: &OsStr) -> bool {
        let outcome = Slot::of(&name.to_string_lossy()).map(|slot| slot.outcome);
        outcome.is_some_and(|outcome| outcome != Outcome::Interrupted) || name == MARKER
    }

    /// The newest revision that came into force before what is there now, and differs from it.
    ///
    /// # Errors
    /// [`HistoryError::NothingBefore`], or when the folder or a file cannot be read.
    pub fn previous(&self) -> Result<Revision, HistoryError> {
        // What failed or was not confirmed left nothing behind; what was interrupted may have.
        let current = self.newest_that(|outcome| !matches!(outcome, Outcome::Failed | Outcome::Unconfirmed))?;
        let differs = |revision: &Revision| match &current {
            Standing::Revision(current) => !revision.is(&current.document, &current.meta.host),
            Standing::Nothing | Standing::Unknown => true,
        };
        let found = self.find(|outcome, revision| outcome == Outcome::Applied && differs(revision))?;
        found.ok_or_else(|| HistoryError::NothingBefore { folder: self.folder.path().to_owned() })
    }

    /// The newest revision of such an outcome, good or not, unless something came after it that is not here.
    fn newest_that(&self, is_there: impl Fn(Outcome) -> bool) -> Result<Standing, HistoryError> {
        if self.folder.has(UNKEPT).map_err(|source| self.unreadable(source))? {
            tracing::warn!("what is in force is in no revision: there was no room for it");
            return Ok(Standing::Unknown);
        }
        for slot in self.slots()?.iter().rev().filter(|slot| is_there(slot.outcome)) {
            match self.read(slot) {
                Ok(revision) => return Ok(Standing::Revision(Box::new(revision))),
                Err(HistoryError::NoRevision { .. }) => {}
                Err(error @ HistoryError::Damaged { .. }) => {
                    tracing::warn!("{error}");
                    return Ok(Standing::Unknown);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Standing::Nothing)
    }

    /// The newest good revision that is as wanted. Damaged ones are warned of.
    fn find(&self, wanted: impl Fn(Outcome, &Revision) -> bool) -> Result<Option<Revision>, HistoryError> {
        for slot in self.slots()?.iter().rev() {
            match self.read(slot) {
                Ok(revision) if wanted(slot.outcome, &revision) => return Ok(Some(revision)),
                Ok(_) | Err(HistoryError::NoRevision { .. }) => {}
                Err(error @ HistoryError::Damaged { .. }) => tracing::warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn slots(&self) -> Result<Vec<Slot>, HistoryError> {
        self.folder.slots().map_err(|source| self.unreadable(source))
    }

    fn read(&self, slot: &Slot) -> Result<Revision, HistoryError> {
        /// What stands before the document.
        const HEAD_MAX: u64 = 64 << 10;
        let damaged = |damage| {
            let file = self.folder.file(&slot.name());
            HistoryError::Damaged { number: slot.number, file, damage }
        };
        match self.folder.read(&slot.name(), (definitions::LIMIT_MIB << 20) + HEAD_MAX) {
            Ok(Contents::Bytes(bytes)) => Revision::decode(&bytes).map_err(damaged),
            Ok(Contents::TooLong) => Err(damaged(Damage::Size)),
            Ok(Contents::NoFile) => Err(damaged(Damage::NoFile)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.no_revision(slot.number)),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn no_revision(&self, number: u64) -> HistoryError {
        HistoryError::NoRevision { number, folder: self.folder.path().to_owned() }
    }

    fn unreadable(&self, source: io::Error) -> HistoryError {
        HistoryError::Unreadable { folder: self.folder.path().to_owned(), source }
    }
}
