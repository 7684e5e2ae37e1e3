//! Printing a list as it is read: a million rows are never all in memory.

use std::{
    io::{self, BufWriter, StdoutLock, Write as _},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::output::{Format, to_yaml};
use crate::error::Error;

/// What was printed does not wait for longer than this, whether more comes or not.
const PATIENCE: Duration = Duration::from_millis(50);

/// A list under way to standard output. What it prints is what [`super::output::print`] prints of the whole list.
pub(super) struct List {
    format: Format,
    stdout: BufWriter<StdoutLock<'static>>,
    is_empty: bool,
    /// Since when something is printed that the reader has not been given.
    waiting_since: Option<Instant>,
    /// The reader has gone.
    is_closed: bool,
}

impl List {
    /// Begins; `heading` is a table's first line.
    pub(super) fn begin(format: Format, heading: &str) -> Result<Self, Error> {
        let stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let mut list = Self { format, stdout, is_empty: true, waiting_since: None, is_closed: false };
        if format == Format::Table {
            list.write(heading)?;
        }
        Ok(list)
    }

    /// Prints one item; breaks when nobody reads any more.
    pub(super) fn item<T: Serialize>(
        &mut self,
        item: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<ControlFlow<()>, Error> {
        let failed = |error| Error::Output(io::Error::other(error));
        let text = match self.format {
            Format::Table => text(item),
            Format::Json => {
                let json = serde_json::to_string_pretty(item).map_err(failed)?;
                format!("{}\n  {}", if self.is_empty { "[" } else { "," }, json.replace('\n', "\n  "))
            }
            Format::Yaml => to_yaml(&serde_json::to_value([item]).map_err(failed)?),
        };
        let is_first = std::mem::take(&mut self.is_empty);
        self.write(&text)?;
        match is_first {
            true => self.flush()?,
            false => {
                self.waiting_since.get_or_insert_with(Instant::now);
            }
        }
        self.pass()
    }

    /// Hands on what waits, where nothing may come for a while; breaks when nobody reads any more.
    pub(super) fn pass(&mut self) -> Result<ControlFlow<()>, Error> {
        if self.waiting_since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            self.flush()?;
        }
        Ok(if self.is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Ends the list.
    pub(super) fn end(mut self) -> Result<(), Error> {
        let end = match (self.format, self.is_empty) {
            (Format::Json, true) | (Format::Yaml, true) => "[]\n",
            (Format::Json, false) => "\n]\n",
            _ => "",
        };
        self.write(end)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.waiting_since = None;
        match self.stdout.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            flushed => flushed.map_err(Error::Output)?,
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        match self.stdout.write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            written => written.map_err(Error::Output)?,
        }
        Ok(())
    }
}
