//! The stages of the pipeline, as decisions on values: no maps, no contexts.

pub mod answer;
pub mod antispoof;
pub mod arp;
pub mod idle;
pub mod martian;
pub mod meter;
pub mod neighbour;
pub mod policy;
pub mod ports;
pub mod tcp;
pub mod translate;
