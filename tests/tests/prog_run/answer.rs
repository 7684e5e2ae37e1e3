//! What the gateway says itself: errors, echo replies, neighbour advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpath_common::{
    DropReason as R,
    checksum::{fold, sum},
    maps::{GatewayState, Network, Upstream},
};
use netpath_tests::packet::{Body, Checksum, Packet, dissect, guest, verify_checksums};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, C, GATEWAY, GATEWAY_IP, GREEN, LINK, Outcome, RED, REDIRECT, ROUTER, Rig, SERVER, SHOT,
    any, outward, received, slot,
};

/// Where an error's quote begins in its frame.
const QUOTE: usize = 14 + 20 + 8;
/// The most bytes that are quoted.
const MOST: usize = 548;

/// Asserts that `out` is an error from `from` to `to` that quotes `frame` as it was received.
#[track_caller]
fn assert_quotes(out: &Outcome, from: Ipv4Addr, to: Ipv4Addr, frame: &[u8]) {
    let ip = dissect(&out.bytes).unwrap().ip.unwrap();
    assert_eq!((ip.src, ip.dst, ip.ttl), (IpAddr::V4(from), IpAddr::V4(to), 64));
    assert_eq!(out.bytes[QUOTE..], frame[14..frame.len().min(14 + MOST)]);
}

/// A device finishes a checksum that its sender left to it: from the transport header to the end of the buffer.
fn finish(frame: &mut [u8], l4: usize, field: usize) {
    let rest = fold(sum(&frame[l4..]));
    frame[l4 + field..l4 + field + 2].copy_from_slice(&(!rest).to_ne_bytes());
}

#[test]
fn r1_a_packet_whose_time_is_up_is_answered_from_the_gateway() {
    let mut rig = Rig::routed();
    let packet = outward(A).udp(40000, 53).payload([1, 2, 3]).ttl(1);
    let (frame, out) = (packet.build(), rig.from(BLUE, A, &packet));
    out.assert_answered(11, 0);
    assert_quotes(&out, GATEWAY_IP, A.ip, &frame);
    assert_eq!(out.bytes[..14], *[&A.mac[..], &GATEWAY.0, &[8, 0]].concat());
    assert_eq!(out.drops, [((BLUE, R::TtlExpired), 1)]);
    assert_eq!(out.counters, [(slot(BLUE, A), received(out.bytes.len()))]);
    assert_eq!(rig.from(BLUE, A, &packet.ttl(2)).seen().ttl, 1);
}

#[test]
fn r1_a_packet_to_the_gateway_itself_may_have_no_time_left() {
    let mut rig = Rig::routed();
    let ping = guest(A).to_mac(GATEWAY.0).to_ip(GATEWAY_IP).echo_request(1, 1).ttl(1);
    assert_eq!(rig.from(BLUE, A, &ping).seen().ttl, 64);
}

#[test]
fn a1_the_gateway_answers_ping_with_what_it_was_sent() {
    let mut rig = Rig::routed();
    for (network, len, options) in [(BLUE, 0, &[][..]), (GREEN, 57, &[7, 3, 4]), (RED, 1472, &[])] {
        let ping = guest(A).to_mac(GATEWAY.0).to_ip(GATEWAY_IP).echo_request(7, 9).payload(vec![5; len]);
        let ping = ping.options(options);
        let out = rig.from(network, A, &ping);
        let reply = Packet::between(GATEWAY.0, A.mac, GATEWAY_IP.into(), A.ip.into()).ttl(64).options(options);
        let reply = reply.body(Body::Icmp { kind: 0, code: 0, rest: [0, 7, 0, 9], payload: vec![5; len] });
        assert_eq!(out.assert_sent(REDIRECT), reply.build());
    }
}

#[test]
fn the_gateway_says_that_it_has_no_ports() {
    let mut rig = Rig::routed();
    let packet = guest(A).to_mac(GATEWAY.0).to_ip(GATEWAY_IP).udp(1, 53);
    let out = rig.from(BLUE, A, &packet);
    out.assert_answered(3, 3);
    assert_quotes(&out, GATEWAY_IP, A.ip, &packet.build());
    assert_eq!(out.drops, [((BLUE, R::GatewayClosed), 1)]);
}

#[test]
fn the_gateway_says_that_it_has_no_protocols() {
    // A packet of protocol 253 was told that a port is unreachable.
    let mut rig = Rig::routed();
    let packet = guest(A).to_mac(GATEWAY.0).to_ip(GATEWAY_IP).body(Body::Ip { protocol: 253, payload: vec![1; 16] });
    let out = rig.from(BLUE, A, &packet);
    out.assert_answered(3, 2);
    assert_eq!(out.drops, [((BLUE, R::GatewayClosed), 1)]);
}

