//! `netpath map list|dump NAME|get NAME KEY`: the maps, every row in words.

mod decode;

use clap::Subcommand;
use netpath_common::maps::{self, MapKind, MapShape};
use serde_json::{Value, json};

use self::decode::{DEVICE, Decode, Fields, Index, NETWORK, NUMBER, PORT, TUNNEL};
use super::{
    Exit, Global,
    applied::{Applied, Names},
    output,
    table::{Table, wrap},
};
use crate::{datapath::Tables, error::Error};

/// List the maps, or print their rows in words
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every map: its shape, its rows and its room
    List,
    /// Every row of a map
    Dump {
        /// The map, as `map list` names it
        name: String,
        /// Bytes in hexadecimal instead of words
        #[arg(long)]
        raw: bool,
    },
    /// One row of a map
    Get {
        /// The map, as `map list` names it
        name: String,
        /// The key as `map dump` prints it, in words or with --raw in hexadecimal
        #[arg(required = true)]
        key: Vec<String>,
        /// Bytes in hexadecimal instead of words
        #[arg(long)]
        raw: bool,
    },
}

/// A row, in words and in bytes; per-CPU maps have a value for each processor.
struct Row {
    key: Fields,
    key_hex: String,
    values: Vec<Fields>,
    values_hex: Vec<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let applied = Applied::open(global)?;
    match &args.action {
        Action::List => list(&applied, global),
        Action::Dump { name, raw } => {
            let shape = shape(name)?;
            let rows = rows(&applied.tables, shape, &applied.names)?;
            print(global, shape, &rows, *raw)
        }
        Action::Get { name, key, raw } => {
            let shape = shape(name)?;
            let wanted = key.join(" ");
            let mut rows = rows(&applied.tables, shape, &applied.names)?;
            rows.retain(|row| row.is(&wanted));
            if rows.is_empty() {
                let next = format!("`netpath map dump {}` prints the keys there are", shape.name);
                return Err(Error::NotFound { what: "row", name: wanted, next });
            }
            print(global, shape, &rows, *raw)
        }
    }
}

fn shape(name: &str) -> Result<&'static MapShape, Error> {
    let found = maps::ALL.iter().find(|shape| shape.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let next = format!("the maps are {}", maps::ALL.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", "));
        Error::NotFound { what: "map", name: name.to_owned(), next }
    })
}

fn list(applied: &Applied, global: &Global) -> Result<Exit, Error> {
    let mut report = Vec::new();
    let mut table = Table::new(&["NAME", "KIND", ">KEY", ">VALUE", ">ROWS", ">ROOM"]);
    for shape in maps::ALL {
        let (rows, room) = (rows(&applied.tables, shape, &applied.names)?.len(), room(&applied.tables, shape)?);
        let kind = match shape.kind {
            MapKind::Hash => "hash",
            MapKind::Array => "array",
            MapKind::PerCpuHash => "percpu_hash",
            MapKind::PerCpuArray => "percpu_array",
            MapKind::LruHash => "lru_hash",
            MapKind::LpmTrie => "lpm_trie",
            MapKind::ProgramArray => "program_array",
        };
        let cells = [shape.key_size.to_string(), shape.value_size.to_string(), rows.to_string(), room.to_string()];
        table.row([shape.name.to_owned(), kind.to_owned()].into_iter().chain(cells));
        report.push(json!({
            "name": shape.name, "kind": kind, "key_bytes": shape.key_size, "value_bytes": shape.value_size,
            "rows": rows, "capacity": room, "capacity_field": shape.capacity_field,
        }));
    }
    output::print(global.output, &report, || table.render())?;
    Ok(Exit::Done)
}

fn print(global: &Global, shape: &MapShape, rows: &[Row], raw: bool) -> Result<Exit, Error> {
    let is_per_cpu = matches!(shape.kind, MapKind::PerCpuHash | MapKind::PerCpuArray);
    let report: Vec<_> = rows.iter().map(|row| row.json(raw, is_per_cpu)).collect();
    output::print(global.output, &report, || rows.iter().map(|row| row.text(raw)).collect())?;
    Ok(Exit::Done)
}

impl Row {
    fn new<K: Decode, V: Decode>(key: &K, values: &[V], names: &Names) -> Self {
        Self {
            key: key.decode(names),
            key_hex: key.hex(),
            values: values.iter().map(|value| value.decode(names)).collect(),
            values_hex: values.iter().map(V::hex).collect(),
        }
    }

    /// Is this the row that the key names, in words or in hexadecimal?
    fn is(&self, key: &str) -> bool {
        key == self.key_text() || key.trim_start_matches("0x").eq_ignore_ascii_case(&self.key_hex)
    }

    fn key_text(&self) -> String {
        self.key.iter().map(|(_, value)| word(value)).collect::<Vec<_>>().join(" ")
    }

    /// `key` and `value`, or `values` by processor for a per-CPU map.
    fn json(&self, raw: bool, is_per_cpu: bool) -> Value {
        let (key, values): (Value, Vec<Value>) = match raw {
            true => (self.key_hex.clone().into(), self.values_hex.iter().cloned().map(Value::from).collect()),
            false => (object(&self.key), self.values.iter().map(object).collect()),
        };
        match is_per_cpu {
            true => json!({"key": key, "values": values}),
            false => json!({"key": key, "value": values.first()}),
        }
    }

