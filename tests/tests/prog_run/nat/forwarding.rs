//! Port forwarding and the firewall's ingress rules.

use netpath_common::{
    DropReason as R,
    maps::{Forward, PublicAddress, PublicKey, Rule, RuleList},
};

use netpath_tests::packet::dissect;

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, End, GREEN, GREEN_PUBLIC, OTHER_SERVER, PUBLIC, Rig, SERVER, STRANGER, SYN, XDP_PASS,
    any, inward, only_from, ports, public_of,
};

const CLIENT: End = (SERVER, 40_000);

/// Blue's 2222 leads to B's 22.
fn forwarded() -> crate::rig::Routed {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 2222, 2222)]);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    rig
}

#[test]
fn a_forwarded_port_leads_to_its_guest_and_answers_come_from_it() {
    let mut rig = forwarded();
    let got = rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
    assert_eq!((got.source, got.destination), (CLIENT, (B.ip, 22)));
    let answer = rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen();
    assert_eq!((answer.source, answer.destination), ((BLUE_PUBLIC, 2222), CLIENT));
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).seen();
    assert_eq!(rig.flows().len(), 2);
}

/// The guest is defined to have the port, and runs nowhere.
#[test]
fn r13_who_may_reach_a_guest_that_is_not_there_is_told() {
    let mut rig = forwarded();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, STRANGER, 22);
    let syn = inward(SERVER, BLUE_PUBLIC).tcp(CLIENT.1, 2222, SYN);
    let out = rig.from_wire(&syn);
    out.assert_refused(BLUE, R::NeighbourUnresolved);
    let parts = dissect(out.assert_answered(3, 1)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst), (BLUE_PUBLIC.into(), SERVER.into()));
    assert_eq!(rig.xdp(&syn.build()).action, XDP_PASS, "TC tells");
    rig.ingress(BLUE, BLUE_PUBLIC, &[]);
    rig.from_wire(&syn).assert_dropped(BLUE, R::IngressDenied);
}

#[test]
fn a_forwarded_port_leads_nowhere_by_another_protocol_or_tenant() {
    let mut rig = forwarded();
    rig.udp_in(CLIENT, (BLUE_PUBLIC, 2222)).assert_refused(BLUE, R::Unsolicited);
    rig.tcp_in(CLIENT, (GREEN_PUBLIC, 2222), SYN).assert_refused(GREEN, R::Unsolicited);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 22), SYN).assert_refused(BLUE, R::Unsolicited);
}

/// A guest's packets to one port of a client cannot be those of two connections: the older one keeps them (X4, X8).
#[test]
fn x8_a_second_name_of_a_port_takes_no_connection_from_the_first() {
    let mut rig = forwarded();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2223, B, 22);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
    let before = rig.flows();
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2223), SYN).assert_dropped(BLUE, R::ConnectionClash);
    assert_eq!(rig.flows().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen().source, (BLUE_PUBLIC, 2222));
    // From another port it is another connection, and after the first is over the same one will do.
    let other = (CLIENT.0, CLIENT.1 + 1);
    assert_eq!(rig.tcp_in(other, (BLUE_PUBLIC, 2223), SYN).seen().destination, (B.ip, 22));
    rig.age(8000);
    assert_eq!(rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2223), SYN).seen().destination, (B.ip, 22));
    assert_eq!(rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen().source, (BLUE_PUBLIC, 2223));
}

/// What the guest has sent to the client by another port of its own does not keep the client from the forwarded one.
#[test]
fn a_client_reaches_a_forwarded_port_also_after_its_guest_has_sent_to_it() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 5060, B, 5060);
    let client = (SERVER, 5060);
    assert_ne!(rig.udp_out(BLUE, B, 5060, client).seen().source, (BLUE_PUBLIC, 5060));
    assert_eq!(rig.udp_in(client, (BLUE_PUBLIC, 5060)).seen().destination, (B.ip, 5060));
    assert_eq!(rig.udp_out(BLUE, B, 5060, client).seen().source, (BLUE_PUBLIC, 5060));
}

