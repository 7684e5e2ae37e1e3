//! Rules of firewalls and ACLs as rows, and where their lists stand.

use netpath::{
    compile::Rows,
    reconcile::{Edit, group, reconcile, render},
};
use netpath_common::maps::{PublicKey, Rule, RuleList, gateway_flags, name_kind};

use crate::host::{GATEWAY, compiled, devices, index, with, zone};

fn rows(text: &str, existing: &Rows) -> Rows {
    compiled(&zone(text), "kvm1", &devices(), existing).rows
}

fn first() -> Rows {
    rows(GATEWAY, &Rows::default())
}

fn list(rows: &Rows, list: RuleList) -> Vec<Rule> {
    (list.start..list.start + list.count).map(|place| rows.rules[&place]).collect()
}

fn gateway(rows: &Rows, name: &str) -> netpath_common::maps::Gateway {
    *rows.gateways[&index(rows, name_kind::NETWORK, name)]
}

#[test]
fn egress_rules_are_what_the_default_is_not() {
    let rows = first();
    let tcp = Rule { protocol: 6, first_port: 443, last_port: 443, ..Rule::EVERYTHING };
    let dns = |destination| Rule {
        protocol: 17,
        first_port: 53,
        last_port: 53,
        source: [10, 1, 1, 0],
        source_mask: [255, 255, 255, 128],
        destination,
        destination_mask: [255; 4],
        number: 2,
        ..Rule::EVERYTHING
    };
    let egress = list(&rows, gateway(&rows, "acme-web").egress);
    assert_eq!(egress, [tcp, dns([192, 0, 2, 53]), dns([198, 51, 100, 53])]);
    let open = list(&rows, gateway(&rows, "globex-web").egress);
    assert_eq!(open, [Rule { protocol: 6, first_port: 25, last_port: 25, allow: 0, ..Rule::EVERYTHING }]);
}

#[test]
fn each_pair_of_prefixes_is_a_row_in_the_order_of_the_rule() {
    let rule = "{protocol: all, cidrs: [10.1.1.0/26, \"2001:db8::/64\", 10.1.1.64/26], destination_cidrs: [192.0.2.0/24, 192.0.3.0/24]}";
    let text = GATEWAY.replacen("{protocol: tcp, ports: 443}", rule, 1);
    let rows = rows(&text, &Rows::default());
    let pairs: Vec<_> = list(&rows, gateway(&rows, "acme-web").egress)[..4]
        .iter()
        .map(|rule| (rule.source[3], rule.destination[2], rule.number))
        .collect();
    assert_eq!(pairs, [(0, 2, 1), (0, 3, 1), (64, 2, 1), (64, 3, 1)]);
    let six = GATEWAY.replacen("{protocol: tcp, ports: 443}", "{protocol: all, cidrs: [\"2001:db8::/64\"]}", 1);
    let rows = self::rows(&six, &Rows::default());
    assert_eq!(list(&rows, gateway(&rows, "acme-web").egress)[0].number, 2, "IPv6 alone is no rule for IPv4");
}

#[test]
fn ingress_rules_are_those_of_the_address_with_their_place_in_the_list() {
    let rows = first();
    let public = PublicKey {
        side: netpath_common::maps::PUBLIC_SIDE | index(&rows, name_kind::PUBLIC_LINK, "public/900"),
        address: [203, 0, 113, 10],
    };
    let from = |source, number| Rule { source, source_mask: [255, 255, 255, 0], number, ..Rule::EVERYTHING };
    let ssh = |source| Rule { protocol: 6, first_port: 2222, last_port: 2222, ..from(source, 1) };
    let udp = Rule { protocol: 17, first_port: 8000, last_port: 8099, number: 2, ..Rule::EVERYTHING };
    let rules = list(&rows, rows.public_address[&public].ingress);
    assert_eq!(rules, [ssh([198, 51, 100, 0]), ssh([192, 0, 2, 0]), udp]);

    let rows = compiled(&zone(GATEWAY), "kvm2", &devices(), &Rows::default()).rows;
    let fixed = rows.public_address.iter().find(|(key, _)| key.address == [203, 0, 113, 11]).unwrap().1.ingress;
    assert_eq!(list(&rows, fixed), [Rule { protocol: 1, icmp_type: 8, number: 3, ..Rule::EVERYTHING }]);
}

