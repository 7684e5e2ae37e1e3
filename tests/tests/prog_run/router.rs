//! What RFC 1812 asks of a router: headers, hops, errors.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason as R,
    maps::{GatewayState, Upstream},
};
use netpath_tests::packet::{BROADCAST, Body, Checksum, Packet, dissect};

use crate::rig::{
    A, BLUE, BLUE_PUBLIC, C, DNS, GATEWAY, GATEWAY_IP, GREEN, LINK, OTHER_SERVER, Outcome, RED, REDIRECT, Rig, SERVER,
    SHOT, any, echo, inward, ip_bytes, now, outward,
};

/// Asserts an ICMP error from a network's gateway to A about `packet`, with precedence 6 and a quote of what A sent.
#[track_caller]
fn assert_tells_a(out: &Outcome, kind: (u8, u8), packet: &Packet) {
    let parts = dissect(out.assert_answered(kind.0, kind.1)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst, ip.tos), (GATEWAY_IP.into(), A.ip.into(), 0xc0));
    assert_eq!((parts.src_mac, parts.dst_mac), (GATEWAY.0, A.mac));
    let (quote, sent) = (&ip.message[8..], ip_bytes(packet));
    assert!(quote.len() >= sent.len().min(28), "{} bytes quoted", quote.len());
    assert_eq!(quote, &sent[..quote.len()], "the packet as it was sent");
}

#[test]
fn r1_r3_r5_a_packet_whose_hops_are_used_up_is_answered() {
    let mut rig = Rig::routed();
    for ttl in [0, 1] {
        for packet in [outward(A).udp(5000, 33434), outward(A).tcp(1, 2, 2), outward(A).body(echo(8, 7))] {
            let packet = packet.ttl(ttl).id(5);
            let out = rig.from(BLUE, A, &packet);
            assert_tells_a(&out, (11, 0), &packet);
            out.assert_refused(BLUE, R::TtlExpired);
        }
    }
}

#[test]
fn r1_two_hops_become_one_and_the_checksum_is_right_at_its_edges() {
    let mut rig = Rig::routed();
    for id in 0..500u16 {
        let got = rig.from(BLUE, A, &outward(A).udp(5000, 53).ttl(2).id(id.wrapping_mul(131))).seen();
        assert_eq!(got.ttl, 1);
    }
}

#[test]
fn r1_the_gateway_answers_ping_also_at_one_hop() {
    let mut rig = Rig::routed();
    for network in [BLUE, GREEN] {
        for ttl in [1, 64] {
            let packet = outward(A).to_ip(GATEWAY_IP).body(echo(8, 7)).ttl(ttl);
            let out = rig.from(network, A, &packet);
            let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
            let ip = parts.ip.as_ref().unwrap();
            assert_eq!((ip.src, ip.dst, parts.icmp()), (GATEWAY_IP.into(), A.ip.into(), Some((0, 0))));
            assert_eq!((parts.src_mac, parts.dst_mac), (GATEWAY.0, A.mac));
            assert_eq!(ip.message[4..], ip_bytes(&packet)[24..]);
        }
    }
}

#[test]
fn r1_a_packet_from_outside_whose_hops_are_used_up_is_answered_from_the_public_address() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let out = rig.from_wire(&inward(SERVER, public.0).udp(53, public.1).ttl(1));
    let parts = dissect(out.assert_answered(11, 0)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst), (BLUE_PUBLIC.into(), SERVER.into()));
    assert_eq!(ip.message[8 + 16..8 + 20], BLUE_PUBLIC.octets(), "the inside is not shown");
}

#[test]
fn r2_nothing_is_answered_about_errors_fragments_broadcasts_and_martians() {
    let mut rig = Rig::routed();
    let error = Body::Icmp { kind: 3, code: 3, rest: [0; 4], payload: ip_bytes(&outward(A).udp(1, 2)) };
    for packet in [
        outward(A).body(error).ttl(1),
        outward(A).body(Body::Ip { protocol: 17, payload: vec![0; 64] }).fragment(8, false).ttl(1),
        outward(A).to_ip(Ipv4Addr::BROADCAST).udp(1, 2).ttl(1),
        outward(A).to_ip([224, 0, 0, 5]).udp(1, 2).ttl(1),
        outward(A).to_ip([10, 1, 1, 255]).udp(1, 2).ttl(1),
        outward(A).to_ip([127, 0, 0, 1]).udp(1, 2).ttl(1),
    ] {
        let out = rig.from(BLUE, A, &packet);
        assert_eq!((out.action, out.drops.len()), (SHOT, 1), "{packet:?}: {out:?}");
    }
}

