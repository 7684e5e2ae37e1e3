//! `cargo xtask faults`: faults in a random order at a hypervisor under traffic, and a table of what they have cost. The faults
//! themselves are the binary `faults` of the crate `tests`.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;

use crate::{
    built::{self, Profile},
    setup::{self, Need},
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
    let mut faults = built::build("faults", Profile::Release)?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    faults.args(["--count", &args.count.to_string(), "--seed", &args.seed.unwrap_or_else(now).to_string()]);
    args.only.iter().for_each(|name| {
        faults.args(["--only", name]);
    });
    built::run(&mut faults)
}
