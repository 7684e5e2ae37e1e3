<<<<<<< HEAD
//! Hypervisors, guests and wires as namespaces on one kernel.

use rustix::thread::{UnshareFlags, unshare_unsafe};

#[test]
fn a_new_network_namespace_has_only_a_loopback_device() {
    // SAFETY: the thread gets a network namespace of its own, no file descriptor or memory changes hands.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("tests run as root");
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is mounted");
    assert_eq!(devices.lines().skip(2).count(), 1, "{devices}");
}
=======
//! netpath on hypervisors made of namespaces: real guests, real wires, and the kernel's own devices as peers.
//!
//! The topology, the tenants and their addresses are [`netpath_tests::topology::TwoHypervisors`]: for both tenants
//! NIC 11 and 13 are on hv1, and NIC 12 is on hv2, with the same MAC and IP addresses.

mod antispoof;
mod arp;
mod coexistence;
mod flood;
mod forwarding;
mod interop;
mod isolation;
mod lifecycle;
mod mutation;
mod scene;
mod survival;
mod too_big;
mod topology;
mod tunnel;
mod vlan;
>>>>>>> 95cfe0c (tests: the netns tier's cases, one subject a file)