#[test]
fn r4_errors_are_limited_for_each_network() {
    let mut rig = Rig::routed();
    let is_told = |rig: &mut Rig, network| rig.from(network, A, &outward(A).udp(5000, 9).ttl(1)).action == REDIRECT;
    assert!(is_told(&mut rig, BLUE));
    // As if blue's guests had been told a thousand times in this second, which may be over before the packet is there.
    let silenced = (0..20).any(|_| {
        rig.change("GATEWAY_STATE", BLUE, |state: &mut GatewayState| state.errors = u64::from(now()) << 32 | 1000);
        !is_told(&mut rig, BLUE)
    });
    assert!(silenced);
    assert!(is_told(&mut rig, GREEN), "green may still be told");
}

/// What is left of a network's errors to its own guests, above all which size fits, is not whoever's outside to use up.
#[test]
fn r4_whoever_is_outside_uses_up_no_more_than_half_of_a_networks_errors() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let outside = inward(SERVER, public.0).udp(53, public.1).ttl(1);
    rig.from_wire(&outside).assert_answered(11, 0);
    let silenced = (0..20).any(|_| {
        rig.change("GATEWAY_STATE", BLUE, |state: &mut GatewayState| state.errors = u64::from(now()) << 32 | 50);
        let guests = rig.from(BLUE, A, &outward(A).udp(5000, 9).ttl(1)).action == REDIRECT;
        guests && rig.from_wire(&outside).action != REDIRECT
    });
    assert!(silenced);
}

#[test]
fn r6_too_big_for_the_way_out_is_answered_with_its_mtu_and_that_fits() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAMS", LINK, |upstream: &mut Upstream| upstream.mtu = 1400);
    let sized = |len: usize| outward(A).udp(5000, 53).payload(vec![9; len - 28]).dont_fragment();
    let out = rig.from(BLUE, A, &sized(1401));
    assert_tells_a(&out, (3, 4), &sized(1401));
    let parts = dissect(&out.bytes).unwrap();
    assert_eq!(parts.ip.unwrap().message[4..8], [0, 0, 0x05, 0x78]);
    out.assert_refused(BLUE, R::PacketTooBig);
    rig.from(BLUE, A, &sized(1400)).seen();
}

/// U13a: a program cannot send two packets for one, so that what may be fragmented is refused like what may not.
#[test]
fn u13_u13a_too_big_without_df_is_answered_too() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAMS", LINK, |upstream: &mut Upstream| upstream.mtu = 1400);
    let packet = outward(A).udp(5000, 53).payload(vec![9; 1400]);
    let out = rig.from(BLUE, A, &packet);
    out.assert_refused(BLUE, R::PacketTooBig);
    assert_tells_a(&out, (3, 4), &packet);
}

#[test]
fn r7_wrong_headers_are_refused_each_with_its_reason() {
    let mut rig = Rig::routed();
    rig.from(BLUE, A, &outward(A).udp(1, 2).ip_checksum(Checksum::Wrong)).assert_dropped(BLUE, R::BadIpv4Checksum);
    rig.from(BLUE, A, &outward(A).udp(1, 2).ip_length(19)).assert_dropped(BLUE, R::MalformedIpv4);
    rig.from(BLUE, A, &outward(A).udp(1, 2).ip_length(900)).assert_dropped(BLUE, R::MalformedIpv4);
    for first in [0x44, 0x40, 0x55, 0x65] {
        let mut frame = outward(A).udp(1, 2).build();
        frame[14] = first;
        let out = rig.from_a(BLUE, &frame);
        assert_eq!((out.action, out.drops.len()), (SHOT, 1), "{first:#x}: {out:?}");
    }
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let wire = || inward(SERVER, public.0).udp(53, public.1);
    let out = rig.from_wire(&wire().ip_checksum(Checksum::Wrong));
    assert_eq!(out.drops.iter().map(|((_, why), _)| *why).collect::<Vec<_>>(), [R::BadIpv4Checksum]);
    let out = rig.from_wire(&wire().ip_length(900));
    assert_eq!(out.drops.iter().map(|((_, why), _)| *why).collect::<Vec<_>>(), [R::MalformedIpv4]);
}