/// X4: a connection by a name that definitions have taken away does not stand in the way of the same client by the new name.
#[test]
fn a_client_reaches_a_guest_by_its_new_name_at_once() {
    let mut rig = forwarded();
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
    rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen();
    rig.clear_prefixes::<netpath_common::maps::ForwardKey, Forward>("FORWARDS");
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2223, B, 22);
    rig.change_gateway(BLUE, |_| {});
    assert_eq!(rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2223), SYN).seen().destination, (B.ip, 22));
    assert_eq!(rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen().source, (BLUE_PUBLIC, 2223));
}

#[test]
fn a_range_keeps_its_ports() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    let to = Forward { network: BLUE, address: B.ip.octets(), port: 0, ..Forward::default() };
    rig.forward(BLUE_PUBLIC, 6, 8000, 13, to);
    for port in [8000, 8003, 8007] {
        assert_eq!(rig.tcp_in(CLIENT, (BLUE_PUBLIC, port), SYN).seen().destination, (B.ip, port));
        let back = rig.tcp_out(BLUE, B, port, CLIENT, SYN | ACK).seen();
        assert_eq!(back.source, (BLUE_PUBLIC, port));
    }
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 8008), SYN).assert_refused(BLUE, R::Unsolicited);
}

#[test]
fn without_an_ingress_rule_a_forwarded_port_is_closed() {
    let mut rig = Rig::routed();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).assert_dropped(BLUE, R::IngressDenied);
    assert!(rig.flows().is_empty());
}

/// The rule names the public port: what is judged is the packet before DNAT.
#[test]
fn ingress_is_judged_on_the_public_port() {
    let mut rig = Rig::routed();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 22, 22)]);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).assert_dropped(BLUE, R::IngressDenied);
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 2000, 2222)]);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
}

#[test]
fn ingress_rules_name_sources_and_protocols() {
    let mut rig = Rig::routed();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    rig.ingress(BLUE, BLUE_PUBLIC, &[only_from(OTHER_SERVER, ports(6, 0, 0)), Rule { protocol: 17, ..any(true) }]);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).assert_dropped(BLUE, R::IngressDenied);
    rig.tcp_in((OTHER_SERVER, 9), (BLUE_PUBLIC, 2222), SYN).seen();
}

#[test]
fn a_forward_with_sources_is_closed_to_others() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    let sources = rig.rules(&[only_from(OTHER_SERVER, any(true))]);
    let to = Forward {
        sources_start: sources.start,
        sources_count: sources.count,
        network: BLUE,
        address: B.ip.octets(),
        port: 22,
        flags: 0,
    };
    rig.forward(BLUE_PUBLIC, 6, 2222, 16, to);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).assert_dropped(BLUE, R::ForwardDenied);
    rig.tcp_in((OTHER_SERVER, 9), (BLUE_PUBLIC, 2222), SYN).seen();
}

/// X7: established connections of a rule that is gone end with the next packet.
#[test]
fn x7_a_revoked_ingress_rule_stops_its_established_connections_only() {
    let mut rig = forwarded();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 8080, A, 80);
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 2222, 2222), ports(6, 8080, 8080)]);
    for (public, station, port) in [(2222, B, 22), (8080, A, 80)] {
        rig.tcp_in(CLIENT, (BLUE_PUBLIC, public), SYN).seen();
        rig.tcp_out(BLUE, station, port, CLIENT, SYN | ACK).seen();
        rig.tcp_in(CLIENT, (BLUE_PUBLIC, public), ACK).seen();
    }
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 8080, 8080)]);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).assert_refused(BLUE, R::IngressDenied);
    rig.tcp_out(BLUE, B, 22, CLIENT, ACK).assert_refused(BLUE, R::IngressDenied);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).assert_refused(BLUE, R::IngressDenied);
    assert_eq!(rig.tcp_in(CLIENT, (BLUE_PUBLIC, 8080), ACK).seen().destination, (A.ip, 80));
    assert_eq!(rig.tcp_out(BLUE, A, 80, CLIENT, ACK).seen().source, (BLUE_PUBLIC, 8080));
}

