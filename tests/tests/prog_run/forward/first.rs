//! The first packets of connections in XDP: they become what they become in TC, and leave the same behind.

use std::{collections::BTreeMap, time::Instant};

use netpath_common::{
    DropReason,
    maps::{
        Binding, BindingKey, Flow, FlowKey, Gateway, GatewayState, Rule, RuleList, Upstream, public_flags,
        segment_flags::STRIP, upstream_flags,
    },
};
use netpath_tests::{
    guest::PATIENCE,
    packet::{Outer, Packet},
};

use super::{
    super::fuzz::Random, assert_left_to_tc, bodies, echo_reply, sent, strips, tunnelled, with_segment_flags, with_tag,
};
use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, C, FIN, GATEWAY, GATEWAY_IP, HERE, LINK, OTHER_SERVER, Outcome, PUBLIC_VLAN,
    REDIRECT, Rig, SERVER, SYN, THERE, THERE_MAC, XDP_DROP, XDP_PASS, XDP_REDIRECT, any, outward, ports,
};

/// What a packet leaves behind, but for when.
type Left = (BTreeMap<FlowKey, Flow>, BTreeMap<BindingKey, Binding>, GatewayState);

fn left(rig: &Rig) -> Left {
    let timeless = |flow: Flow| Flow { created: 0, last_seen: 0, ..flow };
    let flows = rig.flows().into_iter().map(|(key, flow)| (key, timeless(flow))).collect();
    let bindings = rig.bindings().into_iter().map(|(key, row)| (key, Binding { expires: 0, ..row })).collect();
    (flows, bindings, GatewayState { identification: 0, ..rig.state(BLUE) })
}

fn through_tc(rig: &mut Rig, frame: &[u8]) -> Outcome {
    let uplink = rig.uplink;
    rig.tc("from_uplink", uplink, frame)
}

/// Runs a frame through TC, and through XDP as if nothing had been before it.
fn both(rig: &mut Rig, frame: &[u8]) -> [(Outcome, Left); 2] {
    rig.forget_connections();
    let by_tc = (through_tc(rig, frame), left(rig));
    rig.forget_connections();
    [by_tc, (rig.xdp(frame), left(rig))]
}

/// Asks for the tunnel's neighbour once: in XDP it is known then.
fn with_tunnel(rig: &mut Rig) {
    strips(rig);
    let frame = tunnelled(rig, &outward(C).dont_fragment().udp(1, 2));
    sent(rig, &frame);
}

#[test]
fn out_of_a_tunnel_they_leave_by_the_public_link_and_are_written_down() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    let plain = outward(C).dont_fragment();
    let opening = [plain.clone().tcp(40000, 80, SYN), plain.clone().tcp(40001, 80, ACK), plain.tcp(40002, 80, FIN)];
    for packet in bodies(&outward(C)).into_iter().chain(opening) {
        let frame = tunnelled(&rig, &packet);
        let [(by_tc, after_tc), (by_xdp, after_xdp)] = both(&mut rig, &frame);
        let expected = with_tag(by_tc.assert_sent(REDIRECT), PUBLIC_VLAN);
        assert_eq!(by_xdp.assert_sent(XDP_REDIRECT), expected);
        assert_eq!(after_xdp, after_tc);
        assert_eq!(after_xdp.0.len(), 2);
    }
}

#[test]
fn from_the_public_link_they_reach_a_guest_of_this_host_or_another_one() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    for (port, guest) in [(53, A), (54, C)] {
        rig.forward_udp(BLUE, BLUE_PUBLIC, port, guest, 5353);
        let frame = rig.inward(SERVER, BLUE_PUBLIC).dont_fragment().udp(40000, port).build();
        let deadline = Instant::now() + PATIENCE;
        let [(by_tc, after_tc), (by_xdp, after_xdp)] = loop {
            let ways = both(&mut rig, &frame);
            // A packet in a while is left to TC, which has the tunnel's neighbour confirmed.
            if ways[1].0.action == XDP_REDIRECT || Instant::now() > deadline {
                break ways;
            }
        };
        assert_eq!(by_xdp.assert_sent(XDP_REDIRECT), by_tc.assert_sent(REDIRECT));
        assert_eq!((by_xdp.counters, after_xdp), (by_tc.counters, after_tc));
    }
}

#[test]
fn tcp_to_a_guest_here_goes_to_tc_with_its_connection_written_down() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    let frame = rig.inward(SERVER, BLUE_PUBLIC).tcp(40000, 2222, SYN).build();
    let [(by_tc, (mut after_tc, ..)), _] = both(&mut rig, &frame);
    for flow in after_tc.values_mut() {
        (flow.packets, flow.bytes) = (0, 0);
    }
    assert_eq!(left(&rig).0, after_tc);
    assert_left_to_tc(&mut rig, &frame);
    let again = through_tc(&mut rig, &frame);
    assert_eq!(again.assert_sent(REDIRECT), by_tc.assert_sent(REDIRECT));
}

