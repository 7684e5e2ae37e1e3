//! How many rows a host's maps have room for; the names are those that the maps' shapes give.

use netpath_common::maps;
use serde_json::{Map, Value, json};

use super::{
    decode::{At, Field, Fields, Scalar},
    findings::Findings,
    node::Node,
    values::Int,
};

/// A number of rows.
type Capacity = Int<1, 16_777_216>;

/// Rows by name of capacity, where a host's definition departs from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Capacities(Vec<(&'static str, At<Capacity>)>);

impl Capacities {
    /// The rows that maps with this `capacity_field` shall have, where the definition says so.
    pub fn get(&self, field: &str) -> Option<u32> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, rows)| rows.get())
    }
}

/// Every name, with the rows it stands for by default.
fn names() -> Vec<(&'static str, u32)> {
    let sized = maps::ALL.iter().filter(|shape| !shape.capacity_field.is_empty());
    let mut names: Vec<_> = sized.map(|shape| (shape.capacity_field, shape.capacity)).collect();
    names.sort_unstable();
    names.dedup_by_key(|(name, _)| *name);
    names
}

impl Field for Capacities {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let known: Vec<_> = names().into_iter().map(|(name, _)| name).collect();
        let fields = Fields::open(node, "a host's capacities", &known, findings)?;
        let rows = known.iter().filter_map(|name| Some((*name, fields.get(name, Some(None), findings)??)));
        Some(Self(rows.collect()))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn stand_in() -> Option<Self> {
        Self::absent()
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        let mut properties = Map::new();
        for (name, rows) in names() {
            let mut schema = Capacity::schema();
            schema["default"] = rows.into();
            properties.insert(name.into(), schema);
        }
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    }
}
