//! The gateway: guests and the world, tiers of a router, and what is refused.
//!
//! Every row is derived from the definitions: who browses and is seen with which public address, which ports lead to whom, what
//! the rules refuse.

mod inward;
mod outward;
mod refused;
mod revoked;
mod tiers;
mod visit;

use std::path::Path;

use netpath::definitions::{Network, Ports, Zone};

use super::{
    report::Report,
    site::{Guest, Site},
};

pub(super) fn check(site: &Site, zone: &Zone, file: &Path, report: &mut Report) {
    tiers::check(site, zone, report);
    let Some(outside) = &site.outside else { return };
    outward::check(site, zone, outside, report);
    inward::check(site, zone, outside, report);
    refused::check(site, zone, outside, report);
    let Some(host) = site.hosts.first() else { return };
    for what in ["nat", "flows", "rules"] {
        host.shown(&["show", what]);
    }
    revoked::check(site, zone, file, outside, report);
}

/// A guest by the name that rules of its network give it.
fn guest<'s>(site: &'s Site, network: &Network, instance: &str) -> Option<&'s Guest> {
    site.guests.iter().find(|guest| guest.network == network.name.as_str() && guest.instance == instance)
}

/// Whether ports have this one; absent ones are any.
fn has(ports: Option<&Ports>, port: u16) -> bool {
    ports.is_none_or(|ports| (ports.first..=ports.last).contains(&port))
}
