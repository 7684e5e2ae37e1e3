//! The history's store: what is kept, in which order it goes, and what a crash or a flipped bit does to it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use netpath::{
    error::Error,
    history::{Awaited, Bounds, Cause, Draft, History, HistoryError, Keep, Outcome, Recorded, Restores, Standing},
};

/// A state folder that goes with the test.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netpath-history-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn history(&self) -> History {
        History::open(&self.0, Path::new("/sys/fs/bpf/netpath"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("sys-fs-bpf-netpath").join(name)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn draft(document: &str) -> Draft<'_> {
    Draft::new(document, "kvm1", "zone.yaml", Cause::Apply)
}

/// Brings a document into force without doing anything.
fn applied(history: &History, document: &str) -> Recorded<()> {
    history.record(&draft(document), Keep::Must, |_| Ok(())).unwrap()
}

fn a_failed_step() -> Error {
    let source = Box::new(Error::NotFound { what: "device", name: "vnet0".into(), next: String::new() });
    Error::Apply { failed: "+ program".into(), left: Vec::new(), source }
}

fn outcomes(history: &History) -> Vec<(u64, Outcome)> {
    history.list().unwrap().iter().map(|entry| (entry.number, entry.outcome)).collect()
}

#[test]
fn every_applied_document_is_a_revision_and_the_same_again_is_none() {
    let state = State::new("revisions");
    let history = state.history();
    assert!(history.list().unwrap().is_empty(), "a folder that is not there has no revisions");
    let (first, again, second) = (applied(&history, "a"), applied(&history, "a"), applied(&history, "b"));
    assert_eq!((first.revision, first.is_new), (Some(1), true));
    assert_eq!((again.revision, again.is_new), (Some(1), false));
    assert_eq!((second.revision, second.is_new), (Some(2), true));
    let elsewhere = Draft::new("b", "kvm2", "zone.yaml", Cause::Apply);
    let other_host = history.record(&elsewhere, Keep::Must, |_| Ok(())).unwrap();
    assert_eq!(other_host.revision, Some(3), "the same document for another host is another revision");
    let entries = history.list().unwrap();
    let meta = entries[0].meta.as_ref().unwrap();
    assert_eq!((meta.host.as_str(), meta.source.as_str(), meta.bytes), ("kvm1", "zone.yaml", 1));
    assert!(meta.sha256.starts_with("ca978112ca1bbdca") && meta.time.ends_with('Z') && !meta.user.is_empty());
    assert_eq!(history.revision(2).unwrap().document, "b");
    assert!(matches!(history.revision(4), Err(HistoryError::NoRevision { number: 4, .. })));
}

#[test]
fn instances_do_not_mix() {
    let state = State::new("instances");
    let other = History::open(&state.0, Path::new("/sys/fs/bpf/other"));
    applied(&state.history(), "a");
    assert!(other.list().unwrap().is_empty());
}

#[test]
fn nobody_else_may_read_what_is_kept() {
    let state = State::new("modes");
    applied(&state.history(), "a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.file("0000000001.applied")), 0o600);
    assert_eq!(mode(&state.file("")), 0o700);
    assert_eq!(mode(&state.0), 0o700);
}

#[test]
fn what_became_of_a_revision_is_told() {
    let state = State::new("outcomes");
    let history = state.history();
    applied(&history, "a");
    let failed = history.record(&draft("b"), Keep::Must, |_| Err::<(), _>(a_failed_step()));
    assert!(matches!(failed, Err(Error::Apply { .. })));
    let refused = history.record(&draft("c"), Keep::Must, |number| {
        assert_eq!(number, Some(3));
        assert_eq!(outcomes(&history)[2], (3, Outcome::Pending));
        Err::<(), _>(Error::Preflight { findings: Vec::new() })
    });
    assert!(matches!(refused, Err(Error::Preflight { .. })));
    assert_eq!(outcomes(&history), [(1, Outcome::Applied), (2, Outcome::Failed)]);
    assert_eq!(history.in_force().unwrap().unwrap().document, "a");
    // What failed is tried again under its number.
    assert_eq!(applied(&history, "b").revision, Some(2));
    assert_eq!(outcomes(&history), [(1, Outcome::Applied), (2, Outcome::Applied)]);
}

#[test]
fn an_interrupted_one_is_called_so_and_rolled_back_from() {
    let state = State::new("interrupted");
    let history = state.history();
    applied(&history, "a");
    applied(&history, "b");
    // As a kill leaves it: written, and never finished.
    fs::rename(state.file("0000000002.applied"), state.file("0000000002.pending")).unwrap();
    assert_eq!(outcomes(&history)[1], (2, Outcome::Interrupted));
    assert_eq!(history.previous().unwrap().document, "a");
    applied(&history, "c");
    let all = [(1, Outcome::Applied), (2, Outcome::Interrupted), (3, Outcome::Applied)];
    assert_eq!(outcomes(&history), all);
    assert_eq!(history.previous().unwrap().document, "a", "what never came into force is no way back");
}

#[test]
fn what_was_begun_last_and_did_not_come_into_force_is_told_anew_each_time_it_is_tried() {
    let state = State::new("unfinished");
    let history = state.history();
    let unfinished = || history.write().unwrap().unfinished().unwrap();
    assert_eq!(unfinished(), None);
    applied(&history, "a");
    assert_eq!(unfinished(), None);
    let fail = || history.record(&draft("b"), Keep::Must, |_| Err::<(), _>(a_failed_step())).unwrap_err();
    fail();
    let first = unfinished();
    assert_eq!((first.as_ref().map(|left| left.number), &first), (Some(2), &unfinished()));
    fail();
    let second = unfinished();
    assert_eq!(second.as_ref().map(|left| left.number), Some(2));
    assert_ne!(second, first);
    // As a kill leaves it.
    fs::rename(state.file("0000000002.failed"), state.file("0000000002.pending")).unwrap();
    assert_eq!(unfinished(), second, "another name is no other attempt");
    assert!(state.file("0000000002.interrupted").exists());
    applied(&history, "b");
    assert_eq!(unfinished(), None);
}

#[test]
fn one_that_is_tried_again_and_refused_is_what_it_was() {
    let state = State::new("refused-again");
    let history = state.history();
    for document in ["a", "b", "c"] {
        applied(&history, document);
    }
    for (ending, outcome) in
        [("pending", Outcome::Interrupted), ("failed", Outcome::Failed), ("unconfirmed", Outcome::Unconfirmed)]
    {
        let now = fs::read_dir(history.folder()).unwrap().map(|entry| entry.unwrap().path());
        let third = now.into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == "0000000003")).unwrap();
        fs::rename(third, state.file(&format!("0000000003.{ending}"))).unwrap();
        let refused = history.record(&draft("c"), Keep::Must, |_| Err::<(), _>(not_carried()));
        assert!(matches!(refused, Err(Error::Datapath(_))));
        assert_eq!(outcomes(&history)[2], (3, outcome));
    }
    let refused = history.record(&draft("d"), Keep::Must, |_| Err::<(), _>(not_carried()));
    assert!(matches!(refused, Err(Error::Datapath(_))));
    assert_eq!(outcomes(&history).len(), 3, "what touched nothing leaves no revision, whatever it was refused for");
}

