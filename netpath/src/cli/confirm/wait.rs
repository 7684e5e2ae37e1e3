//! The process that waits for a confirmation: in a session of its own, so that it outlives the terminal, the connection
//! and the apply that started it.

use std::{
    io::{self, Write as _},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    io::Errno,
    process::{chdir, setsid},
};

use super::{
    super::{Exit, Global, change},
    Before,
};
use crate::{
    error::Error,
    history::{self, Awaited, Cause, History, HistoryError, Restores, Watch},
};

/// A restoration that failed is tried again after this, and after twice as long each time.
const RETRY: Duration = Duration::from_secs(5);
/// The longest time between two tries.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The apply may begin.
pub(super) const READY: &str = "ready";
/// It is done.
pub(super) const APPLIED: &str = "applied";
/// It failed, and left nothing behind.
pub(super) const TAKEN_BACK: &str = "taken back";

/// Wait for the confirmation of a revision, and restore what was before it when none comes
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WaitArgs {
    /// The revision
    #[arg(long)]
    revision: u64,
    /// What is restored
    #[arg(long, value_parser = restores)]
    restores: Restores,
    /// How long, from when it is applied
    #[arg(long, value_parser = change::time)]
    within: Duration,
}

fn restores(text: &str) -> Result<Restores, serde_json::Error> {
    serde_json::from_str(text)
}

pub(in crate::cli) fn run(args: &WaitArgs, global: &Global) -> Result<Exit, Error> {
    let history = History::open(&global.state_dir, &global.root);
    let before = Before::read(&history, args.restores)?;
    let no_watch = |error: io::Error| HistoryError::NoWatch { said: error.to_string() };
    leave().map_err(|error| no_watch(error.into()))?;
    let changes = changes_of(&history).map_err(|error| no_watch(error.into()))?;
    let awaited = Awaited {
        revision: args.revision,
        restores: args.restores,
        until: None,
        pid: std::process::id(),
        failure: None,
        is_watched: true,
    };
    let mut watch = history.await_confirmation(awaited).map_err(no_watch)?;
    say(READY);
    if !hears_of_the_end(&mut watch, &changes, args.within)? {
        return Ok(Exit::Done);
    }
    restore(&history, watch, &changes, &before, global)
}

/// Into a session of its own, and out of a folder that somebody may want to unmount.
fn leave() -> Result<(), Errno> {
    setsid()?;
    chdir("/")
}

/// Told when a file of the history is removed.
fn changes_of(history: &History) -> Result<OwnedFd, Errno> {
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&changes, history.folder(), inotify::WatchFlags::DELETE | inotify::WatchFlags::DELETE_SELF)?;
    Ok(changes)
}

/// Waits until it is clear whether there is something to restore.
fn hears_of_the_end(watch: &mut Watch, changes: &OwnedFd, within: Duration) -> Result<bool, Error> {
    let mut word = String::new();
    // A pipe that fails says as little as one that ends.
    let _ = io::stdin().read_line(&mut word);
    match word.trim_end() {
        APPLIED => {}
        TAKEN_BACK => {
            watch.end().map_err(|error| HistoryError::NoWatch { said: error.to_string() })?;
            return Ok(false);
        }
        _ => {
            tracing::warn!("the apply of revision {} ended before it was done", watch.awaited().revision);
            return Ok(true);
        }
    }
    let deadline = Instant::now() + within;
    let until = history::now() + within.as_secs();
    if let Err(error) = watch.set_until(until) {
        tracing::warn!("`netpath status` does not know until when: {error}");
    }
    say(&until.to_string());
    wait_until(deadline, watch, changes);
    Ok(watch.is_awaited())
}

/// Until the time is over, or nothing is awaited any more.
fn wait_until(deadline: Instant, watch: &Watch, changes: &OwnedFd) {
    while watch.is_awaited() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        wait_for(changes, left);
    }
}

/// Until something changes, or the time is over.
fn wait_for(changes: &OwnedFd, left: Duration) {
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    // Whatever it was, the caller looks again.
    let _ = poll(&mut [PollFd::new(changes, PollFlags::IN)], Some(&left));
    let mut events = [0; 4096];
    while rustix::io::read(changes, &mut events).is_ok_and(|read| read > 0) {}
}

/// Restores it; what fails is tried again, until it is done, or somebody confirms or takes it back by hand.
fn restore(
    history: &History,
    mut watch: Watch,
    changes: &OwnedFd,
    before: &Before,
    global: &Global,
) -> Result<Exit, Error> {
    let mut pause = RETRY;
    while watch.is_awaited() {
        let Err(error) = try_to_restore(history, &watch, before, global) else { return Ok(Exit::Done) };
        tracing::warn!("what was before is not restored yet, and is tried again in {} s: {error}", pause.as_secs());
        if let Err(unsaid) = watch.set_failure(&error.to_string()) {
            tracing::warn!("`netpath status` does not know: {unsaid}");
        }
        wait_until(Instant::now() + pause, &watch, changes);
        pause = (pause * 2).min(RETRY_MAX);
    }
    Ok(Exit::Done)
}

fn try_to_restore(history: &History, watch: &Watch, before: &Before, global: &Global) -> Result<(), Error> {
    let writer = history.write_if_possible()?;
    // Before the lock was free somebody may have confirmed.
    if watch.is_awaited() {
        before.restore(writer.as_ref(), watch.awaited().revision, Cause::Unconfirmed, global)?;
        tracing::info!("revision {} was not confirmed: what was before it is restored", watch.awaited().revision);
        // It is restored all the same, and nobody waits once this process is gone, which ends its lock.
        if let Err(error) = watch.end() {
            tracing::warn!("the history still says that it awaits confirmation: {error}");
        }
    }
    Ok(())
}

/// Tells the apply; when that is gone, nobody listens.
fn say(line: &str) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
