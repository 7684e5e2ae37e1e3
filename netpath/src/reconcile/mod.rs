//! Desired rows minus actual rows: the edits that lead from one to the other, in make-before-break order. Pure.
//!
//! ```text
//! adds and changes   NAMES → LIMITS → PORT_METERS → PUBLIC_METERS → TUNNELS → ENDPOINTS → NETWORKS → NEIGHBOURS → FDB → FLOODS → ADDRESSES → PORTS → UPSTREAMS → RULES
//!                    → STATIC_NAT → FORWARDS → ROUTES → PUBLIC_ADDRESS → GATEWAYS → UPLINKS → SEGMENTS
//! removals           SEGMENTS → UPLINKS → … → TUNNELS → NAMES
//! ```
//!
//! A row is added after what it points at, and removed before it. Each edit knows what it replaces, so that undoing is
//! making the inverse edits backwards.

mod listing;
mod object;

pub use self::{
    listing::{Group, Line, group, render, whole_removals},
    object::Object,
};
use crate::compile::{Row, Rows, Table};

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The row as it is; `None` when it does not exist.
    pub before: Option<Row>,
    /// The row as it shall be; `None` when it shall not exist.
    pub after: Option<Row>,
}

impl Edit {
    /// `+` adds a row, `~` changes one, `-` removes one.
    pub fn sign(&self) -> char {
        match (&self.before, &self.after) {
            (None, _) => '+',
            (Some(_), Some(_)) => '~',
            (Some(_), None) => '-',
        }
    }

    /// The edit that takes this one back.
    pub fn inverse(&self) -> Self {
        Self { before: self.after.clone(), after: self.before.clone() }
    }

    /// Makes the edit in a model of the maps.
    pub fn apply(&self, rows: &mut Rows) {
        match (&self.before, &self.after) {
            (_, Some(row)) => rows.put(row.clone()),
            (Some(row), None) => rows.delete(row),
            (None, None) => {}
        }
    }
}

/// The edits that make `actual` into `desired`, in the order in which they are safe to make.
pub fn reconcile(actual: &Rows, desired: &Rows) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut removals = Vec::new();
    for table in Table::ALL {
        Rows::compare(*table, actual, desired, |before, after| match after {
            Some(_) => edits.push(Edit { before, after }),
            None => removals.push(Edit { before, after }),
        });
    }
    edits.extend(removals.into_iter().rev());
    edits
}
