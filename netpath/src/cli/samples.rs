//! Earlier readings of the counters, for `show usage --since`: a line each in a file of its own for each root.
//!
//! A sample is written by `apply` and by `show usage`, once a minute at most, and the oldest make room for new ones.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

use super::{Global, applied::Applied, usage::Usage, when};
use crate::{error::Error, history::instance_folder};

/// Samples that are kept: a week of one a minute.
const KEPT: usize = 10_000;
/// Bytes that are kept of them.
const KEPT_BYTES: u64 = 64 << 20;
/// No two samples are nearer than this.
const INTERVAL: Duration = Duration::from_secs(60);

/// The samples of one root.
pub(super) struct Samples {
    folder: PathBuf,
}

impl Samples {
    /// Those of the root that the options name.
    pub(super) fn of(global: &Global) -> Self {
        Self { folder: instance_folder(&global.state_dir, &global.root).join("usage") }
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("samples.jsonl")
    }

    /// Every sample, oldest first. A line that a kill has torn is none.
    pub(super) fn read(&self) -> Result<Vec<Usage>, Error> {
        let path = self.path();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::State { path, source }),
        }
    }

    /// Adds a reading, if the last one is a minute old; that it cannot be is no failure of what is being done.
    pub(super) fn add(&self, usage: &Usage) {
        if let Err(error) = self.try_add(usage) {
            tracing::warn!("no sample of what was counted is kept in {}: {error}", self.folder.display());
        }
    }

    fn try_add(&self, usage: &Usage) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Two commands at a time: the file is replaced when it is full, so the lock is another one. It ends with this function.
        let lock = File::create(self.folder.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        if text.lines().next_back().is_some_and(is_recent) {
            return Ok(());
        }
        let mut line = serde_json::to_string(usage)?;
        line.push('\n');
        if let Some(kept) = kept(&text, line.len()) {
            return replace(&path, &format!("{}{line}", &text[kept..]));
        }
        // What a kill has torn ends before the next one begins.
        let torn = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        OpenOptions::new().create(true).append(true).open(&path)?.write_all(format!("{torn}{line}").as_bytes())
    }
}

/// Adds a sample of what is applied under the root.
pub(super) fn take(global: &Global) {
    match Applied::open(global).and_then(|applied| Usage::read(&applied)) {
        Ok(usage) => Samples::of(global).add(&usage),
        Err(error) => tracing::warn!("counters cannot be read for a sample: {error}"),
    }
}

fn is_recent(line: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct At {
        at: String,
    }
    let now = SystemTime::now();
    let at = serde_json::from_str::<At>(line).ok().and_then(|line| when::parse(&line.at, now));
    // One of the future, after the clock was set back, is not waited for.
    at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < INTERVAL))
}

/// Where what is kept of `text` begins when a line of `more` bytes comes; `None`: all of it is. A tenth goes at a time.
fn kept(text: &str, more: usize) -> Option<usize> {
    let (lines, bytes) = (text.lines().count(), text.len() + more);
    if lines < KEPT && bytes as u64 <= KEPT_BYTES {
        return None;
    }
    let beyond = (KEPT / 10).min(lines.div_ceil(10));
    Some(text.split_inclusive('\n').take(beyond).map(str::len).sum())
}

/// Puts a whole file in another one's place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tenth_makes_room() {
        assert_eq!(kept("", 10), None);
        let full: String = (0..KEPT).map(|line| format!("{line:09}\n")).collect();
        assert_eq!(kept(&full, 10), Some(KEPT));
        assert_eq!(kept(&full[10..], 10), None);
        assert_eq!(kept("one\ntwo\n", KEPT_BYTES as usize), Some(4));
    }
}