#[test]
fn a_refusal_that_nobody_is_told_of_is_made_once() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(6, 80, 80)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 5353, A, 53);
    let inward = |rig: &Rig, port| rig.inward(SERVER, BLUE_PUBLIC).udp(40000, port).build();
    rig.egress(BLUE, false, &[]);
    let refused: [(Vec<u8>, DropReason); 4] = [
        (tunnelled(&rig, &outward(C).udp(40000, 53)), DropReason::EgressDenied),
        (tunnelled(&rig, &outward(C).to_ip([240, 0, 0, 1]).udp(1, 2)), DropReason::MartianDestination),
        (inward(&rig, 5353), DropReason::IngressDenied),
        (inward(&rig, 9), DropReason::Unsolicited),
    ];
    for (frame, reason) in refused {
        let [(by_tc, after_tc), (by_xdp, after_xdp)] = both(&mut rig, &frame);
        by_tc.assert_dropped(BLUE, reason);
        by_xdp.assert_dropped(BLUE, reason);
        assert_eq!((by_xdp.action, after_xdp), (XDP_DROP, after_tc));
    }
    // The rows of one that is known stay: the next packet of either direction is refused again, wherever it comes.
    rig.egress(BLUE, true, &[]);
    let frame = tunnelled(&rig, &outward(C).dont_fragment().udp(40000, 53));
    sent(&mut rig, &frame);
    rig.egress(BLUE, false, &[]);
    rig.change("GATEWAYS", BLUE, |row: &mut Gateway| row.epoch += 1);
    let known = rig.flows().len();
    let out = rig.xdp(&frame);
    out.assert_dropped(BLUE, DropReason::EgressDenied);
    assert_eq!((out.action, rig.flows().len()), (XDP_DROP, known));
    for _ in 0..2 {
        through_tc(&mut rig, &frame).assert_dropped(BLUE, DropReason::EgressDenied);
        assert_eq!(rig.flows().len(), known);
    }
}

#[test]
fn one_that_xdp_does_not_send_goes_the_way_to_tc_that_the_next_one_goes() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.change("UPSTREAMS", LINK, |row: &mut Upstream| row.flags = upstream_flags::NOT_FROM_XDP);
    let plain = outward(C).dont_fragment();
    let (udp, tcp) = (plain.clone().udp(40000, 53), plain.tcp(40000, 80, SYN));
    // The kernel's tunnel device takes the outer headers off where the port is netpath's own, and merges TCP.
    for (flags, packet, is_stripped) in [(STRIP, &udp, true), (STRIP, &tcp, true), (0, &udp, true), (0, &tcp, false)] {
        rig.forget_connections();
        with_segment_flags(&mut rig, flags);
        let frame = tunnelled(&rig, packet);
        let first = rig.xdp(&frame);
        assert_eq!((first.action, rig.flows().len()), (XDP_PASS, 2));
        assert_eq!(first.bytes.len() < frame.len(), is_stripped, "{first:?}");
        assert_eq!(rig.xdp(&frame).bytes, first.bytes);
    }
}

#[test]
fn v15a_one_that_met_congestion_and_cannot_say_so_begins_nothing() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.forget_connections();
    let inner = outward(C).dont_fragment().udp(40000, 53).build();
    let frame = Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).outer(|outer| outer.tos(3)).wrap(&inner);
    rig.xdp(&frame).assert_dropped(BLUE, DropReason::CongestionNotEcn);
    assert_eq!((rig.flows().len(), rig.bindings().len()), (0, 0));
}

#[test]
fn a_station_that_nobody_has_defined_is_left_to_tc_which_learns_where_it_is() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.forget_connections();
    let moved = Packet::between([2, 0, 0, 0, 9, 9], GATEWAY.0, C.ip.into(), SERVER.into());
    let frame = tunnelled(&rig, &moved.dont_fragment().udp(40000, 53));
    let out = rig.xdp(&frame);
    assert_eq!((out.action, &out.drops[..], rig.flows().len()), (XDP_PASS, &[][..], 0));
}

#[test]
fn a_network_at_its_limit_is_not_judged_twice() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.forget_connections();
    rig.change_gateway(BLUE, |row| row.flow_limit = 1);
    let frame = tunnelled(&rig, &outward(C).dont_fragment().udp(40000, 53));
    let out = rig.xdp(&frame);
    assert_eq!((out.action, rig.bindings().len()), (XDP_PASS, 0), "no port was searched for");
    through_tc(&mut rig, &frame);
    assert_eq!(rig.flows().len(), 0);
}

#[test]
fn what_is_answered_and_what_may_be_the_hosts_own_is_left_to_tc() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.forget_connections();
    let to_gateway = |packet: Packet| packet.to_ip(GATEWAY_IP);
    let frames = [
        tunnelled(&rig, &to_gateway(outward(C)).echo_request(7, 1)),
        tunnelled(&rig, &to_gateway(outward(C)).udp(1, 2)),
        tunnelled(&rig, &outward(C).udp(40000, 53).ttl(1)),
    ];
    for frame in frames {
        assert_eq!(rig.xdp(&frame).action, XDP_PASS);
        assert_eq!(rig.flows().len(), 0);
    }
    rig.public_address(BLUE, BLUE_PUBLIC, public_flags::HOST, RuleList::default());
    let frame = rig.inward(SERVER, BLUE_PUBLIC).udp(40000, 9).build();
    assert_left_to_tc(&mut rig, &frame);
}

