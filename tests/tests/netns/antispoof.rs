//! What a guest must not send is dropped, counted under its reason, and seen by nobody.

use std::net::{Ipv4Addr, Ipv6Addr};

use netpath_tests::packet::{ArpBody, BROADCAST, Body, Packet, guest};

use crate::scene::{A, B, C, STRANGER, delivers, moves_drops, raw_guests, refuses};

/// Sends the packets from NIC 11 of blue: NIC 13 beside it sees none of them, and only `reason` counts them.
#[track_caller]
fn are_dropped_as(reason: &str, packets: &[Packet]) {
    let topology = raw_guests();
    let frames: Vec<_> = packets.iter().map(Packet::build).collect();
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    moves_drops(&topology.hosts[0].netpath, &[("blue-web", reason, frames.len() as u64)], || {
        refuses(a, c, &frames, &guest(A).to(C));
    });
}

#[test]
fn a_foreign_source_mac_is_dropped() {
    are_dropped_as(
        "spoofed_mac",
        &[
            guest(A).from_mac(STRANGER.mac).to(C),
            guest(A).from_mac(B.mac).to(C),
            guest(A).from_mac(STRANGER.mac).to(C).body(Body::Ether { ethertype: 0x88b5, payload: vec![1; 46] }),
            guest(A).from_mac(BROADCAST).to(C),
        ],
    );
}

#[test]
fn a_foreign_source_ipv4_address_is_dropped() {
    are_dropped_as(
        "spoofed_ipv4",
        &[
            guest(A).from(STRANGER.ip).to(C),
            guest(A).from(B.ip).to(C).tcp(1, 2, 2),
            guest(A).from(Ipv4Addr::new(10, 1, 1, 1)).to(C).echo_request(1, 1),
            guest(A).from(Ipv4Addr::UNSPECIFIED).to(C).udp(68, 53),
            guest(A).from(Ipv4Addr::UNSPECIFIED).to(C).tcp(68, 67, 2),
            guest(A).from(STRANGER.ip).to(C).body(Body::Ip { protocol: 17, payload: vec![1; 32] }).fragment(8, true),
        ],
    );
}

#[test]
fn a_foreign_source_ipv6_address_is_dropped() {
    are_dropped_as(
        "spoofed_ipv6",
        &[
            guest(A).over_ipv6(STRANGER, C),
            guest(A).over_ipv6(B, C).tcp(1, 2, 2),
            guest(A).over_ipv6(A, C).from(B.link_local()),
            guest(A).over_ipv6(A, C).from(Ipv6Addr::UNSPECIFIED).udp(1, 2),
        ],
    );
}

#[test]
fn a5_a_foreign_arp_sender_is_dropped() {
    let arp = |operation, sender_mac, sender_ip| {
        Body::Arp(ArpBody { operation, sender_mac, sender_ip, target_mac: C.mac, target_ip: C.ip })
    };
    are_dropped_as(
        "spoofed_arp",
        &[
            guest(A).from(B.ip).arp_reply(C),
            guest(A).from(Ipv4Addr::new(10, 1, 1, 1)).arp_reply(C),
            guest(A).to(C).body(arp(2, B.mac, A.ip)),
            guest(A).from(B.ip).arp_request(STRANGER.ip),
            guest(A).to_mac(BROADCAST).body(arp(1, B.mac, A.ip)),
            guest(A).to(C).body(arp(2, A.mac, Ipv4Addr::UNSPECIFIED)),
        ],
    );
}

#[test]
fn a_foreign_rarp_announcement_is_dropped() {
    let zero = Ipv4Addr::UNSPECIFIED;
    let arp = ArpBody { operation: 3, sender_mac: B.mac, sender_ip: zero, target_mac: B.mac, target_ip: zero };
    are_dropped_as("spoofed_arp", &[guest(A).to_mac(BROADCAST).body(Body::Rarp(arp))]);
}

#[test]
fn a7_a_foreign_neighbour_discovery_claim_is_dropped() {
    are_dropped_as(
        "spoofed_nd",
        &[
            guest(A).to(C).neighbour_advertisement(A.ip6, C.ip6, B.ip6, 0x60),
            guest(A).to(C).neighbour_advertisement(A.link_local(), C.ip6, B.link_local(), 0x60),
            guest(A).neighbour_solicitation(Ipv6Addr::UNSPECIFIED, B.ip6),
        ],
    );
}

#[test]
fn a_link_layer_option_with_a_foreign_mac_is_dropped() {
    let mut payload = A.ip6.octets().to_vec();
    payload.extend([2, 1]);
    payload.extend(B.mac);
    let advertisement = Body::Icmp { kind: 136, code: 0, rest: [0x60, 0, 0, 0], payload };
    are_dropped_as("spoofed_nd", &[guest(A).over_ipv6(A, C).ttl(255).body(advertisement)]);
}

#[test]
fn a_guest_does_not_serve_dhcp() {
    are_dropped_as(
        "dhcp_server",
        &[
            guest(A).to(C).udp(67, 68),
            guest(A).to_mac(BROADCAST).to_ip(Ipv4Addr::BROADCAST).udp(67, 68),
            guest(A).over_ipv6(A, C).from(A.link_local()).udp(547, 546),
        ],
    );
}

#[test]
fn a7_a_guest_does_not_send_router_advertisements_or_redirects() {
    let redirect = Body::Icmp { kind: 137, code: 0, rest: [0; 4], payload: vec![0; 32] };
    are_dropped_as(
        "router_advertisement",
        &[
            guest(A).router_advertisement(A.link_local()),
            guest(A).over_ipv6(A, C).from(A.link_local()).ttl(255).body(redirect),
        ],
    );
}

#[test]
fn what_a_guest_may_send_passes() {
    let topology = raw_guests();
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let dhcp = guest(A).from(Ipv4Addr::UNSPECIFIED).to_ip(Ipv4Addr::BROADCAST).to_mac(BROADCAST).udp(68, 67);
    moves_drops(&topology.hosts[0].netpath, &[], || {
        delivers(a, b, &dhcp);
        delivers(a, b, &guest(A).over_ipv6(A, B).from(A.link_local()));
        for packet in [
            guest(A).rarp(),
            guest(A).from(Ipv4Addr::UNSPECIFIED).arp_request(STRANGER.ip),
            guest(A).arp_request(A.ip),
            guest(A).neighbour_solicitation(Ipv6Addr::UNSPECIFIED, A.ip6),
            guest(A).neighbour_solicitation(Ipv6Addr::UNSPECIFIED, A.link_local()),
        ] {
            let frame = packet.build();
            a.send(&frame);
            b.expect_frame(&frame);
        }
    });
}

#[test]
fn a_secondary_address_is_the_guests_own() {
    let topology = raw_guests();
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let (four, six) = (Ipv4Addr::new(10, 1, 1, 50), Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 50));
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["nics"][0]["secondary_ips"] = serde_json::json!([four, six]);
    topology.apply(&definitions);
    delivers(a, b, &guest(A).from(four).to(B));
    delivers(a, b, &guest(A).over_ipv6(A, B).from(six));
    refuses(a, b, &[guest(A).from(STRANGER.ip).to(B).build()], &guest(A).to(B));
}

#[test]
fn a_trusted_nic_sends_from_any_address() {
    let topology = raw_guests();
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["nics"][0]["trusted"] = true.into();
    topology.apply(&definitions);
    delivers(a, b, &guest(STRANGER).to(B));
    delivers(a, b, &guest(A).to(B).udp(67, 68));
}