#[test]
fn r2_no_error_tells_of_an_error_or_of_a_later_fragment() {
    let mut rig = Rig::routed();
    let lost = guest(A).to_ip(SERVER).udp(1, 2).build();
    let error = Body::Icmp { kind: 3, code: 1, rest: [0; 4], payload: lost[14..].to_vec() };
    let out = rig.from(BLUE, A, &outward(A).body(error).ttl(1));
    assert_eq!((out.action, out.drops.len()), (SHOT, 1));
    let first = outward(A).udp(40000, 53).payload([1; 64]).id(77).fragment(0, true);
    rig.from(BLUE, A, &first).assert_sent(REDIRECT);
    let later = outward(A).body(Body::Ip { protocol: 17, payload: vec![2; 64] }).id(77).fragment(9, false).ttl(1);
    let out = rig.from(BLUE, A, &later);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[((BLUE, R::TtlExpired), 1)][..]));
}

#[test]
fn r3_an_error_quotes_as_much_as_fits_into_576_bytes() {
    let mut rig = Rig::routed();
    for len in [0, 1, 2, 3, 5, 483, 484, 485, 519, 520, 521, 1400] {
        for packet in
            [outward(A).udp(40000, 53), outward(A).options(&[7, 3, 4]).tcp(40000, 80, 2), outward(A).echo_request(3, 4)]
        {
            let packet = packet.payload(vec![0xa5; len]).ttl(1);
            let out = rig.from(BLUE, A, &packet);
            out.assert_answered(11, 0);
            assert_quotes(&out, GATEWAY_IP, A.ip, &packet.build());
            rig.array("GATEWAY_STATE", BLUE, GatewayState::default());
        }
    }
}

#[test]
fn an_errors_padding_is_not_quoted() {
    let mut rig = Rig::routed();
    let packet = outward(A).udp(40000, 53).ttl(1);
    let out = rig.from(BLUE, A, &packet.clone().padded_to(60));
    assert_quotes(&out, GATEWAY_IP, A.ip, &packet.build());
    verify_checksums(&out.bytes).unwrap();
}

#[test]
fn a_quote_with_an_unfinished_checksum_survives_the_device_that_finishes_it() {
    let mut rig = Rig::routed();
    for len in [0, 1, 2, 7, 500, 900] {
        for (packet, field) in [(outward(A).udp(40000, 53), 6), (outward(A).tcp(40000, 53, 2), 16)] {
            let packet = packet.payload(vec![9; len]).checksum(Checksum::Partial).ttl(1);
            let mut bytes = rig.from(BLUE, A, &packet).assert_answered(11, 0).to_vec();
            finish(&mut bytes, QUOTE + 20, field);
            verify_checksums(&bytes).unwrap();
        }
    }
}

#[test]
fn r4_a_network_causes_a_hundred_errors_a_second_and_no_other_has_less_for_it() {
    let mut rig = Rig::routed();
    let packet = outward(A).udp(40000, 53).ttl(1);
    rig.from(BLUE, A, &packet).assert_answered(11, 0);
    // Until both fall into the second that the data path has counted last.
    let (hundredth, next) = loop {
        let second = rig.state(BLUE).errors >> 32;
        let state = GatewayState { errors: second << 32 | 99, ..rig.state(BLUE) };
        rig.array("GATEWAY_STATE", BLUE, state);
        let both = (rig.from(BLUE, A, &packet).action, rig.from(BLUE, A, &packet).action);
        if rig.state(BLUE).errors >> 32 == second {
            break both;
        }
    };
    assert_eq!((hundredth, next), (REDIRECT, SHOT));
    rig.from(GREEN, A, &packet).assert_answered(11, 0);
    let later = rig.state(BLUE).errors - (1 << 32);
    let state = GatewayState { errors: later, ..rig.state(BLUE) };
    rig.array("GATEWAY_STATE", BLUE, state);
    rig.from(BLUE, A, &packet).assert_answered(11, 0);
}

#[test]
fn r5_errors_have_precedence_6() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).udp(40000, 53).ttl(1).tos(0x28));
    assert_eq!(dissect(out.assert_answered(11, 0)).unwrap().ip.unwrap().tos, 0xc0);
}

#[test]
fn r6_fragmentation_needed_tells_the_links_own_mtu() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAMS", LINK, |link: &mut Upstream| link.mtu = 1400);
    let packet = |len: usize| outward(A).udp(40000, 53).payload(vec![3; len - 28]).dont_fragment();
    let out = rig.from(BLUE, A, &packet(1401));
    out.assert_answered(3, 4);
    assert_quotes(&out, GATEWAY_IP, A.ip, &packet(1401).build());
    assert_eq!(out.bytes[QUOTE - 2..QUOTE], 1400u16.to_be_bytes());
    assert_eq!(out.drops, [((BLUE, R::PacketTooBig), 1)]);
    rig.from(BLUE, A, &packet(1400)).assert_sent(REDIRECT);
}

