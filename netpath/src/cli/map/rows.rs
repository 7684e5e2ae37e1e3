//! The rows of a map by its name, one after the other.

use std::ops::ControlFlow;

use netpath_common::maps::{MapShape, shape, stage};

use super::{
    Row,
    decode::{
        ACCOUNT, Block, Claimed, DEVICE, Decode, Index, LINK, LimitRow, MeterName, NETWORK, NUMBER, PORT, PUBLIC,
        ProgramId, Stage, TUNNEL,
    },
};
use crate::{
    cli::applied::{Applied, Names},
    datapath::{self, ArrayTable, DatapathError, HashTable, Pod, TrieTable},
    error::Error,
};

/// Told of each row, which it may have put in words; says whether it wants another.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&dyn Fn() -> Row) -> Result<ControlFlow<()>, Error>;

/// Calls `sink` with each row of a map, in the kernel's order: of an array, with those that are not all zero.
pub(super) fn visit(applied: &Applied, shape: &MapShape, sink: Sink<'_>) -> Result<(), Error> {
    let Applied { tables, names, .. } = applied;
    match shape.name {
        "PORTS" => hash(&tables.ports, Index::<DEVICE>, |v| v, names, sink),
        "ADDRESSES" => hash(&tables.addresses, |k| k, Index::<NUMBER>, names, sink),
        "NETWORKS" => array(&tables.networks, Index::<NETWORK>, |v| v, names, sink),
        "UPLINKS" => hash(&tables.uplinks, |k| k, |v| v, names, sink),
        "SEGMENTS" => hash(&tables.segments, |k| k, |v| v, names, sink),
        "ENDPOINTS" => hash(&tables.endpoints, |k| k, |v| v, names, sink),
        "FDB" => hash(&tables.fdb, |k| k, |v| v, names, sink),
        "LEARNED" => hash(&tables.learned, |k| k, |v| v, names, sink),
        "NEIGHBOURS" => hash(&tables.neighbours, |k| k, |v| v, names, sink),
        "TUNNELS" => array(&tables.tunnels, Index::<TUNNEL>, |v| v, names, sink),
        "NEXT_HOPS" => per_cpu(tables.next_hops.capacity(), |i| tables.next_hops.get(i), Index::<TUNNEL>, names, sink),
        "FLOODS" => hash(&tables.floods, |k| k, |v| v, names, sink),
        "NAMES" => hash(&tables.names, |k| k, |v| v, names, sink),
        "COUNTERS" => per_cpu(tables.counters.capacity(), |i| tables.counters.get(i), Index::<PORT>, names, sink),
        "RETIRED" => array(&tables.retired, Index::<NETWORK>, |v| v, names, sink),
        "RETIRED_ACCOUNT" => array(&tables.retired_account, Index::<ACCOUNT>, |v| v, names, sink),
        "PUBLIC_COUNTERS" => {
            let table = &tables.public_counters;
            per_cpu(table.capacity(), |i| table.get(i), Index::<PUBLIC>, names, sink)
        }
        "PUBLIC_METERS" => array(&tables.public_meters, Index::<PUBLIC>, MeterName, names, sink),
        "PORT_METERS" => array(&tables.port_meters, Index::<PORT>, |v| v, names, sink),
        "LIMITS" => array(&tables.limits, LimitRow, |v| v, names, sink),
        "METERS" => array(&tables.meters, LimitRow, |v| v, names, sink),
        "METER_EVENTS" => array(&tables.meter_events, LimitRow, |v| v, names, sink),
        "SHARES" => array(&tables.shares, Index::<PORT>, |v| v, names, sink),
        "DROPS" => each(tables.drops.rows_by_cpu()?, |(key, values)| Row::new(key, values, names), sink),
        "GATEWAYS" => array(&tables.gateways, Index::<NETWORK>, |v| v, names, sink),
        "GATEWAY_STATE" => array(&tables.gateway_state, Index::<NETWORK>, |v| v, names, sink),
        "FLOWS" => hash(&tables.flows, |k| k, |v| v, names, sink),
        "BINDINGS" => hash(&tables.bindings, |k| k, |v| v, names, sink),
        "PORT_BLOCKS" => array(&tables.port_blocks, Block, Claimed, names, sink),
        "FRAGMENTS" => hash(&tables.fragments, |k| k, |v| v, names, sink),
        "RULES" => array(&tables.rules, Index::<NUMBER>, |v| v, names, sink),
        "ROUTES" => trie(&tables.routes, names, sink),
        "PUBLIC_ADDRESS" => hash(&tables.public_address, |k| k, |v| v, names, sink),
        "STATIC_NAT" => hash(&tables.static_nat, |k| k, |v| v, names, sink),
        "FORWARDS" => trie(&tables.forwards, names, sink),
        "UPSTREAMS" => array(&tables.upstreams, Index::<LINK>, |v| v, names, sink),
        "UPSTREAM_MACS" => array(&tables.upstream_macs, Index::<LINK>, |v| v, names, sink),
        "ON_LINK" => hash(&tables.on_link, |k| k, |v| v, names, sink),
        "STAGES" => stages(applied, &shape::STAGES, &stage::PROGRAMS, sink),
        "STAGES_XDP" => stages(applied, &shape::STAGES_XDP, &stage::XDP_PROGRAMS, sink),
        "WATCH" => array(&tables.watch, Index::<NUMBER>, |v| v, names, sink),
        "WATCHED" => per_cpu(tables.watched.capacity(), |i| tables.watched.get(i), Index::<NUMBER>, names, sink),
        _ => Ok(()),
    }
}

