//! Public addresses: the ranges they come from, and who has which.

use std::{collections::HashMap, net::Ipv4Addr};

use netpath_common::maps::POOL_ADDRESSES;

use super::{
    super::{
        decode::At,
        findings::{Findings, Pos},
        model::{Network, Nic, PortForward, PublicRange, Zone},
        values::{GatewayMode, Isolation, Ports, Protocol, Traffic},
    },
    Names, Seen, find,
    networks::{carries, segment},
    unknown,
};

pub(super) fn check(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    for (i, range) in zone.public_ranges.iter().enumerate() {
        self::range(range, &zone.public_ranges[..i], names, findings);
    }
    let mut public = Public { zone, owners: HashMap::new(), forwards: HashMap::new() };
    // Whole addresses first, then ports of them: what a port may be taken of is known by then.
    for network in &zone.networks {
        public.addresses(network, findings);
    }
    for network in &zone.networks {
        public.ports(network, findings);
        public.rules(network, findings);
        nat_host(zone, network, findings);
    }
}

/// There is a host that can do the network's NAT, and tiers of one router agree which.
fn nat_host(zone: &Zone, network: &Network, findings: &mut Findings) {
    let known =
        |address: &Ipv4Addr| zone.public_range(*address).is_some_and(|range| range.physical_network.is_written());
    let Some(first) = zone.at_nat_host(network).find(known) else { return };
    let needed = zone.needed_uplinks(&[network]);
    let listed = || needed.iter().copied().collect::<Vec<_>>().join("` and `");
    let Some(named) = network.nat_host.as_ref().filter(|host| host.is_written()) else {
        let at = network.source_nat.first().map_or(network.name.at, |address| address.at);
        let name = &network.name.value;
        match zone.shared_nat_host(network) {
            None if !zone.hosts.is_empty() => {
                let problem = format_args!("no host has an uplink on `{}` and reaches network {name}", listed());
                findings.add(at, first, problem, "give one host such an uplink, in `uplinks`");
            }
            Some(host) if !zone.can_translate(host, network, &needed) => {
                let problem = format_args!(
                    "the NAT host of its router, {}, has no way to it or to network {name}",
                    host.name.value
                );
                findings.add(at, first, problem, "name a host that has the uplinks of all networks of the router");
            }
            _ => {}
        }
        return;
    };
    let Some(host) = zone.host(named) else { return };
    if let Some(physical) = needed.iter().find(|physical| host.uplinks.get(physical).is_none()) {
        let problem = format_args!("a NAT host without an uplink on `{physical}`, where {first} is reached");
        let expected = format_args!("add `{physical}: DEVICE` to its `uplinks`, or name another host");
        findings.add(named.at, &named.value, problem, expected);
    } else if !zone.reaches(host, network) {
        let physical = &network.physical_network.value;
        let problem = format_args!("a NAT host that does not reach network {}", network.name.value);
        let expected = format_args!("give it an uplink on `{physical}`, and a tunnel_address for VXLAN");
        findings.add(named.at, &named.value, problem, expected);
    }
    let mut others = zone.tiers(network).filter_map(|tier| tier.nat_host.as_ref());
    if let Some(other) = others.find(|other| other.value != named.value && other.at < named.at) {
        let line = findings.line(other.at);
        let problem = format!("another NAT host of the same router is {}, in {line}", other.value);
        findings.add(named.at, &named.value, problem, "name one host for the networks of a router");
    }
}

fn range(range: &PublicRange, before: &[PublicRange], names: &Names<'_>, findings: &mut Findings) {
    if let Some(physical) = find("physical network", &range.physical_network, &names.physical_networks, findings) {
        carries(physical, Traffic::Public, &range.physical_network, findings);
        if physical.isolation.is_written() && *physical.isolation == Isolation::Vxlan {
            let problem = "a public range on a physical network with isolation vxlan";
            let expected = "name a physical network with isolation vlan";
            findings.add(range.physical_network.at, &range.physical_network.value, problem, expected);
        } else {
            segment(physical, &range.vlan, findings);
        }
    }
    if !range.cidr.is_written() {
        return;
    }
    let cidr = range.cidr.value;
    let overlaps = |other: &&PublicRange| {
        other.cidr.is_written() && (other.cidr.contains(&cidr.network()) || cidr.contains(&other.cidr.network()))
    };
    if let Some(other) = before.iter().find(overlaps) {
        let problem = format!("overlaps {} in {}", other.cidr.value, findings.line(other.cidr.at));
        findings.add(range.cidr.at, cidr, problem, "use public ranges that do not overlap");
    }
    let gateway = &range.gateway;
    if gateway.is_written() && !is_station(range, gateway.value) {
        let problem = format_args!("a gateway that is no station of {cidr}");
        findings.add(gateway.at, gateway.value, problem, "give the upstream router's address in the range");
    }
}

