//! Tenant networks: their segments, prefixes and gateways.

use std::collections::HashMap;

use ipnet::Ipv4Net;

use super::{
    super::{
        decode::At,
        findings::Findings,
        model::{Network, PhysicalNetwork, Zone},
        values::{GatewayMode, Isolation, Segment, Traffic},
    },
    Names, Seen, find,
    hosts::legal_ids,
};

/// IPv6 needs links of this MTU (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

pub(super) fn check(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    let mut segments = Seen::default();
    for network in &zone.networks {
        let physical = find("physical network", &network.physical_network, &names.physical_networks, findings);
        if let Some(physical) = physical {
            carries(physical, Traffic::Guest, &network.physical_network, findings);
            segment(physical, &network.segment, findings);
            let what = format_args!("two networks in one segment of `{}`", physical.name.value);
            let fix = "give each network a segment of its own";
            segments.once((physical.name.as_str(), *network.segment), &network.segment, what, fix, findings);
        }
        if let Some(offering) = &network.offering {
            find("offering", offering, &names.offerings, findings);
        }
        if let Some(host) = &network.nat_host {
            find("host", host, &names.hosts, findings);
        }
        prefix4(network, findings);
        prefix6(network, findings);
    }
    public_vlans(zone, names, &mut segments, findings);
    untagged(zone, names, findings);
    routers(zone, findings);
}

/// The physical network says that it carries `traffic`, or does not say what it carries.
pub(super) fn carries<T: std::fmt::Display>(
    physical: &PhysicalNetwork,
    traffic: Traffic,
    reference: &At<T>,
    findings: &mut Findings,
) {
    if !physical.traffic.is_empty() && !physical.traffic.iter().any(|carried| **carried == traffic) {
        let problem = format_args!("a physical network without {traffic} traffic");
        let line = findings.line(physical.at);
        let expected = format!("name another one, or add {traffic} to its `traffic` in {line}");
        findings.add(reference.at, &reference.value, problem, expected);
    }
}

/// The id is legal and one of the physical network's.
pub(super) fn segment(physical: &PhysicalNetwork, segment: &At<Segment>, findings: &mut Findings) {
    if !segment.is_written() || !physical.isolation.is_written() {
        return;
    }
    let isolation = *physical.isolation;
    let (kind, field) = match isolation {
        Isolation::Vlan => ("VLAN id", "vlans"),
        Isolation::Vxlan => ("VNI", "vnis"),
    };
    let name = &physical.name.value;
    let (first, last) = legal_ids(isolation);
    match (**segment, physical.ids()) {
        (Segment::Untagged, _) if isolation == Isolation::Vxlan => {
            let problem = format_args!("`{name}` has isolation vxlan, which has no untagged frames");
            findings.add(segment.at, segment.value, problem, "give a VNI");
        }
        (Segment::Untagged, _) => {}
        (Segment::Id(id), ids) if id < first || id > last => {
            let usable = ids.map_or_else(|| format!("{first}-{last}"), |ids| ids.value.to_string());
            let problem = format_args!("no usable {kind}: they go from {first} to {last}");
            findings.add(segment.at, id, problem, format_args!("use one of {usable}"));
        }
        // The ids were of the other kind, or could not be read: that has been said.
        (Segment::Id(_), None) if physical.vlans.is_some() || physical.vnis.is_some() => {}
        (Segment::Id(_), Some(ids)) if !ids.is_written() => {}
        (Segment::Id(id), None) => {
            let problem = format_args!("`{name}` has no `{field}`");
            let expected = format!("give it `{field}`, in {}", findings.line(physical.at));
            findings.add(segment.at, id, problem, expected);
        }
        (Segment::Id(id), Some(ids)) if !ids.contains(id) => {
            let problem = format_args!("outside the {field} of `{name}`");
            findings.add(segment.at, id, problem, format_args!("use one of {}", ids.value));
        }
        (Segment::Id(_), Some(_)) => {}
    }
}

fn prefix4(network: &Network, findings: &mut Findings) {
    let Some(gateway) = network.gateway.as_ref().filter(|gateway| gateway.is_written()) else { return };
    let ip = gateway.value;
    let Some(cidr) = &network.cidr else {
        let expected = "add `cidr`, or leave the gateway out";
        findings.add(gateway.at, ip, "a gateway in a network without `cidr`", expected);
        return;
    };
    if !cidr.contains(&ip) {
        let expected = format_args!("use an address of {}", cidr.value);
        findings.add(gateway.at, ip, "a gateway outside the network's cidr", expected);
    } else if cidr.prefix_len() < 31 && (ip == cidr.network() || ip == cidr.broadcast()) {
        let problem = format_args!("the network or broadcast address of {}", cidr.value);
        findings.add(gateway.at, ip, problem, "use another address of the prefix");
    }
}

