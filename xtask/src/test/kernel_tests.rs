//! The test binaries that drive a kernel: built static, so that the same bytes run here and in a VM.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::tally::{Counter, Tally};
use crate::{
    process,
    setup::{self, Need},
    workspace,
};

/// The target that the binaries are built for; naming it keeps build scripts and macros out of the static flag.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Where a test finds the `netpath` program.
pub(crate) const NETPATH_VARIABLE: &str = "NETPATH_BIN";
/// Where a test finds the same with another ABI, to upgrade to and downgrade from.
const NEXT_VARIABLE: &str = "NETPATH_NEXT_BIN";

/// How long one binary may run.
const LIMIT: Duration = Duration::from_secs(3600);

/// What the kernel-level tiers run.
pub(crate) struct KernelTests {
    /// The `prog_run` test binary.
    pub(crate) prog_run: PathBuf,
    /// The `netns` test binary.
    pub(crate) netns: PathBuf,
    /// The `netpath` program.
    pub(crate) netpath: PathBuf,
    /// The `netpath` program with another ABI.
    pub(crate) next: PathBuf,
    /// Process 1 of the VMs.
    pub(crate) vm_init: PathBuf,
}

impl KernelTests {
    /// What was built before, or else makes sure of the needs and builds.
    ///
    /// # Errors
    /// Set-up or build failed.
    pub(crate) fn once<'a>(built: &'a mut Option<Self>, needs: &[Need]) -> Result<&'a Self> {
        setup::ensure(needs)?;
        let tests = match built.take() {
            Some(tests) => tests,
            None => Self::build()?,
        };
        Ok(built.insert(tests))
    }

    /// Builds them all.
    fn build() -> Result<Self> {
        // First, because it lies where the other one will.
        let mut next = workspace::cargo();
        next.args(["build", "--package", "netpath", "--features", "abi-next,log"]);
        let made = found(&executables(&mut next)?, "netpath")?;
        let next = made.with_file_name("netpath-next");
        fs::copy(&made, &next).with_context(|| format!("cannot copy {}", made.display()))?;
        let mut programs = workspace::cargo();
        programs.args(["build", "--package", "netpath", "--package", "netpath-tests", "--bins"]);
        let programs = executables(&mut programs)?;
        let mut tests = workspace::cargo();
        tests.args(["test", "--no-run", "--package", "netpath-tests", "--test", "prog_run", "--test", "netns"]);
        let tests = executables(&mut tests)?;
        Ok(Self {
            prog_run: found(&tests, "prog_run")?,
            netns: found(&tests, "netns")?,
            netpath: found(&programs, "netpath")?,
            next,
            vm_init: found(&programs, "vm-init")?,
        })
    }

    /// Runs one of the test binaries on this machine's kernel.
    ///
    /// # Errors
    /// It did not start.
    pub(crate) fn run(&self, binary: &Path, filters: &[String]) -> Result<Tally> {
        let mut counter = Counter::default();
        let mut test = Command::new(binary);
        test.args(filters)
            .env(NETPATH_VARIABLE, &self.netpath)
            .env(NEXT_VARIABLE, &self.next)
            .current_dir(workspace::root().join("tests"));
        let status = process::by_line(&mut test, LIMIT, |line| {
            eprintln!("{line}");
            counter.read(line);
        })?;
        Ok(counter.end(status.success()))
    }
}

/// An executable of those that were made.
fn found(among: &[(String, PathBuf)], name: &str) -> Result<PathBuf> {
    let found = among.iter().find(|(made, _)| made == name).map(|(_, path)| path.clone());
    found.with_context(|| format!("cargo made no executable for `{name}`"))
}

/// Runs a cargo build, static, and answers the name and path of every executable that it made.
fn executables(cargo: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    cargo.args(["--target", TARGET, "--message-format", "json-render-diagnostics"]);
    // Line numbers are enough for a backtrace, and a VM has all of this in its memory.
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let out = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !out.status.success() {
        bail!("the kernel-level tests did not build");
    }
    let made = String::from_utf8_lossy(&out.stdout).lines().filter_map(executable).collect();
    Ok(made)
}

/// The executable that one of cargo's messages tells of, if it does.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}