/// Whether the address can be a machine's on the range's link.
fn is_station(range: &PublicRange, ip: Ipv4Addr) -> bool {
    let cidr = range.cidr.value;
    cidr.contains(&ip) && (cidr.prefix_len() >= 31 || (ip != cidr.network() && ip != cidr.broadcast()))
}

/// What a public address is to the network that has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    SourceNat,
    StaticNat,
    Forwards,
}

impl Use {
    fn describe(self) -> &'static str {
        match self {
            Self::SourceNat => "the source NAT",
            Self::StaticNat => "a static NAT",
            Self::Forwards => "a port forwarding",
        }
    }
}

struct Owner<'z> {
    network: &'z Network,
    usage: Use,
    at: Pos,
}

struct Public<'z> {
    zone: &'z Zone,
    owners: HashMap<Ipv4Addr, Owner<'z>>,
    forwards: HashMap<(Ipv4Addr, Protocol), Vec<(Ports, Pos)>>,
}

/// Whether two networks may share a public address: the tiers of one router do.
fn share(a: &Network, b: &Network) -> bool {
    let same_router = a.router.as_ref().zip(b.router.as_ref()).is_some_and(|(a, b)| a.value == b.value);
    same_router || std::ptr::eq(a, b)
}

impl<'z> Public<'z> {
    /// The addresses that a network has as a whole.
    fn addresses(&mut self, network: &'z Network, findings: &mut Findings) {
        let mut pool = Seen::default();
        for (i, public) in network.source_nat.iter().enumerate() {
            let what = "an address twice in one source NAT";
            pool.once(**public, public, what, "name each address once", findings);
            if i == POOL_ADDRESSES {
                let problem = format_args!("more than {POOL_ADDRESSES} addresses of one source NAT");
                findings.add(public.at, public.value, problem, "leave out what is beyond");
            }
            self.needs_gateway(network, public, "source_nat", findings);
            self.in_range(public, findings);
            self.own(network, public, Use::SourceNat, findings);
        }
        let mut nics = Seen::default();
        for nat in &network.static_nat {
            self.needs_gateway(network, &nat.public, "static_nat", findings);
            self.in_range(&nat.public, findings);
            self.own(network, &nat.public, Use::StaticNat, findings);
            target(network, &nat.nic, findings);
            let what = "a second static NAT of one NIC";
            nics.once(nat.nic.as_str(), &nat.nic, what, "give a NIC one public address", findings);
        }
    }

    /// The ports that a network forwards.
    fn ports(&mut self, network: &'z Network, findings: &mut Findings) {
        for forward in &network.port_forwarding {
            self.needs_gateway(network, &forward.public, "port_forwarding", findings);
            self.in_range(&forward.public, findings);
            self.own(network, &forward.public, Use::Forwards, findings);
            target(network, &forward.to, findings);
            forward_ports(forward, findings);
            self.clash(forward, findings);
        }
    }

    /// An ingress rule is about an address of its network.
    fn rules(&self, network: &Network, findings: &mut Findings) {
        let rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
        for rule in rules.filter(|rule| rule.public.is_written()) {
            self.in_range(&rule.public, findings);
            let owner = self.owners.get(&*rule.public).filter(|owner| !share(owner.network, network));
            if let Some(owner) = owner {
                let problem = format_args!("an address of network {}", owner.network.name.value);
                let expected = format_args!("name a public address of network {}", network.name.value);
                findings.add(rule.public.at, rule.public.value, problem, expected);
            }
        }
    }

    fn needs_gateway(&self, network: &Network, public: &At<Ipv4Addr>, field: &str, findings: &mut Findings) {
        if !public.is_written() {
            return;
        }
        if *network.gateway_mode == GatewayMode::External {
            let problem = format_args!("`{field}` in a network whose gateway is external");
            findings.add(public.at, public.value, problem, "use gateway_mode netpath, or leave the field out");
        } else if network.gateway.is_none() {
            let name = &network.name.value;
            let problem =
                format_args!("`{field}` of network {name}, which has no `gateway`: nothing would be translated");
            let expected = match network.cidr.as_ref().filter(|cidr| cidr.is_written()) {
                Some(cidr) => format!("add `gateway:` with an address of {}, or leave the field out", cidr.value),
                None => "add `cidr:` and `gateway:`, or leave the field out".into(),
            };
            findings.add(public.at, public.value, problem, expected);
        }
    }

