//! How the agent tells the data path what it has found to be over: a frame that is never sent, for a program that looks at
//! each row once more and removes it. What is counted of the rows stays right, because only the data path counts.
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

/// The keys are of FLOWS.
pub const FLOWS: u8 = 1;
/// The keys are inside ones of BINDINGS.
pub const BINDINGS: u8 = 2;

const _: () = assert!(size_of::<crate::maps::FlowKey>() <= KEY_LEN && size_of::<crate::maps::BindingKey>() <= KEY_LEN);
