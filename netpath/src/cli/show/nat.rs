//! `netpath show nat`: public addresses and what they are used for, where NAT is done, what of it is in use.

mod bindings;

use std::{collections::BTreeMap, net::Ipv4Addr};

use netpath_common::{
    DropReason, Mac,
    maps::{
        BLOCKS, Forward, ForwardKey, Gateway, GatewayState, POOL_PROTOCOLS, PublicAddress, PublicKey, StaticKey,
        StaticNat, forward_flags, gateway_flags, name_kind, nat_place,
    },
};
use serde::Serialize;

use self::bindings::{BindingRow, each};
use super::{Only, Which};
use crate::{
    cli::{
        Global,
        applied::{Applied, Names},
        output,
        table::Table,
        terms,
    },
    definitions::wire_mac,
    error::Error,
};

/// What `-o json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    networks: Vec<NetworkRow>,
    addresses: Vec<AddressRow>,
    /// `null` unless `--bindings` asks for them.
    bindings: Option<Vec<BindingRow>>,
}

/// A network whose gateway is netpath's.
#[derive(Debug, Serialize)]
struct NetworkRow {
    /// Its name.
    network: String,
    /// The host that does source NAT for it; `null` for none. On a VLAN its MAC address there, where no
    /// tunnel leads to it and its name is not known.
    nat_host: Option<String>,
    /// Rows of the flow table, two for each connection.
    flows: u64,
    /// The most that it may have.
    flow_limit: u32,
    /// Bindings.
    bindings: u64,
    /// Packets refused because no port was free.
    ports_exhausted: u64,
    /// Packets refused because the network has as many connections as it may have.
    connection_limit: u64,
}

/// A use of a public address.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct AddressRow {
    /// The network.
    network: String,
    /// The public address.
    address: Ipv4Addr,
    /// `source_nat`, `static_nat`, `port_forwarding`.
    kind: &'static str,
    /// Its public link; `null` where it lives on another host.
    link: Option<String>,
    /// The host that it lives on.
    host: Option<String>,
    /// The guest, for `static_nat` and `port_forwarding`.
    inside: Option<Ipv4Addr>,
    /// `tcp`, `udp`, for `port_forwarding`.
    protocol: Option<String>,
    /// The public port or range, for `port_forwarding`.
    ports: Option<String>,
    /// The guest's port; `null` where it is the public one.
    inside_port: Option<u16>,
    /// Only these sources, for `port_forwarding`; empty: all.
    sources: Vec<String>,
    /// Ports given out, for `source_nat`.
    used: Option<Used>,
}

/// Ports given out, by protocol.
#[derive(Debug, Default, Clone, Copy, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    tcp: u32,
    udp: u32,
    icmp: u32,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, which: &Which, global: &Global) -> Result<(), Error> {
    let reader = Reader::open(applied)?;
    let mut report = Report { networks: reader.networks(only)?, ..Report::default() };
    report.addresses = reader.addresses(only, which)?;
    if which.bindings {
        let mut rows = Vec::new();
        each(applied, only, which, |row| rows.push(row))?;
        report.bindings = Some(rows);
    }
    output::print(global.output, &report, || render(&report))
}

struct Reader<'a> {
    applied: &'a Applied,
    names: &'a Names,
    gateways: Vec<Gateway>,
    used: Vec<Used>,
}

impl<'a> Reader<'a> {
    fn open(applied: &'a Applied) -> Result<Self, Error> {
        let gateways = applied.tables.gateways.rows()?;
        let mut used = Vec::new();
        applied.tables.port_blocks.visit(|index, word| {
            let pool = (index / (POOL_PROTOCOLS * BLOCKS)) as usize;
            if used.len() <= pool {
                used.resize(pool + 1, Used::default());
            }
            let Used { tcp, udp, icmp } = &mut used[pool];
            *[tcp, udp, icmp][(index / BLOCKS % POOL_PROTOCOLS) as usize] += word.count_ones();
        })?;
        Ok(Self { applied, names: &applied.names, gateways, used })
    }

    /// Networks whose gateway is netpath's.
    fn routed(&self, only: Only<'a>) -> impl Iterator<Item = (u32, &'a str, &Gateway)> {
        let all = self.names.all(name_kind::NETWORK).into_iter();
        all.filter_map(move |(index, name)| {
            let gateway = self.gateways.get(index as usize)?;
            (only.wants(name) && gateway.flags & gateway_flags::ROUTES != 0).then_some((index, name, gateway))
        })
    }

