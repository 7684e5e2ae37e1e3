//! The kernel, and what it lets BPF do.

use super::{Fault, Host, host::Pins};
use crate::datapath::{OLDEST_KERNEL, TCX_SINCE};

/// Before this kernel, maps and programs count as locked memory of the process that makes them.
const MEMORY_BY_CGROUP_SINCE: (u32, u32) = (5, 11);
/// What maps of the default capacities take, and programs beside them.
const LOCKED: u64 = 512 << 20;

fn version((major, minor): (u8, u8)) -> (u32, u32) {
    (major.into(), minor.into())
}

pub(super) fn too_old(host: &Host) -> Vec<Fault> {
    let (found, oldest) = (host.system.kernel, version(OLDEST_KERNEL));
    one(found != (0, 0) && found < oldest, || {
        let found = format!("it is {}.{}, and netpath needs {}.{}", found.0, found.1, oldest.0, oldest.1);
        Fault::error("kernel", found).because("the programs do not load").mend("boot a newer kernel")
    })
}

pub(super) fn bpffs_missing(host: &Host) -> Vec<Fault> {
    one(host.pins == Pins::NotBpffs, || {
        Fault::error(format!("root {}", host.root.display()), "it is not on a BPF file system")
            .because("maps and links have nowhere to be pinned: nothing can be applied")
            .mend("`mount -t bpf bpf /sys/fs/bpf`, or name another place with --root")
    })
}

pub(super) fn memlock_limit(host: &Host) -> Vec<Fault> {
    let is_old = host.system.kernel != (0, 0) && host.system.kernel < MEMORY_BY_CGROUP_SINCE;
    let limit = host.system.memlock.filter(|limit| is_old && *limit < LOCKED);
    limit.map_or_else(Vec::new, |limit| {
        let fault =
            Fault::error("kernel", format!("locked memory is limited to {} MiB, and maps count as such", limit >> 20))
                .because("maps cannot be made: the kernel answers that there is no permission")
                .mend("`ulimit -l unlimited`, or LimitMEMLOCK=infinity for a service");
        vec![fault]
    })
}

pub(super) fn jit_off(host: &Host) -> Vec<Fault> {
    one(host.system.jit == Some(0), || {
        Fault::warning("kernel", "BPF programs are interpreted: net.core.bpf_jit_enable is 0")
            .because("each packet costs several times as much")
            .mend(format!(
                "`sysctl -w net.core.bpf_jit_enable=1`, and in /etc/sysctl.d; then `{}`, which loads them anew, in place",
                host.apply
            ))
    })
}

pub(super) fn jit_hardened(host: &Host) -> Vec<Fault> {
    one(host.system.jit_harden.is_some_and(|level| level >= 2), || {
        Fault::note("kernel", "constants of all programs are blinded: net.core.bpf_jit_harden is 2")
            .because("programs are larger and slower; only those of unprivileged users need it, which 1 is for")
            .mend("`sysctl -w net.core.bpf_jit_harden=1`, and in /etc/sysctl.d; programs that are loaded from then on are not blinded")
    })
}

pub(super) fn unprivileged_bpf(host: &Host) -> Vec<Fault> {
    one(host.system.unprivileged_bpf_disabled == Some(0), || {
        Fault::note("kernel", "every user may load BPF programs: kernel.unprivileged_bpf_disabled is 0")
            .because("flaws of the verifier are open to whoever has a shell; netpath needs none of it")
            .mend("`sysctl -w kernel.unprivileged_bpf_disabled=1`, and in /etc/sysctl.d")
    })
}

pub(super) fn tc_clsact(host: &Host) -> Vec<Fault> {
    let found = host.system.kernel;
    one(found >= version(OLDEST_KERNEL) && found < version(TCX_SINCE), || {
        let found = format!("it is {}.{}: TC programs are filters of clsact, and not tcx links", found.0, found.1);
        Fault::note("kernel", found)
            .because("whoever deletes a device's clsact takes netpath off it, which a link does not let happen")
            .mend("nothing, or a kernel from 6.6 on")
    })
}

fn one(is_found: bool, fault: impl FnOnce() -> Fault) -> Vec<Fault> {
    if is_found { vec![fault()] } else { Vec::new() }
}
