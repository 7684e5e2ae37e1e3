//! Process 1 of a test VM: mounts, loads the modules, runs the test binaries, says a verdict and powers off.
//!
//! The initramfs (`xtask/src/vm/initramfs.rs`) holds `/modules/NN-name.ko`, `/tests/NN-name`, `/arguments/NN-name` (one
//! argument a line), `/bin/netpath` and `/bin/netpath-next`. What tests print goes to the second serial line, what the kernel says to the
//! first.

use std::{
    ffi::CStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    process::getpid,
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::{RebootCommand, finit_module, reboot, uname},
};

/// The serial line that the runner reads.
const CONSOLE: &str = "/dev/ttyS1";
/// Filesystem type and where it goes, in this order.
const MOUNTS: [(&str, &str); 7] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
];

fn main() -> ExitCode {
    if !getpid().is_init() {
        eprintln!("vm-init is process 1 of the VMs that `cargo xtask test vm` boots; it does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    let verdict = match run() {
        Ok(true) => "passed",
        Ok(false) => "failed",
        Err(error) => {
            println!("vm-init: {error:#}");
            "failed"
        }
    };
    println!("vm-init: verdict: {verdict}");
    rustix::fs::sync();
    match reboot(RebootCommand::PowerOff) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("vm-init: power off: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every test binary ended well.
fn run() -> Result<bool> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at)?;
        mount(kind, at, kind, MountFlags::empty(), None::<&CStr>)
            .with_context(|| format!("mounting {kind} at {at}"))?;
    }
    take_console()?;
    // All wires and guests share it, and emulated processors take their time: what it has no room for is lost.
    let backlog = "/proc/sys/net/core/netdev_max_backlog";
    fs::write(backlog, "10000").context(backlog)?;
    println!("vm-init: {} {}", uname().release().to_string_lossy(), uname().version().to_string_lossy());
    for module in sorted("/modules")? {
        load(&module)?;
    }
    let mut passed = true;
    for test in sorted("/tests")? {
        let arguments = Path::new("/arguments").join(test.file_name().context("a test without a name")?);
        let arguments = fs::read_to_string(&arguments).with_context(|| arguments.display().to_string())?;
        let status = Command::new(&test)
            .args(arguments.lines())
            .env_clear()
            .envs([("PATH", "/bin"), ("HOME", "/tmp"), ("RUST_BACKTRACE", "1")])
            .envs([("NETPATH_BIN", "/bin/netpath"), ("NETPATH_NEXT_BIN", "/bin/netpath-next")])
            .current_dir("/tmp")
            .status()
            .with_context(|| format!("{} did not start", test.display()))?;
        println!("vm-init: {} ended with {status}", test.display());
        passed &= status.success();
    }
    Ok(passed)
}

/// Makes the second serial line the standard input and outputs of this process and of all it starts.
fn take_console() -> Result<()> {
    let console = File::options().read(true).write(true).open(CONSOLE).with_context(|| CONSOLE.to_owned())?;
    dup2_stdin(&console)?;
    dup2_stdout(&console)?;
    dup2_stderr(&console)?;
    Ok(())
}

/// The files of a folder by name.
fn sorted(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.to_owned())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn load(module: &Path) -> Result<()> {
    match finit_module(File::open(module)?, c"", 0) {
        // Another module's request can have brought it in before.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => bail!("loading {}: {error}", module.display()),
    }
}
