//! What is not netpath's leaves the uplink's programs as it came, and is counted nowhere.

use std::net::{IpAddr, Ipv4Addr};

use netpath_common::maps::{Segment, SegmentKey};
use netpath_tests::packet::{BROADCAST, Outer, Packet, guest};

use crate::rig::{A, C, HERE, PASS, Rig, THERE, THERE_MAC, XDP_PASS};

/// From the other host to this one, by their underlay addresses.
fn between_hosts(rig: &Rig) -> Packet {
    Packet::between(THERE_MAC, rig.uplink_mac, IpAddr::V4(THERE), IpAddr::V4(HERE))
}

/// Takes away the network that untagged frames belong to.
fn without_untagged_network(rig: &mut Rig) {
    rig.remove::<_, Segment>("SEGMENTS", SegmentKey { ifindex: rig.uplink, udp_port: 0, id: 0 });
}

#[track_caller]
fn passes(rig: &mut Rig, frame: &[u8]) {
    let uplink = rig.uplink;
    for (out, pass) in [(rig.xdp(frame), XDP_PASS), (rig.tc("from_uplink", uplink, frame), PASS)] {
        assert_eq!((out.action, &out.bytes[..]), (pass, frame));
        assert_eq!((out.drops, out.counters), (vec![], vec![]));
    }
}

#[test]
fn the_hosts_own_traffic_passes() {
    let mut rig = Rig::new();
    without_untagged_network(&mut rig);
    for packet in [
        between_hosts(&rig).tcp(40000, 22, 2),
        between_hosts(&rig).udp(4789, 53),
        between_hosts(&rig).echo_request(1, 1),
        guest(C).to_mac(BROADCAST).arp_request(HERE),
        guest(C).over_ipv6(C, A).udp(1, 4789),
        guest(C).to(A),
        guest(C).vlan(150).to(A),
        guest(C).vlan(150).vlan(100).to(A),
        guest(C).tag(0x88a8, 150).to(A),
    ] {
        passes(&mut rig, &packet.build());
    }
}

#[test]
fn tunnel_packets_of_others_pass() {
    let mut rig = Rig::new();
    without_untagged_network(&mut rig);
    let inner = guest(C).to(A).build();
    let (there, here) = ((THERE_MAC, THERE), (rig.uplink_mac, HERE));
    let elsewhere = (rig.uplink_mac, Ipv4Addr::new(192, 0, 2, 77));
    for frame in [
        Outer::new(5001, there, here).port(8472).wrap(&inner),
        Outer::new(5001, there, elsewhere).wrap(&inner),
        Outer::new(5003, there, elsewhere).wrap(&inner),
    ] {
        passes(&mut rig, &frame);
    }
}
