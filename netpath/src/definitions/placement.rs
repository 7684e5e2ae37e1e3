//! Where public addresses live, and what hosts are called on a VLAN.

use std::{collections::BTreeSet, net::Ipv4Addr};

use netpath_common::Mac;

use super::{
    model::{Host, Network, PublicRange, StaticNat, Zone},
    values::Isolation,
};

/// The first octets of a host's own MAC address on VLAN and untagged networks: those of gateways, and one more.
const WIRE_PREFIX: [u8; 3] = Mac::WIRE_PREFIX;

impl Zone {
    /// The public range that an address is of.
    pub fn public_range(&self, address: Ipv4Addr) -> Option<&PublicRange> {
        self.public_ranges.iter().find(|range| range.cidr.contains(&address))
    }

    /// The networks that are routed to each other with `network`, itself included, in the document's order.
    pub fn tiers<'z>(&'z self, network: &'z Network) -> impl Iterator<Item = &'z Network> {
        let of_router = |router: &'z str| {
            let same = move |other: &&Network| other.router.as_ref().is_some_and(|other| other.as_str() == router);
            self.networks.iter().filter(same)
        };
        let alone = network.router.is_none().then_some(network);
        network.router.iter().flat_map(move |router| of_router(router.as_str())).chain(alone)
    }

    /// The host that a public address of `network` lives on: which translates it, and answers ARP for it.
    ///
    /// Static NAT is done on the guest's own host where that has an uplink to the address. Everything else of a network,
    /// and of the networks of its router, lives on one host: its `nat_host`, or where none is named, of the hosts that have
    /// the uplinks the one with the highest weight for the lowest public address (rendezvous hashing: a host that
    /// comes or goes moves no more than it has to). Addresses of static NAT, which come and go with their guests' hosts, count
    /// where there are no others.
    pub fn nat_host(&self, network: &Network, address: Ipv4Addr) -> Option<&Host> {
        let fixed = network.static_nat.iter().find(|nat| *nat.public == address);
        fixed.and_then(|nat| self.own_host(network, nat)).or_else(|| self.shared_nat_host(network))
    }

    /// The host that does all NAT of a network but that of guests whose own host does it; `None` where there is nothing
    /// to do, or nobody to do it.
    pub fn shared_nat_host(&self, network: &Network) -> Option<&Host> {
        let tiers: Vec<&Network> = self.tiers(network).filter(|tier| self.at_nat_host(tier).next().is_some()).collect();
        let shared = tiers.iter().flat_map(|tier| Self::shared_addresses(tier)).min();
        let lowest = shared.or_else(|| tiers.iter().flat_map(|tier| self.at_nat_host(tier)).min())?;
        let named = self.tiers(network).find_map(|tier| tier.nat_host.as_ref());
        match named {
            Some(host) => self.host(host),
            None => {
                let needed = self.needed_uplinks(&tiers);
                let stranded: BTreeSet<&str> = tiers.iter().flat_map(|tier| self.stranded(tier)).collect();
                let can = |host: &&Host| {
                    tiers.iter().all(|tier| self.can_translate(host, tier, &needed))
                        && stranded.iter().all(|other| *other == host.name.as_str())
                };
                // Weights that are equal, which does not happen, go by name.
                let rank = |host: &&Host| (weight(&host.name, lowest), std::cmp::Reverse(host.name.to_string()));
                self.hosts.iter().filter(can).max_by_key(rank)
            }
        }
    }

    /// The public addresses of a network that do not live on a guest's own host, those of its source NAT first.
    pub fn at_nat_host<'z>(&'z self, network: &'z Network) -> impl Iterator<Item = Ipv4Addr> + 'z {
        let fixed = network.static_nat.iter().filter(|nat| self.own_host(network, nat).is_none());
        Self::shared_addresses(network).chain(fixed.map(|nat| *nat.public))
    }

    /// The public addresses of a network that are no one guest's.
    fn shared_addresses(network: &Network) -> impl Iterator<Item = Ipv4Addr> {
        let forwards = network.port_forwarding.iter().map(|forward| *forward.public);
        network.source_nat.iter().map(|address| address.value).chain(forwards)
    }

    /// The guest's own host, where that has an uplink to the guest's public address. A guest that ports of another address lead to
    /// has its own address where those are: its answers pass there, and only there is known whose they are.
    fn own_host(&self, network: &Network, nat: &StaticNat) -> Option<&Host> {
        if network.port_forwarding.iter().any(|forward| forward.to.value == nat.nic.value) {
            return None;
        }
        let nic = network.nics.iter().find(|nic| nic.instance.value == nat.nic.value)?;
        let host = self.host(nic.host.as_ref()?)?;
        let physical = self.public_range(*nat.public)?.physical_network.as_str();
        host.uplinks.get(physical).map(|_| host)
    }

    /// The physical networks that public addresses of these networks are reached on, but for those of guests' own hosts.
    pub(super) fn needed_uplinks<'z>(&'z self, tiers: &[&'z Network]) -> BTreeSet<&'z str> {
        let addresses: BTreeSet<Ipv4Addr> = tiers.iter().flat_map(|tier| self.at_nat_host(tier)).collect();
        let ranges = addresses.into_iter().filter_map(|address| self.public_range(address));
        ranges.map(|range| range.physical_network.as_str()).collect()
    }

    /// Whether the host can do the NAT of a network whose public addresses need these uplinks.
    pub(super) fn can_translate(&self, host: &Host, network: &Network, needed: &BTreeSet<&str>) -> bool {
        needed.iter().all(|physical| host.uplinks.get(physical).is_some()) && self.reaches(host, network)
    }

    /// The hosts with guests of a network that its physical network does not lead to: they reach nobody but each other.
    fn stranded<'z>(&self, network: &'z Network) -> impl Iterator<Item = &'z str> {
        let hosts: BTreeSet<&str> = network.hosts().collect();
        hosts.into_iter().filter(|name| self.host(name).is_some_and(|host| !self.has_way(host, network)))
    }

    /// Whether the host can be a station of the network: all of it is there, or the physical network leads there.
    pub(super) fn reaches(&self, host: &Host, network: &Network) -> bool {
        self.has_way(host, network) || network.hosts().all(|other| other == host.name.as_str())
    }

    /// Whether the network's physical network leads to the host.
    fn has_way(&self, host: &Host, network: &Network) -> bool {
        let name = network.physical_network.as_str();
        self.physical_network(name).is_some_and(|physical| {
            host.uplinks.get(name).is_some()
                && (*physical.isolation == Isolation::Vlan || host.tunnel_address.get(name).is_some())
        })
    }
}

impl Host {
    /// Its own MAC address on VLAN and untagged networks, from which it routes: 02:6e:71 and 24 bits of its name's hash.
    pub fn wire_mac(&self) -> Mac {
        wire_mac(&self.name)
    }
}

/// [`Host::wire_mac`] of the host with this name.
pub fn wire_mac(host: &str) -> Mac {
    let [a, b, c] = WIRE_PREFIX;
    let [.., d, e, f] = finish(fold(OFFSET, host.as_bytes())).to_be_bytes();
    Mac([a, b, c, d, e, f])
}

/// What a host weighs for a public address: the finished hash of its name and the address's four octets.
fn weight(host: &str, address: Ipv4Addr) -> u64 {
    finish(fold(fold(OFFSET, host.as_bytes()), &address.octets()))
}

/// FNV-1a's offset basis, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits. What hosts agree upon: it stays as it is.
fn fold(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads every bit of a hash over all of them (the finaliser of SplitMix64).
fn finish(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
