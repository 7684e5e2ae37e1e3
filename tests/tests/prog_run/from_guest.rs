//! Frames from a guest: answered, forwarded, wrapped.

use std::net::Ipv4Addr;

use netpath_common::{
    Address,
    maps::{AddressKey, Port, port_flags, stage},
};
use netpath_tests::packet::{BROADCAST, Checksum, Endpoint, Outer, dissect, guest};

use crate::rig::{
    A, B, BLUE, C, GREEN, HERE, PASS, PLAIN, RED, REDIRECT, Rig, SHOT, STRANGER, THERE, THERE_MAC, received, sent, slot,
};

/// The outer headers that blue's frames to the other host have.
fn outer(rig: &Rig, vni: u32, source_port: u16) -> Outer {
    Outer::new(vni, (rig.uplink_mac, HERE), (THERE_MAC, THERE)).source_port(source_port)
}

#[test]
fn v1_a_frame_for_another_host_leaves_in_vxlan() {
    let mut rig = Rig::new();
    for (network, vni) in [(BLUE, 5001), (GREEN, 5002)] {
        let frame = guest(A).to(C).udp(1000, 2000).build();
        let out = rig.from_a(network, &frame);
        let bytes = out.assert_sent(REDIRECT);
        let (port, _, _) = dissect(bytes).unwrap().ports().unwrap();
        assert!(port >= 49152, "{port}");
        assert_eq!(bytes, outer(&rig, vni, port).wrap(&frame));
        assert_eq!(out.counters, [(slot(network, A), sent(frame.len()))]);
    }
}

#[test]
fn v6_the_source_port_is_the_flows() {
    let mut rig = Rig::new();
    let mut port_of = |frame: &[u8]| {
        let out = rig.from_a(BLUE, frame);
        dissect(out.assert_sent(REDIRECT)).unwrap().ports().unwrap().0
    };
    let mut ports: Vec<u16> = (0..200).map(|n| port_of(&guest(A).to(C).udp(1000 + n, 2000).build())).collect();
    assert_eq!(ports[0], port_of(&guest(A).to(C).udp(1000, 2000).payload(b"another").build()));
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 190, "{}", ports.len());
    let first = port_of(&guest(A).to(C).udp(1000, 2000).payload([1; 64]).fragment(0, true).build());
    let second = port_of(&guest(A).to(C).udp(1000, 2000).fragment(9, false).build());
    assert_eq!(first, second);
}

#[test]
fn v15_ecn_is_copied_outwards_and_dscp_is_not() {
    let mut rig = Rig::new();
    for ecn in 0..4 {
        let out = rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).tos(0xb8 | ecn).build());
        let bytes = out.assert_sent(REDIRECT);
        assert_eq!(bytes[15], ecn);
        assert_eq!(bytes[50 + 15], 0xb8 | ecn);
    }
}

#[test]
fn an_ipv6_packet_is_wrapped_in_ipv4() {
    let mut rig = Rig::new();
    let frame = guest(A).to(C).over_ipv6(A, C).udp(1000, 2000).build();
    let out = rig.from_a(BLUE, &frame);
    let bytes = out.assert_sent(REDIRECT);
    assert_eq!(&bytes[50..], frame);
    assert_eq!(&bytes[12..14], [8, 0]);
}

#[test]
fn a_frame_that_is_not_ip_is_wrapped_too() {
    let mut rig = Rig::new();
    let frame = guest(A).arp_reply(C).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!(&out.assert_sent(REDIRECT)[50..], frame);
}

#[test]
fn a_frame_for_a_neighbour_on_the_host_stays_as_it_is() {
    let mut rig = Rig::new();
    let frame = guest(A).to(B).tcp(1000, 80, 2).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!(out.assert_sent(REDIRECT), frame);
    assert_eq!(out.counters, [(slot(BLUE, A), sent(frame.len())), (slot(BLUE, B), received(frame.len()))]);
}

/// The tag itself stays beside the packet until a device writes it, which a test run does not show: the netns tier
/// reads it off the wire.
#[test]
fn a_vlan_networks_frame_leaves_by_the_uplink_with_its_own_inner_tag() {
    let mut rig = Rig::new();
    let plain = guest(A).to(C).udp(1, 2);
    for sent in [plain.clone(), plain.clone().tag(0x8100, 0xb000)] {
        let out = rig.from_a(RED, &sent.build());
        assert_eq!(out.assert_sent(REDIRECT), plain.build());
    }
    let tagged = plain.vlan(7).build();
    assert_eq!(rig.from_a(RED, &tagged).assert_sent(REDIRECT), tagged);
}

#[test]
fn v12_a_guests_tag_is_stripped_from_vxlan_and_untagged_networks() {
    let mut rig = Rig::new();
    let plain = guest(A).to(C).udp(1, 2);
    let out = rig.from_a(BLUE, &plain.clone().vlan(7).build());
    assert_eq!(&out.assert_sent(REDIRECT)[50..], plain.build());
    let out = rig.from_a(PLAIN, &plain.clone().vlan(0).build());
    assert_eq!(out.assert_sent(REDIRECT), plain.build());
}

#[test]
fn a2_a_request_for_a_defined_address_is_answered_here() {
    let mut rig = Rig::new();
    for owner in [B, C] {
        let request = guest(A).arp_request(owner.ip).padded_to(60).build();
        let out = rig.from_a(BLUE, &request);
        let mut reply = guest(owner).arp_reply(A).build();
        reply.resize(60, 0);
        assert_eq!(out.assert_sent(REDIRECT), reply);
        assert_eq!(out.counters.len(), 1);
    }
}

