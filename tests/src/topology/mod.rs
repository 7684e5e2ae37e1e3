//! Hypervisors, guests and wires as network namespaces, all removed again on drop.
//!
//! Everything goes through netlink and ioctls from threads that entered the namespace, because the machine that runs
//! the tests (an initramfs in the VM tier) may have no `ip`.

pub mod definitions;
pub mod ethtool;
pub mod fdb;
pub mod internet;
pub mod link;
pub mod mount;
pub mod netlink;
pub mod netns;
mod qdisc;
pub mod scratch;
pub mod tap;
pub mod two_hypervisors;

pub use definitions::Definitions;
pub use internet::Internet;
pub use link::{Link, Vxlan};
pub use mount::Mount;
pub use netns::NetNs;
pub use scratch::Scratch;
pub use tap::{Offloads, Tap};
pub use two_hypervisors::{Builder, TwoHypervisors, Wire};
