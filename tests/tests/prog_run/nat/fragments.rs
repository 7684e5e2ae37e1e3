//! Fragments: by the ports of the first one, in order, interleaved, twice, and in bounded memory.

use netpath_common::{
    DropReason as R,
    maps::{Fragment, FragmentKey, gateway_flags, nat_place},
};
use netpath_tests::packet::{Body, Packet, dissect, guest};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, D, DNS, E, GATEWAY, GREEN, RED, REDIRECT, Rig, SERVER, TIER, any, inward, outward,
    public_of, seen, tier_outward,
};

/// A UDP packet in fragments of 1480 bytes, each with what it carries; `wrap` is the packet's addresses.
fn fragments(wrap: &Packet, ports: (u16, u16), payload: &[u8], id: u16) -> Vec<Packet> {
    // The whole message, so that the sum in the first fragment covers all of it.
    let whole = wrap.clone().udp(ports.0, ports.1).payload(payload).build();
    let message = dissect(&whole).unwrap().ip.unwrap().message.to_vec();
    let count = message.len().div_ceil(1480);
    message
        .chunks(1480)
        .enumerate()
        .map(|(index, part)| {
            let body = Body::Ip { protocol: 17, payload: part.to_vec() };
            wrap.clone().body(body).id(id).fragment((index * 185) as u16, index + 1 < count)
        })
        .collect()
}

/// Puts the messages of translated fragments together again and gives (ports, payload) with the sum verified.
#[track_caller]
fn reassemble(frames: &[Vec<u8>]) -> ((u16, u16), Vec<u8>) {
    let mut parts: Vec<_> = frames
        .iter()
        .map(|frame| {
            let ip = dissect(frame).unwrap().ip.unwrap();
            (ip.fragment.0, ip.message.to_vec(), ip.src, ip.dst)
        })
        .collect();
    parts.sort_unstable();
    parts.dedup();
    let message: Vec<u8> = parts.iter().flat_map(|part| part.1.clone()).collect();
    let sum = netpath_tests::packet::checksum::transport(parts[0].2, parts[0].3, 17, &message);
    assert_eq!(sum, 0, "the sum of the whole packet");
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    ((port(0), port(2)), message[8..].to_vec())
}

