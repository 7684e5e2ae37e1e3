//! Folders and files of BPF file systems: made for root alone, and gone without an error where they are gone already.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::statfs;

use super::DatapathError;

/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Makes a folder and those above it, for nobody else to enter: whoever reads a map reads who talks with whom.
pub(super) fn make_dir(path: &Path) -> Result<(), DatapathError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| DatapathError::failed(format!("make {}", path.display()), e))
}

/// Removes a pin; one that is gone is no error.
pub(super) fn remove_pin(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::failed(format!("remove pin {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Removes an empty folder; one that is gone, or in use by other pins, is no error.
pub(super) fn remove_dir(path: &Path) -> Result<(), DatapathError> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty) => {
            Err(DatapathError::failed(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Removes a folder of pins.
pub(super) fn remove_all(folder: &Path) -> Result<(), DatapathError> {
    for name in names_in(folder)? {
        remove_pin(&folder.join(name))?;
    }
    remove_dir(folder)
}

/// The names in a folder, none when it is missing.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, DatapathError> {
    let fail = |e| DatapathError::failed(format!("read {}", folder.display()), e);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    entries.map(|entry| Ok(entry.map_err(fail)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Where BPF file systems are mounted.
pub(super) fn bpf_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let of_bpf = mounts.lines().filter(|line| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("bpf ")));
    // Blanks in a path are written as an octal number (proc_pid_mountinfo(5)).
    of_bpf.filter_map(|line| Some(line.split(' ').nth(4)?.replace("\\040", " ").into())).collect()
}

/// Whether a path is on a BPF file system.
pub(super) fn is_bpffs(path: &Path) -> Result<bool, DatapathError> {
    let stat =
        statfs(path).map_err(|e| DatapathError::failed(format!("look at {}", path.display()), io::Error::from(e)))?;
    Ok(stat.f_type == BPF_FS_MAGIC)
}
