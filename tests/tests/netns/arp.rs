//! ARP for known addresses is answered on the asker's host; neighbour discovery works.

use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{ArpBody, Body, dissect, guest},
    topology::{TwoHypervisors, two_hypervisors::GATEWAY},
};

use crate::scene::{A, B, C, STRANGER, raw_guests};

/// Asks from NIC 11; the answer must name `mac`, and nobody else may have seen the question.
#[track_caller]
fn is_answered_locally(topology: &TwoHypervisors, target: netpath_tests::packet::Endpoint) {
    let (a, wire) = (topology.raw("blue", 11), topology.wire(0));
    let question = guest(A).arp_request(target.ip).build();
    a.send(&question);
    let reply = a.expect("an ARP reply", |f| dissect(f).is_some_and(|d| d.ethertype == 0x0806));
    assert_eq!(reply, guest(target).arp_reply(A).build());
    let end = marker();
    a.send(guest(A).payload(&end).build());
    for other in [topology.raw("blue", 12), topology.raw("blue", 13), &wire] {
        other.expect_none_before(|f| contains(f, &question), |f| contains(f, &end));
    }
}

#[test]
fn a2_arp_for_a_guest_on_another_host_is_answered_without_the_wire() {
    is_answered_locally(&raw_guests(), B);
}

#[test]
fn a2_arp_for_a_guest_on_the_same_host_is_answered_without_it() {
    is_answered_locally(&raw_guests(), C);
}

#[test]
fn a1_arp_for_the_gateway_is_answered_in_each_network_by_its_gateway() {
    let topology = raw_guests();
    let mut gateways = Vec::new();
    for tenant in ["blue", "green"] {
        let a = topology.raw(tenant, 11);
        a.send(guest(A).arp_request(GATEWAY).build());
        let reply = a.expect("the gateway's reply", |f| dissect(f).is_some_and(|d| d.arp().is_some()));
        let (operation, mac, ip, target_mac, target_ip) = dissect(&reply).unwrap().arp().unwrap();
        assert_eq!((operation, ip, target_mac, target_ip), (2, GATEWAY, A.mac, A.ip));
        gateways.push(mac);
    }
    // The other host's guests see the same gateway.
    let b = topology.raw("blue", 12);
    b.send(guest(B).arp_request(GATEWAY).build());
    let reply = b.expect("the gateway's reply", |f| dissect(f).is_some_and(|d| d.arp().is_some()));
    assert_eq!(dissect(&reply).unwrap().src_mac, gateways[0]);
}

#[test]
fn arp_for_an_unknown_address_is_flooded() {
    let topology = raw_guests();
    let question = guest(A).arp_request(STRANGER.ip).build();
    topology.raw("blue", 11).send(&question);
    topology.raw("blue", 12).expect_frame(&question);
    topology.raw("blue", 13).expect_frame(&question);
}

#[test]
fn a3_a_probe_for_a_taken_address_is_answered() {
    let topology = raw_guests();
    let a = topology.raw("blue", 11);
    a.send(guest(A).from(std::net::Ipv4Addr::UNSPECIFIED).arp_request(B.ip).build());
    let reply = a.expect("a reply", |f| dissect(f).is_some_and(|d| d.arp().is_some()));
    let (operation, mac, ip, ..) = dissect(&reply).unwrap().arp().unwrap();
    assert_eq!((operation, mac, ip), (2, B.mac, B.ip));
}

#[test]
fn a6_malformed_arp_is_dropped_and_counted() {
    let topology = raw_guests();
    let arp = |change: fn(&mut Vec<u8>)| {
        let mut frame = guest(A).arp_request(C.ip).build();
        change(&mut frame);
        frame
    };
    let frames = [
        arp(|f| f[18] = 8),      // hardware address length
        arp(|f| f[19] = 16),     // protocol address length
        arp(|f| f[15] = 6),      // hardware type
        arp(|f| f[21] = 9),      // operation
        arp(|f| f.truncate(40)), // cut short
    ];
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    crate::scene::moves_drops(&topology.hosts[0].netpath, &[("blue-web", "malformed_arp", 5)], || {
        crate::scene::refuses(a, c, &frames, &guest(A).to(C));
    });
}

#[test]
fn a_unicast_arp_reply_between_guests_passes() {
    let topology = raw_guests();
    let reply = guest(A).to(B).body(Body::Arp(ArpBody {
        operation: 2,
        sender_mac: A.mac,
        sender_ip: A.ip,
        target_mac: B.mac,
        target_ip: B.ip,
    }));
    topology.raw("blue", 11).send(reply.build());
    topology.raw("blue", 12).expect_frame(&reply.build());
}

#[test]
fn a7_a_neighbour_solicitation_is_answered_or_reaches_its_target() {
    let topology = raw_guests();
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let question = guest(A).neighbour_solicitation(A.ip6, B.ip6).build();
    a.send(&question);
    b.expect_frame(&question);
    let answer = guest(B).to(A).neighbour_advertisement(B.ip6, A.ip6, B.ip6, 0x60).build();
    b.send(&answer);
    a.expect_frame(&answer);
}