fn payload(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn u14_x3_fragments_in_order_are_translated_with_their_bytes_intact() {
    let mut rig = Rig::routed();
    let bytes = payload(4000, 1);
    let out: Vec<_> = fragments(&outward(A), (5000, 53), &bytes, 77)
        .iter()
        .map(|part| rig.from(BLUE, A, part).assert_sent(REDIRECT).to_vec())
        .collect();
    assert_eq!(reassemble(&out), ((5000, 53), bytes));
    let ids: Vec<_> = out.iter().map(|frame| frame[18..20].to_vec()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one identification for all: {ids:?}");
    assert!(out.iter().all(|frame| seen(frame).source.0 == BLUE_PUBLIC));
}

#[test]
fn u14_fragments_from_outside_are_translated_too() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let bytes = payload(3000, 2);
    let wrap = inward(SERVER, public.0);
    let out: Vec<_> = fragments(&wrap, (53, public.1), &bytes, 9)
        .iter()
        .map(|part| rig.from_wire(part).assert_sent(REDIRECT).to_vec())
        .collect();
    assert_eq!(reassemble(&out), ((53, 5000), bytes));
}

#[test]
fn u14_interleaved_and_duplicate_fragments_reach_their_own() {
    let mut rig = Rig::routed();
    let (one, two) = (payload(4000, 3), payload(4400, 4));
    let first = fragments(&outward(A), (5000, 53), &one, 1);
    let second = fragments(&outward(B), (6000, 53), &two, 1);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for (a, b) in first.iter().zip(&second) {
        of_a.push(rig.from(BLUE, A, a).assert_sent(REDIRECT).to_vec());
        of_b.push(rig.from(BLUE, B, b).assert_sent(REDIRECT).to_vec());
        of_a.push(rig.from(BLUE, A, a).assert_sent(REDIRECT).to_vec());
    }
    assert_eq!(reassemble(&of_a), ((5000, 53), one));
    assert_eq!(reassemble(&of_b), ((6000, 53), two));
}

/// Two guests' fragments with one identification leave from one public address: no receiver may mix them up.
#[test]
fn n9_two_guests_with_one_identification_get_two() {
    let mut rig = Rig::routed();
    let a = fragments(&outward(A), (5000, 53), &payload(3000, 5), 77);
    let b = fragments(&outward(B), (6000, 53), &payload(3000, 6), 77);
    let id = |frame: &[u8]| u16::from_be_bytes([frame[18], frame[19]]);
    let ids_a: Vec<_> = a.iter().map(|part| id(rig.from(BLUE, A, part).assert_sent(REDIRECT))).collect();
    let ids_b: Vec<_> = b.iter().map(|part| id(rig.from(BLUE, B, part).assert_sent(REDIRECT))).collect();
    assert!(ids_a.iter().all(|id| *id == ids_a[0]) && ids_b.iter().all(|id| *id == ids_b[0]));
    assert_ne!(ids_a[0], ids_b[0]);
}

/// The kernel numbers the segments of a super-packet on from its own.
#[test]
fn n9_a_super_packet_takes_an_identification_for_each_of_its_segments() {
    let mut rig = Rig::routed();
    let port = rig.ports[&(BLUE, 11)];
    let frame = outward(A).tcp(5000, 443, 16).payload(vec![7; 10 * 300]).build();
    let id = |frame: &[u8]| u16::from_be_bytes([frame[18], frame[19]]);
    let first = id(rig.tc_gso("from_guest", port, &frame, 300).assert_sent(REDIRECT));
    let next = id(rig.from(BLUE, A, &outward(A).udp(5000, 53)).assert_sent(REDIRECT));
    assert!((10..20).contains(&next.wrapping_sub(first)), "{first}, then {next}");
}

/// Tiers of one router share a public address, and so its identifications.
#[test]
fn n9_two_tiers_behind_one_address_get_no_identification_twice() {
    let mut rig = Rig::routed();
    rig.tier();
    let pool = rig.gateway(BLUE).pool;
    rig.change_gateway(TIER, |gateway| {
        (gateway.nat_place, gateway.pool_count, gateway.pool) = (nat_place::HERE, 1, pool);
    });
    let mut ids = Vec::new();
    for round in 0..4 {
        for (network, wrap, station) in [(BLUE, outward(A), A), (TIER, tier_outward(D).to_ip(SERVER), D)] {
            let whole = rig.from(network, station, &wrap.clone().udp(5000, 53)).assert_sent(REDIRECT).to_vec();
            let part = &fragments(&wrap, (5000, 53), &payload(3000, round), 77 + u16::from(round))[0];
            let part = rig.from(network, station, part).assert_sent(REDIRECT).to_vec();
            ids.extend([whole, part].map(|frame| [frame[18], frame[19]]));
        }
    }
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}

#[test]
fn x1_fragments_of_two_tenants_with_one_identification_are_told_apart() {
    let mut rig = Rig::routed();
    let bytes = payload(3000, 7);
    let parts = fragments(&outward(A), (5000, 53), &bytes, 77);
    for network in [BLUE, GREEN] {
        rig.from(network, A, &parts[0]).assert_sent(REDIRECT);
    }
    for network in [BLUE, GREEN] {
        let got = seen(rig.from(network, A, &parts[1]).assert_sent(REDIRECT));
        assert_eq!(got.source.0, public_of(network));
    }
}

#[test]
fn u14_a_fragment_before_its_first_is_refused_and_counted() {
    let mut rig = Rig::routed();
    let parts = fragments(&outward(A), (5000, 53), &payload(3000, 8), 77);
    for part in parts[1..].iter().rev() {
        rig.from(BLUE, A, part).assert_dropped(BLUE, R::FragmentBeforeFirst);
    }
    for part in &parts {
        rig.from(BLUE, A, part).assert_sent(REDIRECT);
    }
}

#[test]
fn fragments_that_come_long_after_the_first_are_refused() {
    let mut rig = Rig::routed();
    let parts = fragments(&outward(A), (5000, 53), &payload(3000, 9), 77);
    rig.from(BLUE, A, &parts[0]).assert_sent(REDIRECT);
    rig.age(61);
    rig.from(BLUE, A, &parts[1]).assert_dropped(BLUE, R::FragmentBeforeFirst);
}

#[test]
fn u14a_lone_fragments_take_no_memory_and_first_ones_a_bounded_one_and_neither_harms_a_flow() {
    const ROOM: u32 = 256;
    let mut rig = Rig::routed_sized(&[("FRAGMENTS", ROOM)]);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let port = rig.ports[&(BLUE, 13)];
    let flood = |rig: &Rig, count: u32, fragment: fn(u16) -> Packet| {
        rig.ns.run(|| (0..count).for_each(|id| rig.tc_only("from_guest", port, &fragment(id as u16).build())));
        rig.rows::<FragmentKey, Fragment>("FRAGMENTS").len()
    };
    let lone: fn(u16) -> Packet =
        |id| outward(B).body(Body::Ip { protocol: 17, payload: vec![0; 64] }).id(id).fragment(9, true);
    assert_eq!(flood(&rig, 100_000, lone), 0);
    // Of firsts there are four for each row: older ones make room.
    let rows = flood(&rig, 4 * ROOM, |id| outward(B).udp(7000, 53).id(id).fragment(0, true));
    assert!((1..=ROOM as usize).contains(&rows), "{rows}");
    // Where the processor is emulated that took longer than the stations of the public link count as known.
    rig.standard_gateways();
    rig.arrives(DNS, public, (A.ip, 5000));
    let bytes = payload(3000, 1);
    let out: Vec<_> = fragments(&outward(A), (5000, 53), &bytes, 77)
        .iter()
        .map(|part| rig.from(BLUE, A, part).assert_sent(REDIRECT).to_vec())
        .collect();
    assert_eq!(reassemble(&out).1, bytes);
}

/// A TCP header that is cut by its fragment's end could hide its ports (RFC 1858).
#[test]
fn a_first_fragment_without_its_ports_is_refused() {
    let mut rig = Rig::routed();
    for (protocol, len) in [(6, 8), (6, 3), (17, 3)] {
        let body = Body::Ip { protocol, payload: vec![0; len] };
        let out = rig.from(BLUE, A, &outward(A).body(body).fragment(0, true));
        assert_eq!((out.action, out.drops.len()), (crate::rig::SHOT, 1), "{out:?}");
    }
}

/// A's fragments as another host has routed them out of the tier, into a VLAN network with an access list.
fn routed_elsewhere(rig: &mut Rig, bytes: &[u8], id: u16) -> Vec<Packet> {
    rig.tier();
    rig.route(RED, [10, 1, 2, 0].into(), 24, TIER, [0; 4].into());
    rig.acl(RED, &[], &[any(false)]);
    rig.change_gateway(RED, |gateway| gateway.flags |= gateway_flags::TIER);
    let wrap = guest(E).from_mac(GATEWAY.0).to_mac(A.mac).to_ip(A.ip).vlan(100);
    fragments(&wrap, (5000, 53), bytes, id)
}

#[test]
fn u14_fragments_that_another_host_has_routed_here_arrive_all_of_them() {
    let mut rig = Rig::routed();
    let bytes = payload(4000, 10);
    let parts = routed_elsewhere(&mut rig, &bytes, 77);
    let out: Vec<_> = parts.iter().map(|part| rig.from_wire(part).assert_sent(REDIRECT).to_vec()).collect();
    assert_eq!(reassemble(&out), ((5000, 53), bytes));
    let flow = rig.flow_out(TIER, 17, (E.ip, 5000), (A.ip, 53)).unwrap();
    assert_eq!(flow.packets as usize, parts.len() - 1, "all that came after the first");
    let answer = outward(A).to_ip(E.ip).udp(53, 5000);
    rig.from(RED, A, &answer).assert_sent(REDIRECT);
}

/// The other host had the first one, and has judged them all: nothing is left to be judged here.
#[test]
fn u14_fragments_that_another_host_has_routed_here_arrive_in_any_order() {
    let mut rig = Rig::routed();
    let bytes = payload(4000, 11);
    let parts = routed_elsewhere(&mut rig, &bytes, 77);
    let out: Vec<_> = parts.iter().rev().map(|part| rig.from_wire(part).assert_sent(REDIRECT).to_vec()).collect();
    assert_eq!(reassemble(&out), ((5000, 53), bytes));
}