    fn text(&self, raw: bool) -> String {
        if raw {
            let values: String = self.values_hex.iter().map(|value| format!("    {value}\n")).collect();
            return format!("{}\n{values}", self.key_hex);
        }
        let words = |value: &Fields| {
            value.iter().map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(" ")
        };
        let values: String = self.values.iter().map(|value| wrap(&words(value), 4)).collect();
        format!("{}\n{values}", self.key_text())
    }
}

fn object(fields: &Fields) -> Value {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// A field's value without quotes; lists with commas, nothing as `-`.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn room(tables: &Tables, shape: &MapShape) -> Result<u32, Error> {
    let room = match shape.name {
        "PORTS" => tables.ports.capacity(),
        "ADDRESSES" => tables.addresses.capacity(),
        "NETWORKS" => Ok(tables.networks.capacity()),
        "UPLINKS" => tables.uplinks.capacity(),
        "SEGMENTS" => tables.segments.capacity(),
        "ENDPOINTS" => tables.endpoints.capacity(),
        "FDB" => tables.fdb.capacity(),
        "LEARNED" => tables.learned.capacity(),
        "NEIGHBOURS" => tables.neighbours.capacity(),
        "TUNNELS" => Ok(tables.tunnels.capacity()),
        "NEXT_HOPS" => Ok(tables.next_hops.capacity()),
        "FLOODS" => tables.floods.capacity(),
        "NAMES" => tables.names.capacity(),
        "COUNTERS" => Ok(tables.counters.capacity()),
        "RETIRED" => Ok(tables.retired.capacity()),
        _ => Ok(shape.capacity),
    };
    Ok(room?)
}

/// The rows of a map: of an array, those that are not all zero.
fn rows(tables: &Tables, shape: &MapShape, names: &Names) -> Result<Vec<Row>, Error> {
    let mut rows = match shape.name {
        "PORTS" => hash(tables.ports.rows()?, Index::<DEVICE>, |v| v, names),
        "ADDRESSES" => hash(tables.addresses.rows()?, |k| k, Index::<NUMBER>, names),
        "NETWORKS" => array(tables.networks.rows()?, Index::<NETWORK>, names),
        "UPLINKS" => hash(tables.uplinks.rows()?, |k| k, |v| v, names),
        "SEGMENTS" => hash(tables.segments.rows()?, |k| k, |v| v, names),
        "ENDPOINTS" => hash(tables.endpoints.rows()?, |k| k, |v| v, names),
        "FDB" => hash(tables.fdb.rows()?, |k| k, |v| v, names),
        "LEARNED" => hash(tables.learned.rows()?, |k| k, |v| v, names),
        "NEIGHBOURS" => hash(tables.neighbours.rows()?, |k| k, |v| v, names),
        "TUNNELS" => array(tables.tunnels.rows()?, Index::<TUNNEL>, names),
        "NEXT_HOPS" => per_cpu_array(tables.next_hops.capacity(), |i| tables.next_hops.get(i), Index::<TUNNEL>, names)?,
        "FLOODS" => hash(tables.floods.rows()?, |k| k, |v| v, names),
        "NAMES" => hash(tables.names.rows()?, |k| k, |v| v, names),
        "COUNTERS" => per_cpu_array(tables.counters.capacity(), |i| tables.counters.get(i), Index::<PORT>, names)?,
        "RETIRED" => array(tables.retired.rows()?, Index::<NETWORK>, names),
        "DROPS" => tables.drops.rows_by_cpu()?.iter().map(|(key, values)| Row::new(key, values, names)).collect(),
        _ => Vec::new(),
    };
    rows.sort_by_cached_key(Row::key_text);
    Ok(rows)
}

fn hash<K, V, DK: Decode, DV: Decode>(
    rows: Vec<(K, V)>,
    key: impl Fn(K) -> DK,
    value: impl Fn(V) -> DV,
    names: &Names,
) -> Vec<Row> {
    rows.into_iter().map(|(k, v)| Row::new(&key(k), &[value(v)], names)).collect()
}

fn array<K: Decode, V: Decode>(rows: Vec<V>, key: impl Fn(u32) -> K, names: &Names) -> Vec<Row> {
    let used = (0..).zip(rows).filter(|(_, value)| !is_zero(value));
    used.map(|(index, value)| Row::new(&key(index), &[value], names)).collect()
}

fn per_cpu_array<K: Decode, V: Decode, E>(
    capacity: u32,
    get: impl Fn(u32) -> Result<Option<Vec<V>>, E>,
    key: impl Fn(u32) -> K,
    names: &Names,
) -> Result<Vec<Row>, E> {
    let mut rows = Vec::new();
    for index in 0..capacity {
        match get(index)? {
            Some(values) if !values.iter().all(is_zero) => rows.push(Row::new(&key(index), &values, names)),
            _ => {}
        }
    }
    Ok(rows)
}

fn is_zero<V: bytemuck::Pod>(value: &V) -> bool {
    bytemuck::bytes_of(value).iter().all(|byte| *byte == 0)
}
