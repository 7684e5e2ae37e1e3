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

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

pub(crate) use self::kernels::{Kernel, select};
use crate::{
    process,
    test::{kernel_tests::KernelTests, tally::Tally},
};

/// What of the prog-run tier runs on this machine only: what the programs decide alone, by arithmetic and in many rounds. What stays
/// asks a kernel for its verifier, its helpers and its checksums.
const NOT_ABOUT_KERNELS: [&str; 9] = [
    "drops::",
    "drops_routed::",
    "event::",
    "forward::first::whatever",
    "fuzz::",
    "nat::limits::",
    "nat::mapping::",
    "nat::ports::",
    "nat::races::",
];
/// What of the netns tier is about a kernel: its devices, offloads, queues, neighbours, attachments and capabilities. Everything
/// else is about the command and its files, or about what prog-run asks in a hundredth of the time.
const ABOUT_KERNELS: [&str; 23] = [
    "attachments::",
    "coexistence::a_foreign_vxlan_device_on_the_same_port",
    "forwarding::bulk_tcp_from",
    "forwarding::bulk_tcp_into",
    "forwarding::large_udp",
    "gateway::browse::u14",
    "gateway::browse::x6",
    "interop::cloudstacks_multicast",
    "interop::frames_and_broadcasts",
    "interop::kernel_guests",
    "lifecycle::a_vlan_uplink",
    "lifecycle::detach_restores",
    "limits::a_multiqueue_uplink",
    "limits::fq_is",
    "rates::where_the_uplink_has_fq",
    "security::the_capabilities",
    "survival::expedited",
    "too_big::v10_r6",
    "too_big::v10_the_tunnel",
    "vlan::a_linux_vlan_device",
    "vlan::kernel_guests",
    "vlan::q1_q2",
    "vlan::q7",
];

/// Boots a kernel with the tests inside; without `filters`, all that are about kernels. (A filter that every name holds, `::`,
/// has all of them.)
///
/// # Errors
/// The kernel could not be had, or QEMU not be run.
pub(crate) fn boot(kernel: &Kernel, tests: &KernelTests, filters: &[String]) -> Result<Tally> {
    let skipped = NOT_ABOUT_KERNELS.iter().flat_map(|subject| ["--skip", subject]).collect::<Vec<_>>().join("\n");
    let named = [(&tests.prog_run, &NOT_ABOUT_KERNELS[..]), (&tests.netns, &ABOUT_KERNELS[..])];
    named.into_iter().try_for_each(|(binary, subjects)| are_there(binary, subjects))?;
    let arguments = match filters {
        [] => [skipped, ABOUT_KERNELS.join("\n")],
        filters => [filters.join("\n"), filters.join("\n")],
    };
    let unpacked = kernel.fetch()?;
    let modules = modules::closure(&unpacked)?;
    let initramfs = kernel.folder().join("initramfs.cpio");
    initramfs::write(&initramfs, &modules, tests, &arguments)?;
    qemu::run(&unpacked.image, &initramfs, &kernel.folder())
}

/// Whether each subject is one of a test binary's: a list that names nothing any more would leave out what it should have in.
fn are_there(binary: &Path, subjects: &[&str]) -> Result<()> {
    let listed = process::output(Command::new(binary).arg("--list"))?;
    match subjects.iter().find(|subject| !listed.contains(**subject)) {
        Some(subject) => {
            bail!("no test of {} is called `{subject}`: mend the lists in xtask/src/vm.rs", binary.display())
        }
        None => Ok(()),
    }
}
