//! What Prometheus scrapes: counters and levels of what is applied under a root, as text, and the server that answers with
//! it.
//!
//! Series are bounded by what an operator has defined: labels are names of the definitions (networks, instances, MAC
//! addresses of NICs, public addresses), or rows of fixed tables (drop reasons, maps, protocols, states). Nothing that a
//! packet says is ever a label. Beyond [`SAMPLES_MAX`] samples those of NICs are left out, and
//! `netpath_samples_omitted` says how many.

mod collect;
mod exposition;
mod family;
mod limits;
mod server;

pub use self::{
    collect::collect,
    family::{FAMILIES, Family, Kind},
    server::serve,
};

/// More samples than a host of ten thousand NICs has, unless limits have acted on thousands of them.
pub const SAMPLES_MAX: usize = 100_000;
