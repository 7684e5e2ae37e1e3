//! What makes a zone consistent: every rule is checked, and each violation is a finding at the value that breaks it.
//!
//! Stand-ins for values that could not be read are skipped; what is wrong with them has been said already.

mod hosts;
mod networks;
mod nics;
mod policy;
mod public;
mod rates;

use std::collections::{HashMap, hash_map::Entry};
use std::{fmt::Display, hash::Hash};

use super::{
    decode::{At, nearest},
    findings::{Findings, Pos},
    model::{Account, Host, Network, Offering, PhysicalNetwork, Zone},
    values::Name,
};

/// Checks everything.
pub(super) fn check(zone: &Zone, findings: &mut Findings) {
    let names = Names::of(zone, findings);
    hosts::check(zone, &names, findings);
    networks::check(zone, &names, findings);
    nics::check(zone, &names, findings);
    public::check(zone, &names, findings);
    policy::check(zone, findings);
    rates::check(zone, findings);
}

/// The objects that others refer to by name.
struct Names<'z> {
    physical_networks: HashMap<&'z str, &'z PhysicalNetwork>,
    hosts: HashMap<&'z str, &'z Host>,
    offerings: HashMap<&'z str, &'z Offering>,
}

impl<'z> Names<'z> {
    /// The first object of each name; a second one is a finding.
    fn of(zone: &'z Zone, findings: &mut Findings) -> Self {
        unique("account", zone.accounts.iter().map(|account: &Account| (&account.name, account)), findings);
        unique("network", zone.networks.iter().map(|network: &Network| (&network.name, network)), findings);
        Self {
            physical_networks: unique(
                "physical network",
                zone.physical_networks.iter().map(|network| (&network.name, network)),
                findings,
            ),
            hosts: unique("host", zone.hosts.iter().map(|host| (&host.name, host)), findings),
            offerings: unique("offering", zone.offerings.iter().map(|offering| (&offering.name, offering)), findings),
        }
    }
}

fn unique<'z, T>(
    what: &str,
    objects: impl Iterator<Item = (&'z At<Name>, &'z T)>,
    findings: &mut Findings,
) -> HashMap<&'z str, &'z T> {
    let mut seen = Seen::default();
    let mut named = HashMap::new();
    for (name, object) in objects.filter(|(name, _)| name.is_written()) {
        if let Some(first) = seen.insert(name.as_str(), name.at) {
            let problem = format!("a second {what} of this name, the first is in {}", findings.line(first));
            findings.add(name.at, name.value.to_string(), problem, format_args!("give the {what} another name"));
        }
        named.entry(name.as_str()).or_insert(object);
    }
    named
}

/// The object that `name` refers to; none is a finding with the likely name.
fn find<'z, T>(
    what: &str,
    name: &At<Name>,
    objects: &HashMap<&'z str, &'z T>,
    findings: &mut Findings,
) -> Option<&'z T> {
    if !name.is_written() {
        return None;
    }
    let found = objects.get(name.as_str()).copied();
    if found.is_none() {
        unknown(what, name, objects.keys().copied(), findings);
    }
    found
}

/// More candidates than these are not compared: a wrong file shall not take seconds to say so.
const CANDIDATES_MAX: usize = 256;

/// Records that `name` refers to nothing.
fn unknown<'z>(what: &str, name: &At<Name>, candidates: impl Iterator<Item = &'z str>, findings: &mut Findings) {
    if findings.is_full() {
        return;
    }
    let candidates: Vec<&str> = candidates.take(CANDIDATES_MAX).collect();
    let expected = match nearest(name, &candidates) {
        Some(likely) => format!("did you mean `{likely}`?"),
        None if candidates.is_empty() => format!("the document defines no {what}"),
        None => format!("name a {what} that the document defines"),
    };
    findings.add(name.at, &name.value, format_args!("unknown {what}"), expected);
}

/// What has been seen, and where first.
struct Seen<K>(HashMap<K, Pos>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Seen<K> {
    /// Takes note of `key`; the place where it was seen before.
    fn insert(&mut self, key: K, at: Pos) -> Option<Pos> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(free) => {
                free.insert(at);
                None
            }
        }
    }

    /// Takes note of `value`; seen before, it is a finding that calls it `what`.
    fn once(&mut self, key: K, value: &At<impl Display>, what: impl Display, fix: &str, findings: &mut Findings) {
        if !value.is_written() {
            return;
        }
        if let Some(first) = self.insert(key, value.at) {
            let problem = format!("{what}, first in {}", findings.line(first));
            findings.add(value.at, &value.value, problem, fix);
        }
    }
}
