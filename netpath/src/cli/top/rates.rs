//! Two readings of what NICs carried, and the rates in between.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use netpath_common::maps::Counters;
use serde::Serialize;

use super::rows::{Cell, Column, Key, Row};

/// Everything that is counted for networks and NICs at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Monotonic clock.
    pub(super) at_ns: u64,
    pub(super) networks: Vec<NetworkCount>,
    pub(super) nics: Vec<NicCount>,
}

/// What is counted for a network.
#[derive(Debug, Clone)]
pub(super) struct NetworkCount {
    pub(super) name: Arc<str>,
    /// Rows of the flow table.
    pub(super) flows: u64,
    /// Refused packets.
    pub(super) drops: u64,
}

/// What is counted for a NIC.
#[derive(Debug, Clone)]
pub(super) struct NicCount {
    /// `network/instance/mac`.
    pub(super) name: Arc<str>,
    pub(super) device: Option<String>,
    pub(super) counters: Counters,
}

/// What passes in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) bits: u64,
    pub(super) packets: u64,
}

impl Rate {
    /// So much within a time.
    pub(super) fn of(bytes: u64, packets: u64, elapsed_ns: u64) -> Self {
        Self { bits: per_second(bytes.saturating_mul(8), elapsed_ns), packets: per_second(packets, elapsed_ns) }
    }
}

fn per_second(number: u64, elapsed_ns: u64) -> u64 {
    let rate = u128::from(number) * 1_000_000_000 / u128::from(elapsed_ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A network's rates: those of its NICs on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NetworkRow {
    pub(super) network: Arc<str>,
    pub(super) nics: u64,
    pub(super) flows: u64,
    pub(super) bits_per_second: u64,
    pub(super) from_guest_bits_per_second: u64,
    pub(super) from_guest_packets_per_second: u64,
    pub(super) to_guest_bits_per_second: u64,
    pub(super) to_guest_packets_per_second: u64,
    pub(super) drops_per_second: u64,
}

/// A NIC's rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NicRow {
    #[serde(skip)]
    pub(super) name: Arc<str>,
    pub(super) network: String,
    pub(super) instance: String,
    pub(super) mac: String,
    /// `null` while it waits for one.
    pub(super) device: Option<String>,
    pub(super) bits_per_second: u64,
    pub(super) from_guest_bits_per_second: u64,
    pub(super) from_guest_packets_per_second: u64,
    pub(super) to_guest_bits_per_second: u64,
    pub(super) to_guest_packets_per_second: u64,
}

impl Row for NetworkRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("network", "NETWORK", 12).growing(),
        Column::new("nics", ">NICS", 5),
        Column::new("flows", ">FLOWS", 7),
        Column::new("bits", ">BIT/S", 7),
        Column::new("from_guest_bits", ">FROM", 7),
        Column::new("from_guest_packets", ">PKT/S", 7),
        Column::new("to_guest_bits", ">TO", 7),
        Column::new("to_guest_packets", ">PKT/S", 7),
        Column::new("drops", ">DROP/S", 7),
    ];

    fn cell(&self, column: usize) -> Cell {
        match column {
            0 => Cell::Text(self.network.to_string()),
            1 => Cell::Number(self.nics),
            2 => Cell::Number(self.flows),
            3 => Cell::Rate(self.bits_per_second),
            4 => Cell::Rate(self.from_guest_bits_per_second),
            5 => Cell::Rate(self.from_guest_packets_per_second),
            6 => Cell::Rate(self.to_guest_bits_per_second),
            7 => Cell::Rate(self.to_guest_packets_per_second),
            _ => Cell::Rate(self.drops_per_second),
        }
    }

    fn key(&self) -> Key {
        Key::Network(self.network.clone())
    }

    fn order(&self, other: &Self) -> Ordering {
        self.network.cmp(&other.network)
    }
}