#[test]
fn a_forward_that_is_removed_stops_its_connections() {
    let mut rig = forwarded();
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
    rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen();
    rig.clear_prefixes::<netpath_common::maps::ForwardKey, Forward>("FORWARDS");
    rig.change_gateway(BLUE, |_| {});
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).assert_refused(BLUE, R::Unsolicited);
    rig.tcp_out(BLUE, B, 22, CLIENT, ACK).assert_refused(BLUE, R::Unsolicited);
    // A connection that the guest begins is another one, and the next of its packets begins it.
    rig.tcp_out(BLUE, B, 22, CLIENT, SYN).assert_refused(BLUE, R::Unsolicited);
    assert_eq!(rig.tcp_out(BLUE, B, 22, CLIENT, SYN).seen().source.0, BLUE_PUBLIC);
}

/// The guest whose port was forwarded goes on sending; the port is another guest's by then, who talks with the same peer.
#[test]
fn what_a_revoked_guest_sends_takes_nothing_from_the_guest_that_has_its_port_now() {
    const PEER: crate::rig::End = (SERVER, 4500);
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 4500, B, 4500);
    rig.udp_in(PEER, (BLUE_PUBLIC, 4500)).seen();
    rig.udp_out(BLUE, B, 4500, PEER).seen();
    rig.clear_prefixes::<netpath_common::maps::ForwardKey, Forward>("FORWARDS");
    rig.change_gateway(BLUE, |_| {});
    rig.udp_out(BLUE, B, 4500, PEER).assert_refused(BLUE, R::Unsolicited);
    assert_eq!(rig.udp_out(BLUE, A, 4500, PEER).seen().source, (BLUE_PUBLIC, 4500));
    for _ in 0..2 {
        rig.udp_out(BLUE, B, 4500, PEER);
        assert_eq!(rig.udp_in(PEER, (BLUE_PUBLIC, 4500)).seen().destination, (A.ip, 4500));
    }
}

/// What its sources no longer name stops, too, and a rule that is back lets it go on.
#[test]
fn a_forward_whose_sources_are_revoked_stops_in_both_directions_until_they_are_back() {
    let mut rig = forwarded();
    let connect = |rig: &mut crate::rig::Routed| {
        rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK);
        rig.tcp_out(BLUE, B, 22, CLIENT, ACK)
    };
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen();
    rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen();
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 8080, 8080)]);
    connect(&mut rig).assert_refused(BLUE, R::IngressDenied);
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    assert_eq!(connect(&mut rig).seen().source, (BLUE_PUBLIC, 2222));
}

/// What was begun from inside needs no ingress rule, and none of its removal ends it.
#[test]
fn replies_to_the_guests_own_connections_need_no_ingress_rule() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, (SERVER, 443));
    rig.ingress(BLUE, BLUE_PUBLIC, &[]);
    assert_eq!(rig.tcp_in((SERVER, 443), public, ACK).seen().destination, (A.ip, 5000));
    assert_eq!(rig.tcp_out(BLUE, A, 5000, (SERVER, 443), ACK).seen().source, public);
}

#[test]
fn the_first_of_ten_thousand_rules_and_the_last_are_found() {
    let mut rig = Rig::routed();
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    let mut rules = vec![only_from(OTHER_SERVER, ports(6, 1, 1)); 9_999];
    rules.push(ports(6, 2222, 2222));
    rig.ingress(BLUE, BLUE_PUBLIC, &rules);
    assert_eq!(rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), SYN).seen().destination, (B.ip, 22));
    rules[0] = Rule { allow: 0, ..ports(6, 2222, 2222) };
    rig.ingress(BLUE, BLUE_PUBLIC, &rules);
    rig.tcp_in((SERVER, 40_001), (BLUE_PUBLIC, 2222), SYN).assert_dropped(BLUE, R::IngressDenied);
    let list: PublicAddress =
        rig.get("PUBLIC_ADDRESS", PublicKey { side: PUBLIC, address: BLUE_PUBLIC.octets() }).unwrap();
    assert_eq!(list.ingress, RuleList { count: 10_000, ..list.ingress });
    assert_eq!(public_of(BLUE), BLUE_PUBLIC);
}
