//! The other host runs CloudStack's way: a Linux bridge with a vxlan device. Both directions, both UDP ports.

use std::net::Ipv4Addr;

use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{BROADCAST, guest},
    topology::{
        Link, TwoHypervisors, Vxlan,
        two_hypervisors::{Attachment, UPLINK},
    },
};

use crate::scene::{A, B, UPLINK_MODES, in_mode};

/// hv1 runs netpath, hv2 bridges both tenants to vxlan devices.
fn half_linux(builder: netpath_tests::topology::Builder, mode: &str, port: u16) -> TwoHypervisors {
    let topology = builder.build().unwrap();
    let mut definitions = in_mode(topology.vxlan_definitions(), mode);
    definitions["vxlan_port"] = port.into();
    let file = topology.write("zone.yaml", &definitions);
    topology.hosts[0].netpath.apply(&file);
    let (local, remote) = (topology.hosts[1].address, topology.hosts[0].address);
    topology.hosts[1].ns.run(|| {
        for (vni, device) in [(5001, "vnet12"), (5002, "vnet112")] {
            let bridge = Link::bridge(&format!("br{vni}")).unwrap();
            let settings = Vxlan { vni, port, local, remote: None, device: Some(UPLINK.into()), learning: true };
            let vxlan = Link::vxlan(&format!("vxlan{vni}"), &settings).unwrap();
            vxlan.fdb_flood(remote).unwrap();
            for link in [&vxlan, &Link::named(device)] {
                link.enslave_to(&bridge).unwrap();
                link.up().unwrap();
            }
            bridge.up().unwrap();
        }
    });
    topology
}

#[test]
fn kernel_guests_talk_with_guests_of_a_linux_bridge_host() {
    for port in [4789, 8472] {
        for mode in UPLINK_MODES {
            let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
            let topology = half_linux(builder, mode, port);
            for tenant in ["blue", "green"] {
                let (a, b, c) = (topology.kernel(tenant, 11), topology.kernel(tenant, 12), topology.kernel(tenant, 13));
                a.ping(b.station().ip).unwrap();
                b.ping(c.station().ip).unwrap();
                b.ping(a.station().ip6).unwrap();
                a.exchanges_udp(b, &[3; 1400]).unwrap();
            }
            let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
            a.sends_tcp(b, 30, false).unwrap();
            b.sends_tcp(a, 30, false).unwrap();
            b.sends_tcp(a, 10, true).unwrap();
        }
    }
}

#[test]
fn frames_and_broadcasts_cross_unchanged_in_both_directions() {
    for port in [4789, 8472] {
        for mode in UPLINK_MODES {
            let topology = half_linux(TwoHypervisors::builder(), mode, port);
            for (tenant, other) in [("blue", "green"), ("green", "blue")] {
                let (a, b) = (topology.raw(tenant, 11), topology.raw(tenant, 12));
                for packet in [guest(A).to(B), guest(A).to_mac(BROADCAST), guest(A).to(B).tcp(1, 2, 2)] {
                    let frame = packet.payload(marker()).build();
                    a.send(&frame);
                    b.expect_frame(&frame);
                }
                let secret = marker();
                for packet in [guest(B).to(A), guest(B).to_mac(BROADCAST), guest(B).over_ipv6(B, A).tcp(1, 2, 2)] {
                    let frame = packet.payload(&secret).build();
                    b.send(&frame);
                    a.expect_frame(&frame);
                }
                let end = marker();
                topology.raw(other, 12).send(guest(B).payload(&end).build());
                topology.raw(other, 11).expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
            }
        }
    }
}

/// hv2 in CloudStack's multicast mode: one group per VNI, learning on.
fn multicast_linux(builder: netpath_tests::topology::Builder, mode: &str) -> TwoHypervisors {
    let topology = builder.build().unwrap();
    let mut definitions = in_mode(topology.vxlan_definitions(), mode);
    definitions["physical_networks"][0]["vxlan_port"] = 8472.into();
    definitions["physical_networks"][0]["replication"] = "multicast".into();
    let file = topology.write("zone.yaml", &definitions);
    topology.hosts[0].netpath.apply(&file);
    topology.hosts[1].ns.run(|| {
        for (vni, device) in [(5001u32, "vnet12"), (5002, "vnet112")] {
            let [_, a, b, c] = vni.to_be_bytes();
            let group = Some(Ipv4Addr::new(239, a, b, c));
            let (local, device_name) = (topology.hosts[1].address, Some(UPLINK.into()));
            let settings = Vxlan { vni, port: 8472, local, remote: group, device: device_name, learning: true };
            let vxlan = Link::vxlan(&format!("vxlan{vni}"), &settings).unwrap();
            let bridge = Link::bridge(&format!("br{vni}")).unwrap();
            for link in [&vxlan, &Link::named(device)] {
                link.enslave_to(&bridge).unwrap();
                link.up().unwrap();
            }
            bridge.up().unwrap();
        }
    });
    topology
}

#[test]
fn cloudstacks_multicast_mode_is_a_peer() {
    for mode in UPLINK_MODES {
        let topology = multicast_linux(TwoHypervisors::builder(), mode);
        for (tenant, other) in [("blue", "green"), ("green", "blue")] {
            let (a, b) = (topology.raw(tenant, 11), topology.raw(tenant, 12));
            let secret = marker();
            for packet in [guest(A).to_mac(BROADCAST), guest(A).to(B), guest(A).to(B).tcp(1, 2, 2)] {
                let frame = packet.payload(&secret).build();
                a.send(&frame);
                b.expect_frame(&frame);
            }
            for packet in [guest(B).to_mac(BROADCAST), guest(B).to(A), guest(B).over_ipv6(B, A).tcp(1, 2, 2)] {
                let frame = packet.payload(&secret).build();
                b.send(&frame);
                a.expect_frame(&frame);
            }
            let end = marker();
            topology.raw(other, 12).send(guest(B).payload(&end).build());
            topology.raw(other, 11).expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
        }
    }
}
