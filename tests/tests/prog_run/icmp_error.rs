//! ICMP errors about connections, translated either way.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason as R, checksum,
    maps::{Gateway, Segment, SegmentKey, gateway_flags, nat_place, segment_flags},
};
use netpath_tests::packet::{Body, Checksum, Endpoint, Outer, Packet, dissect, guest, verify_checksums};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, C, E, GATEWAY, GREEN, GREEN_PUBLIC, HERE, OTHER_SERVER, Outcome, REDIRECT, ROUTER, Rig,
    Routed, SERVER, THERE, THERE_MAC, TIER, TIER_GATEWAY, TUNNEL, any, outward, slot,
};

/// A router somewhere on the way.
const HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

fn error(kind: u8, code: u8, quote: &[u8]) -> Body {
    Body::Icmp { kind, code, rest: [0, 0, 5, 0x14], payload: quote.to_vec() }
}

/// The packets of connections that a guest begins, as it sends them: without DF they would get an identification.
fn kinds() -> Vec<Packet> {
    let packet = || outward(A).dont_fragment();
    vec![
        packet().udp(40000, 53).payload([1, 2, 3, 4, 5]),
        packet().udp(40002, 53).payload([1; 30]).checksum(Checksum::Zero),
        packet().tcp(40000, 80, 2).payload([9; 33]),
        packet().tcp(40004, 80, 2).options(&[7, 7, 4, 0, 0, 0, 0]),
        packet().echo_request(40000, 1).payload([7; 9]),
        packet().udp(40006, 53).options(&[1; 40]).payload([8; 61]),
    ]
}

/// Sends a guest's packet out, and answers its IP packet as the outside has it.
#[track_caller]
fn out(rig: &mut Rig, packet: &Packet) -> Vec<u8> {
    rig.from(BLUE, A, packet).assert_sent(REDIRECT)[14..].to_vec()
}

/// The IP packet that an error quotes to a guest's eyes: the one that it has sent, one hop older.
fn aged(packet: &Packet) -> Vec<u8> {
    packet.clone().ttl(63).build()[14..].to_vec()
}

/// The message of the error that came out, behind its header.
#[track_caller]
fn quote(out: &Outcome) -> Vec<u8> {
    let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
    parts.ip.unwrap().message[8..].to_vec()
}

fn from_outside(rig: &Rig, from: Ipv4Addr, body: Body) -> Packet {
    rig.inward(from, BLUE_PUBLIC).body(body)
}

#[test]
fn i4_an_error_from_outside_quotes_what_the_guest_has_sent() {
    let mut rig = Rig::routed();
    for packet in kinds() {
        let (sent, wanted) = (out(&mut rig, &packet), aged(&packet));
        let header = usize::from(sent[0] & 0x0f) * 4;
        for len in [header + 8, header + 9, header + 18, header + 20, sent.len()] {
            let len = len.min(sent.len());
            for (kind, code) in [(3, 1), (3, 4), (11, 0), (12, 0), (4, 0)] {
                let arriving = from_outside(&rig, HOP, error(kind, code, &sent[..len]));
                let result = rig.from_wire(&arriving);
                assert_eq!(quote(&result), wanted[..len], "{packet:?}");
                let parts = dissect(&result.bytes).unwrap();
                let ip = parts.ip.as_ref().unwrap();
                assert_eq!((parts.icmp(), &ip.message[4..8]), (Some((kind, code)), &[0, 0, 5, 0x14][..]));
                assert_eq!((ip.src, ip.dst, ip.ttl), (HOP.into(), A.ip.into(), 63));
                assert_eq!((parts.src_mac, parts.dst_mac), (GATEWAY.0, A.mac));
                assert_eq!(result.counters[0].0, slot(BLUE, A));
            }
        }
    }
}

#[test]
fn i4_an_error_about_no_connection_is_refused() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    for at in [12, 19, 20, 23] {
        let mut other = sent.clone();
        other[at] ^= 1;
        let sum = !checksum::fold(checksum::sum(&other[..10]) + checksum::sum(&other[12..20]));
        other[10..12].copy_from_slice(&sum.to_ne_bytes());
        let packet = from_outside(&rig, HOP, error(3, 1, &other));
        let result = rig.from_wire(&packet);
        assert_eq!(result.drops.iter().map(|((_, reason), _)| *reason).collect::<Vec<_>>(), [R::IcmpErrorUnmatched]);
    }
    let elsewhere = rig.inward(HOP, GREEN_PUBLIC).body(error(3, 1, &sent));
    assert_eq!(rig.from_wire(&elsewhere).drops[0].0.1, R::IcmpErrorUnmatched);
    rig.age(400);
    let packet = from_outside(&rig, HOP, error(3, 1, &sent));
    assert_eq!(rig.from_wire(&packet).drops[0].0.1, R::IcmpErrorUnmatched);
}

