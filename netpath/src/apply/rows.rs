//! Between the rows that are reconciled and the tables they are in.

use std::collections::BTreeMap;

use bytemuck::{Pod, bytes_of};
use netpath_common::maps::{
    Forward, ForwardKey, Gateway, PublicAddress, PublicKey, Resolved, RuleList, Upstream, name_kind,
};

use super::epochs;
use crate::{
    compile::{Prefix, Row, Rows},
    datapath::{DatapathError, Tables, name_row, name_text},
    reconcile::Edit,
};

/// Every row that the loader reconciles, in one pass over each map. A name comes before the first row of what it is of and goes
/// after the last, so that of arrays only what is below the highest named index has to be read.
pub(crate) fn read(tables: &Tables) -> Result<Rows, DatapathError> {
    let names = tables.names.rows()?;
    let end = |kind| {
        let indices = names.iter().filter(|(key, _)| key.kind == kind).map(|(key, _)| key.index as usize + 1);
        indices.max().unwrap_or(0)
    };
    let (networks, tunnels, links) = (end(name_kind::NETWORK), end(name_kind::TUNNEL), end(name_kind::PUBLIC_LINK));
    let (meters, ports, addresses) = (end(name_kind::METER), end(name_kind::PORT), end(name_kind::PUBLIC_ADDRESS));
    let gateways = gateways(tables, networks)?;
    let public_address: BTreeMap<_, _> = tables.public_address.rows()?.into_iter().collect();
    let forwards: BTreeMap<_, _> = tables.forwards.rows()?.into_iter().collect();
    let rules = end_of_rules(&gateways, &public_address, &forwards);
    Ok(Rows {
        names: names.into_iter().map(|(key, name)| (key, name_text(&name))).collect(),
        limits: used(tables.limits.first_rows(2 * meters)?).collect(),
        port_meters: used(tables.port_meters.first_rows(ports)?).collect(),
        public_meters: used(tables.public_meters.first_rows(addresses)?).collect(),
        tunnels: used(tables.tunnels.first_rows(tunnels)?).collect(),
        endpoints: tables.endpoints.rows()?.into_iter().collect(),
        networks: used(tables.networks.first_rows(networks)?).collect(),
        neighbours: tables.neighbours.rows()?.into_iter().collect(),
        fdb: tables.fdb.rows()?.into_iter().collect(),
        floods: tables.floods.rows()?.into_iter().collect(),
        addresses: tables.addresses.rows()?.into_iter().collect(),
        ports: tables.ports.rows()?.into_iter().collect(),
        upstreams: used(tables.upstreams.first_rows(links)?).collect(),
        rules: used(tables.rules.first_rows(rules)?).collect(),
        static_nat: tables.static_nat.rows()?.into_iter().collect(),
        forwards,
        routes: tables.routes.rows()?.into_iter().collect(),
        public_address,
        gateways,
        uplinks: tables.uplinks.rows()?.into_iter().collect(),
        segments: tables.segments.rows()?.into_iter().collect(),
    })
}

/// Where the last list of rules ends. What a killed apply has left behind it is nobody's, and is written over when the place is
/// needed: reading all of RULES would take as long as everything else together.
fn end_of_rules(
    gateways: &BTreeMap<u32, Box<Gateway>>,
    public_address: &BTreeMap<PublicKey, PublicAddress>,
    forwards: &BTreeMap<Prefix<ForwardKey>, Forward>,
) -> usize {
    let lists = gateways.values().flat_map(|row| [row.egress, row.acl_ingress, row.acl_egress]);
    let lists = lists.chain(public_address.values().map(|row| row.ingress));
    let sources = forwards.values().map(|row| RuleList { start: row.sources_start, count: row.sources_count });
    lists.chain(sources).map(|list| list.start as usize + list.count as usize).max().unwrap_or(0)
}

/// Makes one edit.
pub(super) fn make(tables: &mut Tables, edit: &Edit) -> Result<(), DatapathError> {
    match (&edit.before, &edit.after) {
        (Some(Row::Upstreams(index, before)), Some(row @ Row::Upstreams(_, after))) => {
            put(tables, row)?;
            // Of another router nothing is known.
            if is_same_router(before, after) { Ok(()) } else { tables.upstream_macs.put(*index, &Resolved::default()) }
        }
        (_, Some(row)) => put(tables, row),
        (Some(row), None) => delete(tables, row),
        (None, None) => Ok(()),
    }
}

