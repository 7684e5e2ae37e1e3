//! Packets and bytes of what goes, and of what changes hands: no total ever goes down.
//!
//! ```text
//! a port goes                 COUNTERS ──► RETIRED of its network
//! a network goes, or leaves
//! its account                 RETIRED and COUNTERS of its ports ──► RETIRED_ACCOUNT of that account
//! it comes to another         the same is taken from RETIRED_ACCOUNT of that one, which sees what follows only
//! a public address goes, or
//! comes to another network    PUBLIC_COUNTERS are cleared
//! a limit goes                METERS and METER_EVENTS are cleared
//! ```
//!
//! Counters wrap, and so do their differences: what an account is owed is a number below zero until its networks add to it.

use netpath_common::maps::{Counters, FROM_GUEST, NameKey, TO_GUEST, meter_row, name_kind};

use super::retire::gone;
use crate::{
    compile::{Row, Rows},
    datapath::{DatapathError, Tables, add},
    reconcile::Edit,
};

/// Keeps, moves and clears counters as the edits ask for. Names are still in force, and so is to whom networks belong: that is
/// written directly after it, for a kill in between counts twice what changes hands.
pub(super) fn keep(tables: &mut Tables, existing: &Rows, edits: &[Edit]) -> Result<(), DatapathError> {
    for (slot, name) in gone(edits, name_kind::PORT) {
        retire_port(tables, slot, index_of(existing, name_kind::NETWORK, network_of(name)))?;
    }
    for change in changes_of_owner(existing, edits) {
        change_owner(tables, existing, &change)?;
    }
    for (index, _) in gone(edits, name_kind::NETWORK) {
        tables.retired.put(index, &Counters::default())?;
    }
    for (index, _) in gone(edits, name_kind::ACCOUNT) {
        tables.retired_account.put(index, &Counters::default())?;
    }
    for (index, _) in gone(edits, name_kind::PUBLIC_ADDRESS) {
        tables.public_counters.clear(index)?;
    }
    for index in other_hands(edits) {
        tables.public_counters.clear(index)?;
    }
    for (meter, _) in gone(edits, name_kind::METER) {
        for row in [FROM_GUEST, TO_GUEST].map(|direction| meter_row(meter, direction)) {
            tables.meters.put(row, &Default::default())?;
            tables.meter_events.put(row, &Default::default())?;
        }
    }
    Ok(())
}

fn retire_port(tables: &mut Tables, slot: u32, network: Option<u32>) -> Result<(), DatapathError> {
    let counters = tables.counters.sum(slot)?;
    if let Some(network) = network {
        let sum = add(&tables.retired.get(network)?.unwrap_or_default(), &counters);
        tables.retired.put(network, &sum)?;
    }
    tables.shares.put(slot, &Default::default())?;
    tables.counters.clear(slot)
}

/// A network that has another owner than before, or none.
struct ChangeOfOwner {
    network: u32,
    /// The index of its account before.
    from: Option<u32>,
    /// The index of its account after, where what it has been counted is not that one's.
    to: Option<u32>,
}

fn changes_of_owner(existing: &Rows, edits: &[Edit]) -> Vec<ChangeOfOwner> {
    let owner = |row: &Option<Row>| match row {
        Some(Row::Names(key, name)) if key.kind == name_kind::OWNER => Some((key.index, name.clone())),
        _ => None,
    };
    // An account that is new has its index from these edits.
    let account = |name: &str| {
        let added = edits.iter().find_map(|edit| match &edit.after {
            Some(Row::Names(key, found)) if key.kind == name_kind::ACCOUNT && found == name => Some(key.index),
            _ => None,
        });
        added.or_else(|| index_of(existing, name_kind::ACCOUNT, name))
    };
    let change = |edit: &Edit| {
        let (before, after) = (owner(&edit.before), owner(&edit.after));
        let network = before.as_ref().or(after.as_ref())?.0;
        let was_there = existing.names.contains_key(&NameKey { kind: name_kind::NETWORK, index: network });
        Some(ChangeOfOwner {
            network,
            from: before.and_then(|(_, name)| account(&name)),
            to: after.filter(|_| was_there).and_then(|(_, name)| account(&name)),
        })
    };
    edits.iter().filter_map(change).collect()
}

fn change_owner(tables: &mut Tables, existing: &Rows, change: &ChangeOfOwner) -> Result<(), DatapathError> {
    let mut total = tables.retired.get(change.network)?.unwrap_or_default();
    let name = existing.names.get(&NameKey { kind: name_kind::NETWORK, index: change.network });
    for (slot, port) in names(existing, name_kind::PORT) {
        if name.is_some_and(|name| network_of(port) == name) {
            total = add(&total, &tables.counters.sum(slot)?);
        }
    }
    for (account, amount) in [(change.from, total), (change.to, negative(&total))] {
        if let Some(account) = account {
            let sum = add(&tables.retired_account.get(account)?.unwrap_or_default(), &amount);
            tables.retired_account.put(account, &sum)?;
        }
    }
    Ok(())
}

