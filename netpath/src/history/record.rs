//! Keeping a document while it is brought into force.

use std::{io, time::SystemTime};

use super::{
    Author, Cause, History, HistoryError, Meta, Outcome, Revision,
    revision::sha256,
    store::Slot,
    time::{now, rfc3339},
};
use crate::{
    datapath::{DatapathError, Lock, lock_folder},
    error::Error,
};

/// There while what is in force is in no revision, because there was no room for one.
pub(super) const UNKEPT: &str = "unkept";

/// A document that is about to be brought into force.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'d> {
    /// The document.
    pub document: &'d str,
    /// The host whose part is meant.
    pub host: &'d str,
    /// The file it came from.
    pub source: &'d str,
    /// Why.
    pub cause: Cause,
    /// The revision whose document it brings back.
    pub rollback_of: Option<u64>,
    /// The revision that it replaces because that was not confirmed.
    pub unconfirmed: Option<u64>,
}

impl<'d> Draft<'d> {
    /// A document that brings nothing back.
    #[must_use]
    pub fn new(document: &'d str, host: &'d str, source: &'d str, cause: Cause) -> Self {
        Self { document, host, source, cause, rollback_of: None, unconfirmed: None }
    }
}

/// What becomes of the work when the document cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is done all the same, with a warning: the data path matters more than its history.
    IfPossible,
    /// It is not begun.
    Must,
}

/// What was done, and the revision that holds the document.
#[derive(Debug)]
pub struct Recorded<T> {
    /// What the work gave.
    pub outcome: T,
    /// The revision's number; `None` where it could not be kept.
    pub revision: Option<u64>,
    /// The revision was made for it, and is not an earlier one with the same document.
    pub is_new: bool,
}

/// A revision that was begun and did not come into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its number.
    pub number: u64,
    /// When it was tried: it keeps its number when it is tried again.
    pub tried: SystemTime,
}

/// The history while no other process writes to it. Ends with the process, however that ends.
#[derive(Debug)]
pub struct Writer<'h> {
    pub(super) history: &'h History,
    _lock: Lock,
}

/// The revision of a document that is being brought into force.
#[derive(Debug, Clone)]
struct Begun {
    slot: Slot,
    /// Written for this work.
    is_new: bool,
    /// What had become of it, and who had brought it, where it is tried again.
    before: Option<(Outcome, Revision)>,
}

impl History {
    /// Keeps `draft` as a revision and does `work`, which brings it into force and is told the revision's number. One at a
    /// time; a document that equals the newest revision makes no new one.
    ///
    /// # Errors
    /// What `work` fails with; [`HistoryError::Awaiting`] while an earlier revision awaits confirmation, and, with
    /// [`Keep::Must`], [`HistoryError::Required`]: both before the work is begun.
    pub fn record<T>(
        &self,
        draft: &Draft<'_>,
        keep: Keep,
        work: impl FnOnce(Option<u64>) -> Result<T, Error>,
    ) -> Result<Recorded<T>, Error> {
        let writer = match self.write() {
            Ok(writer) => writer,
            Err(error) => return unkept(error, keep, work),
        };
        writer.refuse_while_awaiting(keep)?;
        writer.record(draft, keep, work)
    }

    /// Waits until no other process writes here, and keeps others waiting. Who is waited for is said.
    ///
    /// # Errors
    /// [`HistoryError::Unwritable`] when there is no folder and none can be made, [`HistoryError::Locked`] when another
    /// process writes for too long.
    pub fn write(&self) -> Result<Writer<'_>, HistoryError> {
        self.make().map_err(|source| self.unwritable(source))?;
        let lock = lock_folder(self.folder()).map_err(|error| match error {
            DatapathError::Locked { .. } => HistoryError::Locked(Box::new(error)),
            error => self.unwritable(io::Error::other(error)),
        })?;
        Ok(Writer { history: self, _lock: lock })
    }

    /// The same; `None`, with a warning, where nothing can be written at all.
    ///
    /// # Errors
    /// When another process writes for too long.
    pub fn write_if_possible(&self) -> Result<Option<Writer<'_>>, HistoryError> {
        match self.write() {
            Err(error @ HistoryError::Unwritable { .. }) => {
                tracing::warn!("{error}");
                Ok(None)
            }
            writer => writer.map(Some),
        }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> io::Result<()> {
        self.folder.make()
    }

    /// The error of a folder that cannot be written.
    pub(crate) fn unwritable(&self, source: io::Error) -> HistoryError {
        HistoryError::Unwritable { folder: self.folder.path().to_owned(), source }
    }
}

