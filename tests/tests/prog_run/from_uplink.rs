//! Frames from the wire: taken out of their segment and given to the right guest, or passed.

use netpath_common::maps::{Destination, FdbKey, Learned, Segment, SegmentKey, destination_kind, segment_flags, stage};
use netpath_common::{DropReason, Mac};
use netpath_tests::packet::{Checksum, Outer, guest};

use crate::rig::{
    A, B, BLUE, C, GREEN, HERE, PASS, RED, REDIRECT, Rig, SHOT, STRANGER, THERE, THERE_MAC, TUNNEL, XDP_PASS,
    XDP_REDIRECT, received, slot,
};

fn outer(rig: &Rig, vni: u32) -> Outer {
    Outer::new(vni, (THERE_MAC, THERE), (rig.uplink_mac, HERE))
}

#[test]
fn v17_a_frame_reaches_the_guest_of_its_own_vni() {
    let mut rig = Rig::new();
    for (network, vni) in [(BLUE, 5001), (GREEN, 5002)] {
        let frame = guest(C).to(A).udp(1, 2).build();
        let wrapped = outer(&rig, vni).wrap(&frame);
        let out = rig.xdp(&wrapped);
        assert_eq!(out.assert_sent(XDP_REDIRECT), frame);
        assert_eq!(out.counters, [(slot(network, A), received(frame.len()))]);
    }
}

#[test]
fn v2_reserved_bits_are_ignored_on_receipt() {
    let mut rig = Rig::new();
    let frame = guest(C).to(A).udp(1, 2).build();
    let wrapped = outer(&rig, 5001).flags(0xff, [1, 2, 3], 4).wrap(&frame);
    assert_eq!(rig.xdp(&wrapped).assert_sent(XDP_REDIRECT), frame);
}

#[test]
fn tcp_and_floods_are_left_to_the_stack_as_they_are() {
    let mut rig = Rig::new();
    for inner in [guest(C).to(A).tcp(1, 2, 2), guest(C).udp(1, 2), guest(C).to(STRANGER).udp(1, 2)] {
        let wrapped = outer(&rig, 5001).wrap(&inner.build());
        let out = rig.xdp(&wrapped);
        assert_eq!(out.assert_sent(XDP_PASS), wrapped);
        assert_eq!(out.counters, []);
        let uplink = rig.uplink;
        assert_eq!(rig.tc("from_uplink", uplink, &wrapped).assert_sent(PASS), wrapped);
    }
}

#[test]
fn v9_an_outer_checksum_is_left_to_the_kernel_to_verify() {
    let mut rig = Rig::new();
    for checksum in [Checksum::Right, Checksum::Wrong] {
        let wrapped = outer(&rig, 5001).outer(|p| p.checksum(checksum)).wrap(&guest(C).to(A).udp(1, 2).build());
        let out = rig.xdp(&wrapped);
        assert_eq!((out.action, out.bytes), (XDP_PASS, wrapped));
    }
}

#[test]
fn v11_outer_fragments_and_options_are_left_to_the_kernel() {
    let mut rig = Rig::new();
    let inner = guest(C).to(A).udp(1, 2).build();
    for wrapped in [
        outer(&rig, 5001).outer(|p| p.fragment(0, true)).wrap(&inner),
        outer(&rig, 5001).outer(|p| p.fragment(100, false)).wrap(&inner),
        outer(&rig, 5001).outer(|p| p.options(&[1, 1, 1, 1])).wrap(&inner),
    ] {
        let out = rig.xdp(&wrapped);
        assert_eq!((out.action, &out.drops[..], out.bytes), (XDP_PASS, &[][..], wrapped));
    }
}

#[test]
fn v15a_congestion_is_carried_into_the_inner_header() {
    let mut rig = Rig::new();
    for (outer_ecn, inner_ecn, expected) in
        [(3, 2, 3), (3, 1, 3), (3, 3, 3), (1, 2, 1), (2, 1, 1), (0, 2, 2), (2, 0, 0)]
    {
        for ipv6 in [false, true] {
            let inner = guest(C).to(A);
            let inner = if ipv6 { inner.over_ipv6(C, A) } else { inner }.udp(1, 2);
            let wrapped = outer(&rig, 5001).outer(|p| p.tos(outer_ecn)).wrap(&inner.clone().tos(inner_ecn).build());
            let out = rig.xdp(&wrapped);
            assert_eq!(out.assert_sent(XDP_REDIRECT), inner.tos(expected).build());
        }
    }
}

