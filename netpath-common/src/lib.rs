//! What the netpath data path and its loader share: layouts, names, decisions.
//!
//! Everything here is `no_std` and free of maps and contexts, so that the same code runs in the kernel and in
//! host tests. `netpath-ebpf` looks things up and passes them in; `netpath` fills the maps that are looked up.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod checksum;
pub mod drop_reason;
pub mod maps;

pub use address::{Address, Mac};
pub use drop_reason::DropReason;
