//! A folder for a test's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder that is gone with the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netpath-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // As the kernel resolves it, should the folder of temporary files be a link.
        Self(path.canonicalize().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
