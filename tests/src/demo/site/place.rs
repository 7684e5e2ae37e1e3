//! The folder that the demo lives in, and the names of its namespaces: fixed, so that people and `--clean` find them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const FOLDER: &str = "/run/netpath-demo";
const RUN_NETNS: &str = "/run/netns";
const PREFIX: &str = "netpath-demo-";

/// `/run/netpath-demo` with a bpffs at `bpf` and a state folder for each host; removed on drop.
#[derive(Debug)]
pub(super) struct Place;

impl Place {
    /// Makes the folder, after clearing what a killed demo left.
    ///
    /// # Errors
    /// When another demo runs, or one was kept.
    pub(super) fn claim() -> Result<Self> {
        if kept().exists() {
            bail!("a demo is up, kept by --keep; `cargo xtask demo --clean` removes it");
        }
        clean()?;
        let place = Self;
        fs::create_dir_all(place.bpffs())?;
        fs::write(owner(), std::process::id().to_string())?;
        mount("bpf", place.bpffs(), "bpf", MountFlags::empty(), None)
            .with_context(|| format!("mounting a bpffs at {}", place.bpffs().display()))?;
        Ok(place)
    }

    /// Where the bpffs is mounted.
    pub(super) fn bpffs(&self) -> PathBuf {
        Path::new(FOLDER).join("bpf")
    }

    /// A host's state folder.
    pub(super) fn state(&self, host: &str) -> PathBuf {
        Path::new(FOLDER).join("state").join(host)
    }

    /// Writes a file of the demo's own.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = Path::new(FOLDER).join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The name of a namespace.
    pub(super) fn namespace(&self, label: &str) -> String {
        format!("{PREFIX}{label}")
    }

    /// Marks it as one that stays when the process ends.
    pub(super) fn mark_kept(&self) -> Result<()> {
        fs::write(kept(), "").context("marking the demo as kept")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = remove() {
            eprintln!("demo: {error:#}");
        }
    }
}

fn owner() -> PathBuf {
    Path::new(FOLDER).join("process")
}

fn kept() -> PathBuf {
    Path::new(FOLDER).join("kept")
}

/// Removes what a kept or killed demo left; `true` when there was something.
///
/// Devices and programs go with their namespaces and pins. A shell that still is in a namespace keeps that one alive
/// until it ends.
///
/// # Errors
/// When a demo is running, and what could not be removed.
pub fn clean() -> Result<bool> {
    if !kept().exists()
        && let Ok(pid) = fs::read_to_string(owner())
        && Path::new("/proc").join(&pid).exists()
    {
        bail!("another demo runs (process {pid}); wait for its end");
    }
    remove()
}

/// Removes every namespace, pin and file of the demo.
fn remove() -> Result<bool> {
    let mut found = false;
    for entry in fs::read_dir(RUN_NETNS).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found = true;
            // One that was never bound is only a file.
            let _ = unmount(entry.path(), UnmountFlags::DETACH);
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let bpffs = Path::new(FOLDER).join("bpf");
    while unmount(&bpffs, UnmountFlags::DETACH).is_ok() {}
    match fs::remove_dir_all(FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(found),
        removed => removed.map(|()| true).with_context(|| format!("removing {FOLDER}")),
    }
}
