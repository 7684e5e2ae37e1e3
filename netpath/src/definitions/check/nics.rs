//! NICs: their addresses, hosts and devices.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    super::{
        decode::At,
        findings::Findings,
        model::{Host, Network, Zone},
        values::{GatewayMode, Isolation},
    },
    Names, Seen, find,
};

pub(super) fn check(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    let mut devices = Seen::default();
    for host in &zone.hosts {
        for (_, device) in host.uplinks.iter() {
            devices.insert((host.name.as_str(), device.as_str()), device.at);
        }
    }
    let mut reach = Reach { zone, names, reported: HashSet::new() };
    for network in &zone.networks {
        addresses(network, findings);
        for nic in &network.nics {
            let Some(host) = &nic.host else {
                if let Some(device) = nic.device.as_ref().filter(|device| device.is_written()) {
                    let expected = "add `host`, or leave the device out";
                    findings.add(device.at, &device.value, "a device of a NIC without `host`", expected);
                }
                continue;
            };
            if let Some(device) = &nic.device {
                let what = format_args!("a device used twice on host {}", host.value);
                let fix = "give each NIC a device of its own";
                devices.once((host.as_str(), device.as_str()), device, what, fix, findings);
            }
            find("host", host, &names.hosts, findings);
        }
        reach.check(network, findings);
    }
}

/// MAC and IP addresses are unique in the network, and belong to it.
fn addresses(network: &Network, findings: &mut Findings) {
    let (mut macs, mut ips, mut instances) = (Seen::default(), Seen::default(), Seen::default());
    if *network.gateway_mode == GatewayMode::Netpath {
        if let Some(mac) = network.gateway_station() {
            macs.insert(mac, network.gateway_mac.map_or(network.segment.at, |mac| mac.at));
        }
        if let Some(gateway) = &network.gateway {
            ips.insert(IpAddr::V4(**gateway), gateway.at);
        }
        if let Some(gateway) = &network.gateway6 {
            ips.insert(IpAddr::V6(**gateway), gateway.at);
        }
    }
    for nic in &network.nics {
        let what = "two NICs of one instance in one network";
        instances.once(nic.instance.as_str(), &nic.instance, what, "give each NIC its own instance", findings);
        let name = &network.name.value;
        let what = format_args!("a MAC address used twice in network {name}");
        macs.once(*nic.mac, &nic.mac, what, "give each NIC an address of its own", findings);
        for address in nic.addresses().filter(At::is_written) {
            let what = format_args!("an IP address used twice in network {name}");
            ips.once(*address, &address, what, "give each NIC, and the gateway, an address of its own", findings);
            match address.value {
                IpAddr::V4(ip) => inside4(network, At { value: ip, at: address.at }, findings),
                IpAddr::V6(ip) => inside6(network, At { value: ip, at: address.at }, findings),
            }
        }
    }
}

fn inside4(network: &Network, ip: At<Ipv4Addr>, findings: &mut Findings) {
    match &network.cidr {
        None => {
            let problem = format_args!("an IPv4 address in network {}, which has no `cidr`", network.name.value);
            findings.add(ip.at, ip.value, problem, "add `cidr` to the network, or leave the address out");
        }
        Some(cidr) if !cidr.contains(&ip.value) => {
            let problem = format_args!("outside the cidr of network {}", network.name.value);
            findings.add(ip.at, ip.value, problem, format_args!("use an address of {}", cidr.value));
        }
        Some(cidr) if cidr.prefix_len() < 31 && (ip.value == cidr.network() || ip.value == cidr.broadcast()) => {
            let problem = format_args!("the network or broadcast address of {}", cidr.value);
            findings.add(ip.at, ip.value, problem, "use another address of the prefix");
        }
        Some(_) => {}
    }
}

fn inside6(network: &Network, ip: At<Ipv6Addr>, findings: &mut Findings) {
    match &network.cidr6 {
        None => {
            let problem = format_args!("an IPv6 address in network {}, which has no `cidr6`", network.name.value);
            findings.add(ip.at, ip.value, problem, "add `cidr6` to the network, or leave the address out");
        }
        Some(cidr) if !cidr.contains(&ip.value) => {
            let problem = format_args!("outside the cidr6 of network {}", network.name.value);
            findings.add(ip.at, ip.value, problem, format_args!("use an address of {}", cidr.value));
        }
        Some(_) if ip.is_multicast() || ip.is_unspecified() => {
            findings.add(ip.at, ip.value, "no address of a station", "use a unicast address");
        }
        Some(_) => {}
    }
}

/// Whether each host of a network, and each that routes into it, has the way to its other hosts; each lack is reported once.
struct Reach<'z, 'n> {
    zone: &'z Zone,
    names: &'n Names<'z>,
    reported: HashSet<(&'z str, &'z str, &'static str)>,
}

impl<'z> Reach<'z, '_> {
    fn check(&mut self, network: &'z Network, findings: &mut Findings) {
        let Some(physical) = self.names.physical_networks.get(network.physical_network.as_str()) else { return };
        if !physical.isolation.is_written() {
            return;
        }
        let stations: BTreeSet<&str> = network.hosts().collect();
        if stations.is_empty() {
            return;
        }
        // A guest's own host routes, and sends in the segment of whoever it is for.
        let mut hosts: BTreeMap<&str, &Network> =
            self.zone.tiers(network).flat_map(|tier| tier.hosts().map(move |host| (host, tier))).collect();
        hosts.extend(stations.iter().map(|host| (*host, network)));
        let has_nat = self.zone.at_nat_host(network).next().is_some();
        let nat_host = || self.zone.shared_nat_host(network).filter(|_| has_nat).map(|host| host.name.as_str());
        // A NIC may move to any host, so tunnels are for every zone of several hosts; a VLAN may have one host only.
        let is_vxlan = *physical.isolation == Isolation::Vxlan;
        let is_alone = if is_vxlan {
            self.zone.hosts.len() < 2
        } else {
            hosts.len() < 2 && nat_host().is_none_or(|host| stations.contains(host))
        };
        if is_alone {
            return;
        }
        for (host, of) in hosts {
            let Some(host) = self.names.hosts.get(host) else { continue };
            let lacks = Lack { host, of, network, physical: physical.name.as_str() };
            if is_vxlan && host.tunnel_address.get(lacks.physical).is_none() {
                self.report(&lacks, "tunnel_address", "add `tunnel_address` to it", findings);
            }
            if host.uplinks.get(lacks.physical).is_none() {
                let expected = format!("add `{}: DEVICE` to its `uplinks`", lacks.physical);
                self.report(&lacks, "uplink", &expected, findings);
            }
        }
    }

    fn report(&mut self, lack: &Lack<'z>, field: &'static str, expected: &str, findings: &mut Findings) {
        let Lack { host, of, network, physical } = lack;
        if !self.reported.insert((host.name.as_str(), physical, field)) {
            return;
        }
        let (has, into) = (&of.name.value, &network.name.value);
        if has == into {
            let problem = format_args!("has NICs of network {has} but no {field} on `{physical}`");
            findings.add(host.name.at, &host.name.value, problem, expected);
        } else {
            let problem = format_args!(
                "has NICs of network {has}, whose router leads to network {into}, but no {field} on `{physical}`"
            );
            findings.add(host.name.at, &host.name.value, problem, expected);
        }
    }
}

/// A host with NICs of one network that has no way to stations of another, or of the same, on a physical network.
struct Lack<'z> {
    host: &'z Host,
    of: &'z Network,
    network: &'z Network,
    physical: &'z str,
}
