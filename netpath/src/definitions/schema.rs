//! The JSON Schema of the definitions, made from the types that read them.

use serde_json::{Map, Value, json};

use super::{decode::Field, model::Zone};

/// The JSON Schema (draft 2020-12) of a definitions document.
pub fn schema() -> Value {
    let mut defs = Map::new();
    let zone = Zone::schema(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "netpath definitions",
        "$ref": zone["$ref"],
        "$defs": defs,
    })
}
