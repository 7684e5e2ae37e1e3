//! Debian packages.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use super::{Need, announce};
use crate::process;

/// A program that a task runs, and the Debian package it comes from.
struct SystemProgram {
    program: &'static str,
    package: &'static str,
    why: &'static str,
    need: Need,
}

/// Every system program that any task runs.
const PROGRAMS: [SystemProgram; 7] = [
    SystemProgram { program: "cc", package: "gcc", why: "links Rust programs", need: Need::Build },
    SystemProgram {
        program: "ip",
        package: "iproute2",
        why: "looks around in the topology that the demo keeps",
        need: Need::Topology,
    },
    SystemProgram {
        program: "ping",
        package: "iputils-ping",
        why: "speaks for the guests of the topology that the demo keeps",
        need: Need::Topology,
    },
    SystemProgram {
        program: "tc",
        package: "iproute2",
        why: "limits the Linux bridges that netpath is compared with",
        need: Need::Comparison,
    },
    SystemProgram {
        program: "nft",
        package: "nftables",
        why: "rules the Linux routers that netpath is compared with",
        need: Need::Comparison,
    },
    SystemProgram {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        why: "boots Debian kernels",
        need: Need::Vm,
    },
    SystemProgram { program: "xz", package: "xz-utils", why: "unpacks the modules of those kernels", need: Need::Vm },
];

/// Where apt keeps the package lists.
const LISTS: &str = "/var/lib/apt/lists";
/// Package lists older than this are fetched again before something is installed from them.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How long one apt-get may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Installs the packages whose programs the needs lack; answers how many.
pub(super) fn ensure(needs: &[Need]) -> Result<usize> {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|p| needs.contains(&p.need) && process::find(p.program).is_none()).collect();
    for program in &missing {
        announce(&format!("{} (Debian package {})", program.program, program.package), program.why);
    }
    let packages: Vec<_> = missing.iter().map(|p| p.package).collect();
    if !packages.is_empty() {
        install(&packages)?;
    }
    Ok(packages.len())
}

/// Installs Debian packages without their recommendations.
///
/// # Errors
/// Not root, or apt-get's own failure; both with the command to run by hand.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("as root: apt-get update && apt-get install --no-install-recommends {}", packages.join(" "));
    if !is_root() {
        bail!("installing packages takes root; {by_hand}");
    }
    if lists_are_stale() {
        process::run_within(apt_get().arg("update"), LIMIT).with_context(|| by_hand.clone())?;
    }
    let install = || {
        process::run_within(
            apt_get().args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages),
            LIMIT,
        )
    };
    if install().is_ok() {
        return Ok(());
    }
    // A list can name a version that the mirror has replaced since.
    process::run_within(apt_get().arg("update"), LIMIT).with_context(|| by_hand.clone())?;
    install().with_context(|| by_hand)
}

fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--option", "DPkg::Lock::Timeout=300"]);
    apt
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn lists_are_stale() -> bool {
    let lists = || fs::read_dir(LISTS).into_iter().flatten().flatten();
    if !lists().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")) {
        return true;
    }
    // An update that found nothing new may leave this stamp as it was: then one more is made, which is cheap.
    let fetched = fs::metadata(LISTS).and_then(|dir| dir.modified());
    let age = fetched.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_none_or(|age| age > STALE)
}
