//! A packet that does not fit is answered with the MTU that does, and counted (V10, R6).

use netpath_tests::{
    packet::{Packet, dissect, guest},
    topology::{TwoHypervisors, two_hypervisors::GATEWAY},
};

use crate::scene::{A, B, UPLINK_MODES, delivers, in_mode, moves_drops, refuses};

fn with_mtu(mode: &str, mtu: u16) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = in_mode(topology.vxlan_definitions(), mode);
    for network in definitions["networks"].as_array_mut().unwrap() {
        network["mtu"] = mtu.into();
    }
    topology.apply(&definitions);
    topology
}

/// An IP packet of exactly `len` bytes.
fn sized(packet: Packet, len: usize, header: usize) -> Packet {
    packet.udp(1000, 2000).payload(vec![0x5a; len - header - 8])
}

#[test]
fn v10_r6_fragmentation_needed_names_the_mtu_and_quotes_the_packet() {
    for mtu in [1400u16, 1500] {
        let topology = with_mtu("xdp", mtu);
        let a = topology.raw("blue", 11);
        let big = sized(guest(A).to(B), usize::from(mtu) + 1, 20).dont_fragment().build();
        moves_drops(&topology.hosts[0].netpath, &[("blue-web", "packet_too_big", 1)], || a.send(&big));
        let error = a.expect("fragmentation needed", |f| dissect(f).is_some_and(|d| d.icmp() == Some((3, 4))));
        let parts = dissect(&error).unwrap();
        let ip = parts.ip.as_ref().unwrap();
        assert_eq!((ip.src, ip.dst, parts.dst_mac), (GATEWAY.into(), A.ip.into(), A.mac));
        assert_eq!(ip.message[6..8], mtu.to_be_bytes());
        let quote = &ip.message[8..];
        assert!(quote.len() >= 28, "{} bytes quoted", quote.len());
        assert_eq!(quote, &big[14..14 + quote.len()]);
        delivers_at(&topology, mtu, false);
    }
}

#[test]
fn v10_packet_too_big_names_the_mtu_and_quotes_the_packet() {
    for mtu in [1400u16, 1500] {
        let topology = with_mtu("xdp", mtu);
        let a = topology.raw("blue", 11);
        let big = sized(guest(A).over_ipv6(A, B), usize::from(mtu) + 1, 40).build();
        moves_drops(&topology.hosts[0].netpath, &[("blue-web", "packet_too_big", 1)], || a.send(&big));
        let error = a.expect("packet too big", |f| dissect(f).is_some_and(|d| d.icmp() == Some((2, 0))));
        let parts = dissect(&error).unwrap();
        let ip = parts.ip.as_ref().unwrap();
        assert_eq!((ip.dst, parts.dst_mac), (A.ip6.into(), A.mac));
        assert_eq!(ip.message[4..8], u32::from(mtu).to_be_bytes());
        let quote = &ip.message[8..];
        assert_eq!(quote, &big[14..14 + quote.len()]);
        delivers_at(&topology, mtu, true);
    }
}

/// R6b: a packet of just the announced MTU passes.
fn delivers_at(topology: &TwoHypervisors, mtu: u16, ipv6: bool) {
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let (packet, header) = if ipv6 { (guest(A).over_ipv6(A, B), 40) } else { (guest(A).to(B), 20) };
    let fits = sized(packet, usize::from(mtu), header).build();
    a.send(&fits);
    b.expect_frame(&fits);
}

#[test]
fn a_large_frame_that_nobody_can_be_told_about_is_dropped_and_counted() {
    let topology = with_mtu("xdp", 1400);
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let broadcast = sized(guest(A), 1401, 20).build();
    moves_drops(&topology.hosts[0].netpath, &[("blue-web", "packet_too_big", 1)], || {
        refuses(a, b, &[broadcast], &guest(A).to(B));
    });
}

#[test]
fn v10_the_tunnel_never_fragments() {
    for mode in UPLINK_MODES {
        let topology = with_mtu(mode, 1500);
        let (a, b, wire) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.wire(0));
        let largest = sized(guest(A).to(B), 1500, 20).build();
        a.send(&largest);
        b.expect_frame(&largest);
        wire.expect_none_before(
            |f| dissect(f).and_then(|d| d.ip).is_some_and(|ip| ip.fragment != (0, false)),
            |f| f.ends_with(&largest),
        );
        delivers(a, b, &guest(A).to(B));
    }
}

#[test]
fn an_underlay_that_cannot_carry_the_network_is_refused_before_anything_is_attached() {
    let topology = TwoHypervisors::builder().underlay_mtu(1500).build().unwrap();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    let output = netpath.run(netpath.apply_args(&file));
    assert_eq!(output.code, 1, "{}", output.stderr);
    for number in ["1500", "1550"] {
        assert!(output.stderr.contains(number), "{number} is missing in: {}", output.stderr);
    }
    let attached = topology.hosts[0].ns.run(|| netpath_tests::topology::Link::named("vnet11").index());
    assert!(attached.is_ok());
    assert!(!netpath.root().join("links").exists(), "links were pinned");
}
