//! Binaries of the crate `tests` that put a real netpath to work: built together with it, and started.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::{process, test::kernel_tests::NETPATH_VARIABLE, workspace};

/// How they are built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    /// Optimised.
    Release,
}

/// Builds netpath and a binary of `tests`. Answers the command that starts it, with that netpath.
///
/// # Errors
/// The command line of the build, and how it ended.
pub(crate) fn build(binary: &str, profile: Profile) -> Result<Command> {
    let (options, folder): (&[&str], _) = match profile {
        Profile::Debug => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    let mut build = workspace::cargo();
    build.arg("build").args(options).args([
        "-p",
        "netpath",
        "-p",
        "netpath-tests",
        "--bin",
        "netpath",
        "--bin",
        binary,
    ]);
    process::run(&mut build)?;
    let built = workspace::target().join(folder);
    let mut command = Command::new(built.join(binary));
    command.env(NETPATH_VARIABLE, built.join("netpath"));
    Ok(command)
}

/// Starts it, and ends as it does.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(command: &mut Command) -> Result<ExitCode> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
