//! Epochs: what makes a network's flows be judged again, and what does not.

use netpath::{compile::Rows, reconcile::reconcile};
use netpath_common::maps::name_kind;

use crate::host::{GATEWAY, compiled, devices, index, with, zone};

const NETWORKS: [&str; 4] = ["acme-web", "globex-web", "initech-front", "initech-back"];

fn rows(text: &str, existing: &Rows) -> Rows {
    compiled(&zone(text), "kvm1", &devices(), existing).rows
}

fn epoch(rows: &Rows, name: &str) -> u32 {
    rows.gateways[&index(rows, name_kind::NETWORK, name)].epoch
}

/// The networks whose epoch another document counts up.
fn counted(text: &str) -> Vec<&'static str> {
    let before = rows(GATEWAY, &Rows::default());
    let after = rows(text, &before);
    NETWORKS.into_iter().filter(|name| epoch(&after, name) != epoch(&before, name)).collect()
}

#[test]
fn the_first_epoch_is_one_and_nothing_new_leaves_it() {
    let rows = rows(GATEWAY, &Rows::default());
    assert!(rows.gateways.values().all(|row| row.epoch == 1));
    assert_eq!(reconcile(&rows, &self::rows(GATEWAY, &rows)), []);
    assert_eq!(counted(GATEWAY), [""; 0]);
}

#[test]
fn a_change_of_policy_is_its_networks_alone() {
    assert_eq!(
        counted(&with(GATEWAY, "        - {protocol: tcp, ports: 443}", "        - {protocol: tcp, ports: 80}")),
        ["acme-web"]
    );
    assert_eq!(counted(&GATEWAY.replacen("offering: closed", "offering: open", 1)), ["acme-web"]);
    assert_eq!(counted(&GATEWAY.replacen("ports: 8000-8099}\n", "ports: 8000-8098}\n", 2)), ["acme-web"]);
    assert_eq!(
        counted(&GATEWAY.replacen("public: 198.51.100.21, protocol: all", "public: 198.51.100.21, protocol: tcp", 1)),
        ["globex-web"]
    );
}

#[test]
fn a_change_of_nat_is_its_networks_alone() {
    assert_eq!(counted(&GATEWAY.replacen(", cidrs: [198.51.100.0/24]}", "}", 1)), ["acme-web"]);
    // The router of VLAN 900 is that of acme-web's addresses on kvm1; initech's NAT is on kvm2.
    assert_eq!(counted(&GATEWAY.replacen("gateway: 203.0.113.1}", "gateway: 203.0.113.2}", 1)), ["acme-web"]);
    let order = ["source_nat: [203.0.113.10, 203.0.113.77]", "source_nat: [203.0.113.77, 203.0.113.10]"];
    assert_eq!(counted(&GATEWAY.replacen(order[0], order[1], 1)), ["acme-web"]);
}

#[test]
fn a_public_address_that_comes_or_goes_counts_for_all_who_may_talk_to_it_from_here() {
    let outside = ["acme-web", "globex-web"];
    assert_eq!(counted(&GATEWAY.replacen("198.51.100.20", "198.51.100.40", 1)), outside);
    assert_eq!(counted(&GATEWAY.replace("198.51.100.21", "198.51.100.41")), outside);
    let moved = GATEWAY.replacen("    nat_host: kvm1\n    source_nat: [", "    nat_host: kvm2\n    source_nat: [", 1);
    assert_eq!(counted(&moved), outside);
    // What is done on kvm2 is not to be done anew on kvm1.
    assert_eq!(counted(&GATEWAY.replace("203.0.113.30", "203.0.113.31")), [""; 0]);
}

