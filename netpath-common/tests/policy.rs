//! Rules of firewalls and ACLs: what each is about.

use netpath_common::{
    maps::Rule,
    stage::policy::{self, Subject},
};
use proptest::prelude::*;

const PACKET: Subject = Subject {
    source: [198, 51, 100, 9],
    destination: [10, 1, 1, 11],
    port: 443,
    protocol: 6,
    icmp_type: 0,
    icmp_code: 0,
};

#[test]
fn a_port_range_includes_both_ends_and_zeros_are_all_ports() {
    let rule = Rule { protocol: 6, first_port: 443, last_port: 445, ..Rule::EVERYTHING };
    for (port, expected) in [(442, false), (443, true), (445, true), (446, false)] {
        assert_eq!(policy::matches(&rule, &Subject { port, ..PACKET }), expected, "{port}");
    }
    let all = Rule { protocol: 6, ..Rule::EVERYTHING };
    assert!([0, 1, 65535].into_iter().all(|port| policy::matches(&all, &Subject { port, ..PACKET })));
}

#[test]
fn a_rule_about_one_protocol_is_not_about_another_one_n5() {
    let rule = Rule { protocol: 17, first_port: 443, last_port: 443, ..Rule::EVERYTHING };
    assert!(policy::matches(&rule, &Subject { protocol: 17, ..PACKET }));
    assert!(!policy::matches(&rule, &PACKET));
    assert!(!policy::matches(&Rule { protocol: 47, ..Rule::EVERYTHING }, &PACKET));
    assert!(policy::matches(&Rule { protocol: 47, ..Rule::EVERYTHING }, &Subject { protocol: 47, port: 0, ..PACKET }));
}

#[test]
fn icmp_type_and_code_count_for_icmp_only() {
    let echo = Subject { protocol: 1, icmp_type: 8, icmp_code: 0, port: 0, ..PACKET };
    let rule = Rule { protocol: 1, icmp_type: 8, icmp_code: 0, ..Rule::EVERYTHING };
    assert!(policy::matches(&rule, &echo));
    assert!(!policy::matches(&rule, &Subject { icmp_type: 13, ..echo }));
    assert!(!policy::matches(&rule, &Subject { icmp_code: 1, ..echo }));
    let any_code = Rule { icmp_code: Rule::ANY, ..rule };
    assert!(policy::matches(&any_code, &Subject { icmp_code: 1, ..echo }));
    let tcp = Rule { protocol: 6, icmp_type: 8, ..Rule::EVERYTHING };
    assert!(policy::matches(&tcp, &PACKET));
}

/// A mask of so many ones.
fn mask(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

proptest! {
    #[test]
    fn a_rule_matches_where_every_field_does(
        source: u32, source_len in 0u32..=32, from: u32, near in 0u32..33,
        destination: u32, destination_len in 0u32..=32, to: u32,
        ports: [u8; 2], port in 0u16..300, protocol in prop::sample::select(vec![1u8, 6, 17, 50]),
        wanted in prop::sample::select(vec![1u16, 6, 17, 50, Rule::ANY]), kind in 0u8..4, wanted_kind in 0u16..4,
    ) {
        let from = source & mask(near) | from & !mask(near);
        let to = destination & mask(near) | to & !mask(near);
        let rule = Rule {
            source: (source & mask(source_len)).to_be_bytes(), source_mask: mask(source_len).to_be_bytes(),
            destination: (destination & mask(destination_len)).to_be_bytes(),
            destination_mask: mask(destination_len).to_be_bytes(),
            first_port: ports[0].min(ports[1]).into(), last_port: ports[0].max(ports[1]).into(),
            protocol: wanted, icmp_type: wanted_kind, ..Rule::EVERYTHING
        };
        let subject = Subject {
            source: from.to_be_bytes(), destination: to.to_be_bytes(), port, protocol, icmp_type: kind, icmp_code: 0,
        };
        let network = |address: u32, len: u32| u64::from(address) >> (32 - len);
        let ports_suit = rule.first_port == 0 && rule.last_port == 0 || (rule.first_port..=rule.last_port).contains(&port);
        let expected = network(from, source_len) == network(source, source_len)
            && network(to, destination_len) == network(destination, destination_len)
            && (wanted == Rule::ANY || wanted == u16::from(protocol))
            && match protocol { 6 | 17 => ports_suit, 1 => wanted_kind == u16::from(kind), _ => true };
        prop_assert_eq!(policy::matches(&rule, &subject), expected);
    }
}
