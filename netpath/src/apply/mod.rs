//! Brings a host to what its part of the definitions says: works out what is to be done, does it in make-before-break
//! order, and takes back what it did when a step fails.
//!
//! ```text
//! definitions ─► [plan] ─► steps:  tunnel devices → fq on uplinks → rows added and changed → offloads → groups joined → programs on
//!                                  → programs off → groups left, offloads restored → rows removed → bindings opened
//!                                  → epochs counted up
//!                                  → tunnel devices off → what the data path wrote is cleared → names removed
//!                                  → public addresses that are new are announced
//! ```
//!
//! State is the kernel's, so nothing here remembers anything between two runs: killed at any point, the next run works
//! out what is left to do.

mod announce;
mod attachments;
mod connections;
mod counts;
mod epochs;
mod expedited;
mod listeners;
mod orphans;
mod pacing;
mod perform;
mod plan;
mod promiscuity;
mod retire;
mod rows;
mod shared;
mod steps;

use std::path::Path;

pub use self::announce::announce_again;
pub(crate) use self::{
    announce::question as router_question, attachments::Fallback, pacing::Unpaced, rows::read as rows_in_force,
    shared::is_shared,
};
pub use self::{
    orphans::{Orphans, release},
    perform::{Instance, Outcome, Progress, apply},
    plan::{Plan, plan},
    steps::Step,
};
use crate::{
    datapath::{self, DatapathError, applied_host},
    netlink::{Device, vxlan},
};

/// The host that was applied under a root, where one was.
///
/// # Errors
/// When the maps cannot be read.
pub fn recorded_host(root: &Path) -> Result<Option<String>, DatapathError> {
    match datapath::in_force(root, None)?.and_then(|found| found.tables) {
        Some(tables) => applied_host(&tables),
        None => Ok(None),
    }
}

/// Did the instance with this root make that tunnel device?
#[must_use]
pub fn is_own_tunnel(root: &Path, device: &Device) -> bool {
    device.vxlan.is_some_and(|vxlan| vxlan.external) && device.mac == Some(vxlan::own_mac(&root.to_string_lossy()))
}