/// What the kernel refuses before anything is touched.
fn not_carried() -> Error {
    netpath::datapath::DatapathError::NothingApplied { root: "/sys/fs/bpf/netpath".into() }.into()
}

#[test]
fn the_previous_revision_is_another_document_that_was_in_force() {
    let state = State::new("previous");
    let history = state.history();
    assert!(matches!(history.previous(), Err(HistoryError::NothingBefore { .. })));
    applied(&history, "a");
    assert!(matches!(history.previous(), Err(HistoryError::NothingBefore { .. })));
    applied(&history, "b");
    assert_eq!(history.previous().unwrap().meta.number, 1);
    let back = Draft { rollback_of: Some(1), ..Draft::new("a", "kvm1", "zone.yaml", Cause::Rollback) };
    assert_eq!(history.record(&back, Keep::Must, |_| Ok(())).unwrap().revision, Some(3));
    assert_eq!(history.revision(3).unwrap().meta.rollback_of, Some(1));
    assert_eq!(history.previous().unwrap().meta.number, 2, "twice back is where it was");
    let _ = history.record(&draft("c"), Keep::Must, |_| Err::<(), _>(a_failed_step()));
    assert_eq!(history.previous().unwrap().meta.number, 2, "what failed has left nothing behind");
}

#[test]
fn one_that_was_not_confirmed_is_no_way_back() {
    let state = State::new("unconfirmed");
    let history = state.history();
    for document in ["a", "b", "c"] {
        applied(&history, document);
    }
    history.write().unwrap().mark_unconfirmed(3).unwrap();
    assert_eq!(outcomes(&history)[2], (3, Outcome::Unconfirmed));
    applied(&history, "b");
    assert_eq!(history.previous().unwrap().document, "a");
}