#[test]
fn an_acl_goes_by_number_and_names_the_other_side() {
    let rows = first();
    let front = gateway(&rows, "initech-front");
    let ingress = list(&rows, front.acl_ingress);
    assert_eq!(ingress.iter().map(|rule| (rule.number, rule.allow)).collect::<Vec<_>>(), [(10, 1), (20, 0)]);
    assert_eq!(front.acl_egress, RuleList::default());
    let back = gateway(&rows, "initech-back");
    let from_front = Rule { source: [10, 2, 1, 0], source_mask: [255, 255, 255, 0], number: 10, ..Rule::EVERYTHING };
    assert_eq!(list(&rows, back.acl_ingress), [Rule { protocol: 6, first_port: 5432, last_port: 5432, ..from_front }]);
    let text = GATEWAY.replacen(
        "action: deny, protocol: tcp, ports: 25}",
        "action: deny, protocol: 47, cidrs: [192.0.2.0/24]}",
        1,
    );
    let rows = self::rows(&text, &Rows::default());
    let gre = Rule {
        destination: [192, 0, 2, 0],
        destination_mask: [255, 255, 255, 0],
        protocol: 47,
        allow: 0,
        number: 10,
        ..Rule::EVERYTHING
    };
    assert_eq!(list(&rows, gateway(&rows, "initech-back").acl_egress), [gre]);
}

/// Without its last rule an ACL lets nobody in; only without the field there is none.
#[test]
fn an_acl_without_rules_is_one() {
    let rules = "    acl:\n      - {number: 10, direction: ingress, action: allow, protocol: tcp, ports: 5432, cidrs: [10.2.1.0/24]}\n      \
                 - {number: 10, direction: egress, action: deny, protocol: tcp, ports: 25}\n";
    assert!(GATEWAY.contains(rules));
    let has_acl = |acl: &str| {
        let rows = rows(&GATEWAY.replacen(rules, acl, 1), &Rows::default());
        gateway(&rows, "initech-back").flags & gateway_flags::ACL != 0
    };
    assert!(has_acl("    acl: []\n"));
    assert!(!has_acl(""));
}

#[test]
fn zero_ports_and_minus_one_are_any() {
    let text = GATEWAY.replacen("{protocol: tcp, ports: 443}", "{protocol: tcp, ports: 0}", 1);
    let text = text.replacen(
        "{protocol: udp, ports: 53, cidrs: [10.1.1.0/25],",
        "{protocol: icmp, icmp_type: -1, icmp_code: 3,",
        1,
    );
    let rows = rows(&text, &Rows::default());
    let egress = list(&rows, gateway(&rows, "acme-web").egress);
    assert_eq!(egress[0], Rule { protocol: 6, ..Rule::EVERYTHING });
    assert_eq!((egress[1].icmp_type, egress[1].icmp_code), (Rule::ANY, 3));
}

#[test]
fn a_changed_list_stands_where_no_list_in_force_does_and_the_others_stay() {
    let before = first();
    let text = with(GATEWAY, "        - {protocol: tcp, ports: 443}", "        - {protocol: tcp, ports: 80}");
    let after = rows(&text, &before);
    let (old, new) = (gateway(&before, "acme-web").egress, gateway(&after, "acme-web").egress);
    assert_eq!(new.count, old.count + 1);
    assert_eq!(gateway(&before, "globex-web").egress, gateway(&after, "globex-web").egress);
    for place in new.start..new.start + new.count {
        assert!(!before.rules.contains_key(&place), "row {place} is one of a list in force");
    }
    // Written first, removed last: at no time does a list in force have other rows than its own.
    let mut now = before.clone();
    for edit in reconcile(&before, &after) {
        edit.apply(&mut now);
        let egress = gateway(&now, "acme-web").egress;
        let wanted = if egress == old { list(&before, old) } else { list(&after, new) };
        assert_eq!(list(&now, egress), wanted);
    }
    assert_eq!(now.rules, after.rules);
    // The range that became free is used again.
    let back = rows(GATEWAY, &after);
    assert_eq!(gateway(&back, "acme-web").egress, old);
}

#[test]
fn ten_thousand_rules_are_one_line_of_a_plan() {
    let many: String = (0..10_000).map(|n| format!("        - {{protocol: tcp, ports: {}}}\n", n + 1000)).collect();
    let text = GATEWAY.replacen("        - {protocol: tcp, ports: 443}\n", &many, 1);
    let (before, after) = (first(), rows(&text, &first()));
    assert_eq!(gateway(&after, "acme-web").egress.count, 10_002);
    let edits: Vec<Edit> = reconcile(&before, &after);
    let devices = devices().iter().map(|device| (device.index, device.name.clone())).collect();
    let said = render(&group(&edits, &before, &after, &devices), true);
    assert!(said.contains("~ RULES      rules: +10002 -3"), "{said}");
    assert!(said.starts_with("~ network acme-web\n") && said.lines().count() == 3, "{said}");
}