#[test]
fn a3_a_probe_is_answered_and_an_announcement_is_not() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    let probe = guest(A).from(Ipv4Addr::UNSPECIFIED).arp_request(B.ip).build();
    let out = rig.from_a(BLUE, &probe);
    let nobody = Endpoint { ip: Ipv4Addr::UNSPECIFIED, ..A };
    assert_eq!(out.assert_sent(REDIRECT), guest(B).arp_reply(nobody).build());
    let announcement = guest(A).arp_request(A.ip).build();
    let out = rig.from_a(BLUE, &announcement);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]), "flooded, and the original consumed");
}

#[test]
fn a_request_for_an_unknown_address_is_flooded_without_a_drop() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    let request = guest(A).arp_request(STRANGER.ip).build();
    let out = rig.from_a(BLUE, &request);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]));
    assert_eq!(out.counters, [(slot(BLUE, A), sent(request.len())), (slot(BLUE, B), received(request.len()))]);
}

#[test]
fn on_miss_pass_hands_what_is_not_defined_to_the_bridge() {
    let mut rig = Rig::new();
    rig.change("NETWORKS", BLUE, |network: &mut netpath_common::maps::Network| {
        network.flags = netpath_common::maps::network_flags::ON_MISS_PASS;
    });
    for frame in [guest(A).to(STRANGER).udp(1, 2).build(), guest(A).udp(1, 2).build()] {
        let out = rig.from_a(BLUE, &frame);
        assert_eq!(out.assert_sent(PASS), frame);
    }
    rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).build()).assert_sent(REDIRECT);
}

#[test]
fn secondary_addresses_dhcp_probes_and_duplicate_address_detection_pass() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    let ifindex = rig.ports[&(BLUE, 11)];
    let mut port: Port = rig.get("PORTS", ifindex).unwrap();
    port.flags = port_flags::MORE_ADDRESSES;
    rig.put("PORTS", ifindex, port);
    let second = Endpoint::numbered(77);
    for address in [Address::v4(second.ip.octets()), Address(second.ip6.octets())] {
        rig.put("ADDRESSES", AddressKey { ifindex, address }, 1u32);
    }
    let unspecified = std::net::Ipv6Addr::UNSPECIFIED;
    let frames = [
        guest(A).from(second.ip).to(B).udp(1, 2),
        guest(A).from(second.ip).arp_request(STRANGER.ip),
        guest(A).to(B).over_ipv6(Endpoint { ip6: second.ip6, ..A }, B).udp(1, 2),
        guest(A).from(Ipv4Addr::UNSPECIFIED).udp(68, 67),
        guest(A).from(Ipv4Addr::UNSPECIFIED).arp_request(A.ip),
        guest(A).neighbour_solicitation(unspecified, A.ip6),
        guest(A).neighbour_solicitation(unspecified, A.link_local()),
        guest(A).neighbour_solicitation(A.link_local(), STRANGER.ip6),
        guest(A).to(B).neighbour_advertisement(A.ip6, B.ip6, A.ip6, 0x60),
        guest(A).rarp(),
    ];
    for frame in frames {
        let out = rig.from_a(BLUE, &frame.build());
        assert_eq!(out.drops, [], "{frame:?}");
        assert!(!out.counters.is_empty());
    }
}

#[test]
fn a_trusted_port_may_send_from_any_address_and_its_stations_are_learned() {
    let mut rig = Rig::new();
    let ifindex = rig.ports[&(BLUE, 11)];
    let mut port: Port = rig.get("PORTS", ifindex).unwrap();
    port.flags = port_flags::TRUSTED;
    rig.put("PORTS", ifindex, port);
    let frame = guest(STRANGER).to(B).udp(67, 68).build();
    rig.from_a(BLUE, &frame).assert_sent(REDIRECT);
    let back = guest(B).to(STRANGER).udp(1, 2).build();
    let out = rig.tc("from_guest", rig.ports[&(BLUE, 13)], &back);
    assert_eq!(out.assert_sent(REDIRECT), back);
    assert_eq!(out.counters, [(slot(BLUE, A), received(back.len())), (slot(BLUE, B), sent(back.len()))]);
}

/// Where it was learned is another network's device by now: it is nowhere until it is heard of again.
#[test]
fn what_was_learned_of_a_device_that_is_another_networks_now_leads_to_it_no_more() {
    let mut rig = Rig::new();
    let ifindex = rig.ports[&(BLUE, 11)];
    let port: Port = rig.get("PORTS", ifindex).unwrap();
    rig.put("PORTS", ifindex, Port { flags: port_flags::TRUSTED, ..port });
    rig.from_a(BLUE, &guest(STRANGER).to(B).udp(67, 68).build()).assert_sent(REDIRECT);
    rig.put("PORTS", ifindex, Port { network: RED, ..port });
    let back = guest(B).to(STRANGER).udp(1, 2).build();
    assert_ne!(rig.tc("from_guest", rig.ports[&(BLUE, 13)], &back).action, REDIRECT, "it is flooded");
    rig.put("PORTS", ifindex, port);
    assert_eq!(rig.tc("from_guest", rig.ports[&(BLUE, 13)], &back).action, REDIRECT);
}

#[test]
fn a_partial_checksum_stays_partial_through_the_tunnel() {
    let mut rig = Rig::new();
    let frame = guest(A).to(C).udp(1, 2).checksum(Checksum::Partial).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!(&out.bytes[50..], frame);
}

#[test]
fn broadcast_of_a_vlan_network_reaches_the_neighbour_and_the_uplink() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    let frame = guest(A).udp(1, 2);
    let out = rig.from_a(RED, &frame.build());
    assert_eq!(out.assert_sent(REDIRECT), frame.clone().to_mac(BROADCAST).build());
    let len = frame.build().len();
    assert_eq!(out.counters, [(slot(RED, A), sent(len)), (slot(RED, B), received(len))]);
}