/// Does the work without a revision, where that may be.
fn unkept<T>(
    error: HistoryError,
    keep: Keep,
    work: impl FnOnce(Option<u64>) -> Result<T, Error>,
) -> Result<Recorded<T>, Error> {
    let HistoryError::Unwritable { folder, source } = error else { return Err(error.into()) };
    if keep == Keep::Must {
        return Err(HistoryError::Required { folder, source }.into());
    }
    tracing::warn!("this document is not kept as a revision: {}: {source}", folder.display());
    Ok(Recorded { outcome: work(None)?, revision: None, is_new: false })
}

impl Writer<'_> {
    /// As [`History::record`], while something awaits confirmation as well.
    ///
    /// # Errors
    /// As there.
    pub fn record<T>(
        &self,
        draft: &Draft<'_>,
        keep: Keep,
        work: impl FnOnce(Option<u64>) -> Result<T, Error>,
    ) -> Result<Recorded<T>, Error> {
        let begun = match self.begin(draft) {
            Ok(begun) => begun,
            Err(source) => {
                return unkept(self.history.unwritable(source), keep, |none| self.without(draft, || work(none)));
            }
        };
        let result = work(Some(begun.slot.number));
        if begun.is_new {
            self.finish(&begun, result.as_ref().map(drop));
        }
        if result.is_ok() {
            self.tell(self.history.folder.remove(UNKEPT));
        }
        result.map(|outcome| Recorded { outcome, revision: Some(begun.slot.number), is_new: begun.is_new })
    }

    /// Does work that there is no revision of, and says for as long as it counts that the newest revision is not what is in
    /// force.
    fn without<T>(&self, draft: &Draft<'_>, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        // What is restored in the place of an unconfirmed one is in force again.
        let restored = self
            .history
            .find(|outcome, revision| outcome == Outcome::Applied && Some(revision.meta.number) != draft.unconfirmed);
        if restored.is_ok_and(|found| found.is_some_and(|found| found.is(draft.document, draft.host))) {
            return work();
        }
        let folder = &self.history.folder;
        let made = folder.make_empty(UNKEPT);
        let is_new = made.as_ref().is_ok_and(|is_new| *is_new);
        self.tell(made.map(drop));
        let result = work();
        if result.is_err() && is_new {
            self.tell(folder.remove(UNKEPT));
        }
        result
    }

    /// A history that is not up to date changes nothing about what is in force, and is warned of.
    pub(super) fn tell(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!("the history in {} is not up to date: {error}", self.history.folder().display());
        }
    }

    /// Makes sure that nothing awaits confirmation; what nobody waits for any more stays as it is.
    ///
    /// # Errors
    /// [`HistoryError::Awaiting`] while somebody waits for a confirmation.
    pub fn refuse_while_awaiting(&self, keep: Keep) -> Result<(), HistoryError> {
        let awaited = match self.history.awaited() {
            Err(error) if keep == Keep::IfPossible => {
                tracing::warn!("whether a revision awaits confirmation is not known: {error}");
                None
            }
            awaited => awaited?,
        };
        let Some(awaited) = awaited else { return Ok(()) };
        if awaited.is_watched {
            return Err(HistoryError::Awaiting { revision: awaited.revision, until: awaited.until_text() });
        }
        let number = awaited.revision;
        tracing::warn!("revision {number} was never confirmed, and nobody waits for it any more: it stays as it is");
        match self.end_waiting() {
            Err(source) if keep == Keep::Must => {
                Err(HistoryError::Required { folder: self.history.folder().to_owned(), source })
            }
            ended => {
                self.tell(ended);
                Ok(())
            }
        }
    }

    /// The newest revision, where it is none that came into force: a step of it failed, or its process was killed.
    ///
    /// # Errors
    /// When the folder cannot be read, or does not let be said what became of one.
    pub fn unfinished(&self) -> Result<Option<Unfinished>, HistoryError> {
        let find = || {
            let slots = self.settled()?;
            let newest = slots.last().filter(|slot| matches!(slot.outcome, Outcome::Failed | Outcome::Interrupted));
            let tried = |slot: &Slot| self.history.folder.written(&slot.name());
            newest.map(|slot| Ok(Unfinished { number: slot.number, tried: tried(slot)? })).transpose()
        };
        find().map_err(|source| self.history.unreadable(source))
    }

    /// The revisions, oldest first: those that were being brought into force are interrupted, for whoever did it does not live.
    fn settled(&self) -> io::Result<Vec<Slot>> {
        let folder = &self.history.folder;
        let mut slots = folder.slots()?;
        for slot in slots.iter_mut().filter(|slot| slot.outcome == Outcome::Pending) {
            let pending = slot.name();
            slot.outcome = Outcome::Interrupted;
            folder.rename(&pending, &slot.name())?;
        }
        Ok(slots)
    }

    /// Writes the revision, or finds that the newest one is it.
    fn begin(&self, draft: &Draft<'_>) -> io::Result<Begun> {
        let folder = &self.history.folder;
        folder.sweep()?;
        let slots = self.settled()?;
        let newest = slots.last();
        let same = newest.and_then(|slot| match self.history.read(slot) {
            Ok(revision) => revision.is(draft.document, draft.host).then_some((slot, revision)),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        });
        let number = match (&same, newest) {
            (Some((slot, _)), _) if slot.outcome == Outcome::Applied => {
                return Ok(Begun { slot: (*slot).clone(), is_new: false, before: None });
            }
            // What did not come into force is tried again.
            (Some((slot, _)), _) => slot.number,
            (None, Some(slot)) => slot.number + 1,
            (None, None) => 1,
        };
        let slot = Slot { number, outcome: Outcome::Pending };
        folder.put(&slot.name(), &revision(draft, number).encode()?)?;
        if let Some((before, _)) = &same {
            folder.remove(&before.name())?;
        }
        Ok(Begun { slot, is_new: true, before: same.map(|(slot, revision)| (slot.outcome, revision)) })
    }

    /// Says what became of the work.
    fn finish(&self, Begun { slot: pending, before, .. }: &Begun, result: Result<(), &Error>) {
        let folder = &self.history.folder;
        let name = |outcome| Slot { outcome, ..pending.clone() }.name();
        let turn = |outcome| folder.rename(&pending.name(), &name(outcome));
        let finished = match (result, before) {
            (Ok(()), _) => turn(Outcome::Applied),
            (Err(Error::Apply { .. }), _) => turn(Outcome::Failed),
            // Refused before anything was touched: what it had left before is there still, and whose it is.
            (Err(_), Some((outcome, revision))) => turn(*outcome)
                .and_then(|()| Ok(revision.encode()?))
                .and_then(|bytes| folder.put(&name(*outcome), &bytes)),
            (Err(_), None) => folder.remove(&pending.name()),
        };
        self.tell(finished.and_then(|()| self.prune()));
    }

    /// Removes the oldest while there are too many; what is in force and what was before it stay.
    fn prune(&self) -> io::Result<()> {
        let History { folder, bounds } = self.history;
        let slots = folder.slots()?;
        let sizes: Vec<_> = slots.iter().map(|slot| folder.size(&slot.name())).collect::<io::Result<_>>()?;
        let (mut count, mut bytes) = (slots.len(), sizes.iter().sum::<u64>());
        let applied = slots.iter().rev().filter(|slot| slot.outcome == Outcome::Applied);
        let kept: Vec<_> = applied.take(2).chain(slots.last()).collect();
        for (slot, size) in slots.iter().zip(&sizes).filter(|(slot, _)| !kept.contains(slot)) {
            if count <= bounds.revisions && bytes <= bounds.bytes {
                break;
            }
            folder.remove(&slot.name())?;
            count -= 1;
            bytes -= size;
        }
        Ok(())
    }
}

fn revision(draft: &Draft<'_>, number: u64) -> Revision {
    let Author { user, uid } = Author::current();
    let meta = Meta {
        number,
        time: rfc3339(now()),
        user,
        uid,
        host: draft.host.to_owned(),
        source: draft.source.to_owned(),
        cause: draft.cause,
        rollback_of: draft.rollback_of,
        unconfirmed: draft.unconfirmed,
        bytes: draft.document.len() as u64,
        sha256: sha256(draft.document.as_bytes()),
    };
    Revision { meta, document: draft.document.to_owned() }
}
