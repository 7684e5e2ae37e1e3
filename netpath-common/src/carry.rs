//! How the loader has the data path add to what it counts, while it goes on counting: a frame that is never sent, for a program
//! that adds with one instruction per word. What the loader would read and write back would lose what is counted in between.
//!
//! ```text
//! 14 bytes of Ethernet | which map | how many | rows, each a key of 8 bytes and 7 words that are added
//! ```

use bytemuck::{Pod, Zeroable};

/// Bytes before the rows.
pub const HEAD_LEN: usize = 16;
/// The most rows of a frame.
pub const ROWS_MAX: usize = 16;
/// The most words of a row that are added to.
pub const WORDS: usize = 7;

/// Rows of COUNTERS.
pub const COUNTERS: u8 = 1;
/// Rows of PUBLIC_COUNTERS.
pub const PUBLIC_COUNTERS: u8 = 2;
/// Rows of METER_EVENTS.
pub const METER_EVENTS: u8 = 3;
/// Rows of DROPS, made where they are missing.
pub const DROPS: u8 = 4;
/// Rows of GATEWAY_STATE.
pub const GATEWAY_STATE: u8 = 5;

/// What is added to a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Row {
    /// The key, filled up with zeros.
    pub key: [u32; 2],
    /// What is added to its words; they wrap, so that what is taken away is a number below zero.
    pub words: [u64; WORDS],
}
