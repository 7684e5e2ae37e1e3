//! What the netpath data path and its loader share: layouts, names, decisions.
//!
//! Everything here is `no_std` and free of maps and contexts, so that the same code runs in the kernel and in
//! host tests. `netpath-ebpf` looks things up and passes them in; `netpath` fills the maps that are looked up.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod carry;
pub mod checksum;
pub mod clock;
pub mod drop_reason;
pub mod floor;
pub mod frame;
pub mod icmp;
pub mod maps;
pub mod packet;
pub mod reap;
pub mod stage;
pub mod too_big;
pub mod vxlan;

pub use address::{Address, Mac};
pub use drop_reason::DropReason;
pub use frame::Frame;
pub use packet::Packet;
