//! `cargo xtask faults`: faults in a random order at a hypervisor under traffic, and a table of what they have cost. The faults
//! themselves are the binary `faults` of the crate `tests`.

use std::{
    process::{Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{
    process,
    setup::{self, Need},
    test::kernel_tests::NETPATH_VARIABLE,
    workspace,
};

/// Which faults to make.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 200)]
    count: usize,
    /// What their order is drawn from; from the clock when it is not given, and printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only kinds whose name holds this; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Builds netpath, optimised, and makes the faults; it ends with 1 when anything was lost that should not be.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build])?;
    let mut build = workspace::cargo();
    build.args(["build", "--release", "-p", "netpath", "-p", "netpath-tests", "--bin", "netpath", "--bin", "faults"]);
    process::run(&mut build)?;
    let built = workspace::target().join("release");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut faults = Command::new(built.join("faults"));
    faults.env(NETPATH_VARIABLE, built.join("netpath")).stdin(Stdio::null());
    faults.args(["--count", &args.count.to_string(), "--seed", &args.seed.unwrap_or_else(now).to_string()]);
    args.only.iter().for_each(|name| {
        faults.args(["--only", name]);
    });
    let status = faults.status().context("cannot start the faults")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
