//! The compiler of the BPF object: rustup's dated nightly, or else Debian's.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use netpath_bpf_build::{DEBIAN_CLIPPY, DEBIAN_PACKAGES, NIGHTLY, Toolchain};

use super::{announce, apt, rust};
use crate::process;

/// How long rustup may try before Debian's packages are taken instead.
const RUSTUP_LIMIT: Duration = Duration::from_secs(300);

/// Installs a compiler with its sources unless one is there; answers 1 if it did.
pub(super) fn ensure_compiler() -> Result<usize> {
    if Toolchain::find().is_some() {
        return Ok(0);
    }
    let why = "the BPF target is built together with its own core library";
    if process::find("rustup").is_some() {
        announce(&format!("the Rust toolchain {NIGHTLY} with rust-src and clippy"), why);
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--no-self-update"]);
        rustup.args(["--component", "rust-src", "--component", "clippy"]);
        match process::run_within(&mut rustup, RUSTUP_LIMIT) {
            Ok(()) if Toolchain::find().is_some() => return Ok(1),
            Ok(()) => eprintln!("setup: {NIGHTLY} was installed, but has no sources"),
            Err(error) => eprintln!("setup: {error:#}; taking Debian's compiler instead"),
        }
    }
    announce(&format!("Debian packages {}", DEBIAN_PACKAGES.join(", ")), why);
    apt::install(&DEBIAN_PACKAGES)?;
    rust::warn_if_shadowed();
    if Toolchain::find().is_none() {
        bail!("neither {NIGHTLY} nor Debian's packages gave a compiler for the BPF target with its sources");
    }
    Ok(1)
}

/// Installs clippy for the compiler of the BPF object; answers 1 if it did.
pub(super) fn ensure_clippy() -> Result<usize> {
    let toolchain = Toolchain::find().context("the BPF compiler was just made sure of")?;
    if toolchain.has_clippy() {
        return Ok(0);
    }
    let why = "checks the BPF programs";
    match toolchain {
        Toolchain::Nightly => {
            announce(&format!("clippy of {NIGHTLY}"), why);
            let mut rustup = Command::new("rustup");
            process::run_within(rustup.args(["component", "add", "--toolchain", NIGHTLY, "clippy"]), RUSTUP_LIMIT)?;
        }
        Toolchain::Debian => {
            announce(&format!("Debian package {DEBIAN_CLIPPY}"), why);
            apt::install(&[DEBIAN_CLIPPY])?;
        }
    }
    Ok(1)
}

/// Which way this machine builds the BPF object, in words.
pub(super) fn description() -> String {
    match Toolchain::find() {
        Some(Toolchain::Nightly) => format!("rustup's {NIGHTLY}"),
        Some(Toolchain::Debian) => format!("Debian's {}", DEBIAN_PACKAGES.join(", ")),
        None => "nothing: no compiler was found".into(),
    }
}