impl Row for NicRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("network", "NETWORK", 12).growing(),
        Column::new("instance", "INSTANCE", 10).growing(),
        Column::new("device", "DEVICE", 9),
        Column::new("mac", "MAC", 17).on_wide(100),
        Column::new("bits", ">BIT/S", 7),
        Column::new("from_guest_bits", ">FROM", 7),
        Column::new("from_guest_packets", ">PKT/S", 7),
        Column::new("to_guest_bits", ">TO", 7),
        Column::new("to_guest_packets", ">PKT/S", 7),
    ];

    fn cell(&self, column: usize) -> Cell {
        match column {
            0 => Cell::Text(self.network.clone()),
            1 => Cell::Text(self.instance.clone()),
            2 => Cell::Text(self.device.clone().unwrap_or_else(|| "-".to_owned())),
            3 => Cell::Text(self.mac.clone()),
            4 => Cell::Rate(self.bits_per_second),
            5 => Cell::Rate(self.from_guest_bits_per_second),
            6 => Cell::Rate(self.from_guest_packets_per_second),
            7 => Cell::Rate(self.to_guest_bits_per_second),
            _ => Cell::Rate(self.to_guest_packets_per_second),
        }
    }

    fn key(&self) -> Key {
        Key::Nic(self.name.clone())
    }

    fn order(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

/// The rates of everything between two samples. What is new, or was counted anew, has none yet.
pub(super) fn between(before: &Sample, now: &Sample) -> (Vec<NetworkRow>, Vec<NicRow>) {
    let elapsed = now.at_ns.saturating_sub(before.at_ns);
    let old_nics: HashMap<&str, &Counters> = before.nics.iter().map(|nic| (&*nic.name, &nic.counters)).collect();
    let old_drops: HashMap<&str, u64> = before.networks.iter().map(|network| (&*network.name, network.drops)).collect();
    let mut networks: Vec<NetworkRow> = now
        .networks
        .iter()
        .map(|network| {
            let drops = old_drops.get(&*network.name).and_then(|old| network.drops.checked_sub(*old)).unwrap_or(0);
            NetworkRow {
                network: network.name.clone(),
                nics: 0,
                flows: network.flows,
                bits_per_second: 0,
                from_guest_bits_per_second: 0,
                from_guest_packets_per_second: 0,
                to_guest_bits_per_second: 0,
                to_guest_packets_per_second: 0,
                drops_per_second: per_second(drops, elapsed),
            }
        })
        .collect();
    let places: HashMap<Arc<str>, usize> =
        networks.iter().enumerate().map(|(place, row)| (row.network.clone(), place)).collect();
    let mut nics = Vec::with_capacity(now.nics.len());
    for nic in &now.nics {
        let passed = old_nics.get(&*nic.name).and_then(|old| difference(&nic.counters, old)).unwrap_or_default();
        let row = NicRow::of(nic, &passed, elapsed);
        if let Some(place) = places.get(row.network.as_str()) {
            networks[*place].add(&row);
        }
        nics.push(row);
    }
    (networks, nics)
}

/// `None` where one of them has gone back.
fn difference(now: &Counters, old: &Counters) -> Option<Counters> {
    let mut left = *now;
    left.from_guest_packets = now.from_guest_packets.checked_sub(old.from_guest_packets)?;
    left.from_guest_bytes = now.from_guest_bytes.checked_sub(old.from_guest_bytes)?;
    left.to_guest_packets = now.to_guest_packets.checked_sub(old.to_guest_packets)?;
    left.to_guest_bytes = now.to_guest_bytes.checked_sub(old.to_guest_bytes)?;
    Some(left)
}

impl NicRow {
    fn of(nic: &NicCount, passed: &Counters, elapsed_ns: u64) -> Self {
        let mut parts = nic.name.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let from = Rate::of(passed.from_guest_bytes, passed.from_guest_packets, elapsed_ns);
        let to = Rate::of(passed.to_guest_bytes, passed.to_guest_packets, elapsed_ns);
        Self {
            name: nic.name.clone(),
            network: part(),
            instance: part(),
            mac: part(),
            device: nic.device.clone(),
            bits_per_second: from.bits.saturating_add(to.bits),
            from_guest_bits_per_second: from.bits,
            from_guest_packets_per_second: from.packets,
            to_guest_bits_per_second: to.bits,
            to_guest_packets_per_second: to.packets,
        }
    }
}

impl NetworkRow {
    fn add(&mut self, nic: &NicRow) {
        self.nics += 1;
        for (sum, part) in [
            (&mut self.bits_per_second, nic.bits_per_second),
            (&mut self.from_guest_bits_per_second, nic.from_guest_bits_per_second),
            (&mut self.from_guest_packets_per_second, nic.from_guest_packets_per_second),
            (&mut self.to_guest_bits_per_second, nic.to_guest_bits_per_second),
            (&mut self.to_guest_packets_per_second, nic.to_guest_packets_per_second),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, sent: u64, got: u64) -> NicCount {
        let counters = Counters {
            from_guest_packets: sent / 100,
            from_guest_bytes: sent,
            to_guest_packets: got / 100,
            to_guest_bytes: got,
        };
        NicCount { name: name.into(), device: Some("vnet0".into()), counters }
    }

    fn network(name: &str, drops: u64) -> NetworkCount {
        NetworkCount { name: name.into(), flows: 4, drops }
    }

    fn sample(at_ns: u64, drops: u64, nics: Vec<NicCount>) -> Sample {
        Sample { at_ns, networks: vec![network("web", drops), network("db", 0)], nics }
    }

    #[test]
    fn a_rate_is_what_came_between_two_samples_by_the_time_between_them() {
        let before = sample(1_000_000_000, 10, vec![nic("web/a/m1", 1000, 0), nic("web/b/m2", 0, 0)]);
        let now = sample(3_000_000_000, 30, vec![nic("web/a/m1", 5000, 400), nic("web/b/m2", 2000, 0)]);
        let (networks, nics) = between(&before, &now);
        assert_eq!((nics[0].from_guest_bits_per_second, nics[0].from_guest_packets_per_second), (16_000, 20));
        assert_eq!((nics[0].to_guest_bits_per_second, nics[0].bits_per_second), (1600, 17_600));
        assert_eq!((&*nics[0].network, &*nics[0].instance, &*nics[0].mac), ("web", "a", "m1"));
        let web = &networks[0];
        assert_eq!((web.nics, web.bits_per_second, web.from_guest_packets_per_second), (2, 25_600, 30));
        assert_eq!((web.drops_per_second, web.flows), (10, 4));
        assert_eq!((networks[1].nics, networks[1].bits_per_second), (0, 0));
    }

    #[test]
    fn what_is_new_or_counted_anew_or_of_the_same_moment_has_no_rate_and_overflows_nothing() {
        let before = sample(0, 10, vec![nic("web/a/m1", 1000, 0)]);
        let now = sample(1_000_000_000, 3, vec![nic("web/a/m1", 500, 0), nic("web/b/m2", 9000, 0)]);
        let (networks, nics) = between(&before, &now);
        assert!(nics.iter().all(|nic| nic.bits_per_second == 0), "{nics:?}");
        assert_eq!((networks[0].bits_per_second, networks[0].drops_per_second), (0, 0));
        assert_eq!(Rate::of(u64::MAX, u64::MAX, 0), Rate { bits: u64::MAX, packets: u64::MAX });
    }
}
