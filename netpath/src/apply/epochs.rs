//! Epochs of gateways: counted up once all rows of a change are in place, so that flows are judged again by the new ones.
//!
//! ```text
//! [begin] row = the old one, CHANGING → rows added and changed, this one with its old epoch → rows removed
//!         → [finish] row = the new one, epoch + 1, not CHANGING
//! ```
//!
//! A flow that is judged while some rows are old and some are new has the old epoch, and is judged once more. CHANGING
//! outlives a kill: it makes the row differ from what the next apply wants.

use netpath_common::maps::{Gateway, gateway_flags};

use crate::{
    compile::Row,
    datapath::{DatapathError, Tables},
    reconcile::Edit,
};

/// Marks the gateways that the edits change, before any is made; returns the indices of all that [`finish`] is for.
pub(super) fn begin(tables: &mut Tables, edits: &[Edit]) -> Result<Vec<u32>, DatapathError> {
    let mut changed = Vec::new();
    for edit in edits {
        match (&edit.before, &edit.after) {
            (Some(Row::Gateways(index, before)), _) => {
                put(tables, *index, before)?;
                changed.push(*index);
            }
            (None, Some(Row::Gateways(index, _))) => changed.push(*index),
            _ => {}
        }
    }
    Ok(changed)
}

/// Writes a row with the epoch that is in force, and marks it.
pub(super) fn put(tables: &mut Tables, index: u32, row: &Gateway) -> Result<(), DatapathError> {
    let epoch = epoch(tables, index)?.max(1);
    tables.gateways.put(index, &Gateway { epoch, flags: row.flags | gateway_flags::CHANGING, ..*row })
}

/// Frees a row; its epoch goes on counting, for flows that a later network of this index must not take for its own.
pub(super) fn delete(tables: &mut Tables, index: u32) -> Result<(), DatapathError> {
    let epoch = next(epoch(tables, index)?);
    tables.gateways.put(index, &Gateway { epoch, ..Gateway::default() })
}

/// Counts the epochs up of those gateways that are marked. Epoch and flags are one aligned word: the data path sees both or
/// neither.
pub(super) fn finish(tables: &mut Tables, changed: &[u32]) -> Result<(), DatapathError> {
    for index in changed {
        let row = tables.gateways.get(*index)?.unwrap_or_default();
        if row.flags & gateway_flags::CHANGING != 0 {
            let flags = row.flags & !gateway_flags::CHANGING;
            tables.gateways.put(*index, &Gateway { epoch: next(row.epoch), flags, ..row })?;
        }
    }
    Ok(())
}

fn epoch(tables: &Tables, index: u32) -> Result<u32, DatapathError> {
    Ok(tables.gateways.get(index)?.map_or(0, |row| row.epoch))
}

/// 0 stands for "no gateway".
fn next(epoch: u32) -> u32 {
    epoch.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_epoch_is_never_zero() {
        assert_eq!(super::next(0), 1);
        assert_eq!(super::next(u32::MAX), 1);
        assert_eq!(super::next(7), 8);
    }

    #[test]
    fn epoch_and_flags_are_one_word() {
        use netpath_common::maps::Gateway;
        assert_eq!(std::mem::offset_of!(Gateway, epoch), 0);
        assert_eq!(std::mem::offset_of!(Gateway, flags), 4);
    }
}
