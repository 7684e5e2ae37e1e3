//! One boot: QEMU without KVM (nested KVM hangs with generic kernels), two serial lines, a limit on the wall clock.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;

use crate::{
    process,
    test::tally::{Counter, Tally},
};

/// With two idle cores the slowest kernel takes a tenth of this; its verifier, without KVM, takes most of that.
const LIMIT: Duration = Duration::from_secs(2400);
/// What process 1 says last when every test binary ended well.
const PASSED: &str = "vm-init: verdict: passed";
/// What the kernel says when it is no longer to be trusted.
const CRASHES: [&str; 6] =
    ["Kernel panic", "rcu: INFO: rcu_", "BUG:", "Oops:", "general protection fault", "soft lockup"];

/// Boots, counts what the tests print, and fails on a crash, a missing verdict, or the clock.
///
/// # Errors
/// QEMU did not start or did not end in time.
pub(super) fn run(image: &Path, initramfs: &Path, folder: &Path) -> Result<Tally> {
    let kernel_log = folder.join("kernel.log");
    let mut qemu = Command::new("qemu-system-x86_64");
    // The vectors that string operations would take on a newer processor are slow to emulate. Tests know by the name.
    qemu.args(["-accel", "tcg", "-cpu", "Nehalem,model-id=QEMU TCG CPU", "-smp", "2", "-m", "2G"]);
    qemu.args(["-nodefaults", "-display", "none"]);
    qemu.args(["-no-reboot", "-monitor", "none"]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    // ttyS0 is the kernel's, ttyS1 the tests': neither breaks the other's lines.
    // Each namespace that goes waits for grace periods: expedited, they are short. There is no processor to mitigate, and nobody
    // to hide freed memory from. A machine that has stopped the emulator for twenty seconds is no lockup of its kernel's.
    let patient = "rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60";
    let fast = "rcupdate.rcu_expedited=1 mitigations=off init_on_alloc=0";
    qemu.arg("-append").arg(format!("console=ttyS0 loglevel=4 panic=-1 {fast} {patient}"));
    qemu.arg("-serial").arg(format!("file:{}", kernel_log.display()));
    qemu.args(["-serial", "stdio"]);

    let mut counter = Counter::default();
    let mut passed = false;
    let status = process::by_line(&mut qemu, LIMIT, |line| {
        let line = line.trim_end_matches('\r');
        eprintln!("  {line}");
        passed |= line == PASSED;
        counter.read(line);
    })?;
    let log = fs::read_to_string(&kernel_log).unwrap_or_default();
    let crash = log.lines().find(|line| CRASHES.iter().any(|crash| line.contains(crash)));
    if let Some(line) = crash {
        eprintln!("test: the kernel said: {line}\ntest: all it said is in {}", kernel_log.display());
    } else if !passed {
        eprintln!("test: the VM's verdict is not a pass; what its kernel said is in {}", kernel_log.display());
    }
    Ok(counter.end(passed && status.success() && crash.is_none()))
}
