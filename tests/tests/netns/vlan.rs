//! Networks on VLANs: tags pushed and popped, priorities kept, foreign tags left to the host.

use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{BROADCAST, Endpoint, guest},
    skip::has_vlan_devices,
    skip_unless,
    topology::{
        Link, TwoHypervisors,
        two_hypervisors::{Attachment, UPLINK},
    },
};

use crate::scene::{A, B, UPLINK_MODES, delivers, in_mode};

fn trunked(mode: &str) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&in_mode(topology.vlan_definitions(), mode));
    topology
}

#[test]
fn guests_of_a_vlan_network_talk_across_hosts_and_tenants_do_not() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        for (tenant, other) in [("blue", "green"), ("green", "blue")] {
            let (a, b) = (topology.raw(tenant, 11), topology.raw(tenant, 12));
            let (secret, end) = (marker(), marker());
            let frame = guest(A).to(B).payload(&secret).build();
            a.send(&frame);
            b.expect_frame(&frame);
            delivers(b, a, &guest(B).over_ipv6(B, A));
            let broadcast = guest(A).to_mac(BROADCAST).payload(marker()).build();
            a.send(&broadcast);
            b.expect_frame(&broadcast);
            topology.raw(other, 11).send(guest(A).to(B).payload(&end).build());
            topology.raw(other, 12).expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
        }
    }
}

#[test]
fn a_guests_frame_leaves_with_exactly_its_networks_tag() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let wire = topology.wire(0);
        for (tenant, vlan) in [("blue", 101), ("green", 102)] {
            let payload = marker();
            topology.raw(tenant, 11).send(guest(A).to(B).payload(&payload).build());
            let seen = wire.expect("the frame", |f| contains(f, &payload));
            assert_eq!(seen, guest(A).vlan(vlan).to(B).payload(&payload).build());
        }
    }
}

#[test]
fn q1_q2_a_priority_tag_keeps_its_priority() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let wire = topology.wire(0);
        for priority in [0xb000, 0xf000, 0x1000] {
            let payload = marker();
            topology.raw("blue", 11).send(guest(A).tag(0x8100, priority).to(B).payload(&payload).build());
            let seen = wire.expect("the frame", |f| contains(f, &payload));
            assert_eq!(seen, guest(A).tag(0x8100, priority | 101).to(B).payload(&payload).build());
        }
    }
}

#[test]
fn q4_an_inner_tag_stays_untouched() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        for outer in [0x8100, 0x88a8] {
            let payload = marker();
            wire.send(guest(B).tag(outer, 101).vlan(7).to(A).payload(&payload).build());
            a.expect_frame(&guest(B).vlan(7).to(A).payload(&payload).build());
        }
    }
}

#[test]
fn q8_frames_with_another_tag_or_none_never_reach_a_guest() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let (wire, a) = (topology.wire(0), topology.raw("blue", 11));
        let (secret, end) = (marker(), marker());
        for frame in [
            guest(B).to(A),
            guest(B).vlan(103).to(A),
            guest(B).vlan(0).to(A),
            guest(B).tag(0x88a8, 103).to(A),
            guest(B).vlan(4095).to(A),
            guest(B).vlan(102).to(A),
        ] {
            wire.send(frame.payload(&secret).build());
        }
        wire.send(guest(B).vlan(101).to(A).payload(&end).build());
        a.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
    }
}

#[test]
fn q5_a_full_sized_frame_fits_with_its_tag() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let frame = guest(A).to(B).udp(1, 9).payload(vec![0x5a; 1472]).build();
        topology.raw("blue", 11).send(&frame);
        topology.raw("blue", 12).expect_frame(&frame);
    }
}