fn hash<K: Pod, V: Pod, DK: Decode, DV: Decode>(
    table: &HashTable<K, V>,
    key: impl Fn(K) -> DK,
    value: impl Fn(V) -> DV,
    names: &Names,
    sink: Sink<'_>,
) -> Result<(), Error> {
    table.visit(|k, v| sink(&|| Row::new(&key(*k), &[value(*v)], names)))
}

fn array<V: Pod + bytemuck::Pod, DK: Decode, DV: Decode>(
    table: &ArrayTable<V>,
    key: impl Fn(u32) -> DK,
    value: impl Fn(V) -> DV,
    names: &Names,
    sink: Sink<'_>,
) -> Result<(), Error> {
    let mut used = Vec::new();
    table.visit(|index, row| used.extend((!is_zero(row)).then_some((index, *row))))?;
    each(used, |(index, row)| Row::new(&key(*index), &[value(*row)], names), sink)
}

fn trie<K: Pod, V: Pod + Decode>(table: &TrieTable<K, V>, names: &Names, sink: Sink<'_>) -> Result<(), Error>
where
    (u32, K): Decode,
{
    each(table.rows()?, |(key, value)| Row::new(key, std::slice::from_ref(value), names), sink)
}

fn per_cpu<K: Decode, V: Decode + bytemuck::Pod>(
    capacity: u32,
    get: impl Fn(u32) -> Result<Option<Vec<V>>, DatapathError>,
    key: impl Fn(u32) -> K,
    names: &Names,
    sink: Sink<'_>,
) -> Result<(), Error> {
    for index in 0..capacity {
        let values = get(index)?.unwrap_or_default();
        if !values.iter().all(is_zero) && sink(&|| Row::new(&key(index), &values, names))?.is_break() {
            break;
        }
    }
    Ok(())
}

fn stages(
    applied: &Applied,
    map: &MapShape,
    programs: &'static [(u32, &'static str)],
    sink: Sink<'_>,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    for (row, name) in programs {
        rows.extend(
            datapath::program_at(&applied.root, map, *row)?.map(|program| (Stage { row: *row, name }, program)),
        );
    }
    each(rows, |(stage, program)| Row::new(stage, &[ProgramId(*program)], &applied.names), sink)
}

fn each<T>(rows: Vec<T>, words: impl Fn(&T) -> Row, sink: Sink<'_>) -> Result<(), Error> {
    for row in &rows {
        if sink(&|| words(row))?.is_break() {
            break;
        }
    }
    Ok(())
}

fn is_zero<V: bytemuck::Pod>(value: &V) -> bool {
    bytemuck::bytes_of(value).iter().all(|byte| *byte == 0)
}
