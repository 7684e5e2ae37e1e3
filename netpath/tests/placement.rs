//! Where public addresses live.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use netpath::definitions::{Zone, parse};
use proptest::prelude::*;

const HEAD: &str = "zone: z\nphysical_networks:\n  - {name: v, isolation: vxlan, vnis: 1-9999}\n  \
                    - {name: p, isolation: vlan, vlans: 900, traffic: [public]}\npublic_ranges:\n  \
                    - {physical_network: p, vlan: 900, cidr: 203.0.112.0/22, gateway: 203.0.112.1}\n";

/// A zone of networks with a public address each, and hosts of these names; those whose name begins with `x` have no
/// public uplink.
fn zone(hosts: &[String], networks: u32) -> Zone {
    let mut text = format!("{HEAD}hosts:\n");
    for (n, name) in hosts.iter().enumerate() {
        let public = if name.starts_with('x') { "" } else { ", p: eth1" };
        let _ = writeln!(text, "  - {{name: {name}, tunnel_address: 192.0.2.{n}, uplinks: {{v: eth0{public}}}}}");
    }
    text.push_str("networks:\n");
    for n in 1..=networks {
        let address = Ipv4Addr::from(0xcb00_7000 + n + 1);
        let _ = writeln!(
            text,
            "  - {{name: n{n}, physical_network: v, segment: {n}, cidr: 10.0.0.0/24, gateway: 10.0.0.1, source_nat: {address}}}"
        );
    }
    parse("zone.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("kvm{n}")).collect()
}

/// The host of each network's address.
fn placed(zone: &Zone) -> BTreeMap<String, String> {
    let of = |network: &netpath::definitions::Network| {
        let host = zone.nat_host(network, network.source_nat[0].value).unwrap();
        (network.name.to_string(), host.name.to_string())
    };
    zone.networks.iter().map(of).collect()
}

#[test]
fn the_choice_is_the_same_in_every_version() {
    let placed = placed(&zone(&names(4), 8));
    let hosts: Vec<&str> = placed.values().map(String::as_str).collect();
    assert_eq!(hosts, ["kvm3", "kvm2", "kvm3", "kvm2", "kvm3", "kvm2", "kvm4", "kvm4"]);
}

#[test]
fn addresses_are_spread_over_the_hosts_with_the_uplink() {
    let mut hosts = names(8);
    hosts.push("x1".into());
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for host in placed(&zone(&hosts, 800)).into_values() {
        *counts.entry(host).or_default() += 1;
    }
    assert!(!counts.contains_key("x1"), "it has no public uplink");
    assert_eq!(counts.len(), 8);
    assert!(counts.values().all(|count| (60..=140).contains(count)), "{counts:?}");
}

/// Neither the order of addresses and networks nor where guests with addresses of their own are moves what the others share.
#[test]
fn what_is_shared_stays_where_it_is_while_guests_with_addresses_of_their_own_come_and_go() {
    let host_of = |networks: &[String]| {
        let mut text = format!("{HEAD}hosts:\n  - {{name: far, tunnel_address: 192.0.2.99, uplinks: {{v: eth0}}}}\n");
        for (n, name) in names(9).iter().enumerate() {
            let _ = writeln!(text, "  - {{name: {name}, tunnel_address: 192.0.2.{n}, uplinks: {{v: eth0, p: eth1}}}}");
        }
        text.push_str("networks:\n");
        text.extend(networks.iter().map(String::as_str));
        let zone = parse("zone.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
        let network = zone.networks.iter().find(|network| network.name.as_str() == "n2").unwrap();
        zone.shared_nat_host(network).unwrap().name.to_string()
    };
    let tier = |n: u32, fields: &str| {
        format!(
            "  - {{name: n{n}, account: a, router: r, physical_network: v, segment: {n}, cidr: 10.0.{n}.0/24, gateway: 10.0.{n}.1, {fields}}}\n"
        )
    };
    let shared = |list: &str| tier(2, &format!("source_nat: [{list}]"));
    let own = |host: &str| {
        let nic = format!("nics: [{{instance: g, mac: 02:00:0a:00:01:0b, ip: 10.0.1.11{host}}}]");
        tier(1, &format!("static_nat: [{{public: 203.0.112.9, nic: g}}], {nic}"))
    };
    for last in 20..40 {
        let (one, other) = (format!("203.0.112.{last}"), format!("203.0.113.{last}"));
        let expected = host_of(&[shared(&format!("{one}, {other}"))]);
        let list = format!("{other}, {one}");
        for host in ["", ", host: kvm1, device: vnet0", ", host: far, device: vnet0"] {
            assert_eq!(host_of(&[own(host), shared(&list)]), expected);
            assert_eq!(host_of(&[shared(&list), own(host)]), expected);
        }
    }
}

#[test]
fn a_network_lives_on_one_host_also_with_several_addresses() {
    let zone = zone(&names(4), 1);
    let one = zone.nat_host(&zone.networks[0], zone.networks[0].source_nat[0].value).unwrap();
    let more = format!("{HEAD}hosts:\n");
    let mut text = more;
    for (n, name) in names(4).iter().enumerate() {
        let _ = writeln!(text, "  - {{name: {name}, tunnel_address: 192.0.2.{n}, uplinks: {{v: eth0, p: eth1}}}}");
    }
    text.push_str(
        "networks:\n  - {name: n1, physical_network: v, segment: 1, cidr: 10.0.0.0/24, gateway: 10.0.0.1,\n     ",
    );
    text.push_str("source_nat: [203.0.112.2, 203.0.113.77, 203.0.114.5, 203.0.115.6]}\n");
    let pool = parse("zone.yaml", &text).unwrap();
    for address in pool.networks[0].source_nat.iter() {
        assert_eq!(pool.nat_host(&pool.networks[0], address.value).unwrap().name.value, one.name.value);
    }
}

/// A guest whose host has no uplink on the network reaches only what is on that host.
#[test]
fn nat_of_a_network_that_no_uplink_leads_to_is_done_where_its_guests_are() {
    let of = |guest: &str, nat_host: &str| {
        let mut text =
            HEAD.replace("networks:\n", "networks:\n  - {name: g, isolation: vlan, vlans: 100}\n") + "hosts:\n";
        text.push_str("  - {name: alone, uplinks: {p: eth1}}\n");
        for name in names(8) {
            let _ = writeln!(text, "  - {{name: {name}, uplinks: {{g: eth0, p: eth1}}}}");
        }
        let network = "name: n, physical_network: g, segment: 100, cidr: 10.0.0.0/24, gateway: 10.0.0.1";
        let nic = format!("{{instance: a, mac: 02:00:0a:00:00:0b, ip: 10.0.0.11, host: {guest}, device: vnet0}}");
        let _ = writeln!(text, "networks:\n  - {{{network}, source_nat: 203.0.112.9{nat_host}, nics: [{nic}]}}");
        parse("zone.yaml", &text)
    };
    let zone = of("alone", "").unwrap();
    assert_eq!(zone.shared_nat_host(&zone.networks[0]).unwrap().name.as_str(), "alone");
    let zone = of("kvm3", "").unwrap();
    assert_ne!(zone.shared_nat_host(&zone.networks[0]).unwrap().name.as_str(), "alone");
    let refused = of("alone", ", nat_host: kvm3").unwrap_err().to_string();
    assert!(refused.contains("has NICs of network n but no uplink on `g`"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_host_that_comes_or_goes_moves_only_what_it_takes_or_had(count in 2usize..8, leaves in any::<prop::sample::Index>()) {
        let all = names(count);
        let mut fewer = all.clone();
        let gone = fewer.remove(leaves.index(count));
        let (before, after) = (placed(&zone(&all, 60)), placed(&zone(&fewer, 60)));
        for (network, host) in &before {
            if *host != gone {
                prop_assert_eq!(&after[network], host);
            }
        }
    }

    #[test]
    fn the_order_of_the_hosts_does_not_matter(count in 1usize..8) {
        let hosts = names(count);
        let turned: Vec<String> = hosts.iter().rev().cloned().collect();
        prop_assert_eq!(placed(&zone(&hosts, 30)), placed(&zone(&turned, 30)));
    }
}
