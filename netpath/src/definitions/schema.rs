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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::definitions::{
        findings::Findings,
        node::{self, Kind, Node},
    };

    /// The document as an editor's schema checker sees it (YAML 1.2 core schema).
    fn json_of(node: &Node<'_>) -> Value {
        match &node.kind {
            Kind::Scalar { .. } if node.is_null() => Value::Null,
            Kind::Scalar { text, plain: true } => match (text.parse::<i64>(), &**text) {
                (Ok(number), _) => number.into(),
                (_, "true") => true.into(),
                (_, "false") => false.into(),
                (_, text) => text.into(),
            },
            Kind::Scalar { text, .. } => (&**text).into(),
            Kind::List(items) => items.iter().map(|item| json_of(item)).collect(),
            Kind::Map(fields) => fields.iter().map(|(key, value)| (key.name.to_string(), json_of(value))).collect(),
        }
    }

    fn read(text: &str) -> Value {
        json_of(&node::read(text, &mut Findings::default()).unwrap())
    }

    fn errors(document: &Value) -> Vec<String> {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    const ZONE: &str = include_str!("../../tests/zone.yaml");

    #[test]
    fn the_schema_is_one() {
        jsonschema::draft202012::meta::validate(&schema()).unwrap();
    }

    #[test]
    fn the_schema_accepts_what_the_checks_accept() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut documents = vec![("tests/zone.yaml".to_owned(), ZONE.to_owned())];
        for entry in fs::read_dir(examples).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                documents.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        assert!(documents.len() > 1, "there are examples");
        for (name, text) in documents {
            crate::definitions::parse(&name, &text).unwrap();
            assert_eq!(errors(&read(&text)), [""; 0], "{name}");
        }
    }

    #[test]
    fn the_schema_refuses_unknown_fields_and_wrong_values() {
        for (from, to) in [
            ("mtu: 1450", "mtoo: 1450"),
            ("mtu: 1450", "mtu: 1"),
            ("on_miss: drop", "on_miss: forward"),
            ("mac: 02:00:0a:01:01:0b", "mac: 03:00:0a:01:01:0b"),
            ("segment: 5001", "segment: many"),
        ] {
            assert_ne!(errors(&read(&ZONE.replacen(from, to, 1))), [""; 0], "{to}");
        }
    }

    #[test]
    fn every_object_is_closed_and_every_field_described() {
        let schema = schema();
        let objects = schema["$defs"].as_object().unwrap();
        assert!(objects.len() > 10);
        for (object, definition) in objects {
            assert_eq!(definition["additionalProperties"], false, "{object}");
            for (field, schema) in definition["properties"].as_object().unwrap() {
                let described = schema["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{object}.{field} has a description");
            }
        }
    }

    const DOCS: &str = include_str!("../../../docs/definitions.md");

    #[test]
    fn the_docs_have_every_field_and_a_document_that_is_valid() {
        let schema = schema();
        for (object, definition) in schema["$defs"].as_object().unwrap() {
            for (field, schema) in definition["properties"].as_object().unwrap() {
                assert!(DOCS.contains(&format!("`{field}`")), "docs/definitions.md lacks {object}.{field}");
                for capacity in schema["properties"].as_object().into_iter().flat_map(|names| names.keys()) {
                    assert!(DOCS.contains(&format!("`{capacity}`")), "docs/definitions.md lacks capacity {capacity}");
                }
            }
        }
        let example = DOCS.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        crate::definitions::parse("docs/definitions.md", example).unwrap();
    }
}