#[test]
fn i3_an_error_with_a_wrong_checksum_is_refused() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    let packet = from_outside(&rig, HOP, error(3, 1, &sent)).checksum(Checksum::Wrong);
    assert_eq!(rig.from_wire(&packet).drops[0].0.1, R::MalformedIcmp);
}

#[test]
fn i3a_an_error_whose_quoted_header_has_a_wrong_checksum_is_refused() {
    let mut rig = Rig::routed();
    let mut sent = out(&mut rig, &outward(A).udp(40000, 53));
    sent[10] ^= 1;
    let packet = from_outside(&rig, HOP, error(3, 1, &sent));
    assert_eq!(rig.from_wire(&packet).drops[0].0.1, R::MalformedIcmp);
}

#[test]
fn i3_an_error_that_is_cut_short_is_refused() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    for len in [0, 1, 19, 20, 27] {
        let packet = from_outside(&rig, HOP, error(3, 1, &sent[..len]));
        assert_eq!(rig.from_wire(&packet).drops[0].0.1, R::MalformedIcmp, "{len}");
    }
}

#[test]
fn i3b_a_quoted_header_may_have_options() {
    let mut rig = Rig::routed();
    for words in 1..=10 {
        let packet = outward(A).dont_fragment().options(&vec![1; words * 4]).udp(41000, 53).payload([3; 20]);
        let sent = out(&mut rig, &packet);
        let arriving = from_outside(&rig, HOP, error(11, 0, &sent));
        assert_eq!(quote(&rig.from_wire(&arriving)), aged(&packet));
    }
}

#[test]
fn i3c_a_wrong_quoted_transport_checksum_stays_as_wrong_as_it_was() {
    let mut rig = Rig::routed();
    let packet = outward(A).dont_fragment().tcp(40000, 80, 2);
    let (mut sent, mut wanted) = (out(&mut rig, &packet), aged(&packet));
    let word = |bytes: &[u8], by: u16| u16::from_be_bytes([bytes[36], bytes[37]]).wrapping_add(by).to_be_bytes();
    let (wrong, same) = (word(&sent, 1), word(&wanted, 1));
    sent[36..38].copy_from_slice(&wrong);
    wanted[36..38].copy_from_slice(&same);
    let arriving = from_outside(&rig, HOP, error(3, 1, &sent));
    let found = quote(&rig.from_wire(&arriving));
    assert_eq!(found[..36], wanted[..36]);
    let off = |bytes: &[u8]| u32::from(u16::from_be_bytes([bytes[36], bytes[37]]));
    assert!(off(&found).abs_diff(off(&wanted)) <= 1, "an end-around carry at most");
}

#[test]
fn i3d_extensions_behind_the_quote_come_through() {
    let mut rig = Rig::routed();
    let packet = outward(A).dont_fragment().udp(40000, 53).payload([1; 40]);
    let mut body = out(&mut rig, &packet);
    body.resize(128, 0);
    let extension = [0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0, 1, 2, 3];
    body.extend(extension);
    let mut wanted = aged(&packet);
    wanted.resize(128, 0);
    wanted.extend(extension);
    let message = Body::Icmp { kind: 11, code: 0, rest: [0, 32, 0, 0], payload: body };
    let arriving = from_outside(&rig, HOP, message);
    assert_eq!(quote(&rig.from_wire(&arriving)), wanted);
}

#[test]
fn i3_an_error_of_1500_bytes_is_verified_whole() {
    let mut rig = Rig::routed();
    let packet = outward(A).dont_fragment().udp(40000, 53).payload(vec![1; 1400]);
    let sent = out(&mut rig, &packet);
    let arriving = from_outside(&rig, HOP, error(3, 4, &sent));
    assert_eq!(quote(&rig.from_wire(&arriving)), aged(&packet));
    let mut frame = arriving.build();
    *frame.last_mut().unwrap() ^= 1;
    let uplink = rig.uplink;
    assert_eq!(rig.tc("from_uplink", uplink, &frame).drops[0].0.1, R::MalformedIcmp);
}

#[test]
fn i4_the_servers_own_error_comes_from_the_server() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    let arriving = from_outside(&rig, SERVER, error(3, 3, &sent));
    assert_eq!(rig.from_wire(&arriving).seen().source.0, SERVER);
}

#[test]
fn u12a_an_error_from_any_router_is_delivered() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    for router in [HOP, ROUTER.ip, OTHER_SERVER] {
        let arriving = from_outside(&rig, router, error(11, 0, &sent));
        assert_eq!(rig.from_wire(&arriving).seen().source.0, router);
    }
}

