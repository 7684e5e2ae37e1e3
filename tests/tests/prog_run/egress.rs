//! The firewall's egress rules: exceptions from the default.

use netpath_common::{DropReason as R, maps::Rule};
use netpath_tests::packet::Body;

use crate::rig::{A, ACK, B, BLUE, D, DNS, OTHER_SERVER, Rig, SERVER, SYN, WEB, any, only_from, outward, ports};

#[test]
fn default_deny_lets_out_what_a_rule_names() {
    let mut rig = Rig::routed();
    rig.egress(BLUE, false, &[]);
    rig.udp_out(BLUE, A, 5000, DNS).assert_dropped(BLUE, R::EgressDenied);
    rig.egress(BLUE, false, &[ports(17, 53, 53)]);
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.udp_out(BLUE, A, 5000, (SERVER, 54)).assert_refused(BLUE, R::EgressDenied);
    rig.tcp_out(BLUE, A, 5000, (SERVER, 53), SYN).assert_refused(BLUE, R::EgressDenied);
}

#[test]
fn default_allow_refuses_what_a_rule_names() {
    let mut rig = Rig::routed();
    rig.egress(BLUE, true, &[ports(6, 25, 25)]);
    rig.tcp_out(BLUE, A, 5000, (SERVER, 25), SYN).assert_dropped(BLUE, R::EgressDenied);
    rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen();
}

#[test]
fn rules_name_sources_destinations_and_icmp_types() {
    let mut rig = Rig::routed();
    let to_other = Rule { destination: OTHER_SERVER.octets(), destination_mask: [255; 4], ..any(true) };
    let ping = Rule { protocol: 1, icmp_type: 8, icmp_code: 0, ..any(true) };
    rig.egress(BLUE, false, &[only_from(B.ip, ports(6, 0, 0)), to_other, ping]);
    rig.tcp_out(BLUE, A, 5000, WEB, SYN).assert_refused(BLUE, R::EgressDenied);
    rig.tcp_out(BLUE, B, 5000, WEB, SYN).seen();
    rig.udp_out(BLUE, A, 5000, (OTHER_SERVER, 53)).seen();
    rig.ping_out(BLUE, A, 77, SERVER).seen();
    // The code of a query was not looked at.
    let odd = Body::Icmp { kind: 8, code: 3, rest: [0, 78, 0, 1], payload: Vec::new() };
    rig.from(BLUE, A, &outward(A).body(odd)).assert_refused(BLUE, R::EgressDenied);
}

#[test]
fn answers_pass_whatever_the_egress_rules_say() {
    let mut rig = Rig::routed();
    rig.egress(BLUE, false, &[]);
    rig.ingress(BLUE, crate::rig::BLUE_PUBLIC, &[any(true)]);
    rig.forward_tcp(BLUE, crate::rig::BLUE_PUBLIC, 2222, B, 22);
    rig.tcp_in((SERVER, 40_000), (crate::rig::BLUE_PUBLIC, 2222), SYN).seen();
    rig.tcp_out(BLUE, B, 22, (SERVER, 40_000), SYN | ACK).seen();
}

#[test]
fn x7_what_is_no_longer_allowed_out_stops_and_the_rest_goes_on() {
    let mut rig = Rig::routed();
    rig.egress(BLUE, false, &[ports(6, 443, 443), ports(6, 80, 80)]);
    let web = rig.connect(BLUE, A, 5000, WEB);
    let plain = rig.connect(BLUE, A, 5001, (SERVER, 80));
    rig.egress(BLUE, false, &[ports(6, 443, 443)]);
    rig.tcp_out(BLUE, A, 5001, (SERVER, 80), ACK).assert_refused(BLUE, R::EgressDenied);
    let out = rig.tcp_in((SERVER, 80), plain, ACK);
    assert_eq!(out.counters, [], "what comes back of a revoked connection: {out:?}");
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, web);
    assert_eq!(rig.tcp_in(WEB, web, ACK).seen().destination, (A.ip, 5000));
}

/// A kept flow is judged again with whichever packet comes first, and keeps its ports.
#[test]
fn a_kept_flow_loses_no_packet_when_rules_change() {
    let mut rig = Rig::routed();
    let web = rig.connect(BLUE, A, 5000, WEB);
    let dns = rig.udp_out(BLUE, A, 6000, DNS).seen().source;
    for round in 0..5 {
        rig.egress(BLUE, true, &[ports(6, 25, 25 + round)]);
        assert_eq!(rig.tcp_in(WEB, web, ACK).seen().destination, (A.ip, 5000));
        assert_eq!(rig.udp_in(DNS, dns).seen().destination, (A.ip, 6000));
        assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, web);
        assert_eq!(rig.udp_out(BLUE, A, 6000, DNS).seen().source, dns);
    }
    assert_eq!((rig.flows().len(), rig.state(BLUE).flows), (4, 4));
}

/// Egress rules are about the public side.
#[test]
fn egress_rules_do_not_bind_what_goes_to_another_tier() {
    let mut rig = Rig::routed();
    rig.tier();
    rig.egress(BLUE, false, &[]);
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).udp(5000, 53)).seen();
}