    fn host(&self, place: u32, target: u32, mac: Mac) -> Option<String> {
        match place {
            nat_place::HERE => Some(self.names.host().unwrap_or("-").to_owned()),
            nat_place::TUNNEL => {
                let tunnel = self.names.tunnel(target);
                Some(tunnel.rsplit_once('/').map_or(tunnel.clone(), |(_, host)| host.to_owned()))
            }
            nat_place::UPLINK => Some(self.station(mac)),
            _ => None,
        }
    }

    /// The host with this address on a VLAN, of those that a tunnel leads to; else the address.
    fn station(&self, mac: Mac) -> String {
        let tunnels = self.names.all(name_kind::TUNNEL);
        let mut hosts = tunnels.iter().filter_map(|(_, name)| name.rsplit_once('/')).map(|(_, host)| host);
        hosts.find(|host| wire_mac(host) == mac).map_or_else(|| mac.to_string(), str::to_owned)
    }

    fn networks(&self, only: Only<'_>) -> Result<Vec<NetworkRow>, Error> {
        let mut refused: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (key, packets) in self.applied.tables.drops.rows()? {
            *refused.entry((key.network, key.reason)).or_default() += packets;
        }
        let mut rows = Vec::new();
        for (index, name, gateway) in self.routed(only) {
            let GatewayState { flows, bindings, .. } =
                self.applied.tables.gateway_state.get(index)?.unwrap_or_default();
            let count = |reason: DropReason| refused.get(&(index, reason as u32)).copied().unwrap_or(0);
            rows.push(NetworkRow {
                network: name.to_owned(),
                nat_host: self.host(gateway.nat_place, gateway.nat_target, gateway.nat_mac),
                flows,
                flow_limit: gateway.flow_limit,
                bindings,
                ports_exhausted: count(DropReason::PortsExhausted),
                connection_limit: count(DropReason::ConnectionLimit),
            });
        }
        rows.sort_by(|a, b| a.network.cmp(&b.network));
        Ok(rows)
    }

    fn addresses(&self, only: Only<'_>, which: &Which) -> Result<Vec<AddressRow>, Error> {
        let mut rows = Vec::new();
        for (_, name, gateway) in self.routed(only) {
            for address in gateway.pool.iter().take(gateway.pool_count as usize) {
                rows.push(AddressRow {
                    used: Some(self.used.get(address.pool as usize).copied().unwrap_or_default()),
                    ..self.row(name, "source_nat", address.address, Some(address.side))
                });
            }
        }
        for (key, row) in self.applied.tables.static_nat.rows()? {
            let name = self.names.network(key.network);
            rows.push(self.static_nat(&name, &key, &row));
        }
        let public: BTreeMap<PublicKey, PublicAddress> =
            self.applied.tables.public_address.rows()?.into_iter().collect();
        for (bits, key, forward) in merged(self.applied.tables.forwards.rows()?) {
            let at = PublicKey { side: u32::from_be_bytes(key.side), address: key.address };
            if forward.flags & forward_flags::RESERVED == 0 && public.contains_key(&at) {
                rows.push(self.forward(bits, &key, &forward)?);
            }
        }
        rows.retain(|row| {
            let inside = row.inside.unwrap_or(row.address).octets();
            only.wants(&row.network) && which.has(&[row.address.octets(), inside], &row.port_numbers(which.port))
        });
        rows.sort();
        Ok(rows)
    }

    fn row(&self, network: &str, kind: &'static str, address: [u8; 4], side: Option<u32>) -> AddressRow {
        AddressRow {
            network: network.to_owned(),
            address: address.into(),
            kind,
            link: side.map(|side| self.names.public_link(side & !netpath_common::maps::PUBLIC_SIDE)),
            host: side.and_then(|_| self.names.host().map(str::to_owned)),
            inside: None,
            protocol: None,
            ports: None,
            inside_port: None,
            sources: Vec::new(),
            used: None,
        }
    }

    fn static_nat(&self, network: &str, key: &StaticKey, row: &StaticNat) -> AddressRow {
        let is_here = row.place == nat_place::HERE;
        AddressRow {
            host: self.host(row.place, row.target, row.mac),
            inside: Some(key.address.into()),
            ..self.row(network, "static_nat", row.address, is_here.then_some(row.side))
        }
    }

