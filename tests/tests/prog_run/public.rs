//! The public side's link layer: ARP for public addresses, and the stations beside them.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason, Mac,
    maps::{PublicKey, Resolved, RuleList, Segment, SegmentKey, Upstream, public_flags, segment_flags},
};
use netpath_tests::packet::{BROADCAST, Endpoint, Packet, dissect, guest};

use crate::rig::{
    A, BLUE, BLUE_PUBLIC, LINK, NEIGHBOUR, PASS, PUBLIC, PUBLIC_VLAN, REDIRECT, ROUTER, Rig, SHOT, now, outward, seen,
};

/// This host, as its public address is seen on the public link.
fn here(rig: &Rig) -> Endpoint {
    Endpoint { mac: rig.uplink_mac, ip: BLUE_PUBLIC, ..ROUTER }
}

/// Another router's MAC address.
const SUCCESSOR: [u8; 6] = [0x02, 0, 203, 0, 113, 2];
/// A station on the public link that nobody has heard of.
const NEWCOMER: Endpoint =
    Endpoint { mac: [0x02, 0, 203, 0, 113, 77], ip: Ipv4Addr::new(203, 0, 113, 77), ..NEIGHBOUR };

fn row(rig: &Rig, station: Endpoint) -> Option<Resolved> {
    if station.ip == ROUTER.ip {
        return Some(rig.read("UPSTREAM_MACS", LINK));
    }
    rig.get("ON_LINK", PublicKey { side: PUBLIC, address: station.ip.octets() })
}

fn mac(rig: &Rig, station: Endpoint) -> Option<Mac> {
    row(rig, station).and_then(|row| row.known())
}

/// Makes what is known of the router older.
fn age(rig: &mut Rig, confirmed: u32, asked: u32, waiting: u32) {
    rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| {
        row.confirmed = now().wrapping_sub(confirmed);
        row.asked = now().wrapping_sub(asked);
        row.waiting_since = if waiting == 0 { 0 } else { now().wrapping_sub(waiting) };
    });
}

fn forget(rig: &mut Rig, asked: u32, waiting: u32) {
    age(rig, 1000, asked, waiting);
    rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| row.mac = 0);
}

#[track_caller]
fn assert_passed(rig: &mut Rig, packet: &Packet) {
    let out = rig.from_wire(packet);
    assert_eq!((out.action, &out.drops[..]), (PASS, &[][..]), "{packet:?}");
    assert_eq!(out.bytes, packet.build());
    assert_eq!(rig.xdp(&packet.build()).bytes, packet.build());
}

#[test]
fn a1_a_public_address_is_answered_from_the_uplink_by_the_host_that_has_it() {
    let mut rig = Rig::routed();
    for asker in [ROUTER, NEIGHBOUR, NEWCOMER] {
        let request = guest(asker).arp_request(BLUE_PUBLIC).vlan(PUBLIC_VLAN).padded_to(64);
        let out = rig.from_wire(&request);
        assert_eq!(out.assert_sent(REDIRECT), guest(here(&rig)).arp_reply(asker).padded_to(60).build());
    }
}

#[test]
fn a1_an_untagged_public_link_is_answered_without_a_tag() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAMS", LINK, |row: &mut Upstream| row.vlan = 0);
    let ifindex = rig.uplink;
    let segment = Segment { ifindex, network: LINK, physical_network: 1, flags: segment_flags::PUBLIC };
    rig.put("SEGMENTS", SegmentKey { ifindex, udp_port: 0, id: 0 }, segment);
    let request = guest(ROUTER).arp_request(BLUE_PUBLIC).padded_to(60);
    let reply = guest(here(&rig)).arp_reply(ROUTER).padded_to(60).build();
    assert_eq!(rig.from_wire(&request).assert_sent(REDIRECT), reply);
    let priority = guest(ROUTER).arp_request(BLUE_PUBLIC).tag(0x8100, 0xe000).padded_to(64);
    assert_eq!(rig.from_wire(&priority).assert_sent(REDIRECT), reply);
}

