//! `netpath show limits`: each limit with the way in which it is kept, and what became of packets because of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use netpath_common::{
    maps::{
        FROM_GUEST, Limit, Meter, PUBLIC_SIDE, TO_GUEST, meter_row, name_kind, network_flags, segment_flags,
        segment_kind, tunnel_flags, uplink_flags, upstream_flags,
    },
    stage::meter::{SECOND, TICKS},
};
use serde::Serialize;

use super::Only;
use crate::{
    cli::{Global, applied::Applied, output, table::Table, terms},
    definitions::{Rate, RateLimit},
    error::Error,
};

/// A limit in one direction.
#[derive(Debug, Serialize)]
struct Row {
    /// `nic`, `network`, `account`, `address`.
    object: String,
    /// Of a NIC `network/instance/mac`, of an address `link/address`, else its name.
    name: String,
    /// The network; `null` for an account.
    network: Option<String>,
    /// `from_guest`, `to_guest`.
    direction: &'static str,
    /// Bits per second.
    rate: u64,
    burst_bytes: u64,
    /// `paced`: packets above the rate wait for their time, on all devices that lead to a wire, `policed`: they are dropped;
    /// `mixed`.
    way: &'static str,
    /// Devices on which packets wait.
    paced_devices: Vec<String>,
    /// Bits per second of late.
    current: u64,
    /// The most bits that passed in a second.
    peak: u64,
    dropped_packets: u64,
    dropped_bytes: u64,
    marked_packets: u64,
    marked_bytes: u64,
    delayed_packets: u64,
    delayed_bytes: u64,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let rows = read(applied, only)?;
    output::print(global.output, &rows, || render(&rows))
}

fn read(applied: &Applied, only: Only<'_>) -> Result<Vec<Row>, Error> {
    let ways = Ways::of(applied)?;
    let tables = &applied.tables;
    let now = terms::now_ns() * TICKS;
    let mut meters: Vec<_> = applied.names.all(name_kind::METER);
    let order = ["nic", "network", "account", "address"];
    meters.sort_by_key(|(_, name)| {
        let kind = name.split(' ').next().unwrap_or_default();
        (order.iter().position(|known| *known == kind), *name)
    });
    let mut rows = Vec::new();
    for (meter, title) in meters {
        let (object, name) = title.split_once(' ').unwrap_or((title, ""));
        let networks = ways.networks(object, name);
        if only.0.is_some_and(|wanted| !networks.contains(wanted)) {
            continue;
        }
        for (direction, word) in [(FROM_GUEST, "from_guest"), (TO_GUEST, "to_guest")] {
            let row = meter_row(meter, direction);
            let limit: Limit = tables.limits.get(row)?.unwrap_or_default();
            let Some(limit) = RateLimit::of_row(&limit) else { continue };
            let measured = tables.meters.get(row)?.unwrap_or_default();
            let events = tables.meter_events.get(row)?.unwrap_or_default();
            let devices = if direction == FROM_GUEST { ways.devices(object, name, &networks) } else { BTreeMap::new() };
            rows.push(Row {
                object: object.to_owned(),
                name: name.to_owned(),
                network: networks.first().filter(|_| object != "account").cloned(),
                direction: word,
                rate: limit.bits_per_second,
                burst_bytes: limit.burst,
                way: way(&devices),
                paced_devices: devices.into_iter().filter(|(_, is_paced)| *is_paced).map(|(name, _)| name).collect(),
                current: current(&measured, now) * 8,
                peak: measured.peak.max(in_window(&measured)) * 8,
                dropped_packets: events.dropped_packets,
                dropped_bytes: events.dropped_bytes,
                marked_packets: events.marked_packets,
                marked_bytes: events.marked_bytes,
                delayed_packets: events.delayed_packets,
                delayed_bytes: events.delayed_bytes,
            });
        }
    }
    Ok(rows)
}

fn way(devices: &BTreeMap<String, bool>) -> &'static str {
    match (devices.values().any(|is_paced| *is_paced), devices.values().all(|is_paced| *is_paced)) {
        (true, true) => "paced",
        (true, false) => "mixed",
        _ => "policed",
    }
}

/// Bytes of the last whole second: the one that was measured last, or where nothing has come since, the one that began then.
fn current(meter: &Meter, now: u64) -> u64 {
    match now.saturating_sub(meter.window_start) {
        ..SECOND => meter.rate,
        elapsed if elapsed < 2 * SECOND => in_window(meter),
        _ => 0,
    }
}

/// Bytes of the second that is being measured: what comes after it begins another one.
const fn in_window(meter: &Meter) -> u64 {
    if meter.window_start == 0 { 0 } else { meter.passed.saturating_sub(meter.window_passed) }
}

/// Through which devices frames of networks leave the host, and which of those keep them until their time.
struct Ways {
    /// By network.
    uplinks: HashMap<String, BTreeMap<String, bool>>,
    /// By `link/address`: the network, and the device.
    addresses: HashMap<String, (String, (String, bool))>,
    /// Networks by account.
    accounts: HashMap<String, BTreeSet<String>>,
}

