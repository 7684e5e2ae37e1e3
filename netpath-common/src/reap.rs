//! How the loader and its agent tell the data path what is to become of its rows: a frame that is never sent, for a program that looks
//! at each row once more. What is counted of the rows stays right, and no claim of a port is lost, because only the data path writes
//! either.
//!
//! ```text
//! 14 bytes of Ethernet | what the keys are of | how many | keys, each in 24 bytes
//! ```

/// Bytes before the keys.
pub const HEAD_LEN: usize = 16;
/// Bytes of a key with what fills it up.
pub const KEY_LEN: usize = 24;
/// The most keys of a frame.
pub const KEYS_MAX: usize = 64;

/// The keys are of FLOWS: what is over is removed.
pub const FLOWS: u8 = 1;
/// The keys are inside ones of BINDINGS: what is over is removed.
pub const BINDINGS: u8 = 2;
/// The keys are inside ones of BINDINGS: rows of the outside ends are made, by which strangers come in.
pub const OPEN: u8 = 3;
/// The keys are pairs of an inside and an outside end: the binding between them is taken away, and its port given back.
pub const RELEASE: u8 = 4;

const _: () = assert!(size_of::<crate::maps::FlowKey>() <= KEY_LEN);
const _: () = assert!(size_of::<[crate::maps::BindingKey; 2]>() <= KEY_LEN);
