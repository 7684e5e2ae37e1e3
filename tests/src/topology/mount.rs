//! A file system of a test's own, mounted until it is dropped.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    kind: &'static str,
    options: CString,
    path: PathBuf,
}

impl Mount {
    /// Mounts one of a kind at a folder, which is made.
    pub fn new(kind: &'static str, path: PathBuf, options: &str) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let own = Self { kind, options: CString::new(options)?, path };
        own.mount()?;
        Ok(own)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it again, after [`Mount::unmount`]: an empty one.
    pub fn mount(&self) -> Result<()> {
        let context = || format!("mounting {} at {}", self.kind, self.path.display());
        mount(self.kind, &self.path, self.kind, MountFlags::empty(), Some(self.options.as_c_str()))
            .with_context(context)
    }

    /// Whether it is mounted.
    pub fn is_mounted(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        self.path.parent().is_some_and(|above| device(above) != device(&self.path))
    }

    /// Unmounts it; what was in it is gone.
    pub fn unmount(&self) -> Result<()> {
        unmount(&self.path, UnmountFlags::empty()).with_context(|| format!("unmounting {}", self.path.display()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
