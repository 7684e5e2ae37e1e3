//! What must outlive a fault: counters, connections, revisions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lab::Lab;

/// The state of the hypervisor that faults are made at.
pub(super) struct State {
    /// (list, name, field) → what was counted.
    counted: BTreeMap<(&'static str, String, String), u64>,
    counted_since: Value,
    /// Connections that are not what they were when they were opened.
    mapped_anew: u64,
    /// Number → checksum of the document.
    revisions: BTreeMap<u64, String>,
    /// Revisions that cannot be read.
    damaged: usize,
}

impl State {
    /// Looks at it.
    #[track_caller]
    pub(super) fn of(lab: &Lab) -> Self {
        let usage = lab.netpath.json(["show", "usage"]);
        let mut counted = BTreeMap::new();
        for (list, key) in [("networks", "network"), ("accounts", "account")] {
            for row in usage[list].as_array().expect("a list") {
                let name = row[key].as_str().expect("a name");
                for (field, value) in row.as_object().expect("a row") {
                    value.as_u64().map(|value| counted.insert((list, name.to_owned(), field.clone()), value));
                }
            }
        }
        assert!(!counted.is_empty(), "nothing is counted in {usage}");
        let (mut revisions, mut damaged) = (BTreeMap::new(), 0);
        for entry in lab.netpath.history().list().expect("the history can be listed") {
            match entry.meta {
                Ok(meta) => drop(revisions.insert(entry.number, meta.sha256)),
                Err(_) => damaged += 1,
            }
        }
        let mapped_anew = lab.connections.mapped_anew(0x18) as u64 + lab.traffic.frames().mapped_anew;
        Self { counted, counted_since: usage["counted_since"].clone(), mapped_anew, revisions, damaged }
    }

    /// What of it is lost now, in a sentence each; where the tables themselves may be, only what is not in them.
    pub(super) fn lost(&self, now: &Self, tables_may_be: bool) -> Vec<String> {
        let mut lost = Vec::new();
        if !tables_may_be {
            for ((list, name, field), before) in &self.counted {
                match now.counted.get(&(*list, name.clone(), field.clone())) {
                    Some(after) if after >= before => {}
                    after => lost.push(format!("{field} of {list} {name} was {before}, is {after:?}")),
                }
            }
            if now.counted_since != self.counted_since {
                lost.push(format!("counted since {} instead of {}", now.counted_since, self.counted_since));
            }
            if now.mapped_anew > self.mapped_anew {
                lost.push(format!("{} connections were mapped anew", now.mapped_anew - self.mapped_anew));
            }
        }
        // The oldest go when there are too many.
        let oldest = now.revisions.keys().next().copied().unwrap_or_default();
        for (number, sum) in self.revisions.range(oldest..) {
            if now.revisions.get(number) != Some(sum) {
                lost.push(format!("revision {number} is gone"));
            }
        }
        if now.damaged > self.damaged {
            lost.push(format!("{} revisions are damaged", now.damaged - self.damaged));
        }
        lost
    }
}
