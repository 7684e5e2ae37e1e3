//! What limits cost, and how exact they are.

pub mod accuracy;
mod arrived;
pub mod cost;
pub mod frames;
pub mod many;
pub mod shaper;

/// More than one processor sends: nothing is dropped, and all of it is charged.
const PLENTY: &str = "90Gbps";
