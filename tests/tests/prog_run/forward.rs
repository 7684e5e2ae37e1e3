//! Known connections in XDP: what it sends is what TC sends, and what it does not send is left as it came.

mod first;

use std::time::Instant;

use netpath_common::{
    Mac,
    maps::{
        Flow, FlowKey, Network, Resolved, Segment, SegmentKey, Tunnel, Upstream, event_kind, segment_flags,
        upstream_flags,
    },
};
use netpath_tests::{
    guest::PATIENCE,
    packet::{Checksum, Endpoint, Outer, Packet, dissect, guest, verify_checksums},
};

use crate::rig::{
    A, BLUE, BLUE_PUBLIC, C, GATEWAY, HERE, LINK, PUBLIC_VLAN, RED_PUBLIC, REDIRECT, ROUTER, Rig, SERVER, THERE,
    THERE_MAC, TUNNEL, XDP_PASS, XDP_REDIRECT, now, only, outward, received, slot,
};

/// Protocols with a checksum of their own, and one without ports.
fn bodies(packet: &Packet) -> [Packet; 3] {
    let plain = packet.clone().dont_fragment();
    [plain.clone().udp(40000, 53), plain.clone().udp(40001, 53).checksum(Checksum::Zero), plain.echo_request(77, 1)]
}

/// The answer to a packet of [`bodies`] that left from `public`.
fn answer(rig: &Rig, index: usize, public: std::net::Ipv4Addr) -> Packet {
    let back = rig.inward(SERVER, public).dont_fragment();
    match index {
        0 => back.udp(53, 40000),
        1 => back.udp(53, 40001).checksum(Checksum::Zero),
        _ => echo_reply(&back, 77),
    }
}

fn echo_reply(packet: &Packet, id: u16) -> Packet {
    let [a, b] = id.to_be_bytes();
    let body =
        netpath_tests::packet::Body::Icmp { kind: 0, code: 0, rest: [a, b, 0, 1], payload: b"abcdefgh".to_vec() };
    packet.clone().body(body)
}

/// C on the other host, sending through the tunnel to the gateway here.
fn tunnelled(rig: &Rig, inner: &Packet) -> Vec<u8> {
    Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).wrap(&inner.build())
}

/// Lets TC take blue's tunnel headers off, as where another device holds the port.
fn strips(rig: &mut Rig) {
    with_segment_flags(rig, segment_flags::STRIP);
}

fn with_segment_flags(rig: &mut Rig, flags: u32) {
    let key = SegmentKey { ifindex: rig.uplink, udp_port: 4789, id: 5001 };
    rig.put("SEGMENTS", key, Segment { ifindex: rig.uplink, network: BLUE, physical_network: 1, flags });
}

/// The frame with a tag behind its addresses: a device has it put there.
fn with_tag(frame: &[u8], tci: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend([0x81, 0]);
    tagged.extend(tci.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

/// Makes C a guest of the other host whose packets to the server are known here, and answered.
fn known_through_tunnel(rig: &mut Rig, packets: &[Packet]) {
    strips(rig);
    for (index, packet) in packets.iter().enumerate() {
        let frame = tunnelled(rig, packet);
        let uplink = rig.uplink;
        rig.tc("from_uplink", uplink, &frame).assert_sent(REDIRECT);
        let back = answer(rig, index, BLUE_PUBLIC);
        rig.from_wire(&back).assert_sent(REDIRECT);
    }
}

/// Runs a frame until it is sent: a packet in a while is left to TC, which has the tunnel's neighbour confirmed.
#[track_caller]
fn sent(rig: &mut Rig, frame: &[u8]) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let out = rig.xdp(frame);
        if out.action == XDP_REDIRECT || Instant::now() > deadline {
            return out.assert_sent(XDP_REDIRECT).to_vec();
        }
    }
}

#[track_caller]
fn assert_left_to_tc(rig: &mut Rig, frame: &[u8]) {
    let flows = rig.flows();
    let out = rig.xdp(frame);
    assert_eq!((out.action, &out.drops[..], &out.counters[..]), (XDP_PASS, &[][..], &[][..]));
    assert_eq!(out.bytes, frame);
    assert_eq!(rig.flows(), flows);
}