fn prefix6(network: &Network, findings: &mut Findings) {
    if network.cidr6.is_some() && network.mtu.is_written() && network.mtu.get() < IPV6_MTU_MIN {
        let expected = format_args!("use {IPV6_MTU_MIN} or more, or leave `cidr6` out");
        findings.add(network.mtu.at, network.mtu.value, "an MTU too small for IPv6", expected);
    }
    let Some(gateway) = network.gateway6.as_ref().filter(|gateway| gateway.is_written()) else { return };
    match &network.cidr6 {
        None => {
            let expected = "add `cidr6`, or leave the gateway out";
            findings.add(gateway.at, gateway.value, "a gateway in a network without `cidr6`", expected);
        }
        Some(cidr) if !cidr.contains(&gateway.value) && !gateway.is_unicast_link_local() => {
            let expected = format_args!("use an address of {}", cidr.value);
            findings.add(gateway.at, gateway.value, "a gateway outside the network's cidr6", expected);
        }
        Some(_) if gateway.is_multicast() || gateway.is_unspecified() => {
            findings.add(gateway.at, gateway.value, "no address of a station", "use a unicast address");
        }
        Some(_) => {}
    }
}

/// A public VLAN is no tenant's segment. Several public ranges may share one.
fn public_vlans<'z>(
    zone: &'z Zone,
    names: &Names<'z>,
    segments: &mut Seen<(&'z str, Segment)>,
    findings: &mut Findings,
) {
    for range in &zone.public_ranges {
        let Some(physical) = names.physical_networks.get(range.physical_network.as_str()) else { continue };
        let key = (physical.name.as_str(), *range.vlan);
        if range.vlan.is_written()
            && let Some(first) = segments.0.get(&key)
        {
            let problem = format!("the segment of a network, in {}", findings.line(*first));
            findings.add(range.vlan.at, range.vlan.value, problem, "give the public range a VLAN of its own");
        }
    }
}

/// Two physical networks that share a device cannot both have untagged frames.
fn untagged(zone: &Zone, names: &Names<'_>, findings: &mut Findings) {
    let ranges = zone.public_ranges.iter().map(|range| (&range.physical_network, &range.vlan));
    let networks = zone.networks.iter().map(|network| (&network.physical_network, &network.segment));
    let mut by_physical = HashMap::new();
    for (physical, segment) in networks.chain(ranges) {
        if segment.is_written()
            && **segment == Segment::Untagged
            && names.physical_networks.contains_key(physical.as_str())
        {
            by_physical.entry(physical.as_str()).or_insert(segment);
        }
    }
    for host in &zone.hosts {
        let mut seen = Seen::default();
        for (physical, device) in host.uplinks.iter() {
            if let Some(segment) = by_physical.get(physical.as_str()) {
                let what = format_args!("a second untagged segment on {} of host {}", device.value, host.name.value);
                seen.once(&device.value, segment, what, "give one of them a VLAN id", findings);
            }
        }
    }
}

/// The networks of a router have one owner, no common addresses, and netpath as their gateway.
fn routers(zone: &Zone, findings: &mut Findings) {
    let mut tiers: HashMap<&str, Vec<&Network>> = HashMap::new();
    for network in &zone.networks {
        let Some(router) = network.router.as_ref().filter(|router| router.is_written()) else { continue };
        let others = tiers.entry(router.as_str()).or_default();
        if let Some(first) = others.first().filter(|first| account(first) != account(network)) {
            let problem = format_args!("a router of two accounts: `{}` is another's", first.name.value);
            findings.add(router.at, &router.value, problem, "give networks of one account one router");
        }
        if *network.gateway_mode == GatewayMode::External {
            let problem = "a router in a network whose gateway is external";
            findings.add(router.at, &router.value, problem, "use gateway_mode netpath, or leave `router` out");
        }
        if let Some(cidr) = network.cidr.as_ref().filter(|cidr| cidr.is_written()) {
            let overlap = |other: &At<Ipv4Net>| other.contains(&cidr.value) || cidr.contains(&other.value);
            let overlapping =
                |other: &&&Network| other.cidr.as_ref().is_some_and(|other| other.is_written() && overlap(other));
            if let Some(other) = others.iter().find(overlapping) {
                let problem = format_args!("overlaps `{}` of the same router", other.name.value);
                findings.add(cidr.at, cidr.value, problem, "use prefixes that do not overlap");
            }
        }
        others.push(network);
    }
}

fn account(network: &Network) -> Option<&str> {
    network.account.as_ref().map(|account| account.as_str())
}
