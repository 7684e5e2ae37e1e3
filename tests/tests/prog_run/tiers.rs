//! Routing between networks of one router, and their ACLs.

use netpath_common::{
    DropReason as R,
    maps::{Rule, gateway_flags},
};
use netpath_tests::packet::{Outer, dissect};

use crate::rig::{
    A, ACK, BLUE, D, E, GATEWAY, GREEN, HERE, REDIRECT, Rig, SYN, THERE, THERE_MAC, TIER, TIER_GATEWAY, any, only_from,
    outward, ports, received, seen, slot, tier_outward,
};

fn tiers() -> crate::rig::Routed {
    let mut rig = Rig::routed();
    rig.tier();
    rig
}

#[test]
fn a_station_of_another_tier_is_reached_untranslated() {
    let mut rig = tiers();
    let out = rig.from(BLUE, A, &outward(A).to_ip(D.ip).udp(5000, 53));
    let got = out.seen();
    assert_eq!((got.source, got.destination, got.ttl), ((A.ip, 5000), (D.ip, 53), 63));
    assert_eq!(got.macs, (TIER_GATEWAY.0, D.mac));
    assert!(out.counters.contains(&(slot(TIER, D), received(out.bytes.len()))), "{out:?}");
    let back = rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).udp(53, 5000)).seen();
    assert_eq!((back.source, back.destination, back.macs), ((D.ip, 53), (A.ip, 5000), (GATEWAY.0, A.mac)));
}

/// Distributed: the source's host routes, and sends in the target's segment.
#[test]
fn a_station_on_another_host_is_reached_in_its_own_segment() {
    let mut rig = tiers();
    let out = rig.from(BLUE, A, &outward(A).to_ip(E.ip).udp(5000, 53));
    let (vni, _, inner) = dissect(out.assert_sent(REDIRECT)).unwrap().vxlan().unwrap();
    assert_eq!(vni, 5005);
    let got = seen(inner);
    assert_eq!((got.source, got.destination, got.macs), ((A.ip, 5000), (E.ip, 53), (TIER_GATEWAY.0, E.mac)));
}

/// The answer was routed by the other host, and comes as any frame of blue's segment, from blue's gateway.
#[test]
fn an_answer_that_another_host_has_routed_reaches_its_guest() {
    let mut rig = tiers();
    rig.from(BLUE, A, &outward(A).to_ip(E.ip).udp(5000, 53)).assert_sent(REDIRECT);
    let answer = netpath_tests::packet::guest(E).from_mac(GATEWAY.0).to_mac(A.mac).to_ip(A.ip).udp(53, 5000).build();
    let wrapped = Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).wrap(&answer);
    assert_eq!(rig.xdp(&wrapped).bytes, answer);
}

#[test]
fn another_tenants_router_is_not_ours() {
    let mut rig = tiers();
    let out = rig.from(GREEN, A, &outward(A).to_ip(D.ip).udp(5000, 53));
    assert!(!out.counters.iter().any(|(row, _)| *row == slot(TIER, D)), "{out:?}");
}

#[test]
fn r13_a_station_that_nobody_defines_is_unreachable() {
    let mut rig = tiers();
    let out = rig.from(BLUE, A, &outward(A).to_ip([10, 1, 2, 99]).udp(5000, 53));
    out.assert_answered(3, 1);
    out.assert_refused(BLUE, R::NeighbourUnresolved);
}

#[test]
fn an_acl_is_asked_in_order_and_its_ingress_tail_is_deny() {
    let mut rig = tiers();
    let syn = |port| outward(A).to_ip(D.ip).tcp(5000, port, SYN);
    rig.acl(TIER, &[Rule { allow: 0, ..ports(6, 22, 22) }, ports(6, 0, 100)], &[]);
    rig.from(BLUE, A, &syn(22)).assert_refused(BLUE, R::AclDenied);
    rig.from(BLUE, A, &syn(80)).seen();
    rig.from(BLUE, A, &syn(443)).assert_refused(BLUE, R::AclDenied);
    rig.acl(TIER, &[ports(6, 0, 0)], &[]);
    rig.from(BLUE, A, &syn(443)).seen();
}

#[test]
fn an_acls_egress_has_no_tail_deny() {
    let mut rig = tiers();
    rig.acl(BLUE, &[any(true)], &[Rule { allow: 0, ..ports(6, 25, 25) }]);
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5000, 25, SYN)).assert_refused(BLUE, R::AclDenied);
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5001, 80, SYN)).seen();
    rig.from(BLUE, A, &outward(A).tcp(5002, 80, SYN)).seen();
}

