//! `netpath show networks` and `netpath show drops`.

use std::collections::HashMap;

use netpath_common::{
    Address, DropReason, Mac,
    maps::{DropKey, name_kind, network_flags},
};
use serde::Serialize;

use super::{Only, counters, counters::Count, ports};
use crate::{
    cli::{
        Global,
        applied::{Applied, ipv4, segment},
        output,
        table::{Table, wrap},
    },
    error::Error,
};

/// A network with a member on this host.
#[derive(Debug, Serialize)]
struct NetworkRow {
    /// Its name.
    network: String,
    /// Its physical network.
    physical_network: String,
    /// `vxlan`, `vlan` or `untagged`.
    kind: &'static str,
    /// VNI or VLAN id.
    segment: Option<u32>,
    /// The largest IP packet in bytes.
    mtu: u16,
    /// Its IPv4 gateway.
    gateway: Option<String>,
    /// Its IPv6 gateway.
    gateway6: Option<String>,
    /// The gateway's MAC address.
    gateway_mac: Option<String>,
    /// What becomes of frames that no definition covers: `drop` or `pass`.
    on_miss: &'static str,
    /// Guest ports on this host, with those that wait.
    ports: usize,
    /// Frames on the guests' side.
    #[serde(flatten)]
    count: Count,
    /// Refused packets.
    dropped_packets: u64,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let rows = read(applied, only)?;
    output::print(global.output, &rows, || {
        let headings =
            ["NETWORK", "ON", "SEGMENT", ">MTU", "GATEWAY", ">PORTS", ">FROM GUEST", ">TO GUEST", ">DROPPED"];
        let mut table = Table::new(&headings);
        for row in &rows {
            let segment = row.segment.map_or_else(|| row.kind.to_owned(), |id| format!("{} {id}", row.kind));
            table.row([
                row.network.clone(),
                row.physical_network.clone(),
                segment,
                row.mtu.to_string(),
                row.gateway.clone().or_else(|| row.gateway6.clone()).unwrap_or_else(|| "-".to_owned()),
                row.ports.to_string(),
                row.count.cells()[0].clone(),
                row.count.cells()[2].clone(),
                row.dropped_packets.to_string(),
            ]);
        }
        table.render()
    })
}

fn read(applied: &Applied, only: Only<'_>) -> Result<Vec<NetworkRow>, Error> {
    let ports = ports::read(applied, only)?;
    let totals = counters::totals(applied, only, &ports)?;
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for port in &ports {
        *sizes.entry(&port.network).or_default() += 1;
    }
    let mut drops: HashMap<u32, u64> = HashMap::new();
    for (key, packets) in applied.tables.drops.rows()? {
        *drops.entry(key.network).or_default() += packets;
    }
    let table = applied.tables.networks.rows()?;
    let mut rows = Vec::new();
    for (index, name) in applied.names.all(name_kind::NETWORK) {
        let Some(network) = table.get(index as usize).filter(|_| only.wants(name)) else { continue };
        let (kind, _) = segment(network);
        rows.push(NetworkRow {
            network: name.to_owned(),
            physical_network: applied.names.physical_network(network.physical_network),
            kind,
            segment: matches!(kind, "vxlan" | "vlan").then_some(network.segment),
            mtu: network.mtu,
            gateway: ipv4(network.gateway_ip4).map(|address| address.to_string()),
            gateway6: (network.gateway_ip6 != Address::NONE).then(|| network.gateway_ip6.to_string()),
            gateway_mac: (network.gateway_mac != Mac::ZERO).then(|| network.gateway_mac.to_string()),
            on_miss: if network.flags & network_flags::ON_MISS_PASS != 0 { "pass" } else { "drop" },
            ports: sizes.get(name).copied().unwrap_or(0),
            count: totals.get(name).copied().unwrap_or_default().into(),
            dropped_packets: drops.get(&index).copied().unwrap_or(0),
        });
    }
    rows.sort_by(|a, b| a.network.cmp(&b.network));
    Ok(rows)
}

/// Packets refused for one reason in one network.
#[derive(Debug, Serialize)]
struct DropRow {
    /// The network; `null` where a packet was refused before its network was known.
    network: Option<String>,
    /// The reason's label.
    reason: String,
    /// How many.
    packets: u64,
    /// The reason in a sentence.
    explanation: &'static str,
}

pub(super) fn show_drops(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let mut rows: Vec<_> =
        applied.tables.drops.rows()?.into_iter().filter_map(|row| drop_row(applied, only, row)).collect();
    rows.sort_by(|a, b| (&a.network, &a.reason).cmp(&(&b.network, &b.reason)));
    output::print(global.output, &rows, || {
        let mut table = Table::new(&["NETWORK", "REASON", ">PACKETS"]);
        for row in &rows {
            let network = row.network.clone().unwrap_or_else(|| "-".to_owned());
            table.row([network, row.reason.clone(), row.packets.to_string()]);
        }
        // Each row is followed by its sentence.
        let text = table.render();
        let mut lines = text.lines();
        let heading = lines.next().map(|line| format!("{line}\n")).unwrap_or_default();
        let rows = lines.zip(&rows).map(|(line, row)| format!("{line}\n{}", wrap(row.explanation, 4)));
        heading + &rows.collect::<String>()
    })
}

fn drop_row(applied: &Applied, only: Only<'_>, (key, packets): (DropKey, u64)) -> Option<DropRow> {
    let network = (key.network != 0).then(|| applied.names.network(key.network));
    let is_wanted = only.wants(network.as_deref().unwrap_or("-"));
    let reason = DropReason::from_code(key.reason);
    (packets != 0 && is_wanted).then(|| DropRow {
        network,
        reason: reason.map_or_else(|| key.reason.to_string(), |reason| reason.label().to_owned()),
        packets,
        explanation: reason.map_or("A reason of another version of netpath.", DropReason::sentence),
    })
}