fn restore(history: &History, document: &str, cause: Cause) {
    let draft = Draft::new(document, "kvm1", "zone.yaml", cause);
    history.record(&draft, Keep::Must, |_| Ok(())).unwrap();
}

/// Which of these documents, each a letter, were taken back.
fn taken_back(history: &History, documents: &str) -> String {
    let is_taken_back = |document: &char| history.taken_back(&document.to_string(), "kvm1").unwrap().is_some();
    documents.chars().filter(is_taken_back).collect()
}

#[test]
fn the_document_that_was_taken_back_is_known_until_another_comes_into_force() {
    let state = State::new("taken-back");
    let history = state.history();
    applied(&history, "a");
    applied(&history, "b");
    assert_eq!(taken_back(&history, "ab"), "");
    restore(&history, "a", Cause::Rollback);
    assert_eq!(taken_back(&history, "ab"), "b");
    assert!(history.taken_back("b", "kvm2").unwrap().is_none());
    applied(&history, "c");
    assert_eq!(taken_back(&history, "abc"), "");
    history.write().unwrap().mark_unconfirmed(4).unwrap();
    assert!(history.is_last_unconfirmed().unwrap());
    assert_eq!(history.taken_back("c", "kvm1").unwrap().unwrap().meta.number, 4);
    restore(&history, "a", Cause::Unconfirmed);
    assert!(!history.is_last_unconfirmed().unwrap());
    // Nobody but the rollback and the lack of a confirmation has brought anything since "b".
    assert_eq!(taken_back(&history, "abc"), "bc");
}

#[test]
fn all_that_rollbacks_have_taken_back_is_known() {
    let state = State::new("taken-back-twice");
    let history = state.history();
    for document in ["a", "b", "c"] {
        applied(&history, document);
    }
    restore(&history, "b", Cause::Rollback);
    let _ = history.record(&draft("d"), Keep::Must, |_| Err::<(), _>(a_failed_step()));
    assert_eq!(taken_back(&history, "abcd"), "c");
    restore(&history, "a", Cause::Rollback);
    assert_eq!(taken_back(&history, "abcd"), "bc");
    // Forth again: it stands.
    restore(&history, "c", Cause::Rollback);
    assert_eq!(taken_back(&history, "abcd"), "ab");
    applied(&history, "e");
    assert_eq!(taken_back(&history, "abcde"), "");
    applied(&history, "f");
    history.write().unwrap().mark_unconfirmed(9).unwrap();
    restore(&history, "e", Cause::Unconfirmed);
    assert_eq!(taken_back(&history, "abcdef"), "f", "what was restored had replaced the rest by choice");
}

#[test]
fn a_torn_or_flipped_newest_revision_is_told_and_the_last_good_one_is_found() {
    let state = State::new("damage");
    let history = state.history();
    applied(&history, "a");
    applied(&history, "bbbb");
    let file = state.file("0000000002.applied");
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..0], &whole[..10], &whole[..whole.len() - 1], &flipped] {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(history.revision(2), Err(HistoryError::Damaged { number: 2, .. })));
        let entries = history.list().unwrap();
        assert!(entries[1].meta.is_err() && entries[0].meta.is_ok());
        assert_eq!(history.newest().unwrap().unwrap().document, "a");
        assert_eq!(history.in_force().unwrap().unwrap().document, "a");
    }
    assert_eq!(applied(&history, "bbbb").revision, Some(3), "a damaged number is not used again");
}

