//! Skips that are counted: a test that cannot run on this kernel says so on a line that `cargo xtask test` collects.

use std::io::Write;

/// Prints `netpath-test-skip: NAME: REASON` past libtest's capture, straight to standard error.
pub fn skip(test: &str, reason: &str) {
    let line = format!("netpath-test-skip: {test}: {reason}\n");
    // libtest captures print macros only; a failed write leaves nothing else to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Leaves a test that the kernel cannot run, counted: `skip_unless!(condition, "reason")`.
#[macro_export]
macro_rules! skip_unless {
    ($condition:expr, $reason:expr) => {
        if !$condition {
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            $crate::skip::skip(&name, $reason);
            return;
        }
    };
}

/// Whether this kernel has VLAN devices.
pub fn has_vlan_devices() -> bool {
    let Ok(ns) = crate::topology::NetNs::new("probe") else { return false };
    ns.run(|| {
        let Ok(bridge) = crate::topology::Link::bridge("probe0") else { return false };
        crate::topology::Link::vlan("probe0.2", &bridge, 0x8100, 2).is_ok()
    })
}