#[test]
fn a2_arp_for_other_addresses_is_left_to_the_host() {
    let mut rig = Rig::routed();
    for target in [Ipv4Addr::new(203, 0, 113, 99), A.ip] {
        assert_passed(&mut rig, &guest(ROUTER).arp_request(target).vlan(PUBLIC_VLAN));
    }
    assert_passed(&mut rig, &guest(ROUTER).arp_request(BLUE_PUBLIC).vlan(PUBLIC_VLAN + 1));
}

#[test]
fn a3_a_probe_is_answered_and_makes_no_entry() {
    let mut rig = Rig::routed();
    let probe = guest(NEWCOMER).from(Ipv4Addr::UNSPECIFIED).arp_request(BLUE_PUBLIC).vlan(PUBLIC_VLAN);
    let nobody = Endpoint { ip: Ipv4Addr::UNSPECIFIED, ..NEWCOMER };
    let out = rig.from_wire(&probe);
    assert_eq!(out.assert_sent(REDIRECT), guest(here(&rig)).arp_reply(nobody).build());
    assert_eq!(row(&rig, NEWCOMER), None);
    assert_eq!(row(&rig, nobody), None);
}

#[test]
fn a_request_from_a_station_makes_it_known_and_renews_what_is_old() {
    let mut rig = Rig::routed();
    let request = |asker: Endpoint| guest(asker).arp_request(BLUE_PUBLIC).vlan(PUBLIC_VLAN);
    rig.from_wire(&request(NEWCOMER)).assert_sent(REDIRECT);
    assert_eq!(mac(&rig, NEWCOMER), Some(Mac(NEWCOMER.mac)));
    let successor = Endpoint { mac: SUCCESSOR, ..ROUTER };
    rig.from_wire(&request(successor)).assert_sent(REDIRECT);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(ROUTER.mac)), "what is fresh is not overridden by a request");
    age(&mut rig, 31, 31, 0);
    rig.from_wire(&request(successor)).assert_sent(REDIRECT);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(SUCCESSOR)));
    let elsewhere = Endpoint { ip: Ipv4Addr::new(192, 0, 2, 77), ..NEWCOMER };
    rig.from_wire(&request(elsewhere)).assert_sent(REDIRECT);
    assert_eq!(row(&rig, elsewhere), None, "no station of this link");
}

#[test]
fn a_reply_counts_where_it_was_asked_for() {
    let mut rig = Rig::routed();
    let reply = guest(Endpoint { mac: SUCCESSOR, ..ROUTER }).arp_reply(here(&rig)).vlan(PUBLIC_VLAN);
    age(&mut rig, 20, 20, 0);
    assert_eq!(rig.from_wire(&reply).action, SHOT);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(ROUTER.mac)));
    forget(&mut rig, 1, 2);
    let before = now();
    let out = rig.from_wire(&reply);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]));
    let row = row(&rig, ROUTER).unwrap();
    assert_eq!((row.known(), row.waiting_since), (Some(Mac(SUCCESSOR)), 0));
    assert!((before - 1..=now()).contains(&row.confirmed));
    let unasked = guest(NEWCOMER).arp_reply(here(&rig)).vlan(PUBLIC_VLAN);
    assert_eq!(rig.from_wire(&unasked).action, SHOT);
    assert_eq!(mac(&rig, NEWCOMER), None);
}

#[test]
fn a_reply_for_an_address_that_the_host_uses_too_reaches_the_host() {
    let mut rig = Rig::routed();
    rig.public_address(BLUE, BLUE_PUBLIC, public_flags::HOST, RuleList::default());
    let reply = guest(ROUTER).arp_reply(here(&rig)).vlan(PUBLIC_VLAN);
    forget(&mut rig, 1, 2);
    assert_passed(&mut rig, &reply);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(ROUTER.mac)));
}

#[test]
fn a4_a_reply_with_a_group_address_is_ignored() {
    let mut rig = Rig::routed();
    forget(&mut rig, 1, 2);
    for group in [BROADCAST, [0x01, 0, 0x5e, 0, 0, 1], [0; 6]] {
        let sender = Endpoint { mac: group, ..ROUTER };
        let reply = guest(sender).arp_reply(here(&rig)).from_mac(ROUTER.mac).vlan(PUBLIC_VLAN);
        assert_passed(&mut rig, &reply);
        assert_eq!(mac(&rig, ROUTER), None);
    }
}

