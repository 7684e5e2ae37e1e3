//! A public address of a guest's own: every protocol, both ways.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason as R,
    maps::{PublicAddress, PublicKey, Rule, public_flags},
};
use netpath_tests::packet::{Body, checksum, dissect};

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, DNS, End, GREEN, PUBLIC, REDIRECT, Rig, SERVER, SYN, WEB, XDP_REDIRECT, any, echo,
    inward, only_from, outward, ports, seen,
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

/// X7: the guest's end does not begin it anew, whichever of the two speaks next and by which protocol.
#[test]
fn x7_what_an_ingress_rule_no_longer_lets_in_stops_in_both_directions() {
    let mut rig = owned();
    rig.ingress(BLUE, OWN, &[any(true)]);
    rig.tcp_in(CLIENT, (OWN, 22), SYN).seen();
    rig.tcp_out(BLUE, A, 22, CLIENT, SYN | ACK).seen();
    rig.udp_in(CLIENT, (OWN, 53)).seen();
    rig.udp_out(BLUE, A, 53, CLIENT).seen();
    rig.ingress(BLUE, OWN, &[]);
    for _ in 0..2 {
        rig.tcp_in(CLIENT, (OWN, 22), ACK).assert_refused(BLUE, R::IngressDenied);
        rig.tcp_out(BLUE, A, 22, CLIENT, ACK).assert_refused(BLUE, R::IngressDenied);
        rig.udp_out(BLUE, A, 53, CLIENT).assert_refused(BLUE, R::IngressDenied);
        rig.udp_in(CLIENT, (OWN, 53)).assert_refused(BLUE, R::IngressDenied);
    }
    rig.udp_out(BLUE, A, 54, CLIENT).seen();
}

/// An identifier is no licence: each kind of query is judged as what it is.
#[test]
fn rules_of_icmp_types_and_codes_hold_for_queries_with_the_identifier_of_a_known_one() {
    let mut rig = owned();
    let query = |kind: u8, code: u8| {
        inward(SERVER, OWN).body(Body::Icmp { kind, code, rest: [0, 9, 0, 1], payload: vec![7; 12] })
    };
    for (icmp_type, icmp_code, kind, code) in [(8, 0, 8, 0), (13, 1, 13, 1)] {
        rig.ingress(BLUE, OWN, &[Rule { protocol: 1, icmp_type, icmp_code, ..any(true) }]);
        for _ in 0..2 {
            rig.from_wire(&query(kind, code)).seen();
            for (kind, code) in [(8, 0), (8, 1), (13, 0), (13, 1)].into_iter().filter(|other| *other != (kind, code)) {
                let out = rig.from_wire(&query(kind, code));
                assert!(out.drops.contains(&((BLUE, R::IngressDenied), 1)), "{kind}/{code}: {out:?}");
            }
        }
    }
}

/// With the identifier 0 a query has the key of an answer to one from the other end.
#[test]
fn a_query_with_the_identifier_0_is_judged_while_the_guests_own_is_answered() {
    let mut rig = owned();
    rig.ingress(BLUE, OWN, &[]);
    for _ in 0..2 {
        assert_eq!(rig.ping_out(BLUE, A, 0, SERVER).seen().source, (OWN, 0));
        rig.pong_in(SERVER, OWN, 0).seen();
        rig.from_wire(&inward(SERVER, OWN).body(echo(8, 0))).assert_refused(BLUE, R::IngressDenied);
        let timestamp = Body::Icmp { kind: 13, code: 0, rest: [0; 4], payload: vec![7; 12] };
        rig.from_wire(&inward(SERVER, OWN).body(timestamp)).assert_refused(BLUE, R::IngressDenied);
        rig.pong_in(SERVER, OWN, 0).seen();
    }
    rig.ingress(BLUE, OWN, &[any(true)]);
    let got = rig.from_wire(&inward(SERVER, OWN).body(echo(8, 0))).seen();
    assert_eq!(got.destination.0, A.ip);
    assert_eq!(rig.from(BLUE, A, &outward(A).body(echo(0, 0))).seen().source.0, OWN);
}

