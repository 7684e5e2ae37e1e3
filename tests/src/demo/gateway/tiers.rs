//! Networks of one router talk, as far as their access lists let them.

use std::time::Duration;

use netpath::definitions::{AclRule, Action, Direction, Network, Protocol, Zone};

use super::{
    refused::counted,
    visit::{Server, visit},
};
use crate::demo::{
    report::Report,
    site::{Guest, Site},
};

/// How long a guest waits for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(500);

pub(super) fn check(site: &Site, zone: &Zone, report: &mut Report) {
    for target in zone.networks.iter().filter(|network| network.router.is_some()) {
        let Some(owner) = first(site, target) else { continue };
        let Some(port) = target
            .acl_rules()
            .iter()
            .find(|rule| lets_tcp_in(rule))
            .and_then(|rule| rule.ports)
            .map(|ports| ports.first)
        else {
            continue;
        };
        let is_tier =
            |network: &&Network| network.name != target.name && network.router.as_deref() == target.router.as_deref();
        let Some(asker) = zone.networks.iter().filter(is_tier).find_map(|network| first(site, network)) else {
            continue;
        };
        let (ip, to) = (asker.kernel.station().ip, owner.kernel.station().ip);
        let server = Server { ns: owner.kernel.ns(), at: (to, port).into(), name: owner.title() };
        let page = visit(asker.kernel.ns(), server.at, &server).map(|visit| visit.text());
        let what = format!("{} opens {to}:{port}, another tier", asker.title());
        report.row(site, &what, &format!("{}, sees {ip}, 4 MiB", owner.title()), page);
        if target.acl_rules().iter().any(lets_icmp_in) {
            continue;
        }
        let seen = counted(site, &asker.network, "acl_denied", || {
            Ok(if asker.kernel.reaches(to, SILENCE) { "answered" } else { "no answer" })
        });
        let what = format!("{} pings {to}: not in its ACL", asker.title());
        report.row(site, &what, "no answer, acl_denied counted", seen);
    }
}

fn first<'s>(site: &'s Site, network: &Network) -> Option<&'s Guest> {
    site.guests.iter().find(|guest| guest.network == network.name.as_str())
}

fn lets_in(rule: &AclRule) -> bool {
    *rule.direction == Direction::Ingress && *rule.action == Action::Allow
}

fn lets_tcp_in(rule: &AclRule) -> bool {
    lets_in(rule) && *rule.protocol == Protocol::Tcp
}

fn lets_icmp_in(rule: &AclRule) -> bool {
    lets_in(rule) && matches!(*rule.protocol, Protocol::All | Protocol::Icmp | Protocol::Number(1))
}
