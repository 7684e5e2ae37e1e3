//! The folder of one instance's history: files that are there whole or not at all.
//!
//! ```text
//! <state dir>/<root, encoded>/0000000012.applied     a revision and what became of it
//!                             awaiting-confirmation  only while one is awaited
//!                             confirmation.log       what the process that waits has said
//!                             unkept                 only while what is in force is in no revision
//!                             taken-by-agent         the definitions that an agent has taken up last
//! ```
//!
//! A file is written under another name, synced, renamed, and the folder is synced: power may go at any point.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::revision::{Outcome, sha256};

/// Begins the names of files that are not whole yet.
const NEW: &str = ".new-";
/// Longer names of folders than this are cut, and end in a checksum.
const NAME_MAX: usize = 200;

/// The folder of one instance.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What is there by a name.
pub(super) enum Contents {
    /// A file's bytes.
    Bytes(Vec<u8>),
    /// A file that has more of them than asked for.
    TooLong,
    /// No file, but a folder or a FIFO.
    NoFile,
}

/// A revision's file, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) outcome: Outcome,
}

impl Slot {
    /// Its file's name.
    pub(super) fn name(&self) -> String {
        format!("{:010}.{}", self.number, self.outcome.name())
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let (number, ending) = name.split_once('.')?;
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == ending)?;
        number.parse().ok().map(|number| Self { number, outcome })
    }
}

impl Folder {
    /// The folder of the instance whose pins are under `root`. Nothing is made.
    pub(super) fn of(state_dir: &Path, root: &Path) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { path: state_dir.join(encode(&root.to_string_lossy())) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder and those above it.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    /// Does a process hold the lock now?
    pub(super) fn is_locked(&self) -> io::Result<bool> {
        is_held(&open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The revisions, oldest first, each once. A folder that is not there has none.
    pub(super) fn slots(&self) -> io::Result<Vec<Slot>> {
        let mut slots = BTreeMap::new();
        for slot in self.names()?.iter().filter_map(|name| Slot::of(name)) {
            // A kill between two steps can leave a revision under two names: how far it came counts.
            let outcome = slots.entry(slot.number).or_insert(slot.outcome);
            *outcome = slot.outcome.max(*outcome);
        }
        Ok(slots.into_iter().map(|(number, outcome)| Slot { number, outcome }).collect())
    }

    /// What is there by this name, of at most `limit` bytes. Nobody is waited for, should it be a FIFO.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Contents> {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(self.file(name))?;
        if !file.metadata()?.is_file() {
            return Ok(Contents::NoFile);
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(if bytes.len() as u64 <= limit { Contents::Bytes(bytes) } else { Contents::TooLong })
    }

    /// The file's size.
    pub(super) fn size(&self, name: &str) -> io::Result<u64> {
        fs::metadata(self.file(name)).map(|metadata| metadata.len())
    }

    /// When the file was written; another name changes nothing about that.
    pub(super) fn written(&self, name: &str) -> io::Result<SystemTime> {
        fs::metadata(self.file(name))?.modified()
    }

    /// Writes a file that is there whole or not at all.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.publish(name, bytes, |_| Ok(())).map(drop)
    }

    /// The same, and the file is locked for as long as it is open: whoever sees it knows whether its writer lives.
    pub(super) fn put_held(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.publish(name, bytes, |file| Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?))
    }

    fn publish(&self, name: &str, bytes: &[u8], before: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
        let new = self.file(&format!("{NEW}{}-{name}", std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| before(&file))
            .and_then(|()| fs::rename(&new, self.file(name)));
        if let Err(error) = written {
            // It takes room that is missing already.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        self.sync()?;
        Ok(file)
    }

    /// Is there such a file?
    pub(super) fn has(&self, name: &str) -> io::Result<bool> {
        self.file(name).try_exists()
    }

    /// Makes an empty file, which takes no block of a full disk; `false` where it is there already.
    pub(super) fn make_empty(&self, name: &str) -> io::Result<bool> {
        match File::options().write(true).create_new(true).mode(0o600).open(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
            Ok(_) => self.sync().map(|()| true),
        }
    }

    /// Renames a file, in one step.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file(from), self.file(to))?;
        self.sync()
    }

    /// Removes a file; one that is not there is removed. A folder in its place goes if it is empty: what somebody keeps in
    /// one is not netpath's to remove.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(&path),
            removed => removed,
        };
        match removed {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync(),
        }
    }

    /// Removes what killed processes have left half written. Only under the lock.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let slots = self.slots()?;
        for name in self.names()? {
            let is_stale = match Slot::of(&name) {
                Some(slot) => !slots.contains(&slot),
                None => name.starts_with(NEW),
            };
            if is_stale {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// Does another descriptor hold the file's lock?
pub(super) fn is_held(fd: impl std::os::fd::AsFd) -> io::Result<bool> {
    match flock(fd, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// One name for a path: `/` is `-`, and what is neither a letter nor a digit nor `_` or `.` is `%` and its code.
fn encode(path: &str) -> String {
    let mut name = String::new();
    for byte in path.trim_matches('/').bytes() {
        match byte {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    if name.len() > NAME_MAX {
        name.truncate(NAME_MAX);
        name.push_str(&sha256(path.as_bytes())[..32]);
    }
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_has_a_folder_of_its_own() {
        assert_eq!(encode("/sys/fs/bpf/netpath"), "sys-fs-bpf-netpath");
        assert_eq!(encode("/sys/fs/bpf-netpath"), "sys-fs-bpf%2dnetpath");
        assert_eq!((encode("/"), encode("/..")), ("-".into(), "%2e.".into()));
        let long = |end: &str| encode(&format!("/{}{end}", "x".repeat(4000)));
        assert!(long("a").len() < 255 && long("a") != long("b"));
    }

    #[test]
    fn only_names_of_revisions_are_revisions() {
        let slot = Slot { number: 12, outcome: Outcome::Applied };
        assert_eq!(Slot::of(&slot.name()), Some(slot));
        for other in ["confirmation.log", ".new-7-0000000012.applied", "12", "x.applied", "12.applied.old"] {
            assert_eq!(Slot::of(other), None, "{other}");
        }
    }
}