#[test]
fn a5_a_station_that_claims_a_public_address_of_this_host_is_counted_and_not_believed() {
    let mut rig = Rig::routed();
    let thief = Endpoint { ip: BLUE_PUBLIC, ..NEWCOMER };
    for claim in
        [guest(thief).arp_request(BLUE_PUBLIC), guest(thief).arp_reply(here(&rig)), guest(thief).arp_request(ROUTER.ip)]
    {
        let claim = claim.vlan(PUBLIC_VLAN);
        let out = rig.from_wire(&claim);
        assert_eq!((out.action, &out.drops[..]), (PASS, &[((BLUE, DropReason::AddressConflict), 1)][..]));
        assert_eq!(row(&rig, thief), None);
    }
}

#[test]
fn a6_arp_of_another_kind_is_left_to_the_host() {
    let mut rig = Rig::routed();
    let right = guest(ROUTER).arp_request(BLUE_PUBLIC).vlan(PUBLIC_VLAN).build();
    // Hardware type, protocol, lengths, operation.
    for (offset, value) in [(19, 2), (20, 9), (22, 8), (23, 16), (25, 3), (25, 9)] {
        let mut frame = right.clone();
        frame[offset] = value;
        let uplink = rig.uplink;
        let out = rig.tc("from_uplink", uplink, &frame);
        assert_eq!((out.action, out.bytes), (PASS, frame));
    }
    let cut = right[..right.len() - 1].to_vec();
    let uplink = rig.uplink;
    assert_eq!(rig.tc("from_uplink", uplink, &cut).action, PASS);
}

#[test]
fn a_router_that_takes_over_is_followed_at_once() {
    let mut rig = Rig::routed();
    let successor = Endpoint { mac: SUCCESSOR, ..ROUTER };
    let announcement = guest(successor).arp_request(ROUTER.ip).vlan(PUBLIC_VLAN);
    assert_passed(&mut rig, &announcement);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(SUCCESSOR)));
    let back = guest(ROUTER).arp_reply(Endpoint { mac: BROADCAST, ..ROUTER }).vlan(PUBLIC_VLAN);
    assert_passed(&mut rig, &back);
    assert_eq!(mac(&rig, ROUTER), Some(Mac(ROUTER.mac)));
    assert_passed(&mut rig, &guest(NEWCOMER).arp_request(NEWCOMER.ip).vlan(PUBLIC_VLAN));
    assert_eq!(row(&rig, NEWCOMER), None, "an announcement makes nobody known");
}

#[test]
fn everything_else_on_the_link_is_the_hosts() {
    let mut rig = Rig::routed();
    let to =
        |rig: &Rig, address: Ipv4Addr| Packet::between(ROUTER.mac, rig.uplink_mac, ROUTER.ip.into(), address.into());
    let elsewhere = to(&rig, Ipv4Addr::new(203, 0, 113, 99)).vlan(PUBLIC_VLAN);
    let not_to_us = to(&rig, BLUE_PUBLIC).to_mac(NEIGHBOUR.mac).vlan(PUBLIC_VLAN);
    let broadcast = to(&rig, BLUE_PUBLIC).to_mac(BROADCAST).vlan(PUBLIC_VLAN);
    let twice = to(&rig, BLUE_PUBLIC).vlan(PUBLIC_VLAN).vlan(5);
    let ipv6 = guest(ROUTER).over_ipv6(ROUTER, NEIGHBOUR).to_mac(rig.uplink_mac).vlan(PUBLIC_VLAN);
    for packet in [elsewhere, not_to_us, broadcast, twice, ipv6] {
        assert_passed(&mut rig, &packet);
    }
}