#[test]
fn an_answer_reaches_the_guest_as_tc_would_send_it() {
    let mut rig = Rig::routed();
    for (index, packet) in bodies(&outward(A)).into_iter().enumerate() {
        rig.from(BLUE, A, &packet).assert_sent(REDIRECT);
        let back = answer(&rig, index, BLUE_PUBLIC);
        assert_left_to_tc(&mut rig, &back.build());
        let by_tc = rig.from_wire(&back);
        let by_xdp = rig.xdp(&back.build());
        assert_eq!(by_xdp.assert_sent(XDP_REDIRECT), by_tc.assert_sent(REDIRECT));
        assert_eq!(by_xdp.counters, [(slot(BLUE, A), received(by_xdp.bytes.len()))]);
    }
}

#[test]
fn what_xdp_sends_is_counted_and_keeps_the_connection_as_tc_does() {
    let mut rig = Rig::routed();
    rig.from(BLUE, A, &outward(A).udp(40000, 53)).assert_sent(REDIRECT);
    let back = rig.inward(SERVER, BLUE_PUBLIC).udp(53, 40000);
    rig.from_wire(&back).assert_sent(REDIRECT);
    let of = |rig: &Rig| -> (FlowKey, Flow) {
        rig.flows().into_iter().find(|(key, _)| key.source == SERVER.octets()).unwrap()
    };
    let (_, by_tc) = of(&rig);
    rig.xdp(&back.build()).assert_sent(XDP_REDIRECT);
    let (_, by_xdp) = of(&rig);
    assert_eq!((by_xdp.packets, by_xdp.bytes), (2 * by_tc.packets, 2 * by_tc.bytes));
    assert_eq!((by_xdp.flags, by_xdp.state), (by_tc.flags, by_tc.state));
}

#[test]
fn u7_what_comes_through_a_tunnel_leaves_on_the_public_link() {
    let mut rig = Rig::routed();
    let packets = bodies(&outward(C));
    known_through_tunnel(&mut rig, &packets);
    for packet in packets {
        let frame = tunnelled(&rig, &packet);
        let uplink = rig.uplink;
        let by_tc = rig.tc("from_uplink", uplink, &frame);
        let by_xdp = sent(&mut rig, &frame);
        assert_eq!(by_xdp, with_tag(by_tc.assert_sent(REDIRECT), PUBLIC_VLAN));
    }
}

#[test]
fn what_comes_from_the_public_link_leaves_through_a_tunnel() {
    let mut rig = Rig::routed();
    let packets = bodies(&outward(C));
    known_through_tunnel(&mut rig, &packets);
    for index in 0..packets.len() {
        let back = answer(&rig, index, BLUE_PUBLIC);
        let by_tc = rig.from_wire(&back);
        let by_xdp = sent(&mut rig, &back.build());
        assert_eq!(by_xdp, by_tc.assert_sent(REDIRECT));
        let parts = dissect(&by_xdp).unwrap();
        assert_eq!(parts.vxlan().unwrap().0, 5001);
    }
}

#[test]
fn established_tcp_is_forwarded_between_wires_and_its_ends_are_left_to_tc() {
    const ACK: u8 = 16;
    let mut rig = Rig::routed();
    strips(&mut rig);
    let uplink = rig.uplink;
    let (out, back) = (outward(C).dont_fragment(), rig.inward(SERVER, BLUE_PUBLIC).dont_fragment());
    let to_server = |flags| out.clone().tcp(40000, 80, flags);
    let to_guest = |flags| back.clone().tcp(80, 40000, flags);
    let open = tunnelled(&rig, &to_server(2));
    rig.tc("from_uplink", uplink, &open).assert_sent(REDIRECT);
    let opened = to_guest(18).build();
    assert_left_to_tc(&mut rig, &opened);
    rig.tc("from_uplink", uplink, &opened).assert_sent(REDIRECT);
    let data = tunnelled(&rig, &to_server(ACK));
    let by_tc = rig.tc("from_uplink", uplink, &data);
    assert_eq!(sent(&mut rig, &data), with_tag(by_tc.assert_sent(REDIRECT), PUBLIC_VLAN));
    let data = to_guest(ACK | 8).build();
    let by_tc = rig.tc("from_uplink", uplink, &data);
    assert_eq!(sent(&mut rig, &data), by_tc.assert_sent(REDIRECT));
    for flags in [1 | ACK, 2, 4, 4 | ACK, 2 | ACK, 0] {
        assert_left_to_tc(&mut rig, &to_guest(flags).build());
    }
}

