//! A private folder with its own bpffs, so that no two tests share a pin.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

static SERIAL: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();
const PREFIX: &str = "netpath-test-";

/// `/tmp/netpath-test-<pid>-<serial>` with a bpffs at `bpf`; unmounted and removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder and mounts the bpffs. The first call of a process clears what killed test runs left.
    pub fn new() -> Result<Self> {
        SWEEP.call_once(sweep_the_dead);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/{PREFIX}{}-{serial}", std::process::id()));
        fs::create_dir_all(path.join("bpf"))?;
        let scratch = Self { path };
        mount("bpf", scratch.bpffs(), "bpf", MountFlags::empty(), None)
            .with_context(|| format!("mounting a bpffs at {}", scratch.bpffs().display()))?;
        Ok(scratch)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the bpffs is mounted.
    pub fn bpffs(&self) -> PathBuf {
        self.path.join("bpf")
    }

    /// Writes a file of this name into the folder and gives its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    // The bpffs, and what a test has mounted beside it; of a folder that is no mount it is an error that means nothing.
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let _ = unmount(entry.path(), UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir_all(path);
}

/// Removes folders and namespace names whose process is gone: killed tests cannot clean up.
fn sweep_the_dead() {
    let of_the_dead = |folder: &str, prefix: &str| -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.flatten();
        Ok(entries
            .filter(|entry| {
                let name = entry.file_name().into_string().unwrap_or_default();
                let pid = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
                pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            })
            .map(|entry| entry.path())
            .collect())
    };
    for path in of_the_dead("/tmp", PREFIX).unwrap_or_default() {
        remove(&path);
    }
    for path in of_the_dead("/run/netns", "npt-").unwrap_or_default() {
        let _ = unmount(&path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&path);
    }
}
