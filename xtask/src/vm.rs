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

/// Subjects that are about the command and its files, and the same on every kernel: they run on this machine only. Each of their
/// tests loads all programs, which an emulated verifier takes ten seconds and more for.
const NOT_ABOUT_KERNELS: [&str; 7] =
    ["agent::", "capture::", "doctor::", "history::", "metrics::", "monitor::", "trace::"];

/// Boots a kernel with the tests inside; without `filters`, all that are about kernels.
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
