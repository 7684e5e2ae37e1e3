//! What the agent keeps in force while its definitions stay as they are: what the history says has come into force last,
//! whoever brought it. And hears of it when somebody has.

use std::{
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::{io::unix::AsyncFd, time::sleep_until};

use super::readable;
use crate::{
    datapath::{DatapathError, Root},
    definitions::{self, Zone},
    error::Error,
    history::{History, Meta, Revision, Standing},
};

/// The revision that stood at a time: number and checksum.
pub(super) type Stood = Option<(u64, String)>;

/// The revision that stands now.
pub(super) fn stood(history: &History) -> Stood {
    match history.standing() {
        Ok(Standing::Revision(revision)) => identity(&revision.meta),
        Ok(Standing::Nothing | Standing::Unknown) | Err(_) => None,
    }
}

fn identity(meta: &Meta) -> Stood {
    Some((meta.number, meta.sha256.clone()))
}

/// A document that is in force.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `None` where there is nothing to keep.
    pub(super) zone: Option<Zone>,
    /// The revision that others brought, or that was found; `None` for the definitions as they were read.
    pub(super) revision: Option<u64>,
    /// What stood when this came. Where there was no room for a revision of it, it is kept until another one comes.
    pub(super) stood: Stood,
}

impl Kept {
    /// Follows what others have done since; says whether it is something else now.
    pub(super) fn follow(&mut self, history: &History, host: &str, root: &Path) -> Result<bool, Error> {
        if is_taken_off(history, root)? {
            let had = self.zone.is_some();
            *self = Self::default();
            return Ok(had);
        }
        let found = match history.standing()? {
            Standing::Revision(found) => Some(*found),
            // At the start, the last good one is better than nothing.
            Standing::Unknown if self.zone.is_none() => history.in_force()?,
            Standing::Unknown | Standing::Nothing => None,
        };
        let Some(found) = found.filter(|found| self.stood != identity(&found.meta)) else { return Ok(false) };
        *self = Self { zone: read(&found, host), revision: Some(found.meta.number), stood: identity(&found.meta) };
        Ok(true)
    }
}

/// Was all taken off because nobody confirmed what was the first to come into force?
fn is_taken_off(history: &History, root: &Path) -> Result<bool, Error> {
    let is_attached = match Root::open(root) {
        Err(DatapathError::NothingApplied { .. }) => false,
        // Another build's programs are attached.
        Err(DatapathError::OtherAbi { .. } | DatapathError::Unfinished { .. }) => true,
        root => !root?.link_pins()?.is_empty(),
    };
    Ok(!is_attached && history.is_last_unconfirmed()?)
}

/// The document of a revision, for the agent's host.
fn read(Revision { meta, document }: &Revision, host: &str) -> Option<Zone> {
    let number = meta.number;
    if meta.host != host {
        tracing::warn!(
            "revision {number} is in force, for host {}: it is left alone until the definitions change",
            meta.host
        );
        return None;
    }
    match definitions::parse_applied(&format!("revision {number}"), document) {
        Ok(zone) => {
            tracing::info!(revision = number, source = meta.source, "kept in force until the definitions change");
            Some(zone)
        }
        Err(error) => {
            tracing::warn!("revision {number} is left alone until the definitions change: {error}");
            None
        }
    }
}

/// Where the history cannot be watched, that is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Its folder is there no more, or has another name.
const LOST: ReadFlags =
    ReadFlags::IGNORED.union(ReadFlags::DELETE_SELF).union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT);

/// Hears of revisions that are begun, come into force or are taken back, and of those that are confirmed. One that is begun and whose
/// process is killed then gives nothing else to hear.
pub(super) struct Revisions {
    history: History,
    listening: Listening,
}

enum Listening {
    To(AsyncFd<OwnedFd>),
    /// There is nothing to listen to; it is looked for again then.
    Not(Instant),
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    News,
    /// There is nothing to hear any more.
    Lost,
}

impl Revisions {
    /// Begins to listen, where there is a history.
    pub(super) fn watch(history: History) -> Self {
        let listening = match listen(&history) {
            Ok(inotify) => Listening::To(inotify),
            Err(error) => unheard(&history, &error),
        };
        Self { history, listening }
    }

    /// Waits until something of it has happened.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            match &self.listening {
                Listening::Not(again) => {
                    sleep_until((*again).into()).await;
                    match listen(&self.history) {
                        Ok(inotify) => {
                            self.listening = Listening::To(inotify);
                            return Ok(());
                        }
                        Err(_) => self.listening = Listening::Not(Instant::now() + AGAIN),
                    }
                }
                Listening::To(inotify) => {
                    let mut ready = inotify.readable().await?;
                    ready.clear_ready();
                    match heard(inotify.get_ref())? {
                        Heard::Nothing => {}
                        Heard::News => return Ok(()),
                        // Whatever came before there was something to listen to again is looked for.
                        Heard::Lost => {
                            *self = Self::watch(self.history.clone());
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}

fn listen(history: &History) -> io::Result<AsyncFd<OwnedFd>> {
    history.make()?;
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let wanted = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    inotify::add_watch(&inotify, history.folder(), wanted | WatchFlags::ONLYDIR)?;
    readable::register(inotify)
}

fn unheard(history: &History, error: &io::Error) -> Listening {
    let folder = history.folder().display();
    tracing::warn!("what others apply is heard of at the next change of the host only: {folder}: {error}");
    Listening::Not(Instant::now() + AGAIN)
}

fn heard(inotify: &OwnedFd) -> io::Result<Heard> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut heard = Heard::Nothing;
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                heard = heard.max(match event.events() {
                    events if events.intersects(LOST) => Heard::Lost,
                    events if events.contains(ReadFlags::QUEUE_OVERFLOW) => Heard::News,
                    _ if name.is_some_and(History::tells_of_force) => Heard::News,
                    _ => Heard::Nothing,
                });
            }
            Err(Errno::AGAIN) => return Ok(heard),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        agent::scratch::Scratch,
        history::{Cause, Draft, Keep},
    };

    #[tokio::test]
    async fn a_history_that_is_removed_or_renamed_is_listened_to_where_it_comes_anew() {
        let scratch = Scratch::new("revisions");
        let history = History::open(scratch.path(), Path::new("/sys/fs/bpf/netpath"));
        let apply = |document| {
            let draft = Draft::new(document, "kvm1", "zone.yaml", Cause::Apply);
            history.record(&draft, Keep::Must, |_| Ok(())).unwrap();
        };
        let mut revisions = Revisions::watch(history.clone());
        let mut hear = async || timeout(Duration::from_secs(10), revisions.changed()).await.unwrap().unwrap();
        apply("a");
        hear().await;
        fs::remove_dir_all(history.folder()).unwrap();
        hear().await;
        apply("b");
        hear().await;
        fs::rename(history.folder(), scratch.path().join("away")).unwrap();
        hear().await;
        apply("c");
        hear().await;
    }
}