#[test]
fn what_is_no_file_by_a_revisions_name_is_a_damaged_revision_that_nothing_waits_for() {
    let state = State::new("no-file");
    let history = state.history().bounded(Bounds { revisions: 3, bytes: 1 << 20 });
    applied(&history, "a");
    applied(&history, "b");
    fs::create_dir(state.file("0000000003.applied")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, state.file("0000000004.applied"), 0o600.into()).unwrap();
    fs::create_dir_all(state.file("0000000005.failed/kept")).unwrap();
    let entries = history.list().unwrap();
    let damage: Vec<_> = entries.iter().filter_map(|entry| Some((entry.number, entry.meta.as_ref().err()?))).collect();
    assert_eq!(damage.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(damage[0].1.to_string().contains("a folder or something else"), "{}", damage[0].1);
    let error = history.revision(3).unwrap_err().to_string();
    assert!(error.contains("revision 3 is damaged") && error.contains("0000000003.applied"), "{error}");
    assert_eq!(history.previous().unwrap().document, "b");
    assert!(matches!(history.standing().unwrap(), Standing::Unknown));
    // They are no obstacle to what comes, and go as old revisions do; a folder that is somebody's stays.
    for (document, number) in [("c", 6), ("d", 7), ("e", 8)] {
        assert_eq!(applied(&history, document).revision, Some(number));
    }
    assert!(!state.file("0000000003.applied").exists() && state.file("0000000005.failed/kept").exists());
    assert_eq!(history.in_force().unwrap().unwrap().document, "e");
}

#[test]
fn a_damaged_newest_revision_is_rolled_back_to_the_one_before_it() {
    let state = State::new("damaged-newest");
    let history = state.history();
    for document in ["a", "b", "c"] {
        applied(&history, document);
    }
    assert!(matches!(history.standing().unwrap(), Standing::Revision(found) if found.document == "c"));
    fs::write(state.file("0000000003.applied"), "torn").unwrap();
    assert_eq!(history.previous().unwrap().document, "b");
    assert!(matches!(history.standing().unwrap(), Standing::Unknown), "what is in force cannot be restored");
    fs::write(state.file("0000000002.applied"), "torn").unwrap();
    assert_eq!(history.previous().unwrap().document, "a", "the only good one is no longer the current one");
}

#[test]
fn what_no_room_was_for_is_rolled_back_to_the_newest_revision() {
    let state = State::new("unkept");
    let history = state.history();
    applied(&history, "a");
    applied(&history, "b");
    // As a full disk does, while its folder still has room for a name: nothing can be written under this one.
    let no_room = state.file(&format!(".new-{}-0000000003.pending", std::process::id()));
    let fill = || fs::create_dir_all(no_room.join("x")).unwrap();
    fill();
    let unkept = |draft: &Draft<'_>, result| history.write().unwrap().record(draft, Keep::IfPossible, |_| result);
    unkept(&draft("c"), Err::<(), _>(a_failed_step())).unwrap_err();
    assert!(matches!(history.standing().unwrap(), Standing::Revision(found) if found.document == "b"));
    let done = unkept(&draft("c"), Ok(())).unwrap();
    assert_eq!(done.revision, None);
    assert!(matches!(history.standing().unwrap(), Standing::Unknown));
    assert_eq!(history.previous().unwrap().document, "b");
    // It is brought back without a revision of its own, and known again.
    fs::remove_dir_all(&no_room).unwrap();
    assert_eq!(unkept(&draft("b"), Ok(())).unwrap().revision, Some(2));
    assert!(matches!(history.standing().unwrap(), Standing::Revision(found) if found.document == "b"));
    assert_eq!(history.previous().unwrap().document, "a");
    fill();
    // So is what is restored in the place of an unconfirmed one.
    history.write().unwrap().mark_unconfirmed(2).unwrap();
    let back = Draft { unconfirmed: Some(2), ..draft("a") };
    assert_eq!(unkept(&back, Ok(())).unwrap().revision, None);
    assert!(matches!(history.standing().unwrap(), Standing::Revision(found) if found.document == "a"));
}

#[test]
fn what_a_kill_left_half_written_is_never_a_revision_and_is_cleared() {
    let state = State::new("torn");
    let history = state.history();
    applied(&history, "a");
    let half = state.file(".new-4711-0000000002.pending");
    fs::File::create(&half).unwrap().write_all(b"# netpath-revision 1 sha2").unwrap();
    // Killed between the two steps of trying again: one revision, two names.
    fs::copy(state.file("0000000001.applied"), state.file("0000000001.failed")).unwrap();
    assert_eq!(outcomes(&history), [(1, Outcome::Applied)]);
    assert_eq!(applied(&history, "b").revision, Some(2));
    assert!(!half.exists() && !state.file("0000000001.failed").exists());
}

#[test]
fn the_oldest_go_first_and_what_is_in_force_stays() {
    let state = State::new("bounds");
    let history = state.history().bounded(Bounds { revisions: 5, bytes: 1 << 20 });
    for number in 0..12 {
        applied(&history, &format!("document {number}"));
    }
    assert_eq!(outcomes(&history).first(), Some(&(8, Outcome::Applied)));
    assert_eq!(outcomes(&history).len(), 5);
    for number in 0..12 {
        let document = format!("failure {number}");
        let _ = history.record(&draft(&document), Keep::Must, |_| Err::<(), _>(a_failed_step()));
    }
    let left = outcomes(&history);
    assert_eq!((left.len(), &left[..2]), (5, &[(11, Outcome::Applied), (12, Outcome::Applied)][..]));
    assert_eq!(history.previous().unwrap().document, "document 10");
}

#[test]
fn bytes_are_bounded_too() {
    let state = State::new("bytes");
    let history = state.history().bounded(Bounds { revisions: 100, bytes: 10_000 });
    for letter in ["a", "b", "c", "d", "e"] {
        applied(&history, &letter.repeat(4000));
    }
    assert_eq!(outcomes(&history), [(4, Outcome::Applied), (5, Outcome::Applied)]);
}

#[test]
fn writers_at_once_take_turns_and_no_number_is_given_twice() {
    const WRITERS: usize = 8;
    const EACH: usize = 6;
    let state = State::new("writers");
    let history = state.history();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let history = &history;
            scope.spawn(move || {
                for turn in 0..EACH {
                    let document = format!("{writer} in turn {turn}");
                    let kept = applied(history, &document).revision.unwrap();
                    assert_eq!(history.revision(kept).unwrap().document, document);
                }
            });
        }
    });
    let numbers: Vec<_> = history.list().unwrap().iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_cannot_be_made_stops_nothing_unless_it_must() {
    let state = State::new("unwritable");
    fs::write(&state.0, "a file is in its place").unwrap();
    let history = state.history();
    let done = history.record(&draft("a"), Keep::IfPossible, Ok).unwrap();
    assert_eq!((done.outcome, done.revision), (None, None));
    let refused = history.record(&draft("a"), Keep::Must, |_| -> Result<(), _> { unreachable!("nothing is begun") });
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::History(HistoryError::Required { .. })), "{error}");
    fs::remove_file(&state.0).unwrap();
}

