//! `cargo xtask test`: the four tiers, and one count over all of them.

pub(crate) mod kernel_tests;
pub(crate) mod tally;
mod tier;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

use self::{
    kernel_tests::KernelTests,
    tally::Tally,
    tier::{Selection, Tier},
};
use crate::{
    setup::{self, Need},
    vm,
};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// unit, prog-run, netns, vm [KERNEL…]; all of them when none is named
    #[arg(value_name = "TIER")]
    tiers: Vec<String>,
    /// Only tests whose name contains one of these
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

/// One line of the summary.
pub(crate) struct Row {
    name: String,
    tally: Tally,
    seconds: u64,
}

impl Row {
    /// Runs and times one part; when it cannot even be run, that is one failure.
    pub(crate) fn measure(name: &str, part: impl FnOnce() -> Result<Tally>) -> Self {
        eprintln!("\ntest: {name}");
        let started = Instant::now();
        let tally = part().unwrap_or_else(|error| {
            eprintln!("test: {name}: {error:#}");
            Tally::failure()
        });
        Self { name: name.to_owned(), tally, seconds: started.elapsed().as_secs() }
    }
}

/// Runs the tiers, prints a summary, and as the last line the sum: `N passed, N failed, N skipped`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let selection = Selection::parse(&args.tiers)?;
    let kernels = vm::select(selection.kernels())?;
    // The kernel-level binaries are built once, by the first tier that wants them.
    let mut binaries = None;
    let mut rows = Vec::new();
    for tier in selection.tiers() {
        match tier {
            Tier::Unit => rows.push(Row::measure(tier.name(), || unit(&args.filters))),
            Tier::ProgRun | Tier::Netns => rows.push(Row::measure(tier.name(), || {
                if tier == Tier::Netns {
                    setup::ensure(&[Need::Comparison])?;
                }
                let built = KernelTests::once(&mut binaries, &[Need::Build])?;
                built.run(if tier == Tier::ProgRun { &built.prog_run } else { &built.netns }, &args.filters)
            })),
            Tier::Vm => rows.extend(kernels.iter().map(|kernel| {
                Row::measure(&format!("vm {}", kernel.version), || {
                    vm::boot(kernel, KernelTests::once(&mut binaries, &[Need::Build, Need::Vm])?, &args.filters)
                })
            })),
        }
    }
    Ok(summarise(&rows))
}

fn unit(filters: &[String]) -> Result<Tally> {
    setup::ensure(&[Need::Build])?;
    tier::unit(filters)
}

fn summarise(rows: &[Row]) -> ExitCode {
    let mut sum = Tally::default();
    println!("\n{:<16} {:>7} {:>7} {:>7} {:>7}", "tier", "passed", "failed", "skipped", "seconds");
    for Row { name, tally, seconds } in rows {
        println!("{name:<16} {:>7} {:>7} {:>7} {seconds:>7}", tally.passed, tally.failed, tally.skipped);
        sum += *tally;
    }
    println!("\n{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
