//! Who still writes to the definitions, of whom inotify cannot tell: he opened them before they were watched.
//!
//! A lease for reading is what the kernel refuses while somebody has a file open for writing (fcntl(2), `F_SETLEASE`). It is given
//! back at once. Who opens the file for writing in between waits those microseconds.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::paths::files_of;

/// `F_SETSIG` of the kernel's `asm-generic/fcntl.h`, which `libc` lacks.
const F_SETSIG: libc::c_int = 10;

/// The definitions' files that somebody has open for writing, as the kernel resolves their names.
pub(super) fn being_written(definitions: &Path) -> Vec<PathBuf> {
    let files = files_of(definitions).into_iter();
    files.filter(|file| is_being_written(file)).map(|file| fs::canonicalize(&file).unwrap_or(file)).collect()
}

/// `false` also where it cannot be known: the file is another user's and CAP_LEASE is missing, or its file system has no leases.
/// One that answers for itself (NFS) may say that somebody writes where nobody does.
fn is_being_written(path: &Path) -> bool {
    // Should the name be a pipe's, nobody is waited for.
    let Ok(file) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) else { return false };
    // Whoever opens the file for writing has the lease's holder told by a signal; the usual one ends a process, and this one is
    // ignored by default.
    match lease(&file, F_SETSIG, libc::SIGURG).and_then(|()| lease(&file, libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(()) => {
            // Closing the file gives it back as well.
            let _ = lease(&file, libc::F_SETLEASE, libc::F_UNLCK);
            false
        }
        Err(error) => error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()),
    }
}

fn lease(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the commands take a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::agent::scratch::Scratch;

    #[test]
    fn a_file_is_being_written_while_somebody_has_it_open_for_that() {
        let scratch = Scratch::new("writers");
        let (file, link) = (scratch.path().join("zone.yaml"), scratch.path().join("link.yaml"));
        symlink(&file, &link).unwrap();
        assert!(being_written(&file).is_empty(), "it is not there");
        let writer = File::create(&file).unwrap();
        let appender = File::options().append(true).open(&file).unwrap();
        assert_eq!(being_written(&link), std::slice::from_ref(&file));
        assert_eq!(being_written(scratch.path()), [file.clone(), file.clone()], "the file, and the link to it");
        drop(writer);
        assert_eq!(being_written(&file), std::slice::from_ref(&file), "the second writer has it open still");
        drop(appender);
        let _reader = File::open(&file).unwrap();
        // A process that another test starts has what is open here until it is another program.
        let deadline = Instant::now() + Duration::from_secs(90);
        while !being_written(&file).is_empty() {
            assert!(Instant::now() < deadline, "a reader is no writer");
        }
        drop(File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&file).expect("no lease is left"));
    }
}
