//! Bindings that were carried from one map to another while programs made and ended some.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::ControlFlow,
};

use netpath_common::{
    maps::{Binding, BindingKey, PUBLIC_SIDE},
    stage::ports,
};

use super::super::{DatapathError, Tables, syscall};

/// Removes those that have no port: copied from one map after they had ended in the other, or while somebody was taking them away.
/// Left alone, one would use the port of whoever has it now.
pub(super) fn drop_portless(tables: &mut Tables) -> Result<(), DatapathError> {
    let found = suspects(tables)?;
    if found.is_empty() {
        return Ok(());
    }
    // Whoever was making one or taking one away has done it then.
    syscall::wait_for_programs().map_err(|e| DatapathError::failed("wait until bindings have ended", e))?;
    let again: HashMap<BindingKey, Binding> = suspects(tables)?.into_iter().collect();
    for (key, row) in found.iter().filter(|(key, row)| again.get(key) == Some(row)) {
        let outside = BindingKey { side: row.side, address: row.address, port: row.port, ..*key };
        let back = tables.bindings.get(&outside)?;
        if back.is_some_and(|back| (back.side, back.address, back.port) == (key.side, key.address, key.port)) {
            tables.bindings.delete(&outside)?;
        }
        tables.bindings.delete(key)?;
    }
    Ok(())
}

fn suspects(tables: &Tables) -> Result<Vec<(BindingKey, Binding)>, DatapathError> {
    let mut rows = Vec::new();
    tables.bindings.visit::<DatapathError>(|key, row| {
        if key.side & PUBLIC_SIDE == 0 {
            rows.push((*key, *row));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    // A port is claimed before its row is written, and given back after the row is gone: what is read of ports comes second.
    Ok(portless(&rows, &tables.port_blocks.rows()?))
}

/// Of bindings, by their inside ends, those whose port is not claimed, or is a later one's, or that somebody is taking away.
fn portless(rows: &[(BindingKey, Binding)], words: &[u64]) -> Vec<(BindingKey, Binding)> {
    let is_claimed = |key: &BindingKey, row: &Binding| {
        let pool = u32::from(row.pool).checked_sub(1);
        let block = pool.and_then(|pool| ports::block_of(pool, key.protocol, row.port));
        // Of a row that does not say its pool nothing is known.
        block.and_then(|block| words.get(block as usize)).is_none_or(|word| word & ports::bit_of(row.port) != 0)
    };
    let mut owners = HashMap::new();
    let mut found = Vec::new();
    for (key, row) in rows {
        if row.expires == 0 || !is_claimed(key, row) {
            found.push((*key, *row));
            continue;
        }
        match owners.entry((row.side, row.address, row.port, key.protocol)) {
            Entry::Vacant(free) => drop(free.insert((*key, *row))),
            Entry::Occupied(mut owner) => {
                let (_, earlier): &(BindingKey, Binding) = owner.get();
                let is_later = earlier.expires < row.expires;
                found.push(if is_later { owner.insert((*key, *row)) } else { (*key, *row) });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_whose_port_is_not_its_own_is_found() {
        let key = |last| BindingKey { side: 5, address: [10, 0, 0, last], port: 7000, protocol: 17, pad: 0 };
        let row = |port, expires| Binding { side: PUBLIC_SIDE, address: [198, 51, 100, 7], port, pool: 1, expires };
        // UDP's words follow TCP's; of block 1 ports 64 and 65 are claimed.
        let mut words = vec![0; 3072];
        words[1024 + 1] = 0b11;
        let (own, earlier, later) = ((key(1), row(64, 900)), (key(2), row(65, 500)), (key(3), row(65, 600)));
        let (unclaimed, going) = ((key(4), row(66, 900)), (key(5), row(64, 0)));
        let elsewhere = (key(6), Binding { pool: 0, ..row(67, 900) });
        let rows = [own, earlier, later, unclaimed, going, elsewhere];
        assert_eq!(portless(&rows, &words), [earlier, unclaimed, going]);
        assert_eq!(portless(&[later, earlier], &words), [earlier]);
    }
}
