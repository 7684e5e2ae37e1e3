//! The dashboard in docs/ is of these metrics, and of all of them.

use std::collections::BTreeSet;

use netpath::metrics::FAMILIES;
use serde_json::Value;

fn dashboard() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana-dashboard.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every text of a document that is under a key.
fn texts<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| match field {
            Value::String(text) if name == key => found.push(text),
            field => texts(field, key, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

/// The words of a query, as metrics and labels are written.
fn words(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

#[test]
fn each_metric_of_the_dashboard_exists_and_each_one_that_exists_is_on_it() {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for key in ["expr", "definition"] {
        texts(&dashboard, key, &mut queries);
    }
    let used: BTreeSet<_> =
        queries.iter().flat_map(|query| words(query)).filter(|w| w.starts_with("netpath_")).collect();
    let known: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(used, known);
}

#[test]
fn labels_in_legends_are_those_of_the_metrics() {
    let dashboard = dashboard();
    let mut legends = Vec::new();
    texts(&dashboard, "legendFormat", &mut legends);
    let mut known: BTreeSet<_> = FAMILIES.iter().flat_map(|family| family.labels).copied().collect();
    known.insert("instance");
    for legend in legends {
        for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
            assert!(known.contains(label), "{label} in {legend}");
        }
    }
}

#[test]
fn panels_have_numbers_of_their_own_and_do_not_lie_on_each_other() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(cell.0 < 24 && taken.insert(cell), "{} at {cell:?}", panel["title"]);
        }
    }
}
