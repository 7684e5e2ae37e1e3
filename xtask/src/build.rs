//! `cargo xtask build`: the loader with the BPF object inside.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    process,
    setup::{self, Need},
    workspace,
};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimise, as for a release
    #[arg(long)]
    release: bool,
}

/// Builds every default member of the workspace; `netpath`'s build script adds the BPF object.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build])?;
    let mut cargo = workspace::cargo();
    cargo.arg("build");
    if args.release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}
