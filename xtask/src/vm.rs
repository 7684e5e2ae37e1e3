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

/// Boots a kernel with the tests inside.
///
/// # Errors
/// The kernel could not be had, or QEMU not be run.
pub(crate) fn boot(kernel: &Kernel, tests: &KernelTests, filters: &[String]) -> Result<Tally> {
    let unpacked = kernel.fetch()?;
    let modules = modules::closure(&unpacked)?;
    let initramfs = kernel.folder().join("initramfs.cpio");
    initramfs::write(&initramfs, &modules, tests, filters)?;
    qemu::run(&unpacked.image, &initramfs, &kernel.folder())
}
