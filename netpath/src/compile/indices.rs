//! Indices by name: what has one keeps it, what is new takes the lowest free one.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use netpath_common::maps::{NameKey, name_kind};

use super::rows::Rows;

/// The indices of one kind of thing.
///
/// An index is free when NAMES has no row of it. What the zone no longer has keeps its row, and so its index, until the
/// loader has cleared all that belonged to it: an index never changes hands within one apply.
pub(super) struct Indices<'s> {
    kind: u32,
    known: HashMap<Cow<'s, str>, u32>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl<'s> Indices<'s> {
    /// The indices of `kind` as the rows in force have them; new ones count from `first`.
    pub(super) fn of(kind: u32, first: u32, existing: &'s Rows) -> Self {
        let range = NameKey { kind, index: 0 }..=NameKey { kind, index: u32::MAX };
        let rows = existing.names.range(range);
        let known = rows.clone().map(|(key, name)| (Cow::from(name), key.index)).collect();
        // Two rows of one name, as a crash between two applies could leave them, are both taken.
        let taken = rows.map(|(key, _)| key.index).collect();
        Self { kind, known, taken, next: first }
    }

    /// The index of `name`, whose row goes into `rows`.
    pub(super) fn index(&mut self, name: &str, rows: &mut Rows) -> u32 {
        let index = match self.known.get(name) {
            Some(index) => *index,
            None => {
                while self.taken.contains(&self.next) {
                    self.next += 1;
                }
                self.taken.insert(self.next);
                self.known.insert(name.to_owned().into(), self.next);
                self.next
            }
        };
        rows.names.insert(NameKey { kind: self.kind, index }, name.into());
        index
    }
}

/// Every kind that has indices.
pub(super) struct AllIndices<'s> {
    pub(super) networks: Indices<'s>,
    pub(super) ports: Indices<'s>,
    pub(super) tunnels: Indices<'s>,
    pub(super) physical_networks: Indices<'s>,
    pub(super) public_links: Indices<'s>,
    pub(super) port_pools: Indices<'s>,
    pub(super) meters: Indices<'s>,
    pub(super) accounts: Indices<'s>,
    pub(super) public_addresses: Indices<'s>,
}

impl<'s> AllIndices<'s> {
    /// Network 0 is none, and so are the others that count from 1; slots of COUNTERS and pools of PORT_BLOCKS count from 0.
    pub(super) fn of(existing: &'s Rows) -> Self {
        Self {
            networks: Indices::of(name_kind::NETWORK, 1, existing),
            ports: Indices::of(name_kind::PORT, 0, existing),
            tunnels: Indices::of(name_kind::TUNNEL, 1, existing),
            physical_networks: Indices::of(name_kind::PHYSICAL_NETWORK, 1, existing),
            public_links: Indices::of(name_kind::PUBLIC_LINK, 1, existing),
            port_pools: Indices::of(name_kind::PORT_POOL, 0, existing),
            meters: Indices::of(name_kind::METER, 1, existing),
            accounts: Indices::of(name_kind::ACCOUNT, 1, existing),
            public_addresses: Indices::of(name_kind::PUBLIC_ADDRESS, 1, existing),
        }
    }
}