#[test]
fn an_answer_goes_back_to_the_wire_from_this_hosts_address_there() {
    let mut rig = Rig::routed();
    let packet = guest(C).to_mac(GATEWAY.0).to_ip(SERVER).udp(40000, 53).ttl(1);
    let out = rig.from_wire(&packet.clone().vlan(100));
    out.assert_answered(11, 0);
    assert_eq!(out.bytes[..14], *[&C.mac[..], &rig.uplink_mac, &[8, 0]].concat());
    assert_quotes(&out, GATEWAY_IP, C.ip, &packet.build());
    assert_eq!(out.counters, []);
}

#[test]
fn an_answer_to_the_public_side_comes_from_the_public_address() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 53, B, 53);
    let packet = rig.inward(SERVER, BLUE_PUBLIC).udp(7, 53).payload([1, 2, 3]);
    rig.from_wire(&packet).assert_sent(REDIRECT);
    let packet = packet.ttl(1);
    let out = rig.from_wire(&packet);
    out.assert_answered(11, 0);
    assert_eq!(out.bytes[..14], *[&ROUTER.mac[..], &rig.uplink_mac, &[8, 0]].concat());
    let untagged = Packet::between(ROUTER.mac, rig.uplink_mac, SERVER.into(), BLUE_PUBLIC.into());
    let untagged = untagged.udp(7, 53).payload([1, 2, 3]).ttl(1).build();
    assert_quotes(&out, BLUE_PUBLIC, SERVER, &untagged);
}

fn with_gateway6(rig: &mut Rig) -> Ipv6Addr {
    let gateway: Ipv6Addr = "fd00:1:1::1".parse().unwrap();
    rig.change("NETWORKS", BLUE, |network: &mut Network| network.gateway_ip6 = IpAddr::from(gateway).into());
    gateway
}

#[test]
fn a7_a_solicitation_for_the_gateway_is_answered_by_an_advertisement() {
    let mut rig = Rig::routed();
    let gateway = with_gateway6(&mut rig);
    let out = rig.from(BLUE, A, &guest(A).neighbour_solicitation(A.ip6, gateway));
    let bytes = out.assert_sent(REDIRECT);
    assert_eq!(bytes[..14], *[&A.mac[..], &GATEWAY.0, &[0x86, 0xdd]].concat());
    let parts = dissect(bytes).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst, ip.ttl), (gateway.into(), A.ip6.into(), 255));
    assert_eq!((ip.message[0], ip.message[4], ip.message.len()), (136, 0xe0, 32));
    assert_eq!(ip.message[8..24], gateway.octets());
    assert_eq!(ip.message[24..], *[&[2, 1][..], &GATEWAY.0].concat());
}

#[test]
fn a7_a_solicitation_that_was_routed_or_damaged_is_refused() {
    let mut rig = Rig::routed();
    let gateway = with_gateway6(&mut rig);
    let solicitation = guest(A).neighbour_solicitation(A.ip6, gateway);
    for packet in [solicitation.clone().ttl(254), solicitation.checksum(Checksum::Wrong)] {
        rig.from(BLUE, A, &packet).assert_dropped(BLUE, R::MalformedIpv6);
    }
}

#[test]
fn a7_solicitations_for_others_are_flooded_as_before() {
    let mut rig = Rig::routed();
    with_gateway6(&mut rig);
    let packet = guest(A).neighbour_solicitation(A.ip6, B.ip6);
    let out = rig.from(BLUE, A, &packet);
    assert_eq!(out.drops, []);
    assert_ne!(dissect(&out.bytes).and_then(|parts| parts.icmp()), Some((136, 0)));
}

#[test]
fn the_gateway_answers_ping_over_ipv6_and_routes_none() {
    let mut rig = Rig::routed();
    let gateway = with_gateway6(&mut rig);
    let to = |address| Packet::between(A.mac, GATEWAY.0, A.ip6.into(), IpAddr::V6(address));
    let ping = to(gateway).echo_request(7, 9).payload([1, 2, 3]);
    let reply = Packet::between(GATEWAY.0, A.mac, gateway.into(), A.ip6.into()).ttl(64);
    let reply = reply.body(Body::Icmp { kind: 129, code: 0, rest: [0, 7, 0, 9], payload: vec![1, 2, 3] });
    assert_eq!(rig.from(BLUE, A, &ping).assert_sent(REDIRECT), reply.build());
    rig.from(BLUE, A, &to(gateway).udp(1, 2)).assert_dropped(BLUE, R::GatewayClosed);
    let elsewhere = to("2001:db8::1".parse().unwrap());
    rig.from(BLUE, A, &elsewhere.udp(1, 2)).assert_dropped(BLUE, R::Ipv6NotRouted);
}