/// The address is another host's now, and so is the connection: what the guest goes on sending has another way from here.
#[test]
fn a_connection_to_an_address_that_has_moved_away_is_forgotten_here() {
    let mut rig = owned();
    rig.tcp_in(CLIENT, (OWN, 22), SYN).seen();
    rig.tcp_out(BLUE, A, 22, CLIENT, SYN | ACK).seen();
    let address = PublicKey { side: PUBLIC, address: OWN.octets() };
    rig.remove::<_, PublicAddress>("PUBLIC_ADDRESS", address);
    rig.change_gateway(BLUE, |_| {});
    rig.tcp_out(BLUE, A, 22, CLIENT, ACK);
    assert!(rig.flows().is_empty());
}

/// An apply that brings an ACL has written the address's row and not yet the network's.
#[test]
fn an_address_that_is_left_to_an_acl_that_is_not_there_yet_lets_nobody_in() {
    let mut rig = owned();
    rig.tcp_in(CLIENT, (OWN, 22), SYN).seen();
    let key = PublicKey { side: PUBLIC, address: OWN.octets() };
    let row: PublicAddress = rig.get("PUBLIC_ADDRESS", key).unwrap();
    rig.put("PUBLIC_ADDRESS", key, PublicAddress { flags: row.flags | public_flags::ACL, ..row });
    rig.tcp_in(CLIENT, (OWN, 23), SYN).assert_dropped(BLUE, R::IngressDenied);
    rig.acl(BLUE, &[ports(6, 23, 23)], &[]);
    rig.tcp_in(CLIENT, (OWN, 23), SYN).seen();
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

/// UDP-Lite (136) or DCCP (33): the checksum at 6 covers the addresses, and so many bytes of the message.
fn summed(protocol: u8, covered: usize, from: Ipv4Addr, to: Ipv4Addr) -> Body {
    let mut message: Vec<u8> = (0..40).map(|n| n * 5 + 3).collect();
    message[6..8].fill(0);
    let mut summed = message.clone();
    summed[covered..].fill(0);
    let sum = checksum::transport(from.into(), to.into(), protocol, &summed);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    Body::Ip { protocol, payload: message }
}

const SUMMED: [(u8, usize); 4] = [(136, 40), (136, 8), (33, 40), (33, 12)];

#[test]
fn udp_lite_and_dccp_keep_a_right_checksum_both_ways_in_tc_and_in_xdp() {
    let mut rig = owned();
    for (protocol, covered) in SUMMED {
        let body = |from, to| summed(protocol, covered, from, to);
        let bytes = |body| if let Body::Ip { payload, .. } = body { payload } else { unreachable!() };
        let out = rig.from(BLUE, A, &outward(A).body(body(A.ip, SERVER))).seen();
        assert_eq!((out.source.0, out.payload), (OWN, bytes(body(OWN, SERVER))), "{protocol}, {covered} bytes");
        let packet = inward(SERVER, OWN).body(body(SERVER, OWN));
        let wanted = (A.ip, bytes(body(SERVER, A.ip)));
        let by_tc = rig.from_wire(&packet).seen();
        assert_eq!((by_tc.destination.0, by_tc.payload), wanted, "{protocol}, {covered} bytes");
        let by_xdp = seen(rig.xdp(&packet.build()).assert_sent(XDP_REDIRECT));
        assert_eq!((by_xdp.destination.0, by_xdp.payload), wanted, "{protocol}, {covered} bytes");
    }
}

#[test]
fn i4_errors_about_udp_lite_and_dccp_quote_a_right_checksum() {
    let mut rig = owned();
    for (protocol, covered) in SUMMED {
        let sent = outward(A).dont_fragment().body(summed(protocol, covered, A.ip, SERVER));
        let out = rig.from(BLUE, A, &sent).assert_sent(REDIRECT)[14..].to_vec();
        let error = Body::Icmp { kind: 3, code: 1, rest: [0; 4], payload: out };
        let back = rig.from_wire(&inward(SERVER, OWN).body(error));
        let quote = dissect(back.assert_sent(REDIRECT)).unwrap().ip.unwrap().message[8..].to_vec();
        assert_eq!(quote, sent.ttl(63).build()[14..], "{protocol}, {covered} bytes");
    }
}

#[test]
fn a_message_too_short_for_its_checksum_is_refused() {
    let mut rig = owned();
    for protocol in [136, 33] {
        let body = || Body::Ip { protocol, payload: vec![1; 7] };
        rig.from(BLUE, A, &outward(A).body(body())).assert_refused(BLUE, R::MalformedTransport);
        rig.from_wire(&inward(SERVER, OWN).body(body())).assert_dropped(BLUE, R::MalformedTransport);
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
