//! Guests are reached at public addresses: from outside, from their own network (hairpin), and from another tenant's.

use std::net::SocketAddr;

use netpath::definitions::{Network, Protocol, Zone};

use super::{
    guest, has,
    outward::public_address,
    visit::{Server, visit},
};
use crate::demo::{
    report::Report,
    site::{Guest, Outside, Site},
};

pub(super) fn check(site: &Site, zone: &Zone, outside: &Outside, report: &mut Report) {
    let internet = outside.host.station().ip;
    for network in &zone.networks {
        for door in doors(site, network) {
            let page = visit(outside.host.ns(), door.public, &door.server()).map(|visit| visit.text());
            let what = format!("{internet} opens {}", door.public);
            report.row(site, &what, &format!("{}, sees {internet}, 4 MiB", door.guest.title()), page);
        }
        let Some(door) = doors(site, network).into_iter().next() else { continue };
        // Best one that has the very same public address.
        let near = |guest: &&Guest| guest.network == door.guest.network && guest.title() != door.guest.title();
        let same = |guest: &&Guest| public_address(network, guest).is_some_and(|own| door.public.ip() == own);
        let mut neighbours = site.guests.iter().filter(near);
        let visitor = neighbours.clone().find(same).or_else(|| neighbours.next());
        if lets_out(zone, network, door.public.port()) {
            visited_by(site, network, visitor, &door, report);
        }
    }
    let mut strangers = zone.networks.iter().flat_map(|network| doors(site, network)).filter_map(|door| {
        let may =
            |there: &&Network| there.name.as_str() != door.guest.network && lets_out(zone, there, door.public.port());
        let there = zone.networks.iter().find(may)?;
        Some((there, site.guests.iter().find(|guest| guest.network == there.name.as_str()), door))
    });
    if let Some((there, visitor, door)) = strangers.next() {
        visited_by(site, there, visitor, &door, report);
    }
}

/// A guest opens a public address and is seen with its own.
fn visited_by(site: &Site, network: &Network, visitor: Option<&Guest>, door: &Door<'_>, report: &mut Report) {
    let Some((visitor, public)) = visitor.and_then(|visitor| Some((visitor, public_address(network, visitor)?))) else {
        return;
    };
    let page = visit(visitor.kernel.ns(), door.public, &door.server()).map(|visit| visit.text());
    let what = format!("{} opens {}", visitor.title(), door.public);
    report.row(site, &what, &format!("{}, sees {public}, 4 MiB", door.guest.title()), page);
}

/// A public address and port that leads to a guest, and that the firewall opens to everybody.
pub(super) struct Door<'s> {
    /// The public end.
    pub(super) public: SocketAddr,
    /// The guest behind it.
    pub(super) guest: &'s Guest,
    /// The guest's own port.
    pub(super) port: u16,
}

impl Door<'_> {
    fn server(&self) -> Server<'_> {
        let guest = &self.guest;
        Server { ns: guest.kernel.ns(), at: (guest.kernel.station().ip, self.port).into(), name: guest.title() }
    }
}

/// The first port of each forwarding, and of each static address, that a rule of the firewall opens.
pub(super) fn doors<'s>(site: &'s Site, network: &Network) -> Vec<Door<'s>> {
    let mut doors = Vec::new();
    let tcp =
        network.port_forwarding.iter().filter(|forward| *forward.protocol == Protocol::Tcp && forward.cidrs.is_empty());
    for forward in tcp {
        let public = SocketAddr::from((*forward.public, forward.ports.first));
        let port = forward.to_ports.map_or(forward.ports.first, |ports| ports.first);
        if let (Some(guest), true) = (guest(site, network, forward.to.as_str()), is_open(network, public)) {
            doors.push(Door { public, guest, port });
        }
    }
    for nat in &network.static_nat {
        let rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
        let mut ports = rules.filter(|rule| *rule.public == *nat.public).filter_map(|rule| rule.ports);
        if let (Some(guest), Some(ports)) = (guest(site, network, nat.nic.as_str()), ports.next()) {
            doors.push(Door { public: (*nat.public, ports.first).into(), guest, port: ports.first });
        }
    }
    doors
}

/// Whether the firewall lets everybody in to a public port.
fn is_open(network: &Network, public: SocketAddr) -> bool {
    let mut rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
    rules.any(|rule| {
        public.ip() == *rule.public
            && *rule.protocol == Protocol::Tcp
            && rule.cidrs.is_empty()
            && has(rule.ports.as_deref(), public.port())
    })
}

/// Whether guests of a network may open a port outside, as far as rules for TCP tell.
pub(super) fn lets_out(zone: &Zone, network: &Network, port: u16) -> bool {
    use netpath::definitions::EgressDefault;
    let offering = network.offering.as_ref().and_then(|name| zone.offerings.iter().find(|known| *known.name == **name));
    let mut rules = network.firewall.iter().flat_map(|firewall| &firewall.egress);
    let named = rules.any(|rule| *rule.protocol == Protocol::Tcp && has(rule.ports.as_deref(), port));
    named != offering.is_some_and(|offering| *offering.egress_default == EgressDefault::Allow)
}
