//! What is not netpath's passes: the host's own traffic, other VLANs, other VNIs, and the bridge above the uplink.

use std::{net::IpAddr, time::Duration};

use netpath_tests::{
    guest::{PacketSocket, RawGuest, bulk, raw::marker},
    packet::{Endpoint, Outer, guest},
    topology::{
        Link, TwoHypervisors, Vxlan,
        two_hypervisors::{Attachment, UPLINK},
    },
};

use crate::scene::{A, B, UPLINK_MODES, delivers, in_mode, raw_guests_in};

fn hosts_talk(topology: &TwoHypervisors) {
    let (one, two) = (&topology.hosts[0], &topology.hosts[1]);
    bulk::tcp(&one.ns, &two.ns, IpAddr::V4(two.address), 22, 5).unwrap();
    bulk::tcp(&two.ns, &one.ns, IpAddr::V4(one.address), 22, 5).unwrap();
}

#[test]
fn tcp_between_the_hypervisors_themselves_passes() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        hosts_talk(&topology);
        assert!(topology.hosts[0].netpath.drops().is_empty());
    }
}

#[test]
fn an_uplink_in_a_bridge_that_holds_the_hosts_address_works() {
    for mode in UPLINK_MODES {
        let builder = TwoHypervisors::builder().behind_cloudbr0();
        let topology = builder.attached(Attachment::Veth).attach(11, Attachment::Tap).build().unwrap();
        topology.apply(&in_mode(topology.vxlan_definitions(), mode));
        let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        a.ping(b.station().ip).unwrap();
        a.sends_tcp(b, 20, false).unwrap();
        b.sends_tcp(a, 20, false).unwrap();
        hosts_talk(&topology);
    }
}

#[test]
fn frames_with_foreign_tags_or_ethertypes_go_on_to_the_host() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        topology.apply(&in_mode(topology.vlan_definitions(), mode));
        let host = topology.hosts[0].ns.run(|| PacketSocket::open(UPLINK).unwrap());
        let (host, wire) = (RawGuest::on_socket("hv1", host), topology.wire(0));
        for frame in [
            guest(B).vlan(150).to(A).payload(marker()).build(),
            guest(B).to(A).payload(marker()).build(),
            guest(B).tag(0x88a8, 150).to(A).payload(marker()).build(),
        ] {
            wire.send(&frame);
            host.expect_frame(&frame);
        }
    }
}

/// The kernel's own vxlan device for VNI 7777 between the hypervisors, with an address on it.
fn foreign_vxlan(topology: &TwoHypervisors, port: u16) {
    for (index, host) in topology.hosts.iter().enumerate() {
        let remote = Some(topology.hosts[1 - index].address);
        host.ns.run(|| {
            let device = Some(UPLINK.into());
            let settings = Vxlan { vni: 7777, port, local: host.address, remote, device, learning: true };
            let vxlan = Link::vxlan("foreign", &settings).unwrap();
            vxlan.up().unwrap();
            vxlan.address(std::net::Ipv4Addr::new(172, 16, 0, 1 + index as u8), 24).unwrap();
        });
    }
}

fn foreign_talks(topology: &TwoHypervisors) {
    let to = IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 2));
    bulk::tcp(&topology.hosts[0].ns, &topology.hosts[1].ns, to, 22, 5).unwrap();
}

#[test]
fn a_foreign_vxlan_device_on_another_port_keeps_working() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        foreign_vxlan(&topology, 8472);
        topology.apply(&in_mode(topology.vxlan_definitions(), mode));
        foreign_talks(&topology);
        delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    }
}

#[test]
fn a_foreign_vxlan_device_on_the_same_port_keeps_working_and_so_does_netpath() {
    for mode in UPLINK_MODES {
        let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
        let topology = builder.build().unwrap();
        foreign_vxlan(&topology, 4789);
        foreign_talks(&topology);
        topology.apply(&in_mode(topology.vxlan_definitions(), mode));
        foreign_talks(&topology);
        let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        a.ping(b.station().ip).unwrap();
        a.ping(b.station().ip6).unwrap();
        a.sends_tcp(b, 30, false).unwrap();
        b.sends_tcp(a, 30, false).unwrap();
        foreign_talks(&topology);
    }
}

#[test]
fn an_unknown_vni_never_reaches_the_hosts_stack() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (one, two) = (topology.endpoint(0), topology.endpoint(1));
        let host = &topology.hosts[0];
        // An inner echo request to the host itself, on a VNI nobody has: no answer may leave.
        let host_as_station = Endpoint { mac: one.0, ip: one.1, ip6: A.ip6 };
        let inner = guest(Endpoint { mac: two.0, ip: two.1, ip6: B.ip6 }).to(host_as_station).echo_request(7, 7);
        let wire = topology.wire(0);
        wire.send(Outer::new(9999, two, one).wrap(&inner.build()));
        let direct = guest(Endpoint { mac: two.0, ip: two.1, ip6: B.ip6 }).to(host_as_station).echo_request(8, 8);
        wire.send(direct.build());
        wire.expect_none_before(|f| is_echo_reply(f, 7), |f| is_echo_reply(f, 8));
        assert!(!host.netpath.drops().is_empty());
    }
}

fn is_echo_reply(frame: &[u8], id: u16) -> bool {
    netpath_tests::packet::dissect(frame).is_some_and(|parts| {
        parts.icmp() == Some((0, 0)) && parts.ip.is_some_and(|ip| ip.message[4..6] == id.to_be_bytes())
    })
}

#[test]
fn a_guest_does_not_reach_the_host_through_its_port() {
    let topology = TwoHypervisors::builder().attached(Attachment::Veth).build().unwrap();
    topology.apply(&topology.vxlan_definitions());
    let a = topology.kernel("blue", 11);
    a.ping(B.ip).unwrap();
    assert!(!a.reaches(topology.hosts[0].address, Duration::from_millis(500)));
}
