//! Edits as people read them: `+ ~ -` lines grouped by object.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use serde::Serialize;

use super::{
    Edit, Object,
    object::{Reader, rate},
};
use crate::compile::{Row, Rows, Table};

/// What happens to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `+` when it comes, `-` when it goes, `~` when it stays and something of it changes.
    pub sign: char,
    /// The object.
    pub object: String,
    /// What becomes of it in a word or two, where that can be said: of a limit, `200Mbps → 500Mbps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
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
    let mut rules: BTreeMap<Object, Rules> = BTreeMap::new();
    let mut summaries: HashMap<Object, String> = HashMap::new();
    for edit in edits {
        let (reader, row) = match (&edit.before, &edit.after) {
            (_, Some(row)) => (&new, row),
            (Some(row), None) => (&old, row),
            (None, None) => continue,
        };
        if row.table() == Table::Rules {
            rules.entry(reader.owner(row)).or_default().count(edit.sign());
            continue;
        }
        let text = reader.describe(row);
        let before = edit.before.as_ref().filter(|_| edit.after.is_some());
        let was = before.map(|row| old.describe(row)).filter(|was| *was != text);
        if let Some(summary) = summary(edit) {
            summaries.insert(reader.owner(row), summary);
        }
        let line = Line { sign: edit.sign(), map: row.table().shape().name, row: text, was };
        groups.entry(reader.owner(row)).or_default().push(line);
    }
    for (object, rules) in rules {
        groups.entry(object).or_default().push(rules.line());
    }
    let (before, after) = (old.objects(), new.objects());
    let group = |(object, edits): (Object, Vec<Line>)| {
        let summary = summaries.remove(&object);
        let sign = match (before.get(&object), after.get(&object)) {
            (None, None) => sign(&edits),
            (before, after) if before == after => '~',
            // Rows may have been another object's, or its own in another place.
            (before, after) => {
                if before < after {
                    '+'
                } else {
                    '-'
                }
            }
        };
        Group { sign, object: object.to_string(), summary, edits }
    };
    groups.into_iter().map(group).collect()
}

/// What becomes of a limit: its rate, or both where it changes.
fn summary(edit: &Edit) -> Option<String> {
    let text = |row: &Option<Row>| match row {
        Some(Row::Limits(_, limit)) => Some(rate(limit)),
        _ => None,
    };
    match (text(&edit.before), text(&edit.after)) {
        (Some(before), Some(after)) if before != after => Some(format!("{before} → {after}")),
        (before, after) => after.or(before),
    }
}

/// The removals of objects of which nothing is added or changed.
pub fn whole_removals<'e>(
    edits: &'e [Edit],
    actual: &Rows,
    desired: &Rows,
    devices: &HashMap<u32, String>,
) -> Vec<&'e Edit> {
    let (old, new) = (Reader::of(actual, devices), Reader::of(desired, devices));
    let owner = |edit: &Edit| match (&edit.before, &edit.after) {
        (_, Some(row)) => Some(new.owner(row)),
        (Some(row), None) => Some(old.owner(row)),
        (None, None) => None,
    };
    let owned: Vec<_> = edits.iter().filter_map(|edit| Some((owner(edit)?, edit))).collect();
    let kept: HashSet<&Object> =
        owned.iter().filter(|(_, edit)| edit.after.is_some()).map(|(object, _)| object).collect();
    owned.iter().filter(|(object, _)| !kept.contains(object)).map(|(_, edit)| *edit).collect()
}

/// Rules of one object: a list has thousands of rows, and is one line.
#[derive(Default)]
struct Rules {
    added: usize,
    changed: usize,
    removed: usize,
}

impl Rules {
    fn count(&mut self, sign: char) {
        match sign {
            '+' => self.added += 1,
            '-' => self.removed += 1,
            _ => self.changed += 1,
        }
    }

    fn line(&self) -> Line {
        let counts = [('+', self.added), ('~', self.changed), ('-', self.removed)];
        let present: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        let sign = if let [(sign, _)] = present[..] { sign } else { '~' };
        let counts: Vec<String> = present.iter().map(|(sign, count)| format!("{sign}{count}")).collect();
        Line { sign, map: Table::Rules.shape().name, row: format!("rules: {}", counts.join(" ")), was: None }
    }
}

/// `+` when all of it is new, `-` when all of it goes, else `~`.
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
        let summary = group.summary.as_ref().map_or_else(String::new, |summary| format!(" {summary}"));
        let _ = writeln!(text, "{} {}{summary}", group.sign, group.object);
        if rows {
            for Line { sign, map, row, was } in &group.edits {
                let was = was.as_ref().map_or_else(String::new, |was| format!(" (was: {was})"));
                let _ = writeln!(text, "    {sign} {map:<10} {row}{was}");
            }
        }
    }
    text
}
