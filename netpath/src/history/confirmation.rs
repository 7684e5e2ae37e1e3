//! A revision that is taken back unless somebody confirms it: the file that says so.
//!
//! The process that waits holds the file's lock, so that whoever reads it knows whether anybody waits. To confirm is to
//! remove the file, under the lock of the history; what the waiting process does at the end of its time, it does under
//! that lock, too, so that a confirmation is either in time or is told that it was not.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    History, HistoryError, Outcome, Writer,
    store::{Slot, is_held},
    time::{now, rfc3339},
};

/// The file's name.
pub(super) const MARKER: &str = "awaiting-confirmation";
/// What the waiting process says goes here.
const LOG: &str = "confirmation.log";
/// The file's size: it is overwritten in place, which takes no room on a full disk and needs no name.
const SIZE: usize = 2048;
/// A failure is told up to here, in bytes.
const FAILURE_MAX: usize = 1000;

/// What is restored when nobody confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restores {
    /// The revision that was in force.
    Revision(u64),
    /// Nothing was attached: everything is detached.
    Detached,
    /// Nothing was there: everything is removed.
    Nothing,
}

/// A revision that has to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The revision.
    pub revision: u64,
    /// What is restored otherwise.
    pub restores: Restores,
    /// Until when it can be confirmed, in seconds since 1970; `None` while it is being applied.
    pub until: Option<u64>,
    /// The process that waits.
    pub pid: u32,
    /// Why the restoration failed.
    pub failure: Option<String>,
    /// The waiting process lives.
    #[serde(skip)]
    pub is_watched: bool,
}

impl Awaited {
    /// Until when, in words.
    #[must_use]
    pub fn until_text(&self) -> String {
        match self.until {
            Some(until) => format!("until {} (in {}s)", rfc3339(until), until.saturating_sub(now())),
            None => "as soon as it is applied".to_owned(),
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(SIZE.max(bytes.len()), b' ');
        Ok(bytes)
    }
}

impl History {
    /// The revision that awaits confirmation, or was to be restored and could not be.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn awaited(&self) -> Result<Option<Awaited>, HistoryError> {
        let read = || -> io::Result<Option<Awaited>> {
            let file = match File::open(self.folder.file(MARKER)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let text = io::read_to_string(&file)?;
            // A marker that does not read is nobody's: the kernel was stopped in the middle of writing it.
            let Ok(awaited) = serde_json::from_str::<Awaited>(&text) else { return Ok(None) };
            Ok(Some(Awaited { is_watched: is_held(&file)?, ..awaited }))
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// The error of nothing being awaited.
    pub(crate) fn nothing_awaited(&self, root: &Path) -> HistoryError {
        HistoryError::NothingAwaited { root: root.to_owned() }
    }

    /// The log of the waiting process.
    #[must_use]
    pub fn watch_log(&self) -> PathBuf {
        self.folder.file(LOG)
    }

    /// The folder that changes when a revision is confirmed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Says that `awaited` awaits confirmation. Whoever applies it holds the history's lock meanwhile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn await_confirmation(&self, awaited: Awaited) -> io::Result<Watch> {
        let file = self.folder.put_held(MARKER, &awaited.encode()?)?;
        Ok(Watch { history: self.clone(), awaited, file })
    }
}

impl Writer<'_> {
    /// Ends the waiting, whoever waits.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end_waiting(&self) -> io::Result<()> {
        self.history.folder.remove(MARKER)
    }

    /// What was before it is restored: a rollback does not come back to it by itself.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn mark_unconfirmed(&self, number: u64) -> io::Result<()> {
        let applied = Slot { number, outcome: Outcome::Applied };
        let unconfirmed = Slot { number, outcome: Outcome::Unconfirmed };
        match self.history.folder.slots()?.contains(&applied) {
            true => self.history.folder.rename(&applied.name(), &unconfirmed.name()),
            false => Ok(()),
        }
    }
}

/// The waiting process's side of it.
#[derive(Debug)]
pub struct Watch {
    history: History,
    awaited: Awaited,
    file: File,
}

impl Watch {
    /// What is awaited.
    #[must_use]
    pub fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    /// Is it still to be confirmed?
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        // The file's name is gone when it was confirmed; a file system that is out of reach has confirmed nothing.
        self.file.metadata().map_or(true, |metadata| metadata.nlink() > 0)
    }

    /// The revision is applied, and can be confirmed until then.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_until(&mut self, until: u64) -> io::Result<()> {
        self.awaited.until = Some(until);
        self.update()
    }

    /// What was to be restored could not be.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_failure(&mut self, failure: &str) -> io::Result<()> {
        let end = (0..=failure.len().min(FAILURE_MAX)).rev().find(|at| failure.is_char_boundary(*at));
        self.awaited.failure = Some(failure[..end.unwrap_or(0)].to_owned());
        self.update()
    }

    /// The revision was taken back by whoever applied it.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end(&self) -> io::Result<()> {
        self.history.folder.remove(MARKER)
    }

    fn update(&self) -> io::Result<()> {
        self.file.write_all_at(&self.awaited.encode()?, 0)
    }
}
