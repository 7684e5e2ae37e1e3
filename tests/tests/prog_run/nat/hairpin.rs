//! Guests that reach each other by public addresses.

use std::net::Ipv4Addr;

use netpath_common::DropReason as R;

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, GREEN, GREEN_PUBLIC, Rig, SYN, XDP_PASS, any, echo, inward, only_from, outward,
    public_of, slot, tail_of,
};

/// A network's 2222 leads to B's 22, by TCP and UDP, for everybody.
fn served(network: u32) -> crate::rig::Routed {
    let mut rig = Rig::routed();
    let public = public_of(network);
    rig.ingress(network, public, &[any(true)]);
    rig.forward_tcp(network, public, 2222, B, 22);
    rig.forward_udp(network, public, 2222, B, 22);
    rig
}

#[test]
fn u9_u9a_a_guest_reaches_its_own_networks_public_address_and_is_seen_as_public() {
    let mut rig = served(BLUE);
    let out = rig.udp_out(BLUE, A, 5000, (BLUE_PUBLIC, 2222));
    let got = out.seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 5000), (B.ip, 22)));
    assert_eq!(got.macs.1, B.mac);
    assert!(out.counters.iter().any(|(row, _)| *row == slot(BLUE, B)), "{out:?}");
    let back = rig.udp_out(BLUE, B, 22, (BLUE_PUBLIC, 5000)).seen();
    assert_eq!((back.source, back.destination), ((BLUE_PUBLIC, 2222), (A.ip, 5000)));
}

#[test]
fn t8_t8a_tcp_hairpins_too() {
    let mut rig = served(BLUE);
    let got = rig.tcp_out(BLUE, A, 5000, (BLUE_PUBLIC, 2222), SYN).seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 5000), (B.ip, 22)));
    let back = rig.tcp_out(BLUE, B, 22, got.source, SYN | ACK).seen();
    assert_eq!((back.source, back.destination), ((BLUE_PUBLIC, 2222), (A.ip, 5000)));
    rig.tcp_out(BLUE, A, 5000, (BLUE_PUBLIC, 2222), ACK).seen();
}

/// Its own forwarded port: out by source NAT and back in to itself.
#[test]
fn u9_a_guest_reaches_itself_by_its_public_port() {
    let mut rig = served(BLUE);
    let got = rig.tcp_out(BLUE, B, 5000, (BLUE_PUBLIC, 2222), SYN).seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 5000), (B.ip, 22)));
    let back = rig.tcp_out(BLUE, B, 22, got.source, SYN | ACK).seen();
    assert_eq!((back.source, back.destination), ((BLUE_PUBLIC, 2222), (B.ip, 5000)));
}

#[test]
fn u9_a_mapping_is_reached_by_hairpin_as_its_filtering_says() {
    let mut rig = Rig::routed();
    let flag = netpath_common::maps::gateway_flags::ENDPOINT_INDEPENDENT;
    rig.change_gateway(BLUE, |gateway| gateway.flags |= flag);
    let a = rig.udp_out(BLUE, A, 5000, crate::rig::DNS).seen().source;
    let got = rig.udp_out(BLUE, B, 6000, a).seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 6000), (A.ip, 5000)));
}

#[test]
fn a_tenant_reaches_another_tenants_public_port_and_neither_sees_inside_the_other() {
    let mut rig = served(GREEN);
    let out = rig.tcp_out(BLUE, A, 5000, (GREEN_PUBLIC, 2222), SYN);
    let got = out.seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 5000), (B.ip, 22)));
    let rows: Vec<_> = out.counters.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [slot(BLUE, A), slot(GREEN, B)]);
    let back = rig.tcp_out(GREEN, B, 22, (BLUE_PUBLIC, 5000), SYN | ACK).seen();
    assert_eq!((back.source, back.destination), ((GREEN_PUBLIC, 2222), (A.ip, 5000)));
}

#[test]
fn a_hairpin_packet_is_judged_by_the_ingress_rules_too() {
    let mut rig = served(BLUE);
    rig.ingress(BLUE, BLUE_PUBLIC, &[]);
    rig.tcp_out(BLUE, A, 5000, (BLUE_PUBLIC, 2222), SYN).assert_refused(BLUE, R::IngressDenied);
    let mut rig = served(GREEN);
    rig.ingress(GREEN, GREEN_PUBLIC, &[]);
    rig.tcp_out(BLUE, A, 5000, (GREEN_PUBLIC, 2222), SYN).assert_refused(GREEN, R::IngressDenied);
}

