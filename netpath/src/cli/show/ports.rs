//! `netpath show ports`.

use std::collections::HashMap;

use netpath_common::{
    Address,
    maps::{Port, name_kind, port_flags},
};
use serde::Serialize;

use super::Only;
use crate::{
    cli::{
        Global,
        applied::{Applied, ipv4},
        output,
        table::Table,
    },
    error::Error,
};

/// A guest port, in force or waiting for its device.
#[derive(Debug, Serialize)]
pub(super) struct GuestPort {
    /// Its network.
    pub(super) network: String,
    /// The instance that it belongs to.
    pub(super) instance: String,
    /// The NIC's MAC address.
    pub(super) mac: String,
    /// Its addresses, the first ones first.
    addresses: Vec<String>,
    /// Its device; `null` while it waits for one.
    pub(super) device: Option<String>,
    /// `in_force`, `waiting` for its device, or `detached` after `netpath detach`.
    state: &'static str,
    /// Its sources are not checked.
    trusted: bool,
    /// Row of COUNTERS.
    #[serde(skip)]
    pub(super) slot: u32,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let ports = read(applied, only)?;
    output::print(global.output, &ports, || {
        let mut table = Table::new(&["NETWORK", "INSTANCE", "MAC", "DEVICE", "ADDRESSES", "STATE"]);
        for port in &ports {
            let state = if port.trusted { format!("{}, trusted", port.state) } else { port.state.to_owned() };
            table.row([
                port.network.clone(),
                port.instance.clone(),
                port.mac.clone(),
                port.device.clone().unwrap_or_else(|| "-".to_owned()),
                port.addresses.join(" "),
                state,
            ]);
        }
        table.render()
    })
}

/// Every port that has a name, by name.
pub(super) fn read(applied: &Applied, only: Only<'_>) -> Result<Vec<GuestPort>, Error> {
    let rows: HashMap<u32, Port> = applied.tables.ports.rows()?.into_iter().map(|(_, p)| (p.slot, p)).collect();
    let mut more: HashMap<u32, Vec<String>> = HashMap::new();
    for (key, _) in applied.tables.addresses.rows()? {
        more.entry(key.ifindex).or_default().push(key.address.to_string());
    }
    let mut ports = Vec::new();
    for (slot, name) in applied.names.all(name_kind::PORT) {
        let (network, instance, mac) = parts(name);
        if !only.wants(network) {
            continue;
        }
        let row = rows.get(&slot);
        let mut addresses: Vec<String> = row.map(addresses).unwrap_or_default();
        if let Some(further) = row.and_then(|row| more.get_mut(&row.ifindex)) {
            further.sort();
            addresses.append(further);
        }
        ports.push(GuestPort {
            network: network.to_owned(),
            instance: instance.to_owned(),
            mac: mac.to_owned(),
            addresses,
            device: row.map(|row| applied.names.device(row.ifindex)),
            state: match row {
                Some(row) if applied.is_in_force(row) => "in_force",
                Some(_) => "detached",
                None => "waiting",
            },
            trusted: row.is_some_and(|row| row.flags & port_flags::TRUSTED != 0),
            slot,
        });
    }
    ports.sort_by(|a, b| (&a.network, &a.instance, &a.mac).cmp(&(&b.network, &b.instance, &b.mac)));
    Ok(ports)
}

fn addresses(port: &Port) -> Vec<String> {
    let v4 = ipv4(port.ip4).map(|address| address.to_string());
    let v6 = (port.ip6 != Address::NONE).then(|| port.ip6.to_string());
    v4.into_iter().chain(v6).collect()
}

/// The parts of `network/instance/mac`.
fn parts(name: &str) -> (&str, &str, &str) {
    let (network, rest) = name.split_once('/').unwrap_or((name, ""));
    let (instance, mac) = rest.rsplit_once('/').unwrap_or((rest, ""));
    (network, instance, mac)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_name_comes_apart() {
        let parts = super::parts("acme-web/web-1/02:00:0a:01:01:0b");
        assert_eq!(parts, ("acme-web", "web-1", "02:00:0a:01:01:0b"));
    }
}
