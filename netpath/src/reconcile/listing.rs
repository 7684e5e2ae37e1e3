//! Edits as people read them: `+ ~ -` lines grouped by object.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde::Serialize;

use super::{Edit, Object, object::Reader};
use crate::compile::Rows;

/// What happens to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `+` when all of it is new, `-` when all of it goes, else `~`.
    pub sign: char,
    /// The object.
    pub object: String,
    /// Its edits, in the order in which they are made.
    pub edits: Vec<Line>,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `+`, `~` or `-`.
    pub sign: char,
    /// The map.
    pub map: &'static str,
    /// The row as it shall be, or the row that goes.
    pub row: String,
    /// The row that is replaced, where its line differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

/// Groups edits by object. `devices` names ifindices.
pub fn group(edits: &[Edit], actual: &Rows, desired: &Rows, devices: &HashMap<u32, String>) -> Vec<Group> {
    let (old, new) = (Reader::of(actual, devices), Reader::of(desired, devices));
    let mut groups: BTreeMap<Object, Vec<Line>> = BTreeMap::new();
    for edit in edits {
        let (reader, row) = match (&edit.before, &edit.after) {
            (_, Some(row)) => (&new, row),
            (Some(row), None) => (&old, row),
            (None, None) => continue,
        };
        let text = reader.describe(row);
        let before = edit.before.as_ref().filter(|_| edit.after.is_some());
        let was = before.map(|row| old.describe(row)).filter(|was| *was != text);
        let line = Line { sign: edit.sign(), map: row.table().shape().name, row: text, was };
        groups.entry(reader.owner(row)).or_default().push(line);
    }
    groups.into_iter().map(|(object, edits)| Group { sign: sign(&edits), object: object.to_string(), edits }).collect()
}

fn sign(edits: &[Line]) -> char {
    match edits.first() {
        Some(first) if edits.iter().all(|edit| edit.sign == first.sign) => first.sign,
        _ => '~',
    }
}

/// The groups as lines; with `rows`, each edit is a line below its object.
pub fn render(groups: &[Group], rows: bool) -> String {
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(text, "{} {}", group.sign, group.object);
        if rows {
            for Line { sign, map, row, was } in &group.edits {
                let was = was.as_ref().map_or_else(String::new, |was| format!(" (was: {was})"));
                let _ = writeln!(text, "    {sign} {map:<10} {row}{was}");
            }
        }
    }
    text
}
