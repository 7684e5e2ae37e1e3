//! Which networks a host has rows of: those of its guests, those that it does NAT for, and those that either are routed to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use crate::definitions::{Host, Network, PhysicalNetwork, Zone};

/// Why a host has rows of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It has a guest of it.
    Guests,
    /// It does its NAT.
    Nat,
    /// It has a network of the same router.
    Router,
}

/// A public address that lives on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalAddress<'z> {
    pub(super) address: Ipv4Addr,
    /// The network whose it is; of several tiers, the first whose source NAT has it.
    pub(super) network: &'z Network,
    /// The guest that it belongs to, for static NAT.
    pub(super) inside: Option<Ipv4Addr>,
}

/// What of a zone concerns a host.
#[derive(Debug)]
pub(super) struct Presence<'z> {
    /// Networks by their position in the zone.
    networks: BTreeMap<usize, Reason>,
    /// Who does the shared NAT of the host's networks, by position.
    nat_hosts: BTreeMap<usize, &'z Host>,
    /// By address.
    addresses: BTreeMap<Ipv4Addr, LocalAddress<'z>>,
    /// Names of the physical networks of any of them.
    physical_networks: BTreeSet<&'z str>,
}

impl<'z> Presence<'z> {
    pub(super) fn of(zone: &'z Zone, host: &str) -> Self {
        let mut presence = Self {
            networks: BTreeMap::new(),
            nat_hosts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            physical_networks: BTreeSet::new(),
        };
        let mut routers = BTreeSet::new();
        for (position, network) in zone.networks.iter().enumerate() {
            let nat_host = network.is_routed().then(|| zone.shared_nat_host(network)).flatten();
            presence.nat_hosts.extend(nat_host.map(|nat_host| (position, nat_host)));
            let does_nat = nat_host.is_some_and(|nat_host| nat_host.name.as_str() == host);
            let needs_nat = does_nat && zone.at_nat_host(network).next().is_some();
            let reason = match network.nics.iter().any(|nic| nic.is_on(host)) {
                true => Reason::Guests,
                false if needs_nat => Reason::Nat,
                false => continue,
            };
            presence.networks.insert(position, reason);
            routers.extend(network.router.as_ref().map(|router| router.as_str()));
        }
        for (position, network) in zone.networks.iter().enumerate() {
            if network.router.as_ref().is_some_and(|router| routers.contains(router.as_str())) {
                presence.networks.entry(position).or_insert(Reason::Router);
            }
        }
        presence.find_addresses(zone, host);
        presence.find_physical_networks(zone);
        presence
    }

    fn find_addresses(&mut self, zone: &'z Zone, host: &str) {
        let networks = || self.networks.keys().filter_map(|position| Some((*position, zone.networks.get(*position)?)));
        let lives_here = |host_of: Option<&Host>| host_of.is_some_and(|found| found.name.as_str() == host);
        let shared = |(position, network): (usize, &'z Network)| {
            lives_here(self.nat_hosts.get(&position).copied()).then_some(network)
        };
        let mut addresses = BTreeMap::new();
        for network in networks().filter_map(shared) {
            for address in network.source_nat.iter().map(|address| address.value) {
                addresses.entry(address).or_insert(LocalAddress { address, network, inside: None });
            }
        }
        for network in networks().filter_map(shared) {
            for address in network.port_forwarding.iter().map(|forward| *forward.public) {
                addresses.entry(address).or_insert(LocalAddress { address, network, inside: None });
            }
        }
        for (_, network) in networks().filter(|(_, network)| network.is_routed()) {
            for nat in network.static_nat.iter().filter(|nat| lives_here(zone.nat_host(network, *nat.public))) {
                let nic = network.nics.iter().find(|nic| nic.instance.value == nat.nic.value);
                if let Some(inside) = nic.and_then(|nic| nic.ip) {
                    let address = *nat.public;
                    addresses.insert(address, LocalAddress { address, network, inside: Some(*inside) });
                }
            }
        }
        self.addresses = addresses;
    }

    fn find_physical_networks(&mut self, zone: &'z Zone) {
        let networks = self.networks.keys().filter_map(|position| zone.networks.get(*position));
        let ranges = self.addresses.keys().filter_map(|address| zone.public_range(*address));
        self.physical_networks = networks
            .map(|network| network.physical_network.as_str())
            .chain(ranges.map(|range| range.physical_network.as_str()))
            .collect();
    }

    /// Why the host has the network at `position`; `None` when it has not.
    pub(super) fn reason(&self, position: usize) -> Option<Reason> {
        self.networks.get(&position).copied()
    }

    /// The networks of the host with their positions, in the zone's order.
    pub(super) fn networks(&self, zone: &'z Zone) -> impl Iterator<Item = (usize, &'z Network)> {
        self.networks.keys().filter_map(|position| Some((*position, zone.networks.get(*position)?)))
    }

    /// The physical networks of its networks and public addresses, in the zone's order.
    pub(super) fn physical_networks(&self, zone: &'z Zone) -> impl Iterator<Item = &'z PhysicalNetwork> {
        zone.physical_networks.iter().filter(|physical| self.physical_networks.contains(physical.name.as_str()))
    }

    /// Who does the NAT of a network, but for guests whose own host does it.
    pub(super) fn nat_host(&self, position: usize) -> Option<&'z Host> {
        self.nat_hosts.get(&position).copied()
    }

    /// The public addresses that live on the host.
    pub(super) fn addresses(&self) -> impl Iterator<Item = LocalAddress<'z>> {
        self.addresses.values().copied()
    }
}
