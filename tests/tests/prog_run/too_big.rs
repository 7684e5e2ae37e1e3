//! Oversized packets: refused, and their senders told.

use netpath_common::{Address, DropReason, maps::Network};
use netpath_tests::packet::{Body, Checksum, dissect, guest, verify_checksums};

use crate::rig::{A, B, BLUE, C, GATEWAY, GATEWAY_IP, REDIRECT, Rig, SHOT};

/// The quote's length.
const QUOTE: usize = 512;

fn with_gateway6(rig: &mut Rig) -> Address {
    let gateway = Address([0xfd, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    rig.change("NETWORKS", BLUE, |network: &mut Network| network.gateway_ip6 = gateway);
    gateway
}

#[test]
fn v10_an_oversized_packet_is_answered_with_the_mtu_that_fits() {
    let mut rig = Rig::new();
    for to in [B, C] {
        let frame = guest(A).to(to).udp(1, 2).payload(vec![7; 1500]).dont_fragment().build();
        let out = rig.from_a(BLUE, &frame);
        assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[((BLUE, DropReason::PacketTooBig), 1)][..]));
        verify_checksums(&out.bytes).unwrap();
        assert_eq!(out.bytes[..14], *[&A.mac[..], &GATEWAY.0, &[8, 0]].concat());
        let packet = dissect(&out.bytes).unwrap();
        assert_eq!(packet.icmp(), Some((3, 4)));
        assert_eq!(out.bytes[26..30], GATEWAY_IP.octets());
        assert_eq!(out.bytes[30..34], A.ip.octets());
        assert_eq!(out.bytes[40..42], 1500u16.to_be_bytes());
        assert_eq!(out.bytes[42..], frame[14..14 + QUOTE]);
    }
}

#[test]
fn an_oversized_ipv6_packet_is_answered_with_packet_too_big() {
    let mut rig = Rig::new();
    let gateway = with_gateway6(&mut rig);
    let frame = guest(A).to(C).over_ipv6(A, C).udp(1, 2).payload(vec![7; 1500]).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!(out.action, REDIRECT);
    verify_checksums(&out.bytes).unwrap();
    assert_eq!(dissect(&out.bytes).unwrap().icmp(), Some((2, 0)));
    assert_eq!(out.bytes[22..38], gateway.0);
    assert_eq!(out.bytes[58..62], 1500u32.to_be_bytes());
    assert_eq!(out.bytes[62..], frame[14..14 + QUOTE]);
}

#[test]
fn r2_nothing_is_told_about_errors_and_what_is_for_many() {
    let mut rig = Rig::new();
    with_gateway6(&mut rig);
    let icmp = |kind| Body::Icmp { kind, code: 1, rest: [0; 4], payload: vec![7; 1500] };
    let group = std::net::Ipv4Addr::new(224, 0, 0, 5);
    for packet in [
        guest(A).to(C).body(icmp(3)),
        guest(A).to(C).body(icmp(11)),
        guest(A).to(C).to_ip(group).udp(1, 2).payload(vec![7; 1500]),
        guest(A).to(C).over_ipv6(A, C).body(icmp(1)),
    ] {
        let out = rig.from_a(BLUE, &packet.build());
        assert_eq!((out.action, &out.drops[..]), (SHOT, &[((BLUE, DropReason::PacketTooBig), 1)][..]));
    }
    for packet in [guest(A).to(C).body(icmp(8)), guest(A).to(C).over_ipv6(A, C).body(icmp(128))] {
        assert_eq!(rig.from_a(BLUE, &packet.build()).action, REDIRECT, "a query is no error");
    }
}

#[test]
fn r6_the_paths_own_mtu_counts_less_the_tunnels_overhead() {
    let mut rig = Rig::new();
    rig.ns.run(|| netpath_tests::topology::Link::named("u0").mtu(1450)).unwrap();
    let frame = guest(A).to(C).udp(1, 2).payload(vec![7; 1400]).dont_fragment().build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!(out.bytes[40..42], 1400u16.to_be_bytes());
    let fits = guest(A).to(C).udp(1, 2).payload(vec![7; 1372]).build();
    rig.from_a(BLUE, &fits).assert_sent(REDIRECT);
}

#[test]
fn a_quote_with_an_unfinished_checksum_survives_the_device_that_finishes_it() {
    let mut rig = Rig::new();
    with_gateway6(&mut rig);
    for ipv6 in [false, true] {
        for tcp in [false, true] {
            let packet = guest(A).to(C);
            let packet = if ipv6 { packet.over_ipv6(A, C) } else { packet };
            let packet = if tcp { packet.tcp(1, 2, 0x10) } else { packet.udp(1, 2) };
            let packet = packet.payload(vec![9; 1501]).checksum(Checksum::Partial);
            let out = rig.from_a(BLUE, &packet.build());
            assert_eq!(out.action, REDIRECT);
            verify_checksums(&out.bytes).unwrap();
            // What a device does that finishes the sum from the transport header to the end of the buffer.
            let l4 = if ipv6 { 14 + 40 + 8 + 40 } else { 14 + 20 + 8 + 20 };
            let mut finished = out.bytes.clone();
            let field = l4 + if tcp { 16 } else { 6 };
            let sum = netpath_common::checksum::fold(netpath_common::checksum::sum(&finished[l4..]));
            finished[field..field + 2].copy_from_slice(&(!sum).to_ne_bytes());
            verify_checksums(&finished).unwrap();
        }
    }
}

#[test]
fn a_super_packet_is_judged_by_its_segments() {
    let mut rig = Rig::new();
    let ifindex = rig.ports[&(BLUE, 11)];
    let frame = guest(A).to(B).tcp(1, 2, 0x10).payload(vec![7; 3000]).checksum(Checksum::Partial).build();
    let out = rig.tc_gso("from_guest", ifindex, &frame, 1460);
    assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[][..]));
    assert_eq!(out.bytes, frame);
    let out = rig.tc_gso("from_guest", ifindex, &frame, 1461);
    assert_eq!(out.drops, [((BLUE, DropReason::PacketTooBig), 1)]);
}

#[test]
fn without_a_gateway_the_packet_is_only_counted() {
    let mut rig = Rig::new();
    rig.change("NETWORKS", BLUE, |network: &mut Network| network.gateway_ip4 = [0; 4]);
    let frame = guest(A).to(C).udp(1, 2).payload(vec![7; 1500]).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[((BLUE, DropReason::PacketTooBig), 1)][..]));
    assert_eq!(out.bytes, frame);
}