#[test]
fn u12_t10_i6_an_error_leaves_the_connection_as_it_was() {
    let mut rig = Rig::routed();
    for packet in [outward(A).udp(40000, 53), outward(A).tcp(40000, 80, 2)] {
        let sent = out(&mut rig, &packet);
        rig.age(30);
        let before = (rig.flows(), rig.bindings());
        for (kind, code) in [(3, 0), (3, 1), (3, 3), (11, 0), (3, 13)] {
            let arriving = from_outside(&rig, HOP, error(kind, code, &sent));
            rig.from_wire(&arriving).assert_sent(REDIRECT);
        }
        assert_eq!((rig.flows(), rig.bindings()), before);
        assert_eq!(out(&mut rig, &packet)[20..], sent[20..]);
    }
}

/// Blue forwards UDP port 5353 of its public address to B's 53.
fn forwarded() -> Routed {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 5353, B, 53);
    rig
}

/// A packet to the forwarded port as it arrives, and the IP packet as B has it.
fn reach(rig: &mut Rig) -> (Packet, Vec<u8>) {
    let packet = rig.inward(SERVER, BLUE_PUBLIC).udp(7000, 5353).payload([4; 21]).dont_fragment();
    let inside = rig.from_wire(&packet).assert_sent(REDIRECT)[14..].to_vec();
    (packet, inside)
}

/// The error of a station inside about a packet that came from the server.
fn from_inside(station: Endpoint, quote: &[u8]) -> Packet {
    guest(station).to_mac(GATEWAY.0).to_ip(SERVER).body(error(3, 3, quote))
}

#[test]
fn i5_an_error_from_inside_quotes_what_the_server_has_sent() {
    let mut rig = forwarded();
    let (packet, inside) = reach(&mut rig);
    let untagged = Packet::between([0; 6], [0; 6], SERVER.into(), BLUE_PUBLIC.into());
    let wanted = untagged.udp(7000, 5353).payload([4; 21]).dont_fragment().ttl(63).build()[14..].to_vec();
    for station in [B, A] {
        for len in [28, 30, inside.len()] {
            let result = rig.from(BLUE, station, &from_inside(station, &inside[..len]));
            assert_eq!(quote(&result), wanted[..len], "{packet:?}");
            let seen = result.seen();
            assert_eq!((seen.source.0, seen.destination.0, seen.ttl), (BLUE_PUBLIC, SERVER, 63));
            assert_eq!(seen.macs, (rig.uplink_mac, ROUTER.mac));
        }
    }
}

#[test]
fn i5_the_error_of_a_guest_with_its_own_address_comes_from_there() {
    let mut rig = Rig::routed();
    let own = Ipv4Addr::new(203, 0, 113, 11);
    rig.static_nat(BLUE, own, B);
    let packet = rig.inward(SERVER, own).udp(7000, 53).dont_fragment();
    let inside = rig.from_wire(&packet).assert_sent(REDIRECT)[14..].to_vec();
    let seen = rig.from(BLUE, B, &from_inside(B, &inside)).seen();
    assert_eq!((seen.source.0, seen.destination.0), (own, SERVER));
}

#[test]
fn x1_an_error_of_one_tenant_is_about_no_connection_of_another() {
    let mut rig = forwarded();
    let (_, inside) = reach(&mut rig);
    let result = rig.from(GREEN, B, &from_inside(B, &inside));
    result.assert_dropped(GREEN, R::IcmpErrorUnmatched);
}

#[test]
fn i7_an_error_about_a_hairpinned_packet_comes_from_the_public_address() {
    let mut rig = forwarded();
    let packet = guest(A).to_mac(GATEWAY.0).to_ip(BLUE_PUBLIC).udp(40000, 5353).payload([1; 11]).dont_fragment();
    let inside = rig.from(BLUE, A, &packet);
    let at_b = inside.seen();
    assert_eq!((at_b.source.0, at_b.destination), (BLUE_PUBLIC, (B.ip, 53)));
    let error = guest(B).to_mac(GATEWAY.0).to_ip(BLUE_PUBLIC).body(error(3, 3, &inside.bytes[14..]));
    let result = rig.from(BLUE, B, &error);
    let seen = result.seen();
    assert_eq!((seen.source.0, seen.destination.0, seen.macs.1), (BLUE_PUBLIC, A.ip, A.mac));
    // Twice through the gateway.
    assert_eq!(quote(&result), packet.ttl(62).build()[14..]);
}

#[test]
fn i7_a_hairpinned_packet_whose_time_is_up_at_the_public_address_is_answered_from_there() {
    let mut rig = forwarded();
    let packet = guest(A).to_mac(GATEWAY.0).to_ip(BLUE_PUBLIC).udp(40000, 5353).payload([1; 11]).dont_fragment();
    rig.from(BLUE, A, &packet).assert_sent(REDIRECT);
    let result = rig.from(BLUE, A, &packet.clone().ttl(2));
    verify_checksums(&result.bytes).unwrap();
    let parts = dissect(&result.bytes).unwrap();
    assert_eq!((parts.icmp(), parts.dst_mac), (Some((11, 0)), A.mac));
    assert_eq!(parts.ip.unwrap().message[8..], packet.ttl(1).build()[14..]);
}

