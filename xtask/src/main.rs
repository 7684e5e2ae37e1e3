//! Developer tasks of netpath, one file each. Every task first makes sure of what it needs (`setup`).

mod bench;
mod build;
mod built;
mod demo;
mod dist;
mod faults;
mod lint;
mod process;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of netpath.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// The tasks.
#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks to build, lint, test and benchmark netpath
    Setup,
    /// Build the loader with the BPF object inside
    Build(build::Args),
    /// Two hypervisors and their tenants in namespaces: what was expected, and what was seen
    Demo(demo::Args),
    /// Measure netpath against a Linux bridge and against bare redirects
    Bench(bench::Args),
    /// Pack what is installed on hypervisors: a tar archive and a Debian package under target/dist
    Dist,
    /// Kill, fill, unmount and delete at a hypervisor under traffic, and say what was lost
    Faults(faults::Args),
    /// Format, clippy (host and BPF), spelling, rustdoc: every warning is an error
    Lint,
    /// Run the test tiers and print what passed, failed and was skipped
    Test(test::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Build(args) => build::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist => dist::run(),
        Task::Faults(args) => faults::run(&args),
        Task::Lint => lint::run(),
        Task::Test(args) => test::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
