//! History: every applied document is kept as a numbered revision, so that it can be looked at, compared and brought back.
//!
//! State is the kernel's, and nothing of the data path is read from here. What cannot be written is warned of and keeps
//! nothing from coming into force, unless it is said that it must be kept.
//!
//! ```text
//! record ─► lock ─► NNN.pending written ─► the work ─┬─► NNN.applied
//!                                                    ├─► NNN.failed        its steps were taken back
//!                                                    ├─► removed           refused before anything was touched
//!                                                    └─► NNN.interrupted   killed; the next one to write says so
//! NNN.applied ─► NNN.unconfirmed   was to be confirmed and was not; what was before it is restored
//! ```

mod author;
mod confirmation;
mod diff;
mod error;
mod record;
mod revision;
mod store;
mod time;

use std::{
    io,
    path::{Path, PathBuf},
};

use self::store::{Folder, Slot};
pub use self::{
    author::Author,
    confirmation::{Awaited, Restores, Watch},
    diff::unified,
    error::HistoryError,
    record::{Draft, Keep, Recorded, Writer},
    revision::{Cause, Damage, Meta, Outcome, Revision},
    time::{now, rfc3339},
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

    /// The newest revision that came into force: what is in force, as far as netpath has done it.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn in_force(&self) -> Result<Option<Revision>, HistoryError> {
        self.find(|outcome, _| outcome == Outcome::Applied)
    }

    /// The newest revision that came into force before what is there now, and differs from it.
    ///
    /// # Errors
    /// [`HistoryError::NothingBefore`], or when the folder or a file cannot be read.
    pub fn previous(&self) -> Result<Revision, HistoryError> {
        // What failed or was not confirmed left nothing behind; what was interrupted may have.
        let is_there = |outcome, _: &_| !matches!(outcome, Outcome::Failed | Outcome::Unconfirmed);
        let current = self.find(is_there)?;
        let differs = |revision: &Revision| {
            current.as_ref().is_none_or(|current| !revision.is(&current.document, &current.meta.host))
        };
        let found = self.find(|outcome, revision| outcome == Outcome::Applied && differs(revision))?;
        found.ok_or_else(|| HistoryError::NothingBefore { folder: self.folder.path().to_owned() })
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
            Ok(Some(bytes)) => Revision::decode(&bytes).map_err(damaged),
            Ok(None) => Err(damaged(Damage::Size)),
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