    fn in_range(&self, public: &At<Ipv4Addr>, findings: &mut Findings) {
        if !public.is_written() {
            return;
        }
        let ip = public.value;
        match self.zone.public_ranges.iter().find(|range| range.cidr.is_written() && range.cidr.contains(&ip)) {
            None => {
                let expected = match self.zone.public_ranges.first().filter(|range| range.cidr.is_written()) {
                    Some(range) => format!("use an address of {}, or add its range", range.cidr.value),
                    None => "add its range to `public_ranges`".into(),
                };
                findings.add(public.at, ip, "a public address in no public range", expected);
            }
            Some(range) if *range.gateway == ip => {
                let problem = format_args!("the gateway of {}", range.cidr.value);
                findings.add(public.at, ip, problem, "use another address of the range");
            }
            Some(range) if !is_station(range, ip) => {
                let problem = format_args!("the network or broadcast address of {}", range.cidr.value);
                findings.add(public.at, ip, problem, "use another address of the range");
            }
            Some(_) => {}
        }
    }

    fn own(&mut self, network: &'z Network, public: &At<Ipv4Addr>, usage: Use, findings: &mut Findings) {
        if !public.is_written() {
            return;
        }
        let Some(owner) = self.owners.get(&**public) else {
            self.owners.insert(**public, Owner { network, usage, at: public.at });
            return;
        };
        let allowed = match (owner.usage, usage) {
            (Use::StaticNat, _) | (_, Use::StaticNat) => false,
            _ => share(owner.network, network),
        };
        if !allowed {
            let Owner { network, usage, at } = owner;
            let taken = usage.describe();
            let line = findings.line(*at);
            let problem = format!("the address of {taken} of network {}, {line}", network.name.value);
            findings.add(public.at, public.value, problem, "use another public address");
        }
    }

    /// A public port leads to one NIC.
    fn clash(&mut self, forward: &PortForward, findings: &mut Findings) {
        if !forward.public.is_written() || !forward.ports.is_written() || !forward.protocol.is_written() {
            return;
        }
        let taken = self.forwards.entry((*forward.public, *forward.protocol)).or_default();
        if let Some((ports, first)) = taken.iter().find(|(ports, _)| ports.overlaps(&forward.ports)) {
            let (public, protocol) = (forward.public.value, *forward.protocol);
            let line = findings.line(*first);
            let problem = format!("{protocol} {ports} of {public} is forwarded already, in {line}");
            findings.add(forward.ports.at, forward.ports.value, problem, "use ports that are free");
        }
        taken.push((*forward.ports, forward.ports.at));
    }
}

/// The NIC of the network that a rule leads to; it has an IPv4 address.
fn target(network: &Network, instance: &At<super::super::values::Name>, findings: &mut Findings) {
    if !instance.is_written() {
        return;
    }
    match network.nics.iter().find(|nic: &&Nic| nic.instance.value == instance.value) {
        None => {
            let instances = network.nics.iter().map(|nic| nic.instance.as_str());
            unknown("NIC of the network", instance, instances, findings);
        }
        Some(nic) if nic.ip.is_none() && nic.mac.is_written() => {
            let problem = format!("a NIC without `ip`, in {}", findings.line(nic.at));
            findings.add(instance.at, &instance.value, problem, "give the NIC an IPv4 address");
        }
        Some(_) => {}
    }
}

fn forward_ports(forward: &PortForward, findings: &mut Findings) {
    let (ports, protocol) = (&forward.ports, &forward.protocol);
    if protocol.is_written() && !protocol.has_ports() {
        findings.add(protocol.at, protocol.value, "a protocol without ports", "use tcp or udp");
    }
    for ports in [Some(ports), forward.to_ports.as_ref()].into_iter().flatten() {
        if ports.is_written() && ports.first == 0 {
            findings.add(ports.at, ports.value, "port 0, which is reserved", "use ports from 1 to 65535");
        }
    }
    if let Some(to) = forward.to_ports.as_ref().filter(|to| to.is_written() && ports.is_written()) {
        let both_single = to.is_single() && ports.is_single();
        if to.value != ports.value && !both_single {
            let problem = format_args!("other ports than the range {} that is forwarded", ports.value);
            findings.add(to.at, to.value, problem, "leave `to_ports` out: a range keeps its ports");
        }
    }
}