#[test]
fn what_an_acl_has_let_in_may_answer() {
    let mut rig = tiers();
    rig.acl(TIER, &[ports(6, 80, 80)], &[Rule { allow: 0, ..any(true) }]);
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5000, 80, SYN)).seen();
    rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).tcp(80, 5000, SYN | ACK)).seen();
    rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).tcp(6000, 80, SYN)).assert_refused(TIER, R::AclDenied);
}

#[test]
fn x7_a_revoked_acl_rule_stops_its_established_connections() {
    let mut rig = tiers();
    rig.acl(TIER, &[ports(6, 80, 81)], &[]);
    for port in [80, 81] {
        rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5000, port, SYN)).seen();
        rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).tcp(port, 5000, SYN | ACK)).seen();
    }
    rig.acl(TIER, &[ports(6, 81, 81)], &[]);
    rig.change_gateway(BLUE, |_| {});
    for _ in 0..2 {
        rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5000, 80, ACK)).assert_refused(BLUE, R::AclDenied);
        rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).tcp(80, 5000, ACK)).assert_refused(BLUE, R::AclDenied);
    }
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).tcp(5000, 81, ACK)).seen();
    rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).tcp(81, 5000, ACK)).seen();
}

#[test]
fn an_acl_judges_what_comes_from_outside_after_dnat() {
    let mut rig = tiers();
    let public = crate::rig::BLUE_PUBLIC;
    rig.public_address(BLUE, public, netpath_common::maps::public_flags::ACL, Default::default());
    rig.forward_tcp(BLUE, public, 2222, A, 22);
    rig.acl(BLUE, &[ports(6, 22, 22)], &[]);
    rig.tcp_in((crate::rig::SERVER, 40_000), (public, 2222), SYN).seen();
    rig.acl(BLUE, &[ports(6, 2222, 2222)], &[]);
    rig.tcp_in((crate::rig::SERVER, 40_001), (public, 2222), SYN).assert_refused(BLUE, R::AclDenied);
    assert_eq!(rig.gateway(BLUE).flags & gateway_flags::ACL, gateway_flags::ACL);
}

#[test]
fn acl_rules_name_sources() {
    let mut rig = tiers();
    rig.acl(TIER, &[only_from(A.ip, ports(17, 53, 53))], &[]);
    rig.from(BLUE, A, &outward(A).to_ip(D.ip).udp(5000, 53)).seen();
    rig.from(BLUE, crate::rig::B, &outward(crate::rig::B).to_ip(D.ip).udp(5000, 53)).assert_refused(BLUE, R::AclDenied);
}

#[test]
fn a_static_route_leads_by_its_next_hop() {
    let mut rig = tiers();
    rig.route(BLUE, [172, 16, 0, 0].into(), 16, TIER, D.ip);
    rig.change_gateway(BLUE, |_| {});
    let got = rig.from(BLUE, A, &outward(A).to_ip([172, 16, 5, 5]).udp(5000, 53)).seen();
    assert_eq!((got.destination.0.octets(), got.macs), ([172, 16, 5, 5], (TIER_GATEWAY.0, D.mac)));
}

/// 10.0.0.0/8 and 0.0.0.0/0 cover the prefix of the network that they are routes of: its stations are nearer.
#[test]
fn a_static_route_that_covers_its_networks_prefix_leads_no_guest_of_it_away() {
    for (prefix, bits) in [([10, 0, 0, 0], 8), ([0; 4], 0)] {
        let mut rig = tiers();
        rig.route(TIER, prefix.into(), bits, TIER, E.ip);
        rig.change_gateway(TIER, |_| {});
        rig.from(TIER, D, &tier_outward(D).to_ip(A.ip).udp(53, 5000)).seen();
        let back = rig.from(BLUE, A, &outward(A).to_ip(D.ip).udp(5000, 53)).seen();
        assert_eq!((back.destination, back.macs), ((D.ip, 53), (TIER_GATEWAY.0, D.mac)), "{prefix:?}/{bits}");
    }
}

#[test]
fn a_static_route_that_covers_its_networks_prefix_takes_no_answer_from_outside() {
    let mut rig = tiers();
    rig.route(BLUE, [10, 0, 0, 0].into(), 8, BLUE, crate::rig::B.ip);
    rig.change_gateway(BLUE, |_| {});
    let public = rig.udp_out(BLUE, A, 5000, crate::rig::DNS).seen().source;
    let back = rig.udp_in(crate::rig::DNS, public).seen();
    assert_eq!((back.destination, back.macs), ((A.ip, 5000), (GATEWAY.0, A.mac)));
    let elsewhere = rig.from(BLUE, A, &outward(A).to_ip([10, 9, 9, 9]).udp(5000, 53)).seen();
    assert_eq!(elsewhere.macs.1, crate::rig::B.mac, "what is not the network's own takes the route");
}
