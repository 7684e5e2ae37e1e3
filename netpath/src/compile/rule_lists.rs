//! Where lists of rules stand in RULES.
//!
//! A list is never changed in place: one that is new, or another than before, goes to rows that no list in force has, so a
//! reader sees the old list or the new one and no mixture. Lists with the same rules are one.

use std::collections::{BTreeMap, HashMap};

use netpath_common::maps::{Rule, RuleList};

use super::rows::Rows;

/// The lists in force and those of the rows that are being compiled.
pub(super) struct RuleLists {
    /// First row by content.
    known: HashMap<Vec<u8>, u32>,
    /// Ranges that are in use, before or after: first row, and the one behind the last.
    taken: BTreeMap<u32, u32>,
    /// No row below is free.
    first_free: u32,
}

impl RuleLists {
    /// The lists that the rows in force refer to.
    pub(super) fn of(existing: &Rows) -> Self {
        let mut lists = Self { known: HashMap::new(), taken: BTreeMap::new(), first_free: 0 };
        let gateways = existing.gateways.values().flat_map(|row| [row.egress, row.acl_ingress, row.acl_egress]);
        let public = existing.public_address.values().map(|row| row.ingress);
        let forwards = existing.forwards.values();
        let forwards = forwards.map(|row| RuleList { start: row.sources_start, count: row.sources_count });
        for RuleList { start, count } in gateways.chain(public).chain(forwards).filter(|list| list.count > 0) {
            let end = start.saturating_add(count);
            let taken = lists.taken.entry(start).or_insert(end);
            *taken = end.max(*taken);
            let rules: Vec<Rule> = existing.rules.range(start..end).map(|(_, rule)| *rule).collect();
            if rules.len() == count as usize {
                lists.known.entry(content(&rules)).or_insert(start);
            }
        }
        lists.taken = merged(lists.taken);
        lists
    }

    /// Where `rules` stand; they are put into `rows`.
    pub(super) fn list(&mut self, rules: &[Rule], rows: &mut Rows) -> RuleList {
        let count = u32::try_from(rules.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return RuleList::default();
        }
        let start = match self.known.get(&content(rules)) {
            Some(start) => *start,
            None => {
                let start = self.take(count);
                self.known.insert(content(rules), start);
                start
            }
        };
        rows.rules.extend((start..).zip(rules.iter().copied()));
        RuleList { start, count }
    }

    /// The first `count` rows in succession that are free.
    fn take(&mut self, count: u32) -> u32 {
        let mut start = self.first_free;
        let mut has_hole = false;
        for (taken, end) in self.taken.range(start..) {
            if start.saturating_add(count) <= *taken {
                break;
            }
            has_hole |= start < *taken;
            start = *end;
            if !has_hole {
                self.first_free = *end;
            }
        }
        self.taken.insert(start, start.saturating_add(count));
        start
    }
}

/// Ranges that overlap, as damaged rows could have them, as one.
fn merged(ranges: BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
    let mut merged: BTreeMap<u32, u32> = BTreeMap::new();
    for (start, end) in ranges {
        match merged.last_entry() {
            Some(mut last) if *last.get() > start => *last.get_mut() = end.max(*last.get()),
            _ => drop(merged.insert(start, end)),
        }
    }
    merged
}

fn content(rules: &[Rule]) -> Vec<u8> {
    bytemuck::cast_slice(rules).to_vec()
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::Gateway;

    use super::*;

    fn rules(numbers: std::ops::Range<u32>) -> Vec<Rule> {
        numbers.map(|number| Rule { number, ..Rule::default() }).collect()
    }

    /// Rows in which a network has each of `lists` as its egress rules.
    fn in_force(lists: &[Vec<Rule>]) -> Rows {
        let mut rows = Rows::default();
        let mut places = RuleLists::of(&rows);
        for (network, list) in (1..).zip(lists) {
            let egress = places.list(list, &mut rows);
            rows.gateways.insert(network, Gateway { egress, ..Gateway::default() }.into());
        }
        rows
    }

    #[test]
    fn a_list_that_is_the_same_stays_and_another_goes_where_nothing_in_force_is() {
        let existing = in_force(&[rules(1..4), rules(10..12), rules(20..25)]);
        let mut rows = Rows::default();
        let mut lists = RuleLists::of(&existing);
        assert_eq!(lists.list(&rules(10..12), &mut rows), RuleList { start: 3, count: 2 });
        assert_eq!(lists.list(&rules(1..5), &mut rows), RuleList { start: 10, count: 4 });
        assert_eq!(
            lists.list(&rules(1..5), &mut rows),
            RuleList { start: 10, count: 4 },
            "the same rules are one list"
        );
        assert_eq!(lists.list(&[], &mut rows), RuleList::default());
        assert_eq!(rows.rules.keys().copied().collect::<Vec<_>>(), [3, 4, 10, 11, 12, 13]);
    }

    #[test]
    fn the_first_hole_that_is_large_enough_is_taken() {
        let mut existing = in_force(&[rules(1..4), rules(10..12), rules(20..25)]);
        existing.gateways.remove(&1);
        existing.gateways.remove(&3);
        let (mut rows, mut lists) = (Rows::default(), RuleLists::of(&existing));
        let starts = [2, 4, 1, 3].map(|count| lists.list(&rules(100..100 + count), &mut rows).start);
        assert_eq!(starts, [0, 5, 2, 9]);
    }
}
