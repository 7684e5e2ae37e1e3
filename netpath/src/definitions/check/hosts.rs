//! Physical networks, hosts, and how the ones stand on the others.

use super::{
    super::{
        decode::At,
        findings::Findings,
        model::{Host, PhysicalNetwork, Zone},
        values::{Ids, Isolation, Name, UplinkMode},
    },
    Names, Seen, find,
};

/// The ids that a segment of either kind may have: VLAN 0 and 4095 are reserved (IEEE 802.1Q table 9-2), VNI 0 means
/// no network and has 24 bits (RFC 7348 section 5).
pub(super) fn legal_ids(isolation: Isolation) -> (u32, u32) {
    match isolation {
        Isolation::Vlan => (1, 4094),
        Isolation::Vxlan => (1, 0xff_ffff),
    }
}

impl PhysicalNetwork {
    /// The ids that its segments may have.
    pub(super) fn ids(&self) -> Option<&At<Ids>> {
        match *self.isolation {
            Isolation::Vlan => self.vlans.as_ref(),
            Isolation::Vxlan => self.vnis.as_ref(),
        }
    }
}

pub(super) fn check(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    for network in &zone.physical_networks {
        ids(network, findings);
    }
    let mut tunnel_addresses = Seen::default();
    let mut wire_macs = Seen::default();
    for host in &zone.hosts {
        references(host, names, findings);
        modes(host, findings);
        tunnel_address(host, &mut tunnel_addresses, findings);
        let what = format_args!("a name that makes the MAC address {} like another host's", host.wire_mac());
        if host.name.is_written() && names.hosts.get(host.name.as_str()).is_some_and(|first| std::ptr::eq(*first, host))
        {
            wire_macs.once(host.wire_mac(), &host.name, what, "give one of them another name", findings);
        }
    }
    sharing(zone, names, findings);
}

/// The ids of a physical network are of its isolation's kind, and legal.
fn ids(network: &PhysicalNetwork, findings: &mut Findings) {
    if !network.isolation.is_written() {
        return;
    }
    let isolation = *network.isolation;
    let (wrong, right) = match isolation {
        Isolation::Vlan => (network.vnis.as_ref().map(|ids| (ids, "vnis")), "vlans"),
        Isolation::Vxlan => (network.vlans.as_ref().map(|ids| (ids, "vlans")), "vnis"),
    };
    if let Some((ids, field)) = wrong {
        let problem = format_args!("`{field}` of a physical network with isolation {isolation}");
        findings.add(ids.at, &ids.value, problem, format_args!("use `{right}`, or the other isolation"));
    }
    if isolation == Isolation::Vlan {
        let expected = "leave it out, or use isolation vxlan";
        if let Some(port) = &network.vxlan_port {
            findings.add(port.at, port.value, "`vxlan_port` of a physical network with isolation vlan", expected);
        }
        if network.replication.is_written() {
            let at = network.replication.at;
            let problem = "`replication` of a physical network with isolation vlan";
            findings.add(at, *network.replication, problem, expected);
        }
    }
    let Some(ids) = network.ids() else { return };
    let (first, last) = legal_ids(isolation);
    if ids.ranges().iter().any(|range| range.0 < first || range.1 > last) {
        let problem = match isolation {
            Isolation::Vlan => "VLAN ids 0 and 4095 are reserved, and there are none above",
            Isolation::Vxlan => "VNI 0 is reserved, and a VNI has 24 bits",
        };
        findings.add(ids.at, &ids.value, problem, format_args!("use ids from {first} to {last}"));
    }
}

/// The physical networks that a host names exist, and can be what it says.
fn references(host: &Host, names: &Names<'_>, findings: &mut Findings) {
    for (network, _) in host.uplinks.iter() {
        find("physical network", network, &names.physical_networks, findings);
    }
    for (network, _) in host.uplink_mode.named() {
        find("physical network", network, &names.physical_networks, findings);
    }
    for (network, address) in host.tunnel_address.named() {
        let found = find("physical network", network, &names.physical_networks, findings);
        if found.is_some_and(|network| network.isolation.is_written() && *network.isolation == Isolation::Vlan) {
            let problem = format_args!("a tunnel address on `{}`, whose isolation is vlan", network.value);
            findings.add(address.at, address.value, problem, "name a physical network with isolation vxlan");
        }
    }
}

/// A device that is the uplink of two physical networks has one mode.
fn modes(host: &Host, findings: &mut Findings) {
    let mode = |network: &Name| host.uplink_mode.get(network).filter(|mode| ***mode != UplinkMode::Auto);
    let uplinks: Vec<_> = host.uplinks.iter().filter_map(|(network, device)| Some((device, mode(network)?))).collect();
    for (i, (device, mode)) in uplinks.iter().enumerate() {
        let other = uplinks[..i].iter().find(|(other, _)| other.value == device.value);
        if let Some((_, first)) = other.filter(|(_, first)| first.value != mode.value) {
            let line = findings.line(first.at);
            let problem = format!("device {} has mode {} in {line}", device.value, first.value);
            findings.add(mode.at, mode.value, problem, "give a device one mode");
        }
    }
}

fn tunnel_address(host: &Host, seen: &mut Seen<std::net::Ipv4Addr>, findings: &mut Findings) {
    let mut own = Vec::new();
    for address in host.tunnel_address.values() {
        let ip = address.value;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || ip.is_broadcast() {
            findings.add(address.at, ip, "no address that tunnels can end at", "give a unicast address of the host");
        } else if !own.contains(&ip) {
            own.push(ip);
            let what = "the tunnel address of two hosts";
            seen.once(ip, address, what, "give each host an address of its own", findings);
        }
    }
}

/// Two physical networks on one host that cannot tell their frames apart: one device with common VLAN ids, or one UDP
/// port (and so one tunnel device) with common VNIs.
fn sharing(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    let mut reported = Seen::default();
    for host in &zone.hosts {
        let uplinks: Vec<_> = host
            .uplinks
            .iter()
            .filter_map(|(network, device)| Some((*names.physical_networks.get(network.as_str())?, device)))
            .filter(|(network, _)| network.isolation.is_written())
            .collect();
        for (i, (a, device_a)) in uplinks.iter().enumerate() {
            for (b, device_b) in &uplinks[..i] {
                let shared = match (*a.isolation, *b.isolation) {
                    (Isolation::Vlan, Isolation::Vlan) if device_a.value == device_b.value => {
                        format!("device {} of host {}", device_a.value, host.name.value)
                    }
                    (Isolation::Vxlan, Isolation::Vxlan) if zone.udp_port(a) == zone.udp_port(b) => {
                        format!("UDP port {} of host {}", zone.udp_port(a), host.name.value)
                    }
                    _ => continue,
                };
                let (first, later) = if a.at < b.at { (a, b) } else { (b, a) };
                let Some((ids, others)) = later.ids().zip(first.ids()) else { continue };
                let Some((from, to)) = ids.overlap(others) else { continue };
                if reported.insert((first.at, later.at), later.at).is_none() {
                    let line = findings.line(first.at);
                    let problem = format!(
                        "the ids {from} to {to} are also those of `{}` ({line}), which shares {shared}",
                        first.name.value
                    );
                    findings.add(ids.at, &ids.value, problem, "use ranges that do not overlap");
                }
            }
        }
    }
}
