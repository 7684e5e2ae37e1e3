//! What an agent says of itself, for `netpath status`: a small file, written anew whenever it changes.
//!
//! It is a note and no state: whether an agent runs is told by its lock, and a note by another process than the lock's
//! holder is an old one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// What an agent does. Times are in seconds of the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its process.
    pub pid: u32,
    /// When it began.
    pub since: u64,
    /// The definitions that it follows.
    pub definitions: PathBuf,
    /// The revision that it keeps in force, where that is not the definitions as they are: until they change.
    pub keeps: Option<u64>,
    /// What it has applied last.
    pub last_apply: Option<LastApply>,
    /// What is wrong now: the definitions, or the host. Absent once all is well again.
    pub last_error: Option<LastError>,
}

/// An apply that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastApply {
    /// When it was done.
    pub at: u64,
    /// Rows added, changed and removed.
    pub edits: usize,
    /// Programs, tunnel devices, offloads and multicast groups.
    pub steps: usize,
    /// NICs that wait for their device.
    pub waiting: usize,
    /// How long it took.
    pub milliseconds: u64,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub at: u64,
    /// In words, with its causes.
    pub message: String,
}

impl Record {
    /// Where the agent of a root notes what it does.
    #[must_use]
    pub fn path(state_dir: &Path, root: &Path) -> PathBuf {
        let root = root.to_string_lossy().replace('%', "%25").replace('/', "%2f");
        state_dir.join(format!("agent{root}.json"))
    }

    /// What the agent with this process has noted.
    #[must_use]
    pub fn of(path: &Path, pid: u32) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.pid == pid).then_some(record)
    }

    /// Notes it: readers see the old note or the new one; none, where the new one cannot be written.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let fresh = path.with_extension("json.new");
        let replace = || {
            // What is wrong with definitions quotes them, and they are not everybody's to read.
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&fresh, path)
        };
        let replaced = replace();
        if replaced.is_err() {
            // An old note would be taken for how things stand. To remove it takes no room.
            let _ = (fs::remove_file(&fresh), fs::remove_file(path));
        }
        replaced
    }
}

/// Now, in seconds of the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::scratch::Scratch;

    #[test]
    fn a_note_reads_back_and_that_of_another_process_counts_for_nothing() {
        let scratch = Scratch::new("record");
        let path = Record::path(scratch.path(), Path::new("/sys/fs/bpf/netpath"));
        assert_eq!(path.file_name().unwrap(), "agent%2fsys%2ffs%2fbpf%2fnetpath.json");
        let record = Record {
            pid: 7,
            since: 1,
            definitions: "/etc/netpath/zone.yaml".into(),
            keeps: Some(3),
            last_apply: None,
            last_error: Some(LastError { at: 2, message: "broken".into() }),
        };
        record.write(&path).unwrap();
        assert_eq!(Record::of(&path, 7), Some(record));
        assert_eq!(Record::of(&path, 8), None);
    }
}