#[test]
fn where_rules_have_changed_a_connection_is_judged_again_and_goes_on_counting() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    let frame = tunnelled(&rig, &outward(C).dont_fragment().udp(40000, 53));
    let first = sent(&mut rig, &frame);
    let packets = |rig: &Rig| rig.flows().values().map(|flow| flow.packets).max().unwrap();
    let before = packets(&rig);
    rig.change("GATEWAYS", BLUE, |row: &mut Gateway| row.epoch += 1);
    assert_eq!(sent(&mut rig, &frame), first);
    assert_eq!(packets(&rig), before + 1);
    let epoch = rig.gateway(BLUE).epoch;
    assert!(
        rig.flows().values().all(|flow| flow.epoch == epoch || flow.source_port == 1 || flow.destination_port == 1)
    );
}

#[test]
fn a_stranger_at_a_port_that_a_guest_has_is_refused_as_in_tc() {
    let mut rig = Rig::routed();
    rig.from(BLUE, A, &outward(A).udp(40000, 53)).assert_sent(REDIRECT);
    let frame = rig.inward(OTHER_SERVER, BLUE_PUBLIC).udp(53, 40000).build();
    let by_tc = through_tc(&mut rig, &frame);
    by_tc.assert_dropped(BLUE, DropReason::UnsolicitedSource);
    rig.xdp(&frame).assert_dropped(BLUE, DropReason::UnsolicitedSource);
    assert_eq!(rig.flows().len(), 2);
}

/// What each became: sent, and what it looked like then, or refused.
fn assert_the_same(frame: &[u8], [(by_tc, after_tc), (by_xdp, after_xdp)]: &[(Outcome, Left); 2]) {
    match by_xdp.action {
        XDP_REDIRECT => {
            assert_eq!(by_tc.action, REDIRECT, "of {frame:02x?}: {by_tc:?}");
            // TC has the tag put there by the device.
            let tagged = by_xdp.bytes.len() == by_tc.bytes.len() + 4;
            let expected = if tagged { with_tag(&by_tc.bytes, PUBLIC_VLAN) } else { by_tc.bytes.clone() };
            assert_eq!(by_xdp.bytes, expected, "of {frame:02x?}");
            assert_eq!((&by_xdp.drops, after_xdp), (&by_tc.drops, after_tc), "of {frame:02x?}");
        }
        XDP_DROP => assert_eq!((&by_xdp.drops, after_xdp), (&by_tc.drops, after_tc), "of {frame:02x?}"),
        _ => assert_eq!(by_xdp.drops, [], "of {frame:02x?}"),
    }
}

#[test]
fn whatever_frame_begins_a_connection_xdp_does_with_it_what_tc_does_or_leaves_it() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.egress(BLUE, true, &[ports(17, 1000, 2000)]);
    rig.ingress(BLUE, BLUE_PUBLIC, &[ports(17, 1, 9999)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 53, A, 5353);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 54, C, 54);
    let mut random = Random(0x6e65_7470_6174_6834);
    let outward: Vec<Packet> = bodies(&outward(C)).into_iter().chain([outward(C).tcp(40000, 80, SYN)]).collect();
    let mut seeds: Vec<(Vec<u8>, usize)> = outward.iter().map(|packet| (tunnelled(&rig, packet), 64)).collect();
    let inward = rig.inward(SERVER, BLUE_PUBLIC);
    let inward = [inward.clone().udp(40000, 53), inward.clone().udp(40000, 54), inward.udp(40000, 99)];
    seeds.extend(inward.map(|packet| (packet.build(), 18)));
    let mut seen = BTreeMap::new();
    for round in 0..700 {
        let (mut frame, keep) = seeds[round % seeds.len()].clone();
        // The checksum of a changed header is wrong, and no more is seen: mostly what is behind it is changed, or nothing.
        match round % 3 {
            0 => {}
            1 => random.mutate(&mut frame, keep + 20),
            _ => random.mutate(&mut frame, keep),
        }
        let outcomes = both(&mut rig, &frame);
        assert_the_same(&frame, &outcomes);
        *seen.entry(outcomes[1].0.action).or_insert(0) += 1;
    }
    assert!([XDP_REDIRECT, XDP_DROP, XDP_PASS].iter().all(|action| seen[action] > 20), "{seen:?}");
}

#[test]
fn what_another_host_passes_on_is_judged_here() {
    let mut rig = Rig::routed();
    with_tunnel(&mut rig);
    rig.acl(BLUE, &[any(true)], &[Rule { allow: 0, ..any(true) }]);
    let packets =
        [(outward(C).tcp(5000, 80, SYN), DropReason::AclDenied), (echo_reply(&outward(C), 9), DropReason::Unsolicited)];
    for (packet, reason) in packets {
        let frame = tunnelled(&rig, &packet.dont_fragment());
        let [(by_tc, _), (by_xdp, _)] = both(&mut rig, &frame);
        by_tc.assert_dropped(BLUE, reason);
        by_xdp.assert_dropped(BLUE, reason);
    }
}
