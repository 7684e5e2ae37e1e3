//! How full maps are, what of its limits each network has, and what the data path has learned.

use std::{collections::BTreeMap, ops::ControlFlow};

use netpath_common::{
    DropReason,
    clock::since,
    maps::{MapShape, NameKey, flow_flags, name_kind, shape},
    stage::tcp,
};

use crate::{
    compile::{Rows, Table},
    datapath::{self, DatapathError, Root, Tables},
    doctor::host::{Connections, Fill, Portless},
};

/// A number for each network, by its index.
pub(super) type ByNetwork = BTreeMap<u32, u64>;

/// Every map that refuses newcomers when it is full. Those that drop their oldest row instead are full as a rule.
pub(super) fn fills(
    root: &Root,
    tables: &Tables,
    existing: &Rows,
    live: &ByNetwork,
) -> Result<Vec<Fill>, DatapathError> {
    let mut fills = Vec::new();
    let mut add = |shape: &'static MapShape, rows: usize| -> Result<(), DatapathError> {
        let capacity = datapath::capacity(root, shape)?.into();
        fills.push(Fill { map: shape.name, field: shape.capacity_field, rows: rows as u64, capacity });
        Ok(())
    };
    for table in Table::ALL {
        add(table.shape(), existing.needed(*table))?;
    }
    add(&shape::FLOWS, live.values().sum::<u64>() as usize)?;
    add(&shape::BINDINGS, live_bindings(tables)?)?;
    add(&shape::DROPS, tables.drops.rows()?.len())?;
    Ok(fills)
}

/// Rows of FLOWS that have not been idle for longer than they may: the data path takes the place of the others.
pub(super) fn live_flows(tables: &Tables) -> Result<ByNetwork, DatapathError> {
    let (gateways, now, mut live) = (tables.gateways.rows()?, now(), ByNetwork::new());
    tables.flows.visit::<DatapathError>(|key, flow| {
        let timeouts = gateways.get(flow.network as usize).copied().unwrap_or_default().timeouts;
        let is_answered = flow.flags & flow_flags::ANSWERED != 0;
        let timeout = tcp::timeout(key.protocol, flow.state, is_answered, &timeouts);
        if since(now, flow.last_seen) <= timeout {
            *live.entry(flow.network).or_default() += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(live)
}

/// Connections of each network of which netpath is the gateway, of which each is two rows of FLOWS. Dead ones are swept where a
/// network has no room left.
pub(super) fn connections(existing: &Rows, live: &ByNetwork) -> Vec<Connections> {
    let of = existing.gateways.iter().map(|(index, gateway)| Connections {
        network: network(existing, *index),
        live: live.get(index).copied().unwrap_or_default().div_ceil(2),
        limit: u64::from(gateway.flow_limit) / 2,
    });
    of.filter(|of| of.limit > 0).collect()
}

/// Packets that found no free public port since they are counted.
pub(super) fn portless(tables: &Tables) -> Result<ByNetwork, DatapathError> {
    let mut packets = ByNetwork::new();
    for (key, count) in tables.drops.rows()? {
        if key.reason == DropReason::PortsExhausted as u32 {
            *packets.entry(key.network).or_default() += count;
        }
    }
    Ok(packets)
}

/// What came of them between two looks, so many seconds apart.
pub(super) fn portless_since(existing: &Rows, before: &ByNetwork, after: &ByNetwork, seconds: f64) -> Vec<Portless> {
    let came =
        after.iter().map(|(index, count)| (index, count.saturating_sub(before.get(index).copied().unwrap_or(0))));
    let came = came.filter(|(_, packets)| *packets > 0);
    came.map(|(index, packets)| Portless { network: network(existing, *index), packets, seconds }).collect()
}

fn network(rows: &Rows, index: u32) -> String {
    rows.names.get(&NameKey { kind: name_kind::NETWORK, index }).cloned().unwrap_or_else(|| format!("#{index}"))
}

fn live_bindings(tables: &Tables) -> Result<usize, DatapathError> {
    let (now, mut live) = (now(), 0);
    tables.bindings.visit::<DatapathError>(|_, binding| {
        live += usize::from(binding.expires > now);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(live)
}

/// Seconds since the router of a public link was last heard of.
pub(super) fn heard(tables: &Tables, link: u32) -> Result<Option<u32>, DatapathError> {
    let row = tables.upstream_macs.get(link)?.unwrap_or_default();
    Ok(row.known().map(|_| since(now(), row.confirmed)))
}

/// The data path's clock, in seconds.
fn now() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::Gateway;

    use super::*;

    /// Two networks, of which one has a gateway with room for 16 connections.
    fn existing() -> Rows {
        let name = |index, name: &str| (NameKey { kind: name_kind::NETWORK, index }, name.to_owned());
        let gateway = Gateway { flow_limit: 32, ..Gateway::default() };
        Rows {
            gateways: [(1, gateway.into())].into(),
            names: [name(1, "web"), name(2, "lan")].into(),
            ..Rows::default()
        }
    }

    #[test]
    fn two_rows_are_a_connection_of_a_network_that_has_a_gateway() {
        let connections = |rows| connections(&existing(), &[(1, rows), (2, 9)].into());
        let web = |live| vec![Connections { network: "web".into(), live, limit: 16 }];
        assert_eq!([connections(0), connections(31), connections(32)], [web(0), web(16), web(16)]);
    }

    #[test]
    fn what_found_no_port_counts_while_it_grows() {
        let since =
            |before: u64, after: u64| portless_since(&existing(), &[(1, before)].into(), &[(1, after)].into(), 0.5);
        assert_eq!(since(7, 7), []);
        assert_eq!(since(9, 2), [], "the network was made anew");
        assert_eq!(since(7, 10), [Portless { network: "web".into(), packets: 3, seconds: 0.5 }]);
    }
}
