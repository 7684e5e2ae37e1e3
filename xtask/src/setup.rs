//! `cargo xtask setup`: brings a Debian machine with rustup to where everything builds and runs.
//!
//! Only what is missing is installed, each with a line that says what and why. With nothing missing it reads a few
//! files, starts three short programs and touches no network, so every other task calls [`ensure`] first.

mod apt;
mod bpf;
mod rust;

use std::process::ExitCode;

use anyhow::Result;

/// What a task is about to do, and so what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the loader and the BPF object.
    Build,
    /// The checks of `cargo xtask lint`.
    Lint,
    /// Playing in a topology of namespaces; demo and benchmark themselves call no other program.
    Topology,
    /// Comparing netpath with the kernel's own gateway and limits. No other test calls another program than `netpath`.
    Comparison,
    /// Booting Debian kernels.
    Vm,
}

/// Everything that any task needs.
const ALL: [Need; 5] = [Need::Build, Need::Lint, Need::Topology, Need::Comparison, Need::Vm];

/// Installs whatever any task needs and says so when nothing was missing.
pub(crate) fn run() -> Result<ExitCode> {
    let installed = ensure(&ALL)?;
    if installed == 0 {
        eprintln!("setup: nothing is missing");
    }
    eprintln!("setup: the BPF object is built by {}", bpf::description());
    Ok(ExitCode::SUCCESS)
}

/// Installs what the given needs lack, and answers how many things that were.
///
/// # Errors
/// What could not be installed, why it is needed, and how to install it by hand.
pub(crate) fn ensure(needs: &[Need]) -> Result<usize> {
    let mut installed = apt::ensure(needs)?;
    if needs.contains(&Need::Build) {
        installed += bpf::ensure_compiler()?;
        installed += rust::ensure_program(&rust::BPF_LINKER)?;
    }
    if needs.contains(&Need::Lint) {
        installed += rust::ensure_components()?;
        installed += bpf::ensure_clippy()?;
        installed += rust::ensure_program(&rust::TYPOS)?;
    }
    Ok(installed)
}

/// Says what is being installed and what for.
fn announce(what: &str, why: &str) {
    eprintln!("setup: installing {what}: {why}");
}
