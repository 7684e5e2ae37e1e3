//! `netpath map list|dump NAME|get NAME KEY`: the maps, every row in words.

mod decode;
mod rows;

use std::ops::ControlFlow;

use clap::Subcommand;
use netpath_common::maps::{self, MapKind, MapShape};
use serde_json::{Value, json};

use self::decode::{Decode, Fields};
use super::{
    Exit, Global,
    applied::{Applied, Names},
    output,
    stream::List,
    table::{Table, wrap},
};
use crate::{datapath, error::Error};

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
    let applied = Applied::open(&global.root)?;
    match &args.action {
        Action::List => list(&applied, global)?,
        Action::Dump { name, raw } => {
            print(&applied, global, shape(name)?, *raw, None)?;
        }
        Action::Get { name, key, raw } => {
            let shape = shape(name)?;
            let wanted = key.join(" ");
            if print(&applied, global, shape, *raw, Some(&wanted))? == 0 {
                let next = format!("`netpath map dump {}` prints the keys there are", shape.name);
                return Err(Error::NotFound { what: "row", name: wanted, next });
            }
        }
    }
    Ok(Exit::Done)
}

fn shape(name: &str) -> Result<&'static MapShape, Error> {
    let found = maps::ALL.iter().find(|shape| shape.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let next = format!("the maps are {}", maps::ALL.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", "));
        Error::NotFound { what: "map", name: name.to_owned(), next }
    })
}

fn list(applied: &Applied, global: &Global) -> Result<(), Error> {
    let mut report = Vec::new();
    let mut table = Table::new(&["NAME", "KIND", ">KEY", ">VALUE", ">ROWS", ">ROOM"]);
    for shape in maps::ALL {
        let (mut rows, room) = (0_usize, datapath::capacity(&applied.root, shape)?);
        rows::visit(applied, shape, &mut |_| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        let kind = match shape.kind {
            MapKind::Hash => "hash",
            MapKind::Array => "array",
            MapKind::PerCpuHash => "percpu_hash",
            MapKind::PerCpuArray => "percpu_array",
            MapKind::LruHash => "lru_hash",
            MapKind::LpmTrie => "lpm_trie",
            MapKind::ProgramArray => "program_array",
            MapKind::Ring => "ring",
        };
        let cells = [shape.key_size.to_string(), shape.value_size.to_string(), rows.to_string(), room.to_string()];
        table.row([shape.name.to_owned(), kind.to_owned()].into_iter().chain(cells));
        report.push(json!({
            "name": shape.name, "kind": kind, "key_bytes": shape.key_size, "value_bytes": shape.value_size,
            "rows": rows, "capacity": room, "capacity_field": shape.capacity_field,
        }));
    }
    output::print(global.output, &report, || table.render())
}

/// Prints the rows, or the one with the key that is wanted, by their keys; connections, of which there may be a million, as
/// the kernel has them. Returns how many.
fn print(
    applied: &Applied,
    global: &Global,
    shape: &MapShape,
    raw: bool,
    wanted: Option<&str>,
) -> Result<usize, Error> {
    let is_per_cpu = matches!(shape.kind, MapKind::PerCpuHash | MapKind::PerCpuArray);
    let is_sorted = !matches!(shape.name, "FLOWS" | "BINDINGS");
    let mut list = List::begin(global.output, "")?;
    let mut item = |row: &Row| list.item(&row.json(raw, is_per_cpu), |_| row.text(raw));
    let (mut kept, mut count) = (Vec::new(), 0);
    rows::visit(applied, shape, &mut |row| {
        let row = row();
        if wanted.is_some_and(|key| !row.is(key)) {
            return Ok(ControlFlow::Continue(()));
        }
        count += 1;
        match is_sorted {
            true => kept.push(row),
            false => return item(&row),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    kept.sort_by_cached_key(Row::key_text);
    for row in &kept {
        if item(row)?.is_break() {
            break;
        }
    }
    if count > 0 || wanted.is_none() {
        list.end()?;
    }
    Ok(count)
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