/// What makes zero with it.
fn negative(counters: &Counters) -> Counters {
    let mut negative = *counters;
    negative.from_guest_packets = counters.from_guest_packets.wrapping_neg();
    negative.from_guest_bytes = counters.from_guest_bytes.wrapping_neg();
    negative.to_guest_packets = counters.to_guest_packets.wrapping_neg();
    negative.to_guest_bytes = counters.to_guest_bytes.wrapping_neg();
    negative
}

/// Public addresses that another network has now.
fn other_hands(edits: &[Edit]) -> impl Iterator<Item = u32> {
    edits.iter().filter_map(|edit| match (&edit.before, &edit.after) {
        (Some(Row::PublicAddress(_, before)), Some(Row::PublicAddress(_, after)))
            if before.network != after.network =>
        {
            Some(u32::from(after.index)).filter(|index| *index != 0)
        }
        _ => None,
    })
}

fn names(rows: &Rows, kind: u32) -> impl Iterator<Item = (u32, &str)> {
    let keys = NameKey { kind, index: 0 }..=NameKey { kind, index: u32::MAX };
    rows.names.range(keys).map(|(key, name)| (key.index, name.as_str()))
}

fn index_of(rows: &Rows, kind: u32, name: &str) -> Option<u32> {
    names(rows, kind).find(|(_, found)| *found == name).map(|(index, _)| index)
}

/// The network of a port, by the port's name.
fn network_of(port: &str) -> &str {
    port.split('/').next().unwrap_or(port)
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{PublicAddress, PublicKey};

    use super::*;

    fn name(kind: u32, index: u32, text: &str) -> Row {
        Row::Names(NameKey { kind, index }, text.into())
    }

    fn rows(all: &[Row]) -> Rows {
        let mut rows = Rows::default();
        all.iter().for_each(|row| rows.put(row.clone()));
        rows
    }

    fn edit(before: Option<Row>, after: Option<Row>) -> Edit {
        Edit { before, after }
    }

    #[test]
    fn a_network_that_changes_hands_leaves_what_it_had_with_its_owner_and_brings_the_next_one_none() {
        let acme = name(name_kind::ACCOUNT, 1, "acme");
        let existing = rows(&[name(name_kind::NETWORK, 5, "web"), acme, name(name_kind::OWNER, 5, "acme")]);
        let edits = [
            edit(None, Some(name(name_kind::ACCOUNT, 2, "globex"))),
            edit(Some(name(name_kind::OWNER, 5, "acme")), Some(name(name_kind::OWNER, 5, "globex"))),
        ];
        let changes = changes_of_owner(&existing, &edits);
        let [ChangeOfOwner { network: 5, from: Some(1), to: Some(2) }] = changes[..] else {
            panic!("{} changes", changes.len());
        };
    }

    #[test]
    fn a_new_network_owes_nothing_and_one_that_goes_leaves_all() {
        let acme = name(name_kind::ACCOUNT, 1, "acme");
        let existing = rows(&[acme, name(name_kind::NETWORK, 5, "web"), name(name_kind::OWNER, 5, "acme")]);
        let edits =
            [edit(None, Some(name(name_kind::OWNER, 6, "acme"))), edit(Some(name(name_kind::OWNER, 5, "acme")), None)];
        let changes = changes_of_owner(&existing, &edits);
        let told: Vec<_> = changes.iter().map(|change| (change.network, change.from, change.to)).collect();
        assert_eq!(told, [(6, None, None), (5, Some(1), None)]);
    }

    #[test]
    fn what_is_owed_makes_zero_with_what_is_there() {
        let total =
            Counters { from_guest_packets: 3, from_guest_bytes: 300, to_guest_packets: 0, to_guest_bytes: u64::MAX };
        assert_eq!(add(&total, &negative(&total)), Counters::default());
    }

    #[test]
    fn an_address_that_another_network_has_now_is_counted_anew() {
        let row = |network, index| {
            let address = PublicAddress { network, index, ..PublicAddress::default() };
            Some(Row::PublicAddress(PublicKey { side: 1, address: [203, 0, 113, 10] }, address))
        };
        let edits = [edit(row(1, 4), row(2, 4)), edit(row(1, 5), row(1, 5)), edit(row(1, 0), row(2, 0))];
        assert_eq!(other_hands(&edits).collect::<Vec<_>>(), [4]);
    }
}
