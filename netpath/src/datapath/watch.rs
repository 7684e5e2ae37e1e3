//! Watching: what the data path tells of refusals, new connections and frames.
//!
//! The ring has one reader. Who watches holds a lock on the folder of the maps, which ends with the process, and renews
//! the row of WATCH, which ends by itself when nobody does: a watcher that is killed leaves nothing on.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use netpath_common::maps::{Event, Watch, Watched, shape};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
    time::{ClockId, clock_gettime},
};

use super::{DatapathError, Root, Tables};

/// For how long the data path goes on telling somebody who has gone.
const LEASE: Duration = Duration::from_secs(4);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// Most events that are read in one go.
const PART: usize = 256;

/// Somebody who watches, until it is dropped.
pub struct Watcher {
    tables: Tables,
    ring: RingBuf<MapData>,
    watch: Watch,
    renewed_ns: u64,
    before: Watched,
    _lock: OwnedFd,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something was told, or may have been.
    Told,
    /// The other descriptor can be read.
    Other,
    /// It took too long.
    Late,
}

impl Watcher {
    /// Begins to watch. Time and process of the row are filled in.
    ///
    /// # Errors
    /// [`DatapathError::Watched`] while another process watches.
    pub fn begin(root: &Root, watch: Watch) -> Result<Self, DatapathError> {
        let tables = Tables::open(root)?;
        let lock = lock(root, &tables)?;
        let fail = |e| DatapathError::failed(format!("open map {}", shape::EVENTS.name), e);
        let map = MapData::from_pin(root.map(shape::EVENTS.name)).and_then(Map::from_map_data).map_err(fail)?;
        let mut ring: RingBuf<MapData> = map.try_into().map_err(fail)?;
        // What was told to another one, and not read by it.
        while ring.next().is_some() {}
        let watch = Watch { process: std::process::id(), ..watch };
        let before = told(&tables)?;
        let mut watcher = Self { tables, ring, watch, renewed_ns: 0, before, _lock: lock };
        watcher.renew()?;
        Ok(watcher)
    }

    /// Calls `visit` with what was told and not read yet: the event and the packet's first bytes. Of what comes faster than it is
    /// visited it is no more than a part, so that the caller gets to renew the lease, and to heed signals and the time.
    ///
    /// # Errors
    /// What `visit` fails with.
    pub fn read<E>(&mut self, mut visit: impl FnMut(&Event, &[u8]) -> Result<bool, E>) -> Result<(), E> {
        for _ in 0..PART {
            let Some(record) = self.ring.next() else { break };
            let Some((event, bytes)) = record.split_at_checked(size_of::<Event>()) else { continue };
            let event: Event = bytemuck::pod_read_unaligned(event);
            let kept = (event.kept as usize).min(bytes.len());
            if !visit(&event, &bytes[..kept])? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until something is told, `other` can be read, or `longest` is over; renews the lease meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&mut self, other: BorrowedFd<'_>, longest: Duration) -> Result<Woken, DatapathError> {
        self.renew()?;
        let longest = longest.min(RENEW);
        let timeout = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: longest.subsec_nanos().into() };
        let mut ends = [PollFd::new(&self.ring, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        let ready = match poll(&mut ends, Some(&timeout)) {
            Err(Errno::INTR) => 0,
            ready => ready.map_err(|e| DatapathError::failed("wait for events", io::Error::from(e)))?,
        };
        Ok(match (ready, ends[1].revents().is_empty()) {
            (0, _) => Woken::Late,
            (_, false) => Woken::Other,
            _ => Woken::Told,
        })
    }

    /// What was kept from this watcher since it began: events above the rate, and events that found the ring full.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn untold(&self) -> Result<(u64, u64), DatapathError> {
        let now = told(&self.tables)?;
        Ok((now.suppressed.saturating_sub(self.before.suppressed), now.lost.saturating_sub(self.before.lost)))
    }

    /// Renews the lease, where that is due.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn renew(&mut self) -> Result<(), DatapathError> {
        let now = now_ns();
        if self.renewed_ns == 0 || now - self.renewed_ns >= RENEW.as_nanos() as u64 / 2 {
            self.watch.until_ns = now + LEASE.as_nanos() as u64;
            self.tables.watch.put(0, &self.watch)?;
            self.renewed_ns = now;
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Refused: the lease ends by itself.
        let _ = self.tables.watch.put(0, &Watch::default());
    }
}

/// The one watcher's lock.
fn lock(root: &Root, tables: &Tables) -> Result<OwnedFd, DatapathError> {
    let fail = |e| DatapathError::failed(format!("lock {}", root.maps().display()), io::Error::from(e));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(root.maps(), flags, Mode::empty()).map_err(fail)?;
    match flock(fd.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(Errno::WOULDBLOCK) => {
            let process = tables.watch.get(0)?.map_or(0, |watch| watch.process);
            Err(DatapathError::Watched { process, command: command_of(process) })
        }
        Err(error) => Err(fail(error)),
    }
}

/// A process's command line, as far as it can be read.
fn command_of(process: u32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    match words.join(" ").trim() {
        "" => "unknown".to_owned(),
        words => words.to_owned(),
    }
}

fn told(tables: &Tables) -> Result<Watched, DatapathError> {
    let rows = tables.watched.get(0)?.unwrap_or_default();
    Ok(rows.iter().fold(Watched::default(), |sum, row| Watched {
        suppressed: sum.suppressed + row.suppressed,
        lost: sum.lost + row.lost,
        ..sum
    }))
}

/// The clock of events (`bpf_ktime_get_ns` is CLOCK_MONOTONIC).
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
