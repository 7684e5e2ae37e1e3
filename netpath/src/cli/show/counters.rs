//! `netpath show counters`: what each port and network carried.

use std::collections::BTreeMap;

use netpath_common::maps::{Counters, name_kind};
use serde::Serialize;

use super::{
    Only,
    ports::{self, GuestPort},
};
use crate::{
    cli::{Global, applied::Applied, output, table::Table},
    datapath::add,
    error::Error,
};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Each guest port.
    ports: Vec<PortRow>,
    /// Each network: its ports, and those it had before.
    networks: Vec<NetworkRow>,
}

#[derive(Debug, Serialize)]
struct PortRow {
    network: String,
    instance: String,
    mac: String,
    device: Option<String>,
    #[serde(flatten)]
    count: Count,
}

#[derive(Debug, Serialize)]
struct NetworkRow {
    network: String,
    #[serde(flatten)]
    count: Count,
}

/// Frames on the guest's side, without the frame check sequence.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Count {
    /// Frames that guests sent and netpath accepted.
    from_guest_packets: u64,
    /// Their bytes.
    from_guest_bytes: u64,
    /// Frames delivered to guests.
    to_guest_packets: u64,
    /// Their bytes.
    to_guest_bytes: u64,
}

impl From<Counters> for Count {
    fn from(counters: Counters) -> Self {
        let Counters { from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes, .. } = counters;
        Self { from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes }
    }
}

impl Count {
    /// Four cells of a table.
    pub(super) fn cells(self) -> [String; 4] {
        [self.from_guest_packets, self.from_guest_bytes, self.to_guest_packets, self.to_guest_bytes]
            .map(|number| number.to_string())
    }
}

pub(super) fn show(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let ports = ports::read(applied, only)?;
    let totals = totals(applied, only, &ports)?;
    let networks = totals.into_iter().map(|(network, counters)| NetworkRow { network, count: counters.into() });
    let networks = networks.collect();
    let row = |port: GuestPort| {
        let count = applied.tables.counters.sum(port.slot)?.into();
        Ok(PortRow { network: port.network, instance: port.instance, mac: port.mac, device: port.device, count })
    };
    let report = Report { ports: ports.into_iter().map(row).collect::<Result<_, Error>>()?, networks };
    output::print(global.output, &report, || render(&report))
}

/// The counters of each network: the sum of its ports', and what is kept of those that are gone.
pub(super) fn totals(
    applied: &Applied,
    only: Only<'_>,
    ports: &[GuestPort],
) -> Result<BTreeMap<String, Counters>, Error> {
    let mut totals = BTreeMap::new();
    for (index, network) in applied.names.all(name_kind::NETWORK) {
        if only.wants(network) {
            totals.insert(network.to_owned(), applied.tables.retired.get(index)?.unwrap_or_default());
        }
    }
    for port in ports {
        let counters = applied.tables.counters.sum(port.slot)?;
        let total = totals.entry(port.network.clone()).or_default();
        *total = add(total, &counters);
    }
    Ok(totals)
}

fn render(report: &Report) -> String {
    let columns = [">FROM GUEST", ">BYTES", ">TO GUEST", ">BYTES"];
    let mut table = Table::new(&[&["NETWORK", "INSTANCE", "DEVICE"][..], &columns].concat());
    for port in &report.ports {
        let device = port.device.clone().unwrap_or_else(|| "-".to_owned());
        table.row([port.network.clone(), port.instance.clone(), device].into_iter().chain(port.count.cells()));
    }
    let mut totals = Table::new(&[&["NETWORK"][..], &columns].concat());
    for network in &report.networks {
        totals.row([network.network.clone()].into_iter().chain(network.count.cells()));
    }
    format!("{}\n{}", table.render(), totals.render())
}