#[test]
fn a_marker_that_cannot_be_read_stops_nothing_unless_it_must() {
    let state = State::new("marker");
    let history = state.history();
    applied(&history, "a");
    // Reading a folder is an error of the disk's kind.
    fs::create_dir(state.file("awaiting-confirmation")).unwrap();
    assert!(matches!(history.awaited(), Err(HistoryError::Unreadable { .. })));
    let done = history.record(&draft("b"), Keep::IfPossible, Ok).unwrap();
    assert_eq!(done.outcome, Some(2));
    let refused = history.record(&draft("c"), Keep::Must, |_| -> Result<(), _> { unreachable!("nothing is begun") });
    assert!(matches!(refused, Err(Error::History(HistoryError::Unreadable { .. }))));
}

#[test]
fn a_marker_that_nobody_holds_is_cleared_and_one_that_is_torn_is_none() {
    let state = State::new("stale");
    let history = state.history();
    applied(&history, "a");
    let awaited = Awaited {
        revision: 1,
        restores: Restores::Nothing,
        until: None,
        pid: std::process::id(),
        failure: None,
        is_watched: true,
    };
    let mut watch = history.await_confirmation(awaited).unwrap();
    watch.set_until(4_000_000_000).unwrap();
    let found = history.awaited().unwrap().unwrap();
    assert_eq!((found.until, found.is_watched), (Some(4_000_000_000), true));
    let refused = history.record(&draft("b"), Keep::IfPossible, |_| Ok(())).unwrap_err();
    assert!(matches!(refused, Error::History(HistoryError::Awaiting { revision: 1, .. })), "{refused}");
    watch.set_failure(&"ä".repeat(5000)).unwrap();
    assert_eq!(history.awaited().unwrap().unwrap().failure, Some("ä".repeat(500)));
    drop(watch);
    assert!(!history.awaited().unwrap().unwrap().is_watched);
    assert_eq!(applied(&history, "b").revision, Some(2));
    assert_eq!(history.awaited().unwrap(), None);
    fs::write(state.file("awaiting-confirmation"), "{\"revis").unwrap();
    assert_eq!(history.awaited().unwrap(), None);
}
