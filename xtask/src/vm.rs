//! The VM tier: Debian kernels booted in QEMU, with the kernel-level test binaries inside.
//!
//! ```text
//! Debian packages ──► kernels ──► vmlinuz ─────────────────────────────┐
//!                        └──────► modules (by `depends=`) ─┐           ▼
//! static test binaries, netpath, vm-init ──────────────────┴► cpio ► qemu ─ttyS1─► counted
//!                                                                      └───ttyS0─► kernel.log, searched for crashes
//! ```

mod cpio;
mod initramfs;
mod kernels;
mod modules;
mod qemu;

use anyhow::Result;

pub(crate) use self::kernels::{Kernel, select};
use crate::test::{kernel_tests::KernelTests, tally::Tally};

/// What runs on this machine only: the command and its files, which are the same on every kernel; and what the programs alone
/// decide, which the prog-run tier asks of every kernel in a hundredth of the time. What stays asks for a kernel's own devices,
/// offloads, queues, neighbours and attachments.
const NOT_ABOUT_KERNELS: [&str; 27] = [
    "agent::",
    "antispoof::",
    "arp::a",
    "capture::",
    "differential::",
    "doctor::",
    "faults::",
    "gateway::hairpin::",
    "gateway::inbound::",
    "gateway::live::",
    "gateway::policy::",
    "gateway::remote::",
    "gateway::upgrade::",
    "history::",
    "isolation::",
    "limits::limits_are_",
    "limits::usage_",
    "metrics::",
    "monitor::",
    "mutation::",
    "rates::a_",
    "rates::nics_",
    "refusals::",
    "survival::",
    "top::",
    "trace::",
    "visibility::",
];

/// Boots a kernel with the tests inside; without `filters`, all that are about kernels. (A filter that every name holds, `::`,
/// has all of them.)
///
/// # Errors
/// The kernel could not be had, or QEMU not be run.
pub(crate) fn boot(kernel: &Kernel, tests: &KernelTests, filters: &[String]) -> Result<Tally> {
    let skipped = NOT_ABOUT_KERNELS.iter().flat_map(|subject| ["--skip".to_owned(), (*subject).to_owned()]);
    let arguments: Vec<_> = if filters.is_empty() { skipped.collect() } else { filters.to_vec() };
    let unpacked = kernel.fetch()?;
    let modules = modules::closure(&unpacked)?;
    let initramfs = kernel.folder().join("initramfs.cpio");
    initramfs::write(&initramfs, &modules, tests, &arguments)?;
    qemu::run(&unpacked.image, &initramfs, &kernel.folder())
}
