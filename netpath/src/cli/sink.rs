//! Where `monitor` and `capture` put what they see. A reader that is slow, or reads nothing, does not make them deaf: what waits
//! is written as it is taken, and meanwhile the lease is renewed, and signals and the time are heeded.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::{
    output::Format,
    watch::{Signals, Until},
};
use crate::{
    datapath::{Root, Watcher, Woken},
    error::Error,
};
use netpath_common::maps::{Event, Watch};

/// A pipe that can be written to has room for so much (`PIPE_BUF`): a write of no more does not wait.
const CHUNK: usize = 4096;
/// How often the lease is renewed while nothing is taken.
const RENEW: Duration = Duration::from_millis(500);

/// A file, a pipe or a terminal, and what waits to be written to it.
pub(super) struct Sink {
    to: File,
    waiting: Vec<u8>,
}

/// What has become of what waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// It is written.
    All,
    /// Nobody reads any more, or it is time to end and nobody takes it.
    Not,
}

impl Sink {
    pub(super) fn of(to: File) -> Self {
        Self { to, waiting: Vec::new() }
    }

    pub(super) fn stdout() -> Result<Self, Error> {
        Ok(Self::of(io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?.into()))
    }

    pub(super) fn file(&self) -> &File {
        &self.to
    }

    /// Puts one there, as a line of its own in every format.
    pub(super) fn put<T: Serialize>(
        &mut self,
        format: Format,
        item: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        let json = || serde_json::to_string(item).map_err(|error| Error::Output(io::Error::other(error)));
        let text = match format {
            Format::Table => line(item),
            Format::Json => json()? + "\n",
            // One line each in YAML, too: JSON is YAML as it stands.
            Format::Yaml => "- ".to_owned() + &json()? + "\n",
        };
        self.waiting.extend(text.into_bytes());
        Ok(())
    }

    /// Writes what waits. Where it has to be waited for, `meanwhile` is called now and then; it says for how long, and whether
    /// to go on.
    fn drain(
        &mut self,
        signals: &Signals,
        mut meanwhile: impl FnMut() -> Result<Duration, Error>,
    ) -> Result<Drained, Error> {
        let mut written = 0;
        while written < self.waiting.len() {
            let longest = meanwhile()?.min(RENEW);
            let timeout = Timespec { tv_sec: 0, tv_nsec: longest.subsec_nanos().into() };
            let (can_write, is_signalled) = {
                let mut ends = [PollFd::new(&self.to, PollFlags::OUT), PollFd::new(signals, PollFlags::IN)];
                match poll(&mut ends, Some(&timeout)) {
                    Err(rustix::io::Errno::INTR) => {}
                    ready => drop(ready.map_err(|error| Error::Output(error.into()))?),
                }
                (!ends[0].revents().is_empty(), !ends[1].revents().is_empty())
            };
            let end = self.waiting.len().min(written + CHUNK);
            match can_write.then(|| self.to.write(&self.waiting[written..end])) {
                Some(Ok(more)) => written += more,
                Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Drained::Not),
                Some(Err(error)) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Err(Error::Output(error));
                }
                _ if is_signalled || longest.is_zero() => return Ok(Drained::Not),
                _ => {}
            }
        }
        self.waiting.clear();
        Ok(Drained::All)
    }
}

/// To be written when the sink is drained.
impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsMut<Self> for Sink {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// A watch under way, until enough was seen, the time is over, a signal comes, or nobody reads any more.
pub(super) struct Session<'u> {
    watcher: Watcher,
    signals: Signals,
    until: &'u Until,
    begun: Instant,
    seen: u64,
}

impl<'u> Session<'u> {
    /// Begins. What waits for a reader to come is opened before: signals end the command only up to here.
    pub(super) fn begin(root: &Root, wanted: Watch, until: &'u Until) -> Result<Self, Error> {
        let signals = Signals::catch(&Signals::ENDING)?;
        let watcher = Watcher::begin(root, wanted)?;
        Ok(Self { watcher, signals, until, begun: Instant::now(), seen: 0 })
    }

    /// Calls `visit` with each event and the packet's first bytes; it puts what is wanted into the sink, and says whether it did.
    pub(super) fn run<S: AsMut<Sink>>(
        &mut self,
        sink: &mut S,
        mut visit: impl FnMut(&mut S, &Event, &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        loop {
            let (seen, until) = (&mut self.seen, self.until);
            self.watcher.read(|event, bytes| {
                *seen += u64::from(visit(sink, event, bytes)?);
                Ok::<_, Error>(!until.is_enough(*seen))
            })?;
            let is_open = self.drain(sink.as_mut())? == Drained::All;
            let left = self.until.left(self.begun);
            if !is_open || self.until.is_enough(self.seen) || left.is_zero() {
                return Ok(());
            }
            if self.watcher.wait(self.signals.as_fd(), left)? == Woken::Other {
                return Ok(());
            }
        }
    }

    fn drain(&mut self, sink: &mut Sink) -> Result<Drained, Error> {
        sink.drain(&self.signals, || {
            self.watcher.renew()?;
            Ok(self.until.left(self.begun))
        })
    }

    /// Says on standard error how many there were, and what the kernel kept back.
    pub(super) fn end(self, noun: Option<&str>) -> Result<(), Error> {
        let (suppressed, lost) = self.watcher.untold()?;
        let mut said = noun.map_or_else(String::new, |noun| format!("{} {noun}\n", self.seen));
        if suppressed > 0 {
            said += &format!("{suppressed} more events were above the rate and are not shown (--rate)\n");
        }
        if lost > 0 {
            said += &format!("{lost} more events found no room and are not shown\n");
        }
        // One that nobody reads, or that has no room, keeps nothing from ending.
        if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
            let mut sink = Sink { to: stderr.into(), waiting: said.into_bytes() };
            let _ = sink.drain(&self.signals, || Ok(RENEW));
        }
        Ok(())
    }
}