#[test]
fn r9_martians_are_not_routed() {
    let mut rig = Rig::routed();
    for to in [[0, 1, 2, 3], [127, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 254]] {
        rig.from(BLUE, A, &outward(A).to_ip(to).udp(1, 2)).assert_dropped(BLUE, R::MartianDestination);
    }
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    for from in [[0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]] {
        for hops in [1, 64] {
            // Whose source nobody can have is not told of its hops, either.
            let out = rig.from_wire(&inward(from.into(), public.0).udp(53, public.1).ttl(hops));
            let why: Vec<_> = out.drops.iter().map(|((_, why), _)| *why).collect();
            assert_eq!((out.action, why), (SHOT, vec![R::MartianSource]), "{from:?}");
        }
    }
}

#[test]
fn r10_r12_broadcasts_groups_and_link_local_are_not_routed() {
    let mut rig = Rig::routed();
    for to in [[10, 1, 1, 255], [255, 255, 255, 255], [224, 0, 0, 9], [239, 1, 1, 1], [169, 254, 1, 1]] {
        rig.from(BLUE, A, &outward(A).to_ip(to).udp(1, 2)).assert_dropped(BLUE, R::MartianDestination);
    }
}

#[test]
fn r11_a_unicast_packet_in_a_broadcast_frame_is_not_routed() {
    let mut rig = Rig::routed();
    // Nor is its sender told that its hops are used up.
    for hops in [64, 1] {
        let out = rig.from(BLUE, A, &outward(A).to_mac(BROADCAST).udp(5000, 53).ttl(hops));
        assert_ne!(out.action, REDIRECT, "{out:?}");
        assert!(rig.flows().is_empty());
    }
}

#[test]
fn r13_without_an_upstream_neighbour_nothing_is_sent() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAM_MACS", LINK, |row: &mut netpath_common::maps::Resolved| *row = Default::default());
    let out = rig.udp_out(BLUE, A, 5000, DNS);
    out.assert_refused(BLUE, R::NeighbourUnresolved);
}

#[test]
fn r14_a_packet_for_the_own_network_by_the_gateway_gets_no_redirect() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).to_ip(crate::rig::B.ip).udp(1, 2));
    assert!(dissect(&out.bytes).unwrap().icmp().is_none_or(|kind| kind.0 != 5), "{out:?}");
}

#[test]
fn the_gateway_itself_serves_nothing_but_ping() {
    let mut rig = Rig::routed();
    for packet in [outward(A).udp(5000, 53), outward(A).tcp(5000, 22, 2)] {
        let out = rig.from(BLUE, A, &packet.to_ip(GATEWAY_IP));
        out.assert_refused(BLUE, R::GatewayClosed);
    }
}

/// Too big for the guest's network, from outside: the sender is told, and sees the public address only (R6, U13).
#[test]
fn r6_too_big_from_outside_is_answered_from_the_public_address() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 2222, A, 22);
    rig.change("NETWORKS", BLUE, |network: &mut netpath_common::maps::Network| network.mtu = 1400);
    let sized = |len: usize| inward(OTHER_SERVER, BLUE_PUBLIC).udp(9, 2222).payload(vec![1; len - 28]).dont_fragment();
    let out = rig.from_wire(&sized(1401));
    let parts = dissect(out.assert_answered(3, 4)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst), (BLUE_PUBLIC.into(), OTHER_SERVER.into()));
    assert_eq!(ip.message[4..8], [0, 0, 0x05, 0x78]);
    assert_eq!(ip.message[8 + 16..8 + 24], ip_bytes(&sized(1401))[16..24]);
    rig.from_wire(&sized(1400)).seen();
}

/// A tag of the guest's own would leave with the packet, in a segment of the guest's choice.
#[test]
fn q8_what_is_in_a_tag_of_the_guests_own_is_not_routed() {
    let mut rig = Rig::routed();
    rig.from(RED, A, &outward(A).vlan(7).udp(5000, 53)).assert_dropped(RED, R::TaggedFrame);
    let from_c = outward(C).tag(0x8100, 100).vlan(7).udp(5000, 53);
    rig.from_wire(&from_c).assert_dropped(RED, R::TaggedFrame);
    assert_eq!(rig.flows().len(), 0);
}