/// What guests of one host send each other by public addresses is not on the wire: who sends it there says to be one of them.
#[test]
fn who_claims_to_be_a_public_address_of_this_host_on_the_wire_is_refused() {
    let mut rig = served(GREEN);
    rig.ingress(GREEN, GREEN_PUBLIC, &[only_from(BLUE_PUBLIC, any(true))]);
    let forged = inward(BLUE_PUBLIC, GREEN_PUBLIC).udp(5000, 2222);
    rig.from_wire(&forged).assert_dropped(GREEN, R::MartianSource);
    rig.xdp(&forged.build()).assert_dropped(GREEN, R::MartianSource);
    rig.udp_out(BLUE, A, 5000, (GREEN_PUBLIC, 2222)).seen();
    rig.udp_out(GREEN, B, 22, (BLUE_PUBLIC, 5000)).seen();
    let answer = inward(GREEN_PUBLIC, BLUE_PUBLIC).udp(2222, 5000);
    for judged_anew in [false, true] {
        if judged_anew {
            rig.change_gateway(GREEN, |_| {});
            rig.change_gateway(BLUE, |_| {});
        }
        rig.from_wire(&forged).assert_dropped(GREEN, R::MartianSource);
        rig.from_wire(&answer).assert_dropped(BLUE, R::MartianSource);
        assert_eq!(rig.xdp(&forged.build()).action, XDP_PASS);
        assert_eq!(rig.xdp(&answer.build()).action, XDP_PASS);
        assert_eq!(rig.udp_out(BLUE, A, 5000, (GREEN_PUBLIC, 2222)).seen().destination, (B.ip, 22));
        assert_eq!(rig.udp_out(GREEN, B, 22, (BLUE_PUBLIC, 5000)).seen().destination, (A.ip, 5000));
    }
}

#[test]
fn a_static_address_is_reached_by_hairpin() {
    const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
    let mut rig = Rig::routed();
    rig.static_nat(BLUE, OWN, B);
    let got = rig.tcp_out(BLUE, A, 5000, (OWN, 80), SYN).seen();
    assert_eq!((got.source, got.destination), ((BLUE_PUBLIC, 5000), (B.ip, 80)));
    let back = rig.tcp_out(BLUE, B, 80, got.source, SYN | ACK).seen();
    assert_eq!((back.source, back.destination), ((OWN, 80), (A.ip, 5000)));
}

#[test]
fn i7_a_ping_and_an_error_about_it_hairpin() {
    const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
    let mut rig = Rig::routed();
    rig.static_nat(BLUE, OWN, B);
    let out = rig.ping_out(BLUE, A, 77, OWN);
    let got = out.seen();
    assert_eq!((got.source.0, got.destination.0), (BLUE_PUBLIC, B.ip));
    let id = got.source.1;
    let quote = netpath_tests::packet::dissect(&out.bytes).unwrap().network.to_vec();
    let back = rig.from(BLUE, B, &outward(B).to_ip(BLUE_PUBLIC).body(echo(0, id))).seen();
    assert_eq!((back.source.0, back.destination), (OWN, (A.ip, 77)));
    let error = netpath_tests::packet::Body::Icmp { kind: 3, code: 1, rest: [0; 4], payload: quote };
    let out = rig.from(BLUE, B, &outward(B).to_ip(BLUE_PUBLIC).body(error));
    let parts = netpath_tests::packet::dissect(out.assert_sent(crate::rig::REDIRECT)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst), (OWN.into(), A.ip.into()));
    assert_eq!(ip.message[8 + 12..8 + 20], tail_of(A.ip, OWN));
}

#[test]
fn a_public_port_that_leads_nowhere_is_refused_in_hairpin() {
    let mut rig = Rig::routed();
    let out = rig.tcp_out(BLUE, A, 5000, (BLUE_PUBLIC, 9999), SYN);
    assert_eq!(out.drops.len(), 1, "{out:?}");
    assert_eq!(out.drops[0].0.1, R::Unsolicited);
}