#[test]
fn tcp_for_a_guest_here_is_left_to_tc_which_gets_it_merged() {
    let mut rig = Rig::routed();
    rig.from(BLUE, A, &outward(A).tcp(40000, 80, 2)).assert_sent(REDIRECT);
    for flags in [18, 16] {
        let back = rig.inward(SERVER, BLUE_PUBLIC).tcp(80, 40000, flags);
        assert_left_to_tc(&mut rig, &back.build());
        rig.from_wire(&back).assert_sent(REDIRECT);
    }
    let data = rig.inward(SERVER, BLUE_PUBLIC).tcp(80, 40000, 16);
    assert_left_to_tc(&mut rig, &data.build());
}

#[test]
fn q1_priority_goes_from_one_tag_to_the_other() {
    let mut rig = Rig::routed();
    let out = guest(C).to_mac(GATEWAY.0).to_ip(SERVER).udp(40000, 53).dont_fragment();
    rig.from_wire(&out.clone().vlan(100)).assert_sent(REDIRECT);
    let back = rig.inward(SERVER, RED_PUBLIC).udp(53, 40000);
    rig.from_wire(&back).assert_sent(REDIRECT);
    let sent = rig.xdp(&out.tag(0x8100, 0xb000 | 100).build());
    let parts = dissect(sent.assert_sent(XDP_REDIRECT)).unwrap();
    assert_eq!((parts.tags, parts.dst_mac), (vec![(0x8100, 0xb000 | PUBLIC_VLAN)], ROUTER.mac));
    let back = Packet::between(ROUTER.mac, rig.uplink_mac, SERVER.into(), RED_PUBLIC.into());
    let sent = rig.xdp(&back.udp(53, 40000).tag(0x8100, 0x5000 | PUBLIC_VLAN).build());
    let parts = dissect(sent.assert_sent(XDP_REDIRECT)).unwrap();
    assert_eq!((parts.tags, parts.dst_mac), (vec![(0x8100, 0x5000 | 100)], C.mac));
}

/// The first packets of connections, and all that a guest here sends, go through TC. The tag stays beside the packet until a device writes
/// it: what is told of the frame has it.
#[test]
fn q1_priority_goes_from_one_tag_to_the_other_in_tc() {
    let mut rig = Rig::routed();
    rig.watch(only(&[event_kind::EXIT]));
    let tag = |rig: &mut crate::rig::Routed| rig.told().last().unwrap().0.tag;
    for (index, priority) in [0xb000, 0xf000, 0x1000].into_iter().enumerate() {
        let wanted = |vlan: u16| 0x8100_0000 | u32::from(priority | vlan);
        let port = 40000 + index as u16;
        let remote = guest(C).to_mac(GATEWAY.0).to_ip(SERVER).tag(0x8100, priority | 100).udp(port, 53);
        rig.from_wire(&remote).assert_sent(REDIRECT);
        assert_eq!(tag(&mut rig), wanted(PUBLIC_VLAN));
        let back = Packet::between(ROUTER.mac, rig.uplink_mac, SERVER.into(), RED_PUBLIC.into());
        rig.from_wire(&back.tag(0x8100, priority | PUBLIC_VLAN).udp(53, port)).assert_sent(REDIRECT);
        assert_eq!(tag(&mut rig), wanted(100));
        let local = outward(A).tag(0x8100, priority).udp(port, 53);
        for _first_and_known in 0..2 {
            rig.from(BLUE, A, &local).assert_sent(REDIRECT);
            assert_eq!(tag(&mut rig), wanted(PUBLIC_VLAN));
        }
    }
}

#[test]
fn a_device_that_sends_nothing_for_xdp_is_left_to_tc() {
    let mut rig = Rig::routed();
    let packets = [outward(C).dont_fragment().udp(40000, 53)];
    known_through_tunnel(&mut rig, &packets);
    let (frame, back) = (tunnelled(&rig, &packets[0]), answer(&rig, 0, BLUE_PUBLIC).build());
    sent(&mut rig, &frame);
    sent(&mut rig, &back);
    rig.change("UPSTREAMS", LINK, |row: &mut Upstream| row.flags = upstream_flags::NOT_FROM_XDP);
    assert_eq!(rig.xdp(&frame).action, XDP_PASS);
    rig.change("TUNNELS", TUNNEL, |row: &mut Tunnel| row.egress = 0);
    assert_left_to_tc(&mut rig, &back);
}