#[test]
fn a_foreign_port_is_passed_with_whatever_vni() {
    let mut rig = Rig::new();
    let inner = guest(C).to(A).udp(1, 2).build();
    for wrapped in [
        outer(&rig, 5001).port(8472).wrap(&inner),
        outer(&rig, 9).port(4790).wrap(&inner),
        Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, [192, 0, 2, 99].into())).wrap(&inner),
        Outer::new(77, (THERE_MAC, THERE), (rig.uplink_mac, [192, 0, 2, 99].into())).wrap(&inner),
        guest(C).to(A).tcp(1, 22, 2).build(),
        guest(C).arp_request(A.ip).build(),
    ] {
        let out = rig.xdp(&wrapped);
        assert_eq!(out.assert_sent(XDP_PASS), wrapped);
    }
}

#[test]
fn a_tagged_frame_reaches_the_guest_without_its_tag() {
    let mut rig = Rig::new();
    let frame = guest(C).to(A).udp(1, 2);
    let uplink = rig.uplink;
    for tpid in [0x8100, 0x88a8] {
        let tagged = frame.clone().tag(tpid, 0xb000 | 100).build();
        for out in [rig.xdp(&tagged), rig.tc("from_uplink", uplink, &tagged)] {
            assert!([XDP_REDIRECT, REDIRECT].contains(&out.action), "{out:?}");
            assert_eq!(out.bytes, frame.build());
            assert_eq!(out.counters, [(slot(RED, A), received(frame.build().len()))]);
        }
    }
}

#[test]
fn q4_the_inner_tag_of_two_stays() {
    let mut rig = Rig::new();
    let frame = guest(C).to(A).vlan(7).udp(1, 2).build();
    let tagged = guest(C).to(A).tag(0x88a8, 100).vlan(7).udp(1, 2).build();
    assert_eq!(rig.xdp(&tagged).assert_sent(XDP_REDIRECT), frame);
}

#[test]
fn q8_another_vlan_is_passed() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    let frame = guest(C).to(A).vlan(101).udp(1, 2).build();
    assert_eq!(rig.xdp(&frame).assert_sent(XDP_PASS), frame);
    assert_eq!(rig.tc("from_uplink", uplink, &frame).assert_sent(PASS), frame);
}

#[test]
fn an_untagged_network_takes_its_guests_frames_and_leaves_the_hosts() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    let to_guest = guest(C).to(A).udp(1, 2).build();
    assert_eq!(rig.tc("from_uplink", uplink, &to_guest).assert_sent(REDIRECT), to_guest);
    let to_host = guest(C).to_mac(rig.uplink_mac).to_ip(HERE).tcp(1, 22, 2).build();
    assert_eq!(rig.tc("from_uplink", uplink, &to_host).assert_sent(PASS), to_host);
    let to_all = guest(C).udp(1, 2).build();
    let out = rig.tc("from_uplink", uplink, &to_all);
    assert_eq!(out.assert_sent(PASS), to_all);
    assert_eq!(out.counters.len(), 2, "A and B got copies");
    let priority = guest(C).to(A).tag(0x8100, 0x6000).udp(1, 2).build();
    assert_eq!(rig.tc("from_uplink", uplink, &priority).assert_sent(REDIRECT), to_guest);
}

#[test]
fn a_broadcast_on_the_trunk_reaches_both_guests_and_nobody_else() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    let frame = guest(C).vlan(100).udp(1, 2).build();
    let out = rig.tc("from_uplink", uplink, &frame);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]));
    let len = frame.len() - 4;
    assert_eq!(out.counters, [(slot(RED, A), received(len)), (slot(RED, B), received(len))]);
}

#[test]
fn a_station_behind_the_trunk_is_learned_and_a_defined_one_never_moves() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    rig.tc("from_uplink", uplink, &guest(STRANGER).to(A).vlan(100).udp(1, 2).build()).assert_sent(REDIRECT);
    let learned: Learned = rig.get("LEARNED", FdbKey::new(RED, Mac(STRANGER.mac))).unwrap();
    let expected =
        Destination { network: RED, kind: destination_kind::UPLINK, target: uplink, ..Destination::default() };
    assert_eq!(learned.destination, expected);
    let frame = guest(A).to(STRANGER).udp(1, 2);
    let out = rig.from_a(RED, &frame.build());
    assert_eq!(out.assert_sent(REDIRECT), frame.build());
    assert_eq!(out.counters.len(), 1, "no copy for B");
    rig.tc("from_uplink", uplink, &guest(B).to(A).vlan(100).udp(1, 2).build()).assert_sent(REDIRECT);
    assert!(rig.get::<_, Learned>("LEARNED", FdbKey::new(RED, Mac(B.mac))).is_none());
}