/// The next hop as the packet was addressed, or the question that it became: (destination MAC, source MAC, bytes).
#[track_caller]
fn assert_asks(rig: &Rig, bytes: &[u8], to: [u8; 6]) {
    let parts = dissect(bytes).unwrap();
    assert_eq!((parts.src_mac, parts.dst_mac), (rig.uplink_mac, to));
    let request = guest(here(rig)).arp_request(ROUTER.ip).to_mac(to).padded_to(60).build();
    assert_eq!(bytes, request);
}

#[test]
fn a_packet_goes_to_the_router_that_is_known() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).udp(1000, 53));
    assert_eq!(out.seen().macs, (rig.uplink_mac, ROUTER.mac));
}

/// Does it again until it was done within one second of the data path's clock.
fn within_a_second<T>(rig: &mut Rig, mut what: impl FnMut(&mut Rig) -> T) -> T {
    loop {
        let second = now();
        let done = what(rig);
        // The data path's clock may be a tick behind: its second is what it has written.
        if now() == second && row(rig, ROUTER).is_some_and(|row| row.asked == second) {
            return done;
        }
    }
}

#[test]
fn a_packet_whose_router_is_unknown_becomes_the_question_once_a_second() {
    let mut rig = Rig::routed();
    for packet in [outward(A).udp(1000, 53), outward(A).tcp(1000, 80, 2), outward(A).udp(1, 2).payload([7; 1400])] {
        forget(&mut rig, 2, 2);
        let out = rig.from(BLUE, A, &packet);
        assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[((BLUE, DropReason::NeighbourUnresolved), 1)][..]));
        assert_asks(&rig, &out.bytes, BROADCAST);
        within_a_second(&mut rig, |rig| {
            rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| row.asked = now());
            rig.from(BLUE, A, &packet)
        })
        .assert_dropped(BLUE, DropReason::NeighbourUnresolved);
    }
}

#[test]
fn a_router_that_has_not_confirmed_for_a_while_is_used_and_asked() {
    let mut rig = Rig::routed();
    let out = within_a_second(&mut rig, |rig| {
        age(rig, 31, 31, 0);
        let out = rig.from(BLUE, A, &outward(A).udp(1000, 53));
        assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[][..]));
        assert_asks(rig, &out.bytes, ROUTER.mac);
        assert_eq!(out.counters.len(), 1);
        rig.from(BLUE, A, &outward(A).udp(1000, 53))
    });
    assert_eq!(seen(&out.bytes).macs, (rig.uplink_mac, ROUTER.mac));
}

#[test]
fn r13_a_router_that_does_not_answer_is_said_to_be_unreachable() {
    let mut rig = Rig::routed();
    forget(&mut rig, 1, 5);
    let packet = outward(A).udp(1000, 53);
    let out = rig.from(BLUE, A, &packet);
    assert_eq!(out.drops, [((BLUE, DropReason::NeighbourUnresolved), 1)]);
    out.assert_answered(3, 1);
}

#[test]
fn a_station_on_the_link_is_reached_without_the_router() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).to_ip(NEIGHBOUR.ip).udp(1000, 53));
    assert_eq!(out.seen().macs, (rig.uplink_mac, NEIGHBOUR.mac));
    let out = rig.from(BLUE, A, &outward(A).to_ip(NEWCOMER.ip).udp(1000, 53));
    let request = guest(here(&rig)).arp_request(NEWCOMER.ip).padded_to(60).build();
    assert_eq!((out.action, out.bytes), (REDIRECT, request));
    let reply = guest(NEWCOMER).arp_reply(here(&rig)).vlan(PUBLIC_VLAN);
    assert_eq!(rig.from_wire(&reply).action, SHOT);
    let out = rig.from(BLUE, A, &outward(A).to_ip(NEWCOMER.ip).udp(1000, 53));
    assert_eq!(out.seen().macs, (rig.uplink_mac, NEWCOMER.mac));
}

/// The row was written by a processor whose clock had just gone on, or by somebody with a more precise one.
#[test]
fn a_router_that_answered_a_moment_ahead_of_the_clock_is_known() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| row.confirmed = now() + 2);
    let out = rig.from(BLUE, A, &outward(A).udp(40000, 53));
    out.assert_sent(REDIRECT);
    assert_eq!(out.seen().source.0, BLUE_PUBLIC);
}
