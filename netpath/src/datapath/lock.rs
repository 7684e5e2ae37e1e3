//! Locks of folders, and who holds them. They end with the process, however that ends.

use std::{
    fmt, fs, io,
    os::{fd::OwnedFd, linux::fs::MetadataExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat, major, minor, open},
    io::Errno,
};

use super::DatapathError;

/// The longest time that another process is waited for. Attaching a thousand programs takes less.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a lock that is held is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// A folder that is locked. Ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Whether it is still this folder's: one that was removed and made anew is another, which anybody may lock.
    pub(super) fn is_of(&self, folder: &Path) -> bool {
        let locked = fstat(&self.fd).map(|found| (found.st_dev, found.st_ino));
        fs::metadata(folder).is_ok_and(|found| locked == Ok((found.st_dev(), found.st_ino())))
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its command line; empty where it cannot be read.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.command {
            "" => write!(f, "process {}", self.pid),
            command => write!(f, "process {} (`{command}`)", self.pid),
        }
    }
}

/// Locks a folder; `None` where another process has.
pub(super) fn attempt(folder: &Path) -> Result<Option<Lock>, DatapathError> {
    let fail = |e| DatapathError::failed(format!("lock {}", folder.display()), io::Error::from(e));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(folder, flags, Mode::empty()).map_err(fail)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { fd })),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Locks a folder once nobody else has, and says whom it waits for.
///
/// # Errors
/// [`DatapathError::Locked`] when another process holds it for longer than a minute; when the folder cannot be opened.
pub fn wait_for(folder: &Path) -> Result<Lock, DatapathError> {
    let start = Instant::now();
    let mut said = None;
    loop {
        if let Some(lock) = attempt(folder)? {
            return Ok(lock);
        }
        let holder = holder(folder);
        if start.elapsed() > PATIENCE {
            let root = folder.to_owned();
            return Err(DatapathError::Locked { root, holder, seconds: PATIENCE.as_secs() });
        }
        if holder.is_some() && said != holder {
            said = holder;
            let holder = said.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!("waiting for {holder}, which works under {}", folder.display());
        }
        thread::sleep(AGAIN);
    }
}

/// Who holds the lock of a folder, as the kernel lists it.
pub(super) fn holder(folder: &Path) -> Option<Holder> {
    let folder = fs::metadata(folder).ok()?;
    let device = (major(folder.st_dev()), minor(folder.st_dev()));
    let pid = listed(&fs::read_to_string("/proc/locks").ok()?, device, folder.st_ino())?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Some(Holder { pid, command: words.join(" ").trim_end().to_owned() })
}

/// Finds a lock in lines such as `1: FLOCK  ADVISORY  WRITE 417 00:1f:5678 0 EOF`; those that wait for one have an arrow.
fn listed(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, _, pid, found, ..] if found == place => pid.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_found_in_the_kernels_list_and_whoever_waits_is_not() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 00:1f:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 417 00:1f:5678 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 418 00:1f:5679 0 EOF\n";
        assert_eq!(listed(locks, (0, 0x1f), 5678), Some(417));
        assert_eq!(listed(locks, (0, 0x1f), 7), None);
        assert_eq!(listed(locks, (0, 0x1f), 5679), None);
    }

    #[test]
    fn a_second_lock_is_refused_and_the_first_ones_holder_is_named() {
        let folder = std::env::temp_dir().join(format!("netpath-lock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(holder(&folder), None);
        let lock = attempt(&folder).unwrap().expect("nobody has it");
        assert!(attempt(&folder).unwrap().is_none());
        assert!(lock.is_of(&folder));
        assert_eq!(holder(&folder).expect("it is held").pid, std::process::id());
        fs::remove_dir(&folder).unwrap();
        assert!(!lock.is_of(&folder));
        fs::create_dir_all(&folder).unwrap();
        assert!(!lock.is_of(&folder));
        assert!(attempt(&folder).unwrap().is_some());
        fs::remove_dir(folder).unwrap();
    }
}