#[test]
fn a_learned_station_is_forgotten_when_it_has_been_idle() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    let destination =
        Destination { network: RED, kind: destination_kind::UPLINK, target: rig.uplink, ..Destination::default() };
    // Seen at the clock's start, which is more than five minutes ago or wraps to as much.
    rig.put("LEARNED", FdbKey::new(RED, Mac(STRANGER.mac)), Learned { destination, last_seen_ns: u64::MAX / 2 });
    let out = rig.from_a(RED, &guest(A).to(STRANGER).udp(1, 2).build());
    assert_eq!(out.counters.len(), 2, "flooded: B got a copy");
}

fn set_segment_flags(rig: &mut Rig, key: SegmentKey, flags: u32) {
    let segment: Segment = rig.get("SEGMENTS", key).unwrap();
    rig.put("SEGMENTS", key, Segment { flags, ..segment });
}

/// The bridge has the stations that are not defined, on this side of the wire as on the guests'.
#[test]
fn on_miss_pass_leaves_what_is_for_no_defined_port_to_the_bridge() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    set_segment_flags(&mut rig, SegmentKey { ifindex: uplink, udp_port: 0, id: 100 }, segment_flags::ON_MISS_PASS);
    for frame in [guest(C), guest(C).to(STRANGER), guest(STRANGER).to(C)] {
        let tagged = frame.vlan(100).udp(1, 2).build();
        assert_eq!(rig.xdp(&tagged).assert_sent(XDP_PASS), tagged);
        let out = rig.tc("from_uplink", uplink, &tagged);
        assert_eq!(out.assert_sent(PASS), tagged, "with its tag");
        assert_eq!(out.counters, [], "and no copy");
    }
    let local = guest(C).to(A).udp(1, 2);
    let out = rig.tc("from_uplink", uplink, &local.clone().vlan(100).build());
    assert_eq!(out.assert_sent(REDIRECT), local.build());
}

/// Where another device holds the port, nobody else would take a group's packets to the guests.
#[test]
fn a_groups_packet_is_stripped_where_another_device_holds_the_port() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    set_segment_flags(&mut rig, SegmentKey { ifindex: uplink, udp_port: 4789, id: 5001 }, segment_flags::STRIP);
    let inner = guest(C).udp(1, 2).build();
    let group = ([1, 0, 0x5e, 0, 0x13, 0x89], [239, 0, 19, 137].into());
    let wrapped = Outer::new(5001, (THERE_MAC, THERE), group).wrap(&inner);
    assert_eq!(rig.xdp(&wrapped).assert_sent(XDP_PASS), wrapped);
    let out = rig.tc("from_uplink", uplink, &wrapped);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]));
    assert_eq!(out.counters.len(), 2, "A and B got copies");
}

/// XDP carried the mark inwards, TC did not.
#[test]
fn v15a_stripping_in_tc_carries_congestion_too() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    set_segment_flags(&mut rig, SegmentKey { ifindex: uplink, udp_port: 4789, id: 5001 }, segment_flags::STRIP);
    for ipv6 in [false, true] {
        let inner = guest(C).to(A);
        let inner = if ipv6 { inner.over_ipv6(C, A) } else { inner }.tcp(1, 2, 2);
        let marked = outer(&rig, 5001).outer(|p| p.tos(3));
        let out = rig.tc("from_uplink", uplink, &marked.wrap(&inner.clone().tos(2).build()));
        assert_eq!(out.assert_sent(REDIRECT), inner.clone().tos(3).build());
        let out = rig.tc("from_uplink", uplink, &marked.wrap(&inner.build()));
        out.assert_dropped(BLUE, DropReason::CongestionNotEcn);
    }
}

#[test]
fn where_another_device_holds_the_port_the_outer_headers_are_stripped_here() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    set_segment_flags(&mut rig, SegmentKey { ifindex: uplink, udp_port: 4789, id: 5001 }, segment_flags::STRIP);
    for inner in [guest(C).to(A).tcp(1, 2, 2), guest(C).to(A).over_ipv6(C, A).tcp(1, 2, 2), guest(C).udp(1, 2)] {
        let wrapped = outer(&rig, 5001).wrap(&inner.build());
        let out = rig.xdp(&wrapped);
        assert_eq!((out.action, &out.drops[..]), (XDP_PASS, &[][..]));
        let (note, frame) = out.bytes.split_at(12);
        assert_eq!((&note[4..8], &note[8..12]), (&BLUE.to_ne_bytes()[..], &TUNNEL.to_ne_bytes()[..]));
        assert_eq!(frame, inner.build());
        let out = rig.tc("from_uplink", uplink, &wrapped);
        assert_eq!(out.bytes, inner.build());
        assert_eq!(out.drops, []);
    }
}
