//! `cargo xtask bench`: netpath, its peers and its floors, measured in one run.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    built::{self, Profile},
    setup::{self, Need},
    workspace,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only experiments whose name holds one of these words
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Three rounds instead of nine: a look, not a judgement
    #[arg(long)]
    quick: bool,
    /// Fail too when a bound lies within its interval
    #[arg(long)]
    strict: bool,
    /// Rounds that are counted, nine by default
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// The same as an option; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only variants of this name, for a profiler; nothing is judged; may be repeated
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,
}

/// Builds the binaries and the BPF objects, optimised, and runs the benchmark; fails when a bound is missed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build, Need::Topology, Need::Comparison])?;
    let mut bench = built::build("bench", Profile::Release)?;
    let target = workspace::target();
    let floor = netpath_bpf_build::build(workspace::root(), &target.join("bpf"), &[])?.with_file_name("floor");
    bench.arg("--floor").arg(floor).arg("--out").arg(target.join("bench"));
    if args.quick {
        bench.arg("--quick");
    }
    if args.strict {
        bench.arg("--strict");
    }
    if let Some(rounds) = args.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    for (option, names) in [("--only", &args.names), ("--only", &args.only), ("--variant", &args.variant)] {
        names.iter().for_each(|name| {
            bench.args([option, name]);
        });
    }
    built::run(&mut bench)
}
