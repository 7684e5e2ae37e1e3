//! When a changed file may be read: once nobody has touched it for a moment.
//!
//! A document that is cut off between two NICs is a document, and the guests behind the cut would be taken off. So a file that
//! has been written to is left alone until its writer has closed it, for as long as a writer may be expected to take.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Nothing happens for this long, and the files are read.
const QUIET: Duration = Duration::from_millis(200);
/// A writer that has not closed its file is given this long after its last word.
const UNCLOSED: Duration = Duration::from_secs(10);
/// However busy the files are, they are read this long after the first change.
const LONGEST: Duration = Duration::from_secs(60);

/// What happened to a file that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Somebody writes to it, and has it open.
    Written(PathBuf),
    /// Who wrote to it has closed it, or it is another file by now, or gone.
    Settled(PathBuf),
    /// It is not known what.
    Unknown,
}

/// Changes that were not acted upon yet.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    changed: Option<Changed>,
}

#[derive(Debug)]
struct Changed {
    first: Instant,
    last: Instant,
    open: HashSet<PathBuf>,
}

impl Quiet {
    /// Takes note of a change.
    pub(super) fn note(&mut self, change: Change, now: Instant) {
        let changed = self.changed.get_or_insert_with(|| Changed { first: now, last: now, open: HashSet::new() });
        changed.last = now;
        match change {
            Change::Written(path) => drop(changed.open.insert(path)),
            Change::Settled(path) => drop(changed.open.remove(&path)),
            Change::Unknown => changed.open.clear(),
        }
    }

    /// Takes note of writers of whom nothing was heard; gives whether there are any. Of those that were heard of, patience has come
    /// to its end when it is time to read.
    pub(super) fn wait_for(&mut self, writers: impl IntoIterator<Item = PathBuf>, now: Instant) -> bool {
        let is_heard = |path: &PathBuf| self.changed.as_ref().is_some_and(|changed| changed.open.contains(path));
        let unheard: Vec<PathBuf> = writers.into_iter().filter(|path| !is_heard(path)).collect();
        let found = !unheard.is_empty();
        unheard.into_iter().for_each(|path| self.note(Change::Written(path), now));
        found
    }

    /// When to read the files; `None` where nothing has changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let Changed { first, last, open } = self.changed.as_ref()?;
        let wait = if open.is_empty() { QUIET } else { UNCLOSED };
        Some((*last + wait).min(*first + LONGEST))
    }

    /// The files are read now.
    pub(super) fn settle(&mut self) {
        self.changed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> PathBuf {
        "/zone.yaml".into()
    }

    #[test]
    fn a_replaced_file_is_read_after_a_moment_and_each_change_begins_it_anew() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.due(), None);
        quiet.note(Change::Settled(file()), start);
        assert_eq!(quiet.due(), Some(start + QUIET));
        quiet.note(Change::Settled(file()), start + QUIET / 2);
        assert_eq!(quiet.due(), Some(start + QUIET / 2 + QUIET));
        quiet.settle();
        assert_eq!(quiet.due(), None);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        quiet.note(Change::Written(file()), start);
        assert_eq!(quiet.due(), Some(start + UNCLOSED));
        let end = start + Duration::from_secs(3);
        quiet.note(Change::Settled("/other.yaml".into()), end);
        assert_eq!(quiet.due(), Some(end + UNCLOSED), "another file's end is not its own");
        quiet.note(Change::Settled(file()), end);
        assert_eq!(quiet.due(), Some(end + QUIET));
    }

    #[test]
    fn a_writer_of_whom_nothing_was_heard_is_waited_for_once() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        assert!(!quiet.wait_for([], start));
        assert_eq!(quiet.due(), None);
        assert!(quiet.wait_for([file()], start));
        assert_eq!(quiet.due(), Some(start + UNCLOSED));
        assert!(!quiet.wait_for([file()], start + UNCLOSED), "he has written nothing for long enough");
        quiet.note(Change::Settled(file()), start);
        assert!(quiet.wait_for([file()], start), "it was another one who has closed it");
    }

    #[test]
    fn files_that_never_rest_are_read_all_the_same() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        for second in 0..120 {
            quiet.note(Change::Written(file()), start + Duration::from_secs(second));
        }
        assert_eq!(quiet.due(), Some(start + LONGEST));
    }

    #[test]
    fn after_an_overflow_nobody_is_waited_for() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        quiet.note(Change::Written(file()), start);
        quiet.note(Change::Unknown, start);
        assert_eq!(quiet.due(), Some(start + QUIET));
    }
}
