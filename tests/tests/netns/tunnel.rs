//! VXLAN on the wire: what is sent, what is accepted, what is dropped (RFC 7348).

use std::{collections::BTreeSet, net::Ipv4Addr};

use netpath_tests::{
    agent::until,
    guest::raw::{contains, marker},
    packet::{BROADCAST, Checksum, Outer, Packet, dissect, guest},
    topology::{Link, TwoHypervisors, two_hypervisors::UPLINK},
};

use crate::scene::{A, B, UPLINK_MODES, delivers, moves_drops, raw_guests_in};

/// Raw guests whose hosts have spoken: until the underlay's neighbours are resolved, the kernel's tunnel device sends.
fn acquainted() -> TwoHypervisors {
    let topology = raw_guests_in("xdp");
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    delivers(a, b, &guest(A).to(B));
    delivers(b, a, &guest(B).to(A));
    topology
}

/// The outer frame of hv1 around a packet from A to B.
fn on_the_wire(topology: &TwoHypervisors, packet: &Packet) -> Vec<u8> {
    let payload = marker();
    let wire = topology.wire(0);
    topology.raw("blue", 11).send(packet.clone().payload(&payload).build());
    wire.expect("the frame in its tunnel", |f| contains(f, &payload))
}

#[test]
fn v1_v5_v7_v15_the_outer_headers_are_what_the_rfc_asks() {
    let topology = acquainted();
    for inner in [guest(A).to(B), guest(A).over_ipv6(A, B).tcp(1, 2, 2), guest(A).to(B).tos(0xb8).ttl(3)] {
        let payload = marker();
        let inner = inner.payload(&payload);
        let outer = on_the_wire(&topology, &inner);
        let parts = dissect(&outer).unwrap();
        let source_port = parts.ports().unwrap().0;
        let (_, _, frame) = parts.vxlan().unwrap();
        let wanted = Outer::new(5001, topology.endpoint(0), topology.endpoint(1)).source_port(source_port).wrap(frame);
        assert_eq!(outer, wanted, "outer headers differ\n{outer:02x?}\n{wanted:02x?}");
        assert!(source_port >= 49152, "source port {source_port}");
    }
}

#[test]
fn v6_the_source_port_is_stable_for_a_flow_and_spread_over_flows() {
    let topology = acquainted();
    let port = |packet: &Packet| dissect(&on_the_wire(&topology, packet)).unwrap().ports().unwrap().0;
    let flow = guest(A).to(B).udp(1000, 2000);
    assert_eq!(port(&flow), port(&flow));
    let ports: BTreeSet<_> = (0..64).map(|n| port(&guest(A).to(B).udp(1000 + n, 2000))).collect();
    assert!(ports.len() >= 48, "64 flows got {} source ports", ports.len());
}

#[test]
fn v15_the_outer_ecn_field_is_the_inner_one() {
    let topology = acquainted();
    for ecn in 0..4 {
        let outer = on_the_wire(&topology, &guest(A).to(B).tos(0xb8 | ecn));
        assert_eq!(dissect(&outer).unwrap().ip.unwrap().tos, ecn);
        let outer = on_the_wire(&topology, &guest(A).over_ipv6(A, B).tos(0xb8 | ecn));
        assert_eq!(dissect(&outer).unwrap().ip.unwrap().tos, ecn);
    }
}

#[test]
fn v8_v9_what_a_conforming_endpoint_sends_is_accepted() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let outer = || Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
        for variant in [
            outer(),
            outer().source_port(1),
            outer().outer(|packet| packet.checksum(Checksum::Right)),
            outer().outer(|packet| packet.ttl(1).id(7)),
        ] {
            for packet in [guest(B).to(A), guest(B).to(A).tcp(1, 2, 2), guest(B).over_ipv6(B, A)] {
                let frame = packet.payload(marker()).build();
                wire.send(variant.wrap(&frame));
                a.expect_frame(&frame);
            }
        }
    }
}

#[test]
fn v2_reserved_bits_are_ignored_on_every_way_into_a_guest() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
        let flags = [(0x0c, [0; 3], 0), (0x08, [0, 0, 1], 0), (0x08, [0; 3], 1), (0xff, [0xff; 3], 0xff)];
        let sums = [Checksum::Zero, Checksum::Right];
        for (flags, sum) in flags.into_iter().flat_map(|flags| sums.map(|sum| (flags, sum))) {
            let variant = outer.clone().flags(flags.0, flags.1, flags.2).outer(|packet| packet.checksum(sum));
            for packet in [guest(B).to(A), guest(B).to(A).tcp(1, 2, 2), guest(B).to_mac(BROADCAST)] {
                let frame = packet.payload(marker()).build();
                wire.send(variant.wrap(&frame));
                a.expect_frame(&frame);
            }
        }
    }
}

#[test]
fn v2_an_outer_checksum_that_is_wrong_is_not_made_right() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0)).flags(0x0c, [0; 3], 1);
        let (secret, end) = (marker(), marker());
        let wrong = outer.clone().outer(|packet| packet.checksum(Checksum::Wrong));
        wire.send(wrong.wrap(&guest(B).to(A).payload(&secret).build()));
        wire.send(outer.outer(|packet| packet.checksum(Checksum::Right)).wrap(&guest(B).to(A).payload(&end).build()));
        a.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
    }
}

#[test]
fn q2_a_tunnel_packet_in_a_priority_tag_is_one_without() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
        let tagged = outer.outer(|packet| packet.tag(0x8100, 0x6000));
        for packet in [guest(B).to(A), guest(B).to(A).tcp(1, 2, 2), guest(B).to_mac(BROADCAST)] {
            let frame = packet.payload(marker()).build();
            wire.send(tagged.wrap(&frame));
            a.expect_frame(&frame);
        }
    }
}

