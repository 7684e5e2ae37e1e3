//! When flows are judged again: each network's epoch counts up with what concerns its gateway, and only with that.

use std::collections::BTreeSet;

use netpath_common::maps::{Gateway, PUBLIC_SIDE, PublicKey, nat_place};

use super::rows::{Row, Rows, Table};

/// The tables whose rows say what becomes of a network's connections; GATEWAYS and ROUTES aside.
const JUDGED: [Table; 8] = [
    Table::Networks,
    Table::Neighbours,
    Table::Fdb,
    Table::Ports,
    Table::Upstreams,
    Table::StaticNat,
    Table::Forwards,
    Table::PublicAddress,
];

/// Gives the gateways of `rows` their epochs: those in force, or the next one where anything has changed. That of a network
/// that is gone outlives its row in the kernel; who frees and who writes rows sees to it.
pub(super) fn set(existing: &Rows, rows: &mut Rows) {
    let touched = touched(existing, rows);
    for (index, row) in &mut rows.gateways {
        let epoch = existing.gateways.get(index).map_or(0, |row| row.epoch);
        // Epoch 0 is nobody's.
        row.epoch = if touched.contains(index) { epoch.wrapping_add(1).max(1) } else { epoch.max(1) };
    }
}

fn differ_by_epoch_only(a: &Gateway, b: &Gateway) -> bool {
    let mut b = *b;
    b.epoch = a.epoch;
    *a == b
}

/// The networks whose flows are to be judged again.
fn touched(existing: &Rows, rows: &Rows) -> BTreeSet<u32> {
    let mut touched = BTreeSet::new();
    for (index, row) in &rows.gateways {
        if !existing.gateways.get(index).is_some_and(|old| differ_by_epoch_only(old, row)) {
            touched.insert(*index);
        }
    }
    for table in JUDGED {
        Rows::compare(table, existing, rows, |before, after| {
            before.iter().for_each(|row| networks_of(row, existing, &mut touched));
            after.iter().for_each(|row| networks_of(row, rows, &mut touched));
        });
    }
    if !existing.public_address.keys().eq(rows.public_address.keys()) {
        // Whoever talks to an address that lives on this host has another way to it than to one that does not.
        touched.extend(with_public_side(existing).chain(with_public_side(rows)));
    }
    // What leads into a network depends on its stations, and on its ACL.
    let routes = existing.routes.iter().chain(&rows.routes);
    let into: Vec<_> = routes.filter(|(_, route)| touched.contains(&route.network)).collect();
    touched.extend(into.into_iter().map(|((_, key), _)| u32::from_be_bytes(key.network)));
    Rows::compare(Table::Routes, existing, rows, |before, after| {
        for row in before.iter().chain(&after) {
            networks_of(row, rows, &mut touched);
        }
    });
    touched
}

/// The networks whose connections a row has a say in; `rows` are those that it is one of.
fn networks_of(row: &Row, rows: &Rows, networks: &mut BTreeSet<u32>) {
    match row {
        Row::Networks(index, _) => drop(networks.insert(*index)),
        Row::Neighbours(key, _) => drop(networks.insert(key.network)),
        Row::Fdb(key, _) => drop(networks.insert(key.network)),
        Row::Ports(_, row) => drop(networks.insert(row.network)),
        Row::StaticNat(key, _) => drop(networks.insert(key.network)),
        // Another tier of its router that has the address too is counted with it: they route to each other.
        Row::PublicAddress(_, row) => drop(networks.insert(row.network)),
        Row::Routes((_, key), _) => drop(networks.insert(u32::from_be_bytes(key.network))),
        Row::Forwards((_, key), row) => {
            networks.insert(row.network);
            let key = PublicKey { side: u32::from_be_bytes(key.side), address: key.address };
            networks.extend(rows.public_address.get(&key).map(|row| row.network));
        }
        Row::Upstreams(index, _) => {
            let side = PUBLIC_SIDE | index;
            let addresses = rows.public_address.iter().filter(|(key, _)| key.side == side);
            networks.extend(addresses.map(|(_, row)| row.network));
        }
        _ => {}
    }
}

/// The networks whose connections to the public side leave from this host.
fn with_public_side(rows: &Rows) -> impl Iterator<Item = u32> {
    let shared = rows.gateways.iter().filter(|(_, row)| row.nat_place == nat_place::HERE).map(|(network, _)| *network);
    shared.chain(rows.static_nat.iter().filter(|(_, row)| row.place == nat_place::HERE).map(|(key, _)| key.network))
}