#[test]
fn an_untagged_network_sends_and_takes_frames_without_a_tag() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        let mut definitions = in_mode(topology.vlan_definitions(), mode);
        definitions["networks"][0]["segment"] = "untagged".into();
        topology.apply(&definitions);
        let (wire, a, b) = (topology.wire(0), topology.raw("blue", 11), topology.raw("blue", 12));
        let payload = marker();
        let frame = guest(A).to(B).payload(&payload).build();
        a.send(&frame);
        b.expect_frame(&frame);
        assert_eq!(wire.expect("the frame", |f| contains(f, &payload)), frame);
        delivers(topology.raw("green", 11), topology.raw("green", 12), &guest(A).to(B));
    }
}

#[test]
fn a_station_behind_the_trunk_is_learned_and_never_overrides_a_defined_one() {
    for mode in UPLINK_MODES {
        let topology = trunked(mode);
        let (wire, a, c) = (topology.wire(0), topology.raw("blue", 11), topology.raw("blue", 13));
        let router = Endpoint::numbered(200);
        let hello = guest(router).vlan(101).to(A).payload(marker()).build();
        wire.send(&hello);
        a.expect("the router's frame", |f| f[6..12] == router.mac);
        let payload = marker();
        a.send(guest(A).to(router).payload(&payload).build());
        wire.expect("a frame to the router", |f| contains(f, &payload));
        // Learned: its frames are not flooded any more.
        let end = marker();
        a.send(guest(A).payload(&end).build());
        c.expect_none_before(|f| contains(f, &payload), |f| contains(f, &end));
        // A frame from the trunk with C's MAC does not move C there.
        wire.send(guest(Endpoint { mac: c_mac(), ..router }).vlan(101).to(A).payload(marker()).build());
        delivers(a, c, &guest(A).to(Endpoint::numbered(13)));
    }
}

fn c_mac() -> netpath_tests::packet::Mac {
    Endpoint::numbered(13).mac
}

#[test]
fn kernel_guests_move_bulk_data_over_a_vlan() {
    for mode in UPLINK_MODES {
        let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
        let topology = builder.build().unwrap();
        topology.apply(&in_mode(topology.vlan_definitions(), mode));
        let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        a.ping(b.station().ip).unwrap();
        a.sends_tcp(b, 100, false).unwrap();
        b.sends_tcp(a, 100, false).unwrap();
    }
}

#[test]
fn q7_tags_in_metadata_are_taken_in_tc_mode() {
    let topology = TwoHypervisors::builder().build().unwrap();
    // hv1 inserts tags by offload, so that hv2's uplink gets them beside the frame.
    topology.hosts[0].ns.run(|| Link::named(UPLINK).offload("tx-vlan-hw-insert", true).unwrap());
    topology.apply(&in_mode(topology.vlan_definitions(), "tc"));
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B).tcp(1, 2, 2));
}

#[test]
fn a_linux_vlan_device_on_the_other_host_is_a_peer() {
    skip_unless!(has_vlan_devices(), "this kernel has no VLAN devices");
    for mode in UPLINK_MODES {
        let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
        let topology = builder.build().unwrap();
        let file = topology.write("zone.yaml", &in_mode(topology.vlan_definitions(), mode));
        topology.hosts[0].netpath.apply(&file);
        for (tenant, vlan, device) in [("blue", 101, "vnet12"), ("green", 102, "vnet112")] {
            topology.hosts[1].ns.run(|| {
                let uplink = Link::named(UPLINK);
                let bridge = Link::bridge(&format!("br{vlan}")).unwrap();
                let tagged = Link::vlan(&format!("{UPLINK}.{vlan}"), &uplink, 0x8100, vlan).unwrap();
                for port in [&tagged, &Link::named(device)] {
                    port.enslave_to(&bridge).unwrap();
                    port.up().unwrap();
                }
                bridge.up().unwrap();
            });
            let (a, b) = (topology.kernel(tenant, 11), topology.kernel(tenant, 12));
            a.ping(b.station().ip).unwrap();
            b.ping(a.station().ip6).unwrap();
            a.exchanges_udp(b, &[1; 1400]).unwrap();
            a.sends_tcp(b, 20, false).unwrap();
            b.sends_tcp(a, 20, false).unwrap();
        }
    }
}