#[test]
fn i5_an_error_for_a_station_of_its_own_network_takes_no_static_route_that_covers_it() {
    let mut rig = Rig::routed();
    rig.route(BLUE, [10, 0, 0, 0].into(), 8, BLUE, C.ip);
    let packet = guest(A).to_ip(B.ip).udp(40000, 53).dont_fragment().build();
    let error = guest(B).to_mac(GATEWAY.0).to_ip(A.ip).body(error(3, 3, &packet[14..]));
    assert_eq!(rig.from(BLUE, B, &error).seen().macs.1, A.mac);
}

/// Another host has routed the packet into this tier, of which no connection is known here.
#[test]
fn i5_an_error_from_behind_a_static_route_finds_the_other_tier() {
    let mut rig = Rig::routed();
    rig.tier();
    let behind = Ipv4Addr::new(172, 16, 0, 5);
    rig.route(TIER, [172, 16, 0, 0].into(), 16, TIER, E.ip);
    let uplink = rig.uplink;
    let key = SegmentKey { ifindex: uplink, udp_port: 4789, id: 5005 };
    let flags = segment_flags::STRIP;
    rig.put("SEGMENTS", key, Segment { ifindex: uplink, network: TIER, physical_network: 1, flags });
    let packet = guest(A).to_ip(behind).udp(40000, 9).dont_fragment().build();
    let error = Packet::between(E.mac, TIER_GATEWAY.0, behind.into(), A.ip.into()).body(error(3, 3, &packet[14..]));
    let wrapped = Outer::new(5005, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).wrap(&error.build());
    let got = rig.tc("from_uplink", uplink, &wrapped).seen();
    assert_eq!((got.macs.1, got.source.0, got.destination.0), (A.mac, behind, A.ip));
}

#[test]
fn an_error_whose_own_time_is_up_is_dropped() {
    let mut rig = Rig::routed();
    let sent = out(&mut rig, &outward(A).udp(40000, 53));
    let arriving = from_outside(&rig, HOP, error(3, 1, &sent)).ttl(1);
    rig.from_wire(&arriving).assert_dropped(BLUE, R::TtlExpired);
}

#[test]
fn i4_a_connection_that_is_answered_by_errors_only_is_alive() {
    let mut rig = Rig::routed();
    for _ in 0..3 {
        let sent = out(&mut rig, &outward(A).udp(40000, 53));
        rig.age(100);
        let arriving = from_outside(&rig, HOP, error(3, 1, &sent));
        rig.from_wire(&arriving).assert_sent(REDIRECT);
    }
}

#[test]
fn i4_a_binding_is_enough_where_it_lets_everybody_in() {
    let mut rig = Rig::routed();
    let packet = outward(A).udp(40000, 53).payload([1; 7]).dont_fragment();
    let sent = out(&mut rig, &packet);
    rig.age(121);
    let before = rig.flows();
    let arriving = from_outside(&rig, HOP, error(11, 0, &sent));
    rig.from_wire(&arriving).assert_dropped(BLUE, R::IcmpErrorUnmatched);
    rig.change("GATEWAYS", BLUE, |gateway: &mut Gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    rig.open_bindings(BLUE);
    let result = rig.from_wire(&arriving);
    assert_eq!(quote(&result), aged(&packet));
    assert_eq!((result.seen().destination.0, result.seen().macs.1), (A.ip, A.mac));
    assert_eq!(rig.flows(), before);
}

#[test]
fn i5_an_error_about_what_another_host_has_translated_goes_there_as_it_is() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| (gateway.nat_place, gateway.nat_target) = (nat_place::TUNNEL, TUNNEL));
    let inside = Packet::between([0; 6], [0; 6], SERVER.into(), B.ip.into()).udp(7000, 53).build()[14..].to_vec();
    let error = from_inside(B, &inside);
    let result = rig.from(BLUE, B, &error);
    let (_, _, inner) =
        dissect(result.assert_sent(REDIRECT)).unwrap().vxlan().map(|(a, b, c)| (a, b, c.to_vec())).unwrap();
    assert_eq!(inner, error.build());
    assert_eq!(rig.flows().len(), 0);
    let own = Packet::between([0; 6], [0; 6], B.ip.into(), SERVER.into()).udp(7000, 53).build()[14..].to_vec();
    rig.from(BLUE, B, &from_inside(B, &own)).assert_dropped(BLUE, R::IcmpErrorUnmatched);
}
