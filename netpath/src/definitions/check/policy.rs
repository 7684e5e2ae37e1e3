//! Firewall, access lists and static routes: what each row says is meaningful.

use std::net::IpAddr;

use super::{
    super::{
        decode::At,
        findings::Findings,
        model::{IcmpField, Network, Zone},
        values::{Ports, Protocol},
    },
    Seen,
};

pub(super) fn check(zone: &Zone, findings: &mut Findings) {
    for network in &zone.networks {
        if let Some(firewall) = &network.firewall {
            for rule in &firewall.ingress {
                protocol(&rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code], findings);
            }
            for rule in &firewall.egress {
                protocol(&rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code], findings);
            }
        }
        let mut numbers = Seen::default();
        for rule in network.acl_rules() {
            protocol(&rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code], findings);
            let what = format_args!("a second {} rule of this number", *rule.direction);
            let fix = "give each rule of a direction its own number";
            numbers.once((*rule.direction, *rule.number), &rule.number, what, fix, findings);
        }
        routes(network, findings);
    }
}

/// Ports belong to tcp and udp, types and codes to icmp.
fn protocol(
    protocol: &At<Protocol>,
    ports: &Option<At<Ports>>,
    icmp: [&Option<At<IcmpField>>; 2],
    findings: &mut Findings,
) {
    if !protocol.is_written() {
        return;
    }
    let name = protocol.value;
    if let Some(ports) = ports.as_ref().filter(|ports| ports.is_written() && !name.has_ports()) {
        let problem = format_args!("ports of protocol {name}, which has none");
        findings.add(ports.at, ports.value, problem, "use protocol tcp or udp, or leave the ports out");
    }
    for field in icmp.into_iter().flatten().filter(|field| field.is_written() && name != Protocol::Icmp) {
        let problem = format_args!("an ICMP type or code of protocol {name}");
        findings.add(field.at, field.value, problem, "use protocol icmp, or leave it out");
    }
}

fn routes(network: &Network, findings: &mut Findings) {
    let mut prefixes = Seen::default();
    for route in &network.static_routes {
        let what = "a second route to this prefix";
        prefixes.once(*route.cidr, &route.cidr, what, "give each prefix one next hop", findings);
        if !route.via.is_written() {
            continue;
        }
        let inside = match route.via.value {
            IpAddr::V4(via) => network.cidr.as_ref().is_some_and(|cidr| cidr.contains(&via)),
            IpAddr::V6(via) => network.cidr6.as_ref().is_some_and(|cidr| cidr.contains(&via)),
        };
        if !inside {
            let problem = format_args!("a next hop outside network {}", network.name.value);
            findings.add(route.via.at, route.via.value, problem, "use an address of the network");
        } else if route.cidr.is_written() && route.cidr.addr().is_ipv4() != route.via.is_ipv4() {
            let problem = format_args!("a next hop of the other IP version than {}", route.cidr.value);
            findings.add(route.via.at, route.via.value, problem, "use an address of the prefix's version");
        }
    }
}
