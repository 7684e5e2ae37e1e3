//! What comes from rustup and crates.io.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use netpath_bpf_build::BPF_LINKER_VERSION;

use super::announce;
use crate::{process, workspace};

/// A program that `cargo install` builds.
pub(super) struct CargoProgram {
    program: &'static str,
    krate: &'static str,
    version: &'static str,
    why: &'static str,
}

/// The linker of the BPF object.
pub(super) const BPF_LINKER: CargoProgram = CargoProgram {
    program: "bpf-linker",
    krate: "bpf-linker",
    version: BPF_LINKER_VERSION,
    why: "links the BPF object and writes its BTF",
};
/// The spelling check.
pub(super) const TYPOS: CargoProgram =
    CargoProgram { program: "typos", krate: "typos-cli", version: "1.52.0", why: "checks the spelling" };

/// How long building one such program may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(1200);
/// How long rustup may take for a component.
const RUSTUP_LIMIT: Duration = Duration::from_secs(300);

/// Builds and installs a program unless it is there in its version; answers 1 if it did.
pub(super) fn ensure_program(wanted: &CargoProgram) -> Result<usize> {
    let CargoProgram { program, krate, version, why } = wanted;
    let found = process::output(Command::new(program).arg("--version"));
    if found.as_ref().is_ok_and(|text| text.split_whitespace().any(|word| word == *version)) {
        return Ok(0);
    }
    announce(&format!("{krate} {version} (cargo install, a minute or two)"), why);
    let mut cargo = Command::new(workspace::cargo_path());
    cargo.args(["install", krate, "--version", version, "--locked", "--force", "--quiet"]);
    // What `cargo run` sets for this task says nothing about that program.
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    process::run_within(&mut cargo, INSTALL_LIMIT)?;
    process::output(Command::new(program).arg("--version"))
        .with_context(|| format!("{program} was installed, but is not on the PATH: add cargo's bin folder to it"))?;
    Ok(1)
}

/// Adds clippy and rustfmt to the toolchain that runs this task; answers 1 if they were missing.
pub(super) fn ensure_components() -> Result<usize> {
    let cargo = workspace::cargo_path();
    let bin = Path::new(&cargo).parent().unwrap_or(Path::new(""));
    if ["cargo-clippy", "cargo-fmt"].iter().all(|program| bin.join(program).exists() || bin == Path::new("")) {
        return Ok(0);
    }
    announce("clippy and rustfmt", "check the code");
    process::run_within(Command::new("rustup").args(["component", "add", "clippy", "rustfmt"]), RUSTUP_LIMIT)?;
    Ok(1)
}

/// Says so when Debian's cargo comes before rustup's on the PATH: it does not read `rust-toolchain.toml`.
pub(super) fn warn_if_shadowed() {
    if process::find("cargo").is_some_and(|cargo| cargo.starts_with("/usr/bin")) {
        eprintln!(
            "setup: /usr/bin/cargo now comes first on the PATH; put rustup's folder (~/.cargo/bin) before /usr/bin"
        );
    }
}