#[test]
fn an_untagged_public_link_works_too() {
    let mut rig = Rig::routed();
    rig.change("UPSTREAMS", LINK, |row: &mut Upstream| row.vlan = 0);
    let ifindex = rig.uplink;
    let segment = Segment { ifindex, network: LINK, physical_network: 1, flags: segment_flags::PUBLIC };
    rig.put("SEGMENTS", SegmentKey { ifindex, udp_port: 0, id: 0 }, segment);
    rig.from(BLUE, A, &outward(A).udp(40000, 53)).assert_sent(REDIRECT);
    let back = Packet::between(ROUTER.mac, rig.uplink_mac, SERVER.into(), BLUE_PUBLIC.into()).udp(53, 40000);
    let by_tc = rig.from_wire(&back);
    let by_xdp = rig.xdp(&back.build());
    assert_eq!(by_xdp.assert_sent(XDP_REDIRECT), by_tc.assert_sent(REDIRECT));
}

#[test]
fn v15a_congestion_on_the_tunnel_is_carried_to_the_public_link() {
    let mut rig = Rig::routed();
    let packets = [outward(C).dont_fragment().udp(40000, 53)];
    known_through_tunnel(&mut rig, &packets);
    let marked = |rig: &Rig, ecn: u8| {
        let inner = packets[0].clone().tos(ecn).build();
        Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).outer(|outer| outer.tos(3)).wrap(&inner)
    };
    let frame = marked(&rig, 2);
    let bytes = sent(&mut rig, &frame);
    assert_eq!(dissect(&bytes).unwrap().ip.unwrap().tos, 3);
    verify_checksums(&bytes).unwrap();
    let frame = marked(&rig, 0);
    rig.xdp(&frame).assert_dropped(BLUE, netpath_common::DropReason::CongestionNotEcn);
}

#[test]
fn whatever_is_not_plain_is_left_to_tc() {
    let mut rig = Rig::routed();
    let known = |rig: &mut Rig| {
        rig.from(BLUE, A, &outward(A).udp(40000, 53));
        let back = rig.inward(SERVER, BLUE_PUBLIC).udp(53, 40000);
        rig.from_wire(&back);
        rig.xdp(&back.build()).assert_sent(XDP_REDIRECT);
        back
    };
    let back = known(&mut rig);
    let wrong_mac = Endpoint { mac: [2, 0, 0, 0, 0, 9], ..ROUTER }.mac;
    for packet in [
        back.clone().ttl(1),
        back.clone().fragment(0, true),
        back.clone().fragment(100, false),
        back.clone().options(&[1, 1, 1, 1]),
        back.clone().ip_checksum(Checksum::Wrong),
        back.clone().ip_length(2000),
        back.clone().ip_length(24),
        back.clone().to_mac(wrong_mac),
        back.clone().payload([7; 1500]),
    ] {
        assert_left_to_tc(&mut rig, &packet.build());
    }
    rig.change("NETWORKS", BLUE, |row: &mut Network| row.mtu = 30);
    assert_left_to_tc(&mut rig, &back.build());
}

#[test]
fn an_idle_connection_is_none() {
    let mut rig = Rig::routed();
    rig.from(BLUE, A, &outward(A).udp(40000, 53)).assert_sent(REDIRECT);
    let back = rig.inward(SERVER, BLUE_PUBLIC).udp(53, 40000);
    rig.from_wire(&back).assert_sent(REDIRECT);
    rig.xdp(&back.build()).assert_sent(XDP_REDIRECT);
    rig.age(301);
    rig.xdp(&back.build()).assert_dropped(BLUE, netpath_common::DropReason::UnsolicitedSource);
    assert_eq!(rig.flows().len(), 0);
}

#[test]
fn a_public_router_that_has_to_be_asked_is_left_to_tc() {
    let mut rig = Rig::routed();
    let packets = [outward(C).dont_fragment().udp(40000, 53)];
    known_through_tunnel(&mut rig, &packets);
    let frame = tunnelled(&rig, &packets[0]);
    sent(&mut rig, &frame);
    rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| row.confirmed = now().wrapping_sub(31));
    let flows = rig.flows();
    assert_eq!(rig.xdp(&frame).action, XDP_PASS);
    assert_eq!(rig.flows(), flows);
    let row: Resolved = rig.read("UPSTREAM_MACS", LINK);
    assert_eq!(row.known(), Some(Mac(ROUTER.mac)));
}