#[test]
fn the_rules_of_an_address_count_for_every_tier_that_it_leads_to() {
    let tier = |name: &str, segment: u32, net: u32, more: &str| {
        format!(
            "  - name: {name}\n    physical_network: v\n    segment: {segment}\n    cidr: 10.0.{net}.0/24\n    gateway: 10.0.{net}.1\n    \
             router: r\n    nat_host: kvm1\n    nics: [{{instance: i, mac: \"02:00:00:00:00:01\", ip: 10.0.{net}.9, host: kvm1, device: d{net}}}]\n{more}"
        )
    };
    let document = |port: u16| {
        let front = format!(
            "    source_nat: 203.0.113.10\n    firewall: {{ingress: [{{public: 203.0.113.10, protocol: tcp, ports: {port}}}]}}\n"
        );
        let back = "    port_forwarding: [{public: 203.0.113.10, protocol: tcp, ports: 80, to: i}]\n";
        format!(
            "zone: z\nphysical_networks: [{{name: v, isolation: vxlan, vnis: 1-99}}, {{name: p, isolation: vlan, vlans: 900}}]\n\
             hosts: [{{name: kvm1, uplinks: {{p: eth3}}}}]\n\
             public_ranges: [{{physical_network: p, vlan: 900, cidr: 203.0.113.0/24, gateway: 203.0.113.1}}]\nnetworks:\n{}{}",
            tier("front", 1, 1, &front),
            tier("back", 2, 2, back)
        )
    };
    let before = rows(&document(80), &Rows::default());
    let after = rows(&document(81), &before);
    assert_eq!((epoch(&after, "front"), epoch(&after, "back")), (2, 2));
}

#[test]
fn a_station_that_moves_counts_for_those_who_route_to_it() {
    assert_eq!(
        counted(&GATEWAY.replacen("ip: 10.1.1.13, host: kvm3", "ip: 10.1.1.13, host: kvm2", 1).replacen(
            "host: kvm2, device: vnet0}\n\n",
            "host: kvm2, device: vnet9}\n\n",
            1
        )),
        ["acme-web"]
    );
    let moved = GATEWAY.replacen("host: kvm2, device: vnet1}", "host: kvm3, device: vnet7}", 1);
    assert_eq!(counted(&moved), ["initech-front", "initech-back"]);
    let acl = GATEWAY.replacen("ports: 5432", "ports: 5433", 1);
    assert_eq!(counted(&acl), ["initech-front", "initech-back"], "the front's connections end at the back's ACL");
}

#[test]
fn what_concerns_no_gateway_counts_for_nobody() {
    assert_eq!(
        counted(&GATEWAY.replacen("device: vnet0}\n\n", "device: vnet8}\n\n", 1)),
        [""; 0],
        "another host's device"
    );
    let more = "  - {name: kvm4, tunnel_address: 192.0.2.14, uplinks: {guest: eth1, trunk: eth2}}\n\nofferings:";
    assert_eq!(counted(&GATEWAY.replacen("\nofferings:", more, 1)), [""; 0], "one more host");
}

#[test]
fn a_network_that_goes_takes_its_gateway_along_and_touches_nobody_who_does_not_talk_to_it() {
    let before = rows(GATEWAY, &Rows::default());
    let globex = index(&before, name_kind::NETWORK, "globex-web");
    let (head, rest) = GATEWAY.split_once("  # The very same addresses").unwrap();
    let (_, tail) = rest.split_once("  # Two tiers").unwrap();
    let gone = rows(&format!("{head}  # Two tiers{tail}"), &before);
    assert!(!gone.gateways.contains_key(&globex));
    assert_eq!((epoch(&gone, "initech-front"), epoch(&gone, "initech-back")), (1, 1));
    assert_eq!(epoch(&gone, "acme-web"), 2, "its flows to globex-web's addresses are turned back no more");
}

#[test]
fn an_epoch_is_never_zero() {
    let mut before = rows(GATEWAY, &Rows::default());
    before.gateways.values_mut().for_each(|row| row.epoch = u32::MAX);
    let after = rows(&GATEWAY.replacen("offering: closed", "offering: open", 1), &before);
    assert_eq!((epoch(&after, "acme-web"), epoch(&after, "globex-web")), (1, u32::MAX));
}
