//! What the data path has written for a network, a public link or a public address that goes: cleared before the index is
//! free again.

use std::collections::HashSet;

use netpath_common::maps::name_kind;

use super::connections::{self, Gone};
use crate::{
    compile::Row,
    datapath::{DatapathError, Programs, Tables},
    reconcile::Edit,
};

/// Forgets what was dropped and learned in networks and on public links whose names are removed, and which ports were given
/// out of public addresses. Call it after everything else of them is gone, and before the names are.
pub(super) fn retire(tables: &mut Tables, programs: &Programs, edits: &[Edit]) -> Result<(), DatapathError> {
    let indices = |kind| gone(edits, kind).map(|(index, _)| index).collect::<HashSet<u32>>();
    let networks = indices(name_kind::NETWORK);
    if !networks.is_empty() {
        retire_networks(tables, &networks)?;
    }
    let pools = indices(name_kind::PORT_POOL);
    let gone = Gone { networks, links: indices(name_kind::PUBLIC_LINK), addresses: connections::addresses_left(edits) };
    connections::clear(tables, programs, &gone, &pools)
}

/// What goes of a kind, by its name.
pub(super) fn gone(edits: &[Edit], kind: u32) -> impl Iterator<Item = (u32, &str)> {
    edits.iter().filter_map(move |edit| match (&edit.before, &edit.after) {
        (Some(Row::Names(key, name)), None) if key.kind == kind => Some((key.index, name.as_str())),
        _ => None,
    })
}

fn retire_networks(tables: &mut Tables, networks: &HashSet<u32>) -> Result<(), DatapathError> {
    for (key, _) in tables.drops.rows()? {
        if networks.contains(&key.network) {
            tables.drops.delete(&key)?;
        }
    }
    for (key, _) in tables.learned.rows()? {
        if networks.contains(&key.network) {
            tables.learned.delete(&key)?;
        }
    }
    Ok(())
}