/// Sends `bad` from the wire to hv1: A sees nothing of it, and only (network, reason) counts it.
#[track_caller]
fn is_dropped(bad: impl Fn(&TwoHypervisors, &[u8]) -> Vec<u8>, network: &str, reason: &str) {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        moves_drops(&topology.hosts[0].netpath, &[(network, reason, 1)], || {
            let (secret, end) = (marker(), marker());
            wire.send(bad(&topology, &guest(B).to(A).payload(&secret).build()));
            let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
            wire.send(outer.wrap(&guest(B).to(A).payload(&end).build()));
            a.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
        });
    }
}

#[test]
fn v3_a_header_without_the_i_flag_is_dropped() {
    is_dropped(
        |t, inner| Outer::new(5001, t.endpoint(1), t.endpoint(0)).flags(0, [0; 3], 0).wrap(inner),
        "",
        "vxlan_no_vni",
    );
}

#[test]
fn v4_unknown_vnis_are_dropped_where_netpath_owns_the_port() {
    for vni in [0, 1, 5003, 0xff_ffff] {
        is_dropped(move |t, inner| Outer::new(vni, t.endpoint(1), t.endpoint(0)).wrap(inner), "", "unknown_segment");
    }
}

#[test]
fn v14_a_tunnel_packet_from_an_unknown_endpoint_is_dropped() {
    is_dropped(
        |t, inner| {
            let stranger = (t.uplink_mac(1), std::net::Ipv4Addr::new(192, 0, 2, 99));
            Outer::new(5001, stranger, t.endpoint(0)).wrap(inner)
        },
        "",
        "unknown_endpoint",
    );
}

#[test]
fn v16_a_tunnel_packet_without_a_whole_inner_frame_is_dropped() {
    is_dropped(|t, _| Outer::new(5001, t.endpoint(1), t.endpoint(0)).wrap(&[2, 0, 0, 0, 0, 1]), "", "vxlan_malformed");
}

#[test]
fn v12_an_inner_vlan_tag_is_dropped() {
    is_dropped(
        |t, _| {
            let tagged = guest(B).vlan(101).to(A).payload(marker()).build();
            Outer::new(5001, t.endpoint(1), t.endpoint(0)).wrap(&tagged)
        },
        "blue-web",
        "tagged_frame",
    );
}

#[test]
fn v15a_congestion_is_carried_into_the_tunnel_and_dropped_where_nobody_would_see_it() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let outer = |tos| Outer::new(5001, topology.endpoint(1), topology.endpoint(0)).outer(|packet| packet.tos(tos));
        for (inner_tos, wanted) in [(0x02, 0x03), (0x01, 0x03), (0x03, 0x03), (0xba, 0xbb)] {
            for packet in [guest(B).to(A), guest(B).over_ipv6(B, A)] {
                let payload = marker();
                wire.send(outer(3).wrap(&packet.clone().tos(inner_tos).payload(&payload).build()));
                a.expect_frame(&packet.tos(wanted).payload(&payload).build());
            }
        }
        // In TC mode the kernel's tunnel device decapsulates, and drops by the same rule, on its own account.
        let counted: &[_] = if mode == "xdp" { &[("blue-web", "congestion_not_ecn", 1)] } else { &[] };
        moves_drops(&topology.hosts[0].netpath, counted, || {
            let (secret, end) = (marker(), marker());
            wire.send(outer(3).wrap(&guest(B).to(A).tos(0).payload(&secret).build()));
            wire.send(outer(0).wrap(&guest(B).to(A).payload(&end).build()));
            a.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
        });
    }
}

/// Nobody tells the data path of the underlay: it asks the kernel again, every second.
#[test]
fn the_way_to_another_host_is_followed_where_that_gets_another_mac_or_another_road_leads_there() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (here, there) = (&topology.hosts[0], &topology.hosts[1]);
        let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
        let goes_to = |mac| dissect(&on_the_wire(&topology, &guest(A).to(B))).unwrap().dst_mac == mac;
        assert!(goes_to(topology.uplink_mac(1)));
        let (mac, other, router) = ([2, 0, 0xc0, 0, 2, 0x99], [2, 0, 0xc0, 0, 2, 0x98], Ipv4Addr::new(192, 0, 2, 250));
        there.ns.run(|| Link::named(UPLINK).mac(mac)).unwrap();
        here.ns.run(|| Link::named(UPLINK).neighbour(there.address, mac)).unwrap();
        until("frames go to the new MAC address", || goes_to(mac));
        delivers(a, b, &guest(A).to(B));
        here.ns.run(|| {
            Link::named(UPLINK).neighbour(router, other).unwrap();
            Link::named(UPLINK).route(there.address, 32, Some(router.into())).unwrap();
        });
        until("frames go to the router", || goes_to(other));
    }
}

#[test]
fn v14_a_frame_for_a_mac_of_another_host_is_not_sent_on() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        delivers(a, topology.raw("blue", 12), &guest(A).to(B));
        wire.drain();
        moves_drops(&topology.hosts[0].netpath, &[("blue-web", "not_on_this_host", 1)], || {
            let (secret, end) = (marker(), marker());
            let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
            wire.send(outer.wrap(&guest(B).from_mac(A.mac).to(B).payload(&secret).build()));
            a.send(guest(A).to(B).payload(&end).build());
            wire.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
        });
    }
}