impl Ways {
    fn of(applied: &Applied) -> Result<Self, Error> {
        let Applied { tables, names, .. } = applied;
        let networks = tables.networks.rows()?;
        let own: BTreeSet<u32> = tables
            .uplinks
            .rows()?
            .into_iter()
            .filter(|(_, row)| row.flags & uplink_flags::TUNNEL_DEVICE != 0)
            .map(|(key, _)| key.ifindex)
            .collect();
        let tunnels = tables.tunnels.rows()?;
        let paced: BTreeSet<String> = names
            .all(name_kind::TUNNEL)
            .into_iter()
            .filter(|(index, _)| tunnels.get(*index as usize).is_some_and(|row| row.flags & tunnel_flags::PACED != 0))
            .filter_map(|(_, name)| Some(name.split_once('/')?.0.to_owned()))
            .collect();
        let mut uplinks: HashMap<String, BTreeMap<String, bool>> = HashMap::new();
        for (key, segment) in tables.segments.rows()? {
            if segment.flags & segment_flags::PUBLIC != 0 || own.contains(&key.ifindex) {
                continue;
            }
            let Some(row) = networks.get(segment.network as usize) else { continue };
            let is_paced = match row.kind {
                segment_kind::VXLAN => paced.contains(&names.physical_network(row.physical_network)),
                _ => row.flags & network_flags::PACED != 0,
            };
            let devices = uplinks.entry(names.network(segment.network)).or_default();
            devices.insert(names.device(key.ifindex), is_paced);
        }
        let links = tables.upstreams.rows()?;
        let mut addresses = HashMap::new();
        for (key, row) in tables.public_address.rows()? {
            let link = key.side & !PUBLIC_SIDE;
            let Some(upstream) = links.get(link as usize) else { continue };
            let device = (names.device(upstream.ifindex), upstream.flags & upstream_flags::PACED != 0);
            let network = names.network(row.network);
            uplinks.entry(network.clone()).or_default().insert(device.0.clone(), device.1);
            let title = format!("{}/{}", names.public_link(link), std::net::Ipv4Addr::from(key.address));
            addresses.insert(title, (network, device));
        }
        let mut accounts: HashMap<String, BTreeSet<String>> = HashMap::new();
        for (index, account) in names.all(name_kind::OWNER) {
            accounts.entry(account.to_owned()).or_default().insert(names.network(index));
        }
        Ok(Self { uplinks, addresses, accounts })
    }

    /// The networks that a limit concerns.
    fn networks(&self, object: &str, name: &str) -> BTreeSet<String> {
        match object {
            "account" => self.accounts.get(name).cloned().unwrap_or_default(),
            "address" => self.addresses.get(name).map(|(network, _)| network.clone()).into_iter().collect(),
            _ => [name.split('/').next().unwrap_or(name).to_owned()].into(),
        }
    }

    /// The devices through which what is under a limit leaves the host.
    fn devices(&self, object: &str, name: &str, networks: &BTreeSet<String>) -> BTreeMap<String, bool> {
        if object == "address" {
            return self.addresses.get(name).map(|(_, device)| device.clone()).into_iter().collect();
        }
        networks
            .iter()
            .filter_map(|network| self.uplinks.get(network))
            .flatten()
            .map(|(n, p)| (n.clone(), *p))
            .collect()
    }
}

/// A table for each kind of limit; bursts are in the document for programs only, for names take the room.
fn render(rows: &[Row]) -> String {
    let kinds = [("nic", "NIC"), ("network", "NETWORK"), ("account", "ACCOUNT"), ("address", "ADDRESS")];
    let of = |(kind, heading)| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.object == kind).collect();
        (!rows.is_empty()).then(|| table(heading, &rows))
    };
    kinds.into_iter().filter_map(of).collect::<Vec<_>>().join("\n")
}

fn table(heading: &'static str, rows: &[&Row]) -> String {
    let headings = [heading, "FROM/TO", ">RATE", "WAY", ">NOW", ">PEAK", ">DROPPED", ">MARKED", ">DELAYED"];
    let mut table = Table::new(&headings);
    let rate = |bits: u64| match bits {
        0 => "0".to_owned(),
        // Measured rates are no round numbers.
        1_000_000.. => format!("{:.1}Mbps", bits as f64 / 1e6),
        _ => format!("{:.1}kbps", bits as f64 / 1e3),
    };
    for row in rows {
        let name = match (row.object.as_str(), row.name.rsplit_once('/')) {
            ("nic", Some((nic, _mac))) => nic,
            ("address", Some((_link, address))) => address,
            _ => &row.name,
        };
        let way = match row.paced_devices.join(",") {
            devices if devices.is_empty() => row.way.to_owned(),
            devices => format!("{} {devices}", row.way),
        };
        table.row([
            name.to_owned(),
            row.direction.trim_end_matches("_guest").to_owned(),
            Rate::BitsPerSecond(row.rate).to_string(),
            way,
            rate(row.current),
            rate(row.peak),
            row.dropped_packets.to_string(),
            row.marked_packets.to_string(),
            row.delayed_packets.to_string(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_whole_second_and_nothing_once_nothing_has_come_in_one() {
        let meter = Meter { passed: 5000, window_start: SECOND, window_passed: 1000, rate: 777, ..Meter::default() };
        assert_eq!(current(&meter, 2 * SECOND - 1), 777);
        assert_eq!(current(&meter, 2 * SECOND), 4000);
        assert_eq!(current(&meter, 3 * SECOND), 0);
        assert_eq!(current(&meter, 0), 777, "the clock of the data path may be a moment ahead");
        assert_eq!(current(&Meter::default(), 5 * SECOND), 0);
    }

    #[test]
    fn the_way_is_told_by_all_devices() {
        let devices = |all: &[(&str, bool)]| way(&all.iter().map(|(name, paced)| ((*name).into(), *paced)).collect());
        assert_eq!(devices(&[]), "policed");
        assert_eq!(devices(&[("eth1", false)]), "policed");
        assert_eq!(devices(&[("eth1", true)]), "paced");
        assert_eq!(devices(&[("eth1", true), ("eth2", false)]), "mixed");
    }
}
