//! Between the rows that are reconciled and the tables they are in.

use std::collections::BTreeMap;

use bytemuck::{Pod, bytes_of};
use netpath_common::maps::Gateway;

use super::epochs;
use crate::{
    compile::{Row, Rows},
    datapath::{DatapathError, Tables, name_row, name_text},
    reconcile::Edit,
};

/// Every row that the loader reconciles, in one pass over each map.
pub(super) fn read(tables: &Tables) -> Result<Rows, DatapathError> {
    let names = tables.names.rows()?;
    Ok(Rows {
        names: names.into_iter().map(|(key, name)| (key, name_text(&name))).collect(),
        limits: used(tables.limits.rows()?).collect(),
        port_meters: used(tables.port_meters.rows()?).collect(),
        public_meters: used(tables.public_meters.rows()?).collect(),
        tunnels: used(tables.tunnels.rows()?).collect(),
        endpoints: tables.endpoints.rows()?.into_iter().collect(),
        networks: used(tables.networks.rows()?).collect(),
        neighbours: tables.neighbours.rows()?.into_iter().collect(),
        fdb: tables.fdb.rows()?.into_iter().collect(),
        floods: tables.floods.rows()?.into_iter().collect(),
        addresses: tables.addresses.rows()?.into_iter().collect(),
        ports: tables.ports.rows()?.into_iter().collect(),
        upstreams: used(tables.upstreams.rows()?).collect(),
        rules: used(tables.rules.rows()?).collect(),
        static_nat: tables.static_nat.rows()?.into_iter().collect(),
        forwards: tables.forwards.rows()?.into_iter().collect(),
        routes: tables.routes.rows()?.into_iter().collect(),
        public_address: tables.public_address.rows()?.into_iter().collect(),
        gateways: gateways(tables)?,
        uplinks: tables.uplinks.rows()?.into_iter().collect(),
        segments: tables.segments.rows()?.into_iter().collect(),
    })
}

/// Makes one edit.
pub(super) fn make(tables: &mut Tables, edit: &Edit) -> Result<(), DatapathError> {
    match (&edit.before, &edit.after) {
        (_, Some(row)) => put(tables, row),
        (Some(row), None) => delete(tables, row),
        (None, None) => Ok(()),
    }
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
fn gateways(tables: &Tables) -> Result<BTreeMap<u32, Box<Gateway>>, DatapathError> {
    let rows = used(tables.gateways.rows()?);
    let used = rows.filter(|(_, row)| *row != Gateway { epoch: row.epoch, ..Gateway::default() });
    Ok(used.map(|(index, row)| (index, Box::new(row))).collect())
}

/// The rows of an array that are not all zero, with their indices.
fn used<V: Pod>(rows: Vec<V>) -> impl Iterator<Item = (u32, V)> {
    (0..).zip(rows).filter(|(_, row)| bytes_of(row).iter().any(|byte| *byte != 0))
}
