//! `cargo xtask lint`: every check that needs no run. All are made, and all that failed are named.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    process,
    setup::{self, Need},
    workspace,
};

/// The members that build for the host: all but the BPF programs.
const HOST: [&str; 3] = ["--workspace", "--exclude", "netpath-ebpf"];

/// Runs all checks.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(&[Need::Build, Need::Lint])?;
    let checks = [
        ("format", format()),
        ("clippy, host", clippy_host()),
        ("clippy, kernel-level tiers", clippy_tiers()),
        ("clippy, BPF", clippy_bpf()?),
        ("spelling", spelling()),
        ("rustdoc", rustdoc()),
    ];
    let mut failed = Vec::new();
    for (name, mut command) in checks {
        eprintln!("lint: {name}");
        if let Err(error) = process::run(&mut command) {
            eprintln!("lint: {name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("lint: clean");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint: failed: {}", failed.join("; "));
    Ok(ExitCode::FAILURE)
}

fn format() -> Command {
    let mut cargo = workspace::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    cargo
}

fn clippy_host() -> Command {
    let mut cargo = workspace::cargo();
    cargo.arg("clippy").args(HOST).args(["--all-targets", "--", "--deny", "warnings"]);
    cargo
}

/// They are `test = false`: `--all-targets` leaves them out, also where they are named beside it.
fn clippy_tiers() -> Command {
    let mut cargo = workspace::cargo();
    let tiers = ["--test", "netns", "--test", "prog_run"];
    cargo.args(["clippy", "--package", "netpath-tests"]).args(tiers).args(["--", "--deny", "warnings"]);
    cargo
}

fn clippy_bpf() -> Result<Command> {
    let mut cargo = netpath_bpf_build::cargo("clippy", workspace::root(), &workspace::target().join("bpf"))?;
    cargo.args(["--", "--deny", "warnings"]);
    Ok(cargo)
}

fn spelling() -> Command {
    let mut typos = Command::new("typos");
    typos.current_dir(workspace::root());
    typos
}

fn rustdoc() -> Command {
    let mut cargo = workspace::cargo();
    cargo
        .arg("doc")
        .args(HOST)
        .args(["--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    cargo
}
