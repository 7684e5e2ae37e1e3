//! Hypervisors, guests and wires as namespaces on one kernel.

use rustix::thread::{UnshareFlags, unshare_unsafe};

#[test]
fn a_new_network_namespace_has_only_a_loopback_device() {
    // SAFETY: the thread gets a network namespace of its own, no file descriptor or memory changes hands.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("tests run as root");
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is mounted");
    assert_eq!(devices.lines().skip(2).count(), 1, "{devices}");
}