/// Whether two public links have the same router behind the same device, in the same VLAN.
fn is_same_router(a: &Upstream, b: &Upstream) -> bool {
    (a.gateway, a.ifindex, a.vlan) == (b.gateway, b.ifindex, b.vlan)
}

fn put(tables: &mut Tables, row: &Row) -> Result<(), DatapathError> {
    match row {
        Row::Names(key, name) => tables.names.put(key, &name_row(name)),
        Row::Limits(index, row) => tables.limits.put(*index, row),
        Row::PortMeters(slot, row) => tables.port_meters.put(*slot, row),
        Row::PublicMeters(index, meter) => tables.public_meters.put(*index, meter),
        Row::Tunnels(index, row) => tables.tunnels.put(*index, row),
        Row::Endpoints(key, row) => tables.endpoints.put(key, row),
        Row::Networks(index, row) => tables.networks.put(*index, row),
        Row::Neighbours(key, row) => tables.neighbours.put(key, row),
        Row::Fdb(key, row) => tables.fdb.put(key, row),
        Row::Floods(key, row) => tables.floods.put(key, row),
        Row::Addresses(key, row) => tables.addresses.put(key, row),
        Row::Ports(key, row) => tables.ports.put(key, row),
        Row::Upstreams(index, row) => tables.upstreams.put(*index, row),
        Row::Rules(index, row) => tables.rules.put(*index, row),
        Row::StaticNat(key, row) => tables.static_nat.put(key, row),
        Row::Forwards(key, row) => tables.forwards.put(key, row),
        Row::Routes(key, row) => tables.routes.put(key, row),
        Row::PublicAddress(key, row) => tables.public_address.put(key, row),
        Row::Gateways(index, row) => epochs::put(tables, *index, row),
        Row::Uplinks(key, row) => tables.uplinks.put(key, row),
        Row::Segments(key, row) => tables.segments.put(key, row),
    }
}

/// An array's row cannot be deleted: it becomes zero.
fn delete(tables: &mut Tables, row: &Row) -> Result<(), DatapathError> {
    match row {
        Row::Names(key, _) => tables.names.delete(key),
        Row::Limits(index, _) => tables.limits.put(*index, &Default::default()),
        Row::PortMeters(slot, _) => tables.port_meters.put(*slot, &Default::default()),
        Row::PublicMeters(index, _) => tables.public_meters.put(*index, &Default::default()),
        Row::Tunnels(index, _) => tables.tunnels.put(*index, &Default::default()),
        Row::Endpoints(key, _) => tables.endpoints.delete(key),
        Row::Networks(index, _) => tables.networks.put(*index, &Default::default()),
        Row::Neighbours(key, _) => tables.neighbours.delete(key),
        Row::Fdb(key, _) => tables.fdb.delete(key),
        Row::Floods(key, _) => tables.floods.delete(key),
        Row::Addresses(key, _) => tables.addresses.delete(key),
        Row::Ports(key, _) => tables.ports.delete(key),
        Row::Upstreams(index, _) => tables.upstreams.put(*index, &Default::default()),
        Row::Rules(index, _) => tables.rules.put(*index, &Default::default()),
        Row::StaticNat(key, _) => tables.static_nat.delete(key),
        Row::Forwards(key, _) => tables.forwards.delete(key),
        Row::Routes(key, _) => tables.routes.delete(key),
        Row::PublicAddress(key, _) => tables.public_address.delete(key),
        Row::Gateways(index, _) => epochs::delete(tables, *index),
        Row::Uplinks(key, _) => tables.uplinks.delete(key),
        Row::Segments(key, _) => tables.segments.delete(key),
    }
}

/// A row of which only the epoch is left is free.
fn gateways(tables: &Tables, count: usize) -> Result<BTreeMap<u32, Box<Gateway>>, DatapathError> {
    let rows = used(tables.gateways.first_rows(count)?);
    let used = rows.filter(|(_, row)| *row != Gateway { epoch: row.epoch, ..Gateway::default() });
    Ok(used.map(|(index, row)| (index, Box::new(row))).collect())
}

/// The rows of an array that are not all zero, with their indices.
fn used<V: Pod>(rows: Vec<V>) -> impl Iterator<Item = (u32, V)> {
    (0..).zip(rows).filter(|(_, row)| bytes_of(row).iter().any(|byte| *byte != 0))
}
