//! Says in the log what there was no room for: whoever could not open a connection last night finds out why, without having
//! watched.

use std::{collections::HashMap, path::Path};

use netpath_common::{DropReason, maps::DropKey};

use crate::{
    applied::Applied,
    datapath::{DatapathError, Root, Tables},
    error::Error,
};

/// What was refused for want of room until the last look, by network and reason.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    /// `None` until it could be read.
    told: Option<Counts>,
}

impl Exhaustion {
    /// Has what was counted until now for told.
    pub(super) fn begin(root: &Path) -> Self {
        match read(root) {
            Err(DatapathError::NothingApplied { .. }) => Self { told: Some(Counts::new()) },
            counts => Self { told: counts.ok() },
        }
    }

    /// A line for each network and reason of which more was refused since the last look.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn look(&mut self, root: &Path) -> Result<(), Error> {
        let counts = match read(root) {
            // Nothing is applied, or by another build: its agent says so.
            Err(
                DatapathError::NothingApplied { .. }
                | DatapathError::OtherAbi { .. }
                | DatapathError::Unfinished { .. },
            ) => return Ok(()),
            counts => counts?,
        };
        let more = self.told.as_ref().map(|told| more(told, &counts)).unwrap_or_default();
        self.told = Some(counts);
        if more.is_empty() {
            return Ok(());
        }
        // Names and devices are many: they are read where there is something to say.
        let applied = Applied::open(root)?;
        for ((network, reason), refused) in more {
            let Some(reason) = DropReason::from_code(reason) else { continue };
            tracing::warn!(
                network = applied.names.network(network),
                reason = reason.label(),
                refused,
                "packets had no room: {}",
                reason.sentence()
            );
        }
        Ok(())
    }
}

type Counts = HashMap<(u32, u32), u64>;

fn read(root: &Path) -> Result<Counts, DatapathError> {
    let tables = Tables::open(&Root::open(root)?)?;
    let is_exhaustion = |key: &DropKey| DropReason::from_code(key.reason).is_some_and(DropReason::is_exhaustion);
    let rows = tables.drops.rows()?.into_iter().filter(|(key, _)| is_exhaustion(key));
    Ok(rows.map(|(key, packets)| ((key.network, key.reason), packets)).collect())
}

/// What came, in the order of its key. A count that is smaller than it was is of a network that was made anew.
fn more(before: &Counts, now: &Counts) -> Vec<((u32, u32), u64)> {
    let since = |key: &(u32, u32), count: u64| match before.get(key) {
        Some(before) if *before <= count => count - before,
        _ => count,
    };
    let mut more: Vec<_> =
        now.iter().map(|(key, count)| (*key, since(key, *count))).filter(|(_, came)| *came > 0).collect();
    more.sort_unstable();
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_the_last_look_is_told_once_and_a_network_that_is_made_anew_begins_again() {
        let counts = |rows: &[((u32, u32), u64)]| rows.iter().copied().collect::<Counts>();
        let before = counts(&[((1, 36), 5), ((1, 38), 7), ((2, 36), 9)]);
        let now = counts(&[((1, 36), 5), ((1, 38), 8), ((2, 36), 2), ((3, 37), 4)]);
        assert_eq!(more(&before, &now), [((1, 38), 1), ((2, 36), 2), ((3, 37), 4)]);
        assert_eq!(more(&now, &now), []);
    }
}
