//! A public address of a guest's own: every protocol, both ways.

use std::net::Ipv4Addr;

use netpath_common::DropReason as R;
use netpath_tests::packet::Body;

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, DNS, End, GREEN, Rig, SERVER, SYN, WEB, any, echo, inward, only_from, outward, seen,
};

const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const GREENS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 21);
const CLIENT: End = (SERVER, 40_000);

fn owned() -> crate::rig::Routed {
    let mut rig = Rig::routed();
    rig.static_nat(BLUE, OWN, A);
    rig.static_nat(GREEN, GREENS, A);
    rig.change_gateway(BLUE, |_| {});
    rig
}

#[test]
fn what_the_guest_sends_comes_from_its_own_address_with_its_own_port() {
    let mut rig = owned();
    assert_eq!(rig.udp_out(BLUE, A, 5000, DNS).seen().source, (OWN, 5000));
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source, (OWN, 5000));
    assert_eq!(rig.udp_out(GREEN, A, 5000, DNS).seen().source, (GREENS, 5000));
    assert_eq!(rig.udp_out(BLUE, B, 5000, DNS).seen().source, (BLUE_PUBLIC, 5000), "another guest has no part in it");
    assert_eq!(rig.udp_in(DNS, (OWN, 5000)).seen().destination, (A.ip, 5000));
}

#[test]
fn whoever_sends_to_it_reaches_the_guest() {
    let mut rig = owned();
    let got = rig.tcp_in(CLIENT, (OWN, 22), SYN).seen();
    assert_eq!((got.source, got.destination), (CLIENT, (A.ip, 22)));
    let answer = rig.tcp_out(BLUE, A, 22, CLIENT, SYN | ACK).seen();
    assert_eq!((answer.source, answer.destination), ((OWN, 22), CLIENT));
    assert_eq!(rig.udp_in(CLIENT, (GREENS, 53)).seen().destination, (A.ip, 53));
}

#[test]
fn i1_pings_pass_both_ways() {
    let mut rig = owned();
    let got = rig.from_wire(&inward(SERVER, OWN).body(echo(8, 9))).seen();
    assert_eq!(got.destination.0, A.ip);
    let out = rig.from(BLUE, A, &outward(A).body(echo(0, 9)));
    let bytes = seen(&out.bytes);
    assert_eq!((out.drops.len(), bytes.source.0, bytes.destination), (0, OWN, (SERVER, 9)));
    assert_eq!(rig.ping_out(BLUE, A, 70, SERVER).seen().source, (OWN, 70));
    assert_eq!(rig.pong_in(SERVER, OWN, 70).seen().destination, (A.ip, 70));
}

#[test]
fn protocols_without_ports_pass_both_ways() {
    let mut rig = owned();
    for protocol in [47, 50, 132] {
        let body = || Body::Ip { protocol, payload: vec![0x5a; 40] };
        let out = rig.from(BLUE, A, &outward(A).body(body())).seen();
        assert_eq!((out.source.0, out.protocol, out.payload), (OWN, protocol, vec![0x5a; 40]));
        let back = rig.from_wire(&inward(SERVER, OWN).body(body())).seen();
        assert_eq!((back.destination.0, back.payload), (A.ip, vec![0x5a; 40]));
    }
}

#[test]
fn protocols_without_ports_do_not_share_an_address() {
    let mut rig = owned();
    let body = Body::Ip { protocol: 47, payload: vec![0; 40] };
    rig.from(BLUE, B, &outward(B).body(body)).assert_refused(BLUE, R::NatProtocol);
}

#[test]
fn its_ingress_rules_hold() {
    let mut rig = owned();
    rig.ingress(BLUE, OWN, &[only_from([192, 0, 2, 200].into(), any(true))]);
    rig.tcp_in(CLIENT, (OWN, 22), SYN).assert_dropped(BLUE, R::IngressDenied);
    rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen();
    assert_eq!(rig.tcp_in(WEB, (OWN, 5000), SYN | ACK).seen().destination, (A.ip, 5000));
}

#[test]
fn i5_errors_of_the_guest_come_from_its_own_address() {
    let mut rig = owned();
    let got = rig.udp_in(CLIENT, (OWN, 53));
    let quote = netpath_tests::packet::dissect(&got.bytes).unwrap().network.to_vec();
    let error = Body::Icmp { kind: 3, code: 3, rest: [0; 4], payload: quote };
    let out = rig.from(BLUE, A, &outward(A).body(error));
    let parts = netpath_tests::packet::dissect(out.assert_sent(crate::rig::REDIRECT)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst), (OWN.into(), SERVER.into()));
    assert_eq!(ip.message[8 + 16..8 + 20], OWN.octets());
}