    fn forward(&self, (first, last): (u16, u16), key: &ForwardKey, forward: &Forward) -> Result<AddressRow, Error> {
        let mut sources = Vec::new();
        for index in forward.sources_start..forward.sources_start + forward.sources_count {
            let rule = self.applied.tables.rules.get(index)?.unwrap_or_default();
            sources.push(terms::prefix(rule.source, rule.source_mask));
        }
        let side = u32::from_be_bytes(key.side);
        Ok(AddressRow {
            inside: Some(forward.address.into()),
            protocol: Some(terms::protocol(key.protocol[0].into())),
            ports: Some(terms::range(first, last)),
            inside_port: (forward.port != 0).then_some(forward.port),
            sources,
            ..self.row(&self.names.network(forward.network), "port_forwarding", key.address, Some(side))
        })
    }
}

impl AddressRow {
    /// The ports that a filter compares: `wanted` where it lies in the range.
    fn port_numbers(&self, wanted: Option<u16>) -> Vec<u16> {
        let bounds = self.ports.as_deref().map(|ports| ports.split_once('-').unwrap_or((ports, ports)));
        let range = bounds.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse::<u16>().ok()?));
        let inside = wanted.filter(|port| range.is_some_and(|range| range.contains(port)));
        inside.into_iter().chain(self.inside_port).collect()
    }

    /// What it leads to, in a line.
    fn use_text(&self) -> String {
        let inside = self.inside.map(|address| address.octets()).unwrap_or_default();
        let from = match self.sources.is_empty() {
            true => String::new(),
            false => format!(" from {}", self.sources.join(",")),
        };
        match (&self.protocol, &self.ports, self.used) {
            (Some(protocol), Some(ports), _) => {
                format!("{protocol} {ports} to {}{from}", terms::endpoint(inside, self.inside_port.unwrap_or(0)))
            }
            (.., Some(used)) => format!("ports given out: tcp {}, udp {}, icmp {}", used.tcp, used.udp, used.icmp),
            _ => format!("all to {}", terms::endpoint(inside, 0)),
        }
    }
}

/// Rows of FORWARDS that cover neighbouring ports and say the same are one range.
fn merged(rows: Vec<((u32, ForwardKey), Forward)>) -> Vec<((u16, u16), ForwardKey, Forward)> {
    let mut rows: Vec<_> =
        rows.into_iter().map(|((bits, key), row)| (terms::port_range(bits, &key), key, row)).collect();
    rows.sort_by_key(|((first, _), key, _)| (key.side, key.address, key.protocol, *first));
    let mut merged: Vec<((u16, u16), ForwardKey, Forward)> = Vec::new();
    for (range, key, row) in rows {
        let whose = |key: &ForwardKey| (key.side, key.address, key.protocol);
        match merged.last_mut() {
            Some((before, other, same))
                if whose(other) == whose(&key) && *same == row && before.1.checked_add(1) == Some(range.0) =>
            {
                before.1 = range.1;
            }
            _ => merged.push((range, key, row)),
        }
    }
    merged
}

fn render(report: &Report) -> String {
    let mut addresses = Table::new(&["NETWORK", "ADDRESS", "KIND", "HOST", "USE"]);
    for row in &report.addresses {
        let host = row.host.clone().unwrap_or_else(|| "-".to_owned());
        addresses.row([row.network.clone(), row.address.to_string(), row.kind.to_owned(), host, row.use_text()]);
    }
    let columns = ["NETWORK", "NAT HOST", ">FLOWS", ">LIMIT", ">BINDINGS", ">NO PORT", ">OVER LIMIT"];
    let mut networks = Table::new(&columns);
    for row in &report.networks {
        let host = row.nat_host.clone().unwrap_or_else(|| "-".to_owned());
        let numbers = [row.flows, row.flow_limit.into(), row.bindings, row.ports_exhausted, row.connection_limit];
        networks.row([row.network.clone(), host].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    let mut text = format!("{}\n{}", addresses.render(), networks.render());
    if let Some(rows) = &report.bindings {
        text.push('\n');
        text += &bindings::render(rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_takes_several_prefixes_is_shown_as_one() {
        let key = |port: u16, address| ForwardKey { port: port.to_be_bytes(), address, ..ForwardKey::default() };
        let row = |port| Forward { network: 1, port, ..Forward::default() };
        let (x, y) = ([198, 51, 100, 7], [198, 51, 100, 8]);
        let rows = vec![
            ((96, key(8084, x)), row(0)),
            ((94, key(8080, x)), row(0)),
            ((96, key(8085, x)), row(80)),
            ((96, key(8085, y)), row(0)),
        ];
        let merged: Vec<_> = merged(rows).into_iter().map(|(range, key, _)| (range, key.address)).collect();
        assert_eq!(merged, [((8080, 8084), x), ((8085, 8085), x), ((8085, 8085), y)]);
    }
}
