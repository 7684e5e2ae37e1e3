//! `cargo xtask demo`: hypervisors and tenants in namespaces, the real `netpath` on definitions that really run, and a
//! table of what was expected and what was seen.
//!
//! ```text
//! definitions ─► site (namespaces, wires, guests) ─► apply ─► traffic, separation, spoofing, gateway, limits ─► plan, show ─► detach
//!                                                       └───────────── each a row of the report ─────────────┘
//! ```

mod applied;
mod gateway;
mod limits;
mod report;
mod separation;
mod site;
mod spoofing;
mod traffic;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use netpath::definitions;

pub use self::site::clean;
use self::{report::Report, site::Site};

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The definitions to build and apply, one after the other.
    pub files: Vec<PathBuf>,
    /// Leave the last one up to play in.
    pub keep: bool,
}

/// Builds, applies and tries every file; `false` when anything was not as expected.
///
/// # Errors
/// When the topology cannot be built: no root, or another demo is up.
pub fn run(options: &Options) -> Result<bool> {
    let mut is_as_expected = true;
    for (number, file) in options.files.iter().enumerate() {
        let keep = options.keep && number + 1 == options.files.len();
        is_as_expected &= one(file, keep).with_context(|| format!("the demo of {}", file.display()))?;
    }
    Ok(is_as_expected)
}

fn one(file: &Path, keep: bool) -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        bail!("namespaces and BPF take root: run it with sudo");
    }
    // Hypervisors read the file from their own working folder.
    let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
    let zone = definitions::load(&file)?;
    println!("demo: {}", file.display());
    let site = Site::build(&zone)?;
    println!("{}", site.drawing());
    let mut report = Report::default();
    applied::validate_and_apply(&site, &file, &mut report);
    traffic::check(&site, &mut report);
    separation::check(&site, &mut report);
    spoofing::check(&site, &mut report);
    gateway::check(&site, &zone, &file, &mut report);
    limits::check(&site, &zone, &file, &mut report);
    applied::plan_and_show(&site, &file, &mut report);
    if !keep {
        applied::detach(&site, &mut report);
    }
    println!("\n{}", report.render());
    if keep {
        println!("{}", site.keep(&file)?);
    }
    Ok(report.is_as_expected())
}
