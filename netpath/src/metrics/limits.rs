//! Samples of limits, and of accounts and public addresses, which limits are for.

use std::{collections::HashMap, net::Ipv4Addr};

use netpath_common::maps::{
    Counters, FROM_GUEST, Limit, Meter, MeterEvents, PUBLIC_SIDE, TO_GUEST, meter_row, name_kind,
};

use super::{
    collect::{Reader, beyond, values},
    family::{self, Family},
};
use crate::{datapath::add, definitions::RateLimit, error::Error};

const ACCOUNT: [&Family; 4] = [
    family::ACCOUNT_TRANSMIT_PACKETS,
    family::ACCOUNT_TRANSMIT_BYTES,
    family::ACCOUNT_RECEIVE_PACKETS,
    family::ACCOUNT_RECEIVE_BYTES,
];
const ADDRESS: [&Family; 4] = [
    family::ADDRESS_TRANSMIT_PACKETS,
    family::ADDRESS_TRANSMIT_BYTES,
    family::ADDRESS_RECEIVE_PACKETS,
    family::ADDRESS_RECEIVE_BYTES,
];
const EVENTS: [&Family; 6] = [
    family::LIMIT_DROPPED_PACKETS,
    family::LIMIT_DROPPED_BYTES,
    family::LIMIT_MARKED_PACKETS,
    family::LIMIT_MARKED_BYTES,
    family::LIMIT_DELAYED_PACKETS,
    family::LIMIT_DELAYED_BYTES,
];

impl Reader<'_> {
    /// What each account carried: its networks, with these totals, and those that it had.
    pub(super) fn accounts(&mut self, networks: &HashMap<String, Counters>) -> Result<(), Error> {
        let accounts = self.named(name_kind::ACCOUNT);
        let retired = self.tables.retired_account.first_rows(beyond(&accounts))?;
        let mut totals: HashMap<String, Counters> = HashMap::new();
        for (network, account) in self.named(name_kind::OWNER) {
            if let Some(counters) = networks.get(&self.name(name_kind::NETWORK, network)) {
                let total = totals.entry(account).or_default();
                *total = add(total, counters);
            }
        }
        for (index, account) in accounts {
            let total = totals.get(&account).copied().unwrap_or_default();
            let total = add(&total, &retired.get(index as usize).copied().unwrap_or_default());
            for (family, value) in ACCOUNT.into_iter().zip(values(&total)) {
                self.exposition.add(family, &[&account], value);
            }
        }
        Ok(())
    }

    /// What passed through each public address that lives here.
    pub(super) fn addresses(&mut self) -> Result<(), Error> {
        let mut rows = self.tables.public_address.rows()?;
        rows.retain(|(_, row)| row.index != 0);
        rows.sort_unstable_by_key(|(key, _)| *key);
        let last = rows.iter().map(|(_, row)| row.index).max();
        let counters = self.tables.public_counters.first_sums(last.map_or(0, |last| usize::from(last) + 1))?;
        for (key, row) in rows {
            let link = self.name(name_kind::PUBLIC_LINK, key.side & !PUBLIC_SIDE);
            let (address, network) =
                (Ipv4Addr::from(key.address).to_string(), self.name(name_kind::NETWORK, row.network));
            let counted = counters.get(usize::from(row.index)).copied().unwrap_or_default();
            for (family, value) in ADDRESS.into_iter().zip(values(&counted)) {
                self.exposition.add(family, &[&link, &address, &network], value);
            }
        }
        Ok(())
    }

    /// Each limit, what it let pass and what became of packets because of it. NICs are many, and what passes them is counted
    /// anyway: of theirs, only what has happened.
    pub(super) fn limits(&mut self) -> Result<(), Error> {
        let meters = self.named(name_kind::METER);
        let rows = 2 * beyond(&meters);
        let limits: Vec<Limit> = self.tables.limits.first_rows(rows)?;
        let passed: Vec<Meter> = self.tables.meters.first_rows(rows)?;
        let events: Vec<MeterEvents> = self.tables.meter_events.first_rows(rows)?;
        let (nics, others): (Vec<_>, Vec<_>) = meters.iter().partition(|(_, title)| title.starts_with("nic "));
        for (meter, title) in others.into_iter().chain(nics) {
            let (object, name) = title.split_once(' ').unwrap_or((title, ""));
            for (direction, word) in [(FROM_GUEST, "from_guest"), (TO_GUEST, "to_guest")] {
                let row = meter_row(*meter, direction) as usize;
                let Some(limit) = limits.get(row).and_then(RateLimit::of_row) else { continue };
                let labels = [object, name, word];
                let is_nic = object == "nic";
                let mut add = |family, value: u64| match is_nic {
                    true => self.exposition.add_bounded(family, &labels, value as f64),
                    false => self.exposition.add(family, &labels, value as f64),
                };
                add(family::LIMIT, limit.bits_per_second / 8);
                if !is_nic {
                    add(family::LIMIT_PASSED_BYTES, passed.get(row).map_or(0, |meter| meter.passed));
                }
                let happened = events.get(row).copied().unwrap_or_default();
                if !is_nic || happened != MeterEvents::default() {
                    EVENTS.into_iter().zip(numbers(&happened)).for_each(|(family, value)| add(family, value));
                }
            }
        }
        Ok(())
    }
}

/// As [`EVENTS`] has them.
fn numbers(events: &MeterEvents) -> [u64; 6] {
    let MeterEvents { dropped_packets, dropped_bytes, marked_packets, marked_bytes, delayed_packets, delayed_bytes } =
        *events;
    [dropped_packets, dropped_bytes, marked_packets, marked_bytes, delayed_packets, delayed_bytes]
}
