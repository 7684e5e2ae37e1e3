//! One test for every drop reason.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use netpath_common::{
    DropReason as R,
    maps::{EndpointKey, Network, Tunnel},
};
use netpath_tests::packet::{Body, Checksum, Endpoint, Outer, Packet, guest};

use crate::{
    drops_routed::{FULL, ROUTED},
    limits::LIMITED,
    rig::{A, B, BLUE, C, GATEWAY, HERE, Provoked, RED, Rig, STRANGER, THERE, THERE_MAC},
};

/// A frame from the other host, as a conforming endpoint wraps it.
fn outer(rig: &Rig) -> Outer {
    Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE))
}

/// A refused frame of A's: what it is, and why it is refused.
fn refused_from_a() -> Vec<(R, Packet)> {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    vec![
        (R::SpoofedMac, guest(STRANGER).from(A.ip).to(B).udp(1, 2)),
        (R::SpoofedIpv4, guest(A).from(STRANGER.ip).to(B).udp(1, 2)),
        (R::SpoofedIpv4, guest(A).from(std::net::Ipv4Addr::UNSPECIFIED).to(B).udp(1, 2)),
        (
            R::SpoofedIpv6,
            guest(A)
                .over_ipv6(Endpoint { ip6: STRANGER.ip6, ..A }, B)
                .to(B)
                .over_ipv6(STRANGER, B)
                .from_mac(A.mac)
                .udp(1, 2),
        ),
        (R::SpoofedArp, guest(A).from(B.ip).arp_request(C.ip)),
        (R::SpoofedArp, guest(A).from(STRANGER.ip).arp_reply(B)),
        (R::SpoofedNd, guest(A).to(B).neighbour_advertisement(A.ip6, B.ip6, STRANGER.ip6, 0x20)),
        (R::SpoofedNd, guest(A).neighbour_solicitation(unspecified, B.ip6)),
        (R::SpoofedNd, guest(STRANGER).neighbour_solicitation(A.ip6, B.ip6).from_mac(A.mac)),
        (R::DhcpServer, guest(A).to(B).udp(67, 68)),
        (R::DhcpServer, guest(A).to(B).udp(1067, 68)),
        (R::DhcpServer, guest(A).to(B).over_ipv6(A, B).udp(1547, 546)),
        (R::DhcpServer, guest(A).to(B).over_ipv6(A, B).udp(547, 546)),
        (R::RouterAdvertisement, guest(A).router_advertisement(A.link_local())),
        (R::MalformedArp, guest(A).to(B).body(Body::Ether { ethertype: 0x0806, payload: vec![0; 28] })),
        (R::MalformedArp, guest(A).to(B).body(Body::Ether { ethertype: 0x0806, payload: vec![0, 1, 8, 0] })),
        (R::MalformedIpv4, guest(A).to(B).udp(1, 2).ip_length(9)),
        (R::MalformedIpv4, guest(A).to(B).udp(1, 2).ip_length(1400)),
        (R::MalformedIpv6, guest(A).to(B).over_ipv6(A, B).udp(1, 2).ip_length(1400)),
        (R::NoRoute, guest(A).to_mac(GATEWAY.0).to_ip(STRANGER.ip).udp(1, 2)),
        (R::SamePort, guest(A).to(A).udp(1, 2)),
        (R::ReservedVlan, guest(A).to(B).vlan(4095).udp(1, 2)),
        (R::TaggedFrame, guest(A).to(B).vlan(5).vlan(6).udp(1, 2)),
        (R::LinkLocalGroup, guest(A).to_mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]).udp(1, 2)),
        (R::PacketTooBig, guest(A).udp(1, 2).payload(vec![0; 1600])),
    ]
}

#[test]
fn every_refusal_of_a_guests_frame_has_its_reason() {
    let mut rig = Rig::new();
    for (reason, packet) in refused_from_a() {
        let out = rig.from_a(BLUE, &packet.build());
        assert_eq!(out.drops, [((BLUE, reason), 1)], "{packet:?}");
        assert_eq!(out.action, crate::rig::SHOT);
    }
}

#[test]
fn a_router_advertisement_behind_extension_headers_is_found() {
    let mut rig = Rig::new();
    let hop_by_hop = [0, 0, 1, 4, 0, 0, 0, 0];
    let hidden = guest(A).router_advertisement(A.link_local()).extension(0, &hop_by_hop).extension(60, &hop_by_hop);
    rig.from_a(BLUE, &hidden.build()).assert_dropped(BLUE, R::RouterAdvertisement);
    let mut endless = guest(A).router_advertisement(A.link_local());
    for _ in 0..8 {
        endless = endless.extension(60, &hop_by_hop);
    }
    rig.from_a(BLUE, &endless.build()).assert_dropped(BLUE, R::MalformedIpv6);
}

/// Options longer than what is read at once: the message behind them was taken for none (the offset wrapped round).
#[test]
fn a_claim_behind_two_kilobytes_of_options_is_not_overlooked() {
    let mut rig = Rig::new();
    let mut options = vec![0; 2048];
    options[1] = 255;
    let hidden = guest(A).to(B).neighbour_advertisement(A.ip6, B.ip6, STRANGER.ip6, 0x20).extension(60, &options);
    rig.from_a(BLUE, &hidden.build()).assert_dropped(BLUE, R::MalformedIpv6);
}

/// The same, where bytes that are read in their place say that it is none to look at.
#[test]
fn a_claim_behind_two_kilobytes_of_options_is_not_hidden_by_what_stands_in_the_first_of_them() {
    let mut rig = Rig::new();
    rig.change("NETWORKS", BLUE, |network: &mut Network| network.mtu = 9000);
    let mut first = vec![0; 64];
    first[1] = 7;
    // At 62 and 70 of the frame, where 2110 and 2118 wrap to: a fragment header that is not the first one's.
    first[8] = 44;
    first[16..20].copy_from_slice(&[58, 0, 0, 8]);
    let mut long = vec![0; 1992];
    long[1] = 248;
    let hidden = guest(A).router_advertisement(A.link_local()).extension(0, &first).extension(60, &long);
    let hidden = hidden.extension(60, &[0; 8]).build();
    rig.from_a(BLUE, &hidden).assert_dropped(BLUE, R::MalformedIpv6);
    // An option of neighbour discovery, likewise.
    let mut claim = guest(A).to(B).neighbour_advertisement(A.ip6, B.ip6, A.ip6, 0x20).build();
    claim.extend([200, 251]);
    claim.extend(vec![0; 251 * 8 - 2]);
    claim.extend([2, 1].into_iter().chain(STRANGER.mac));
    let len = (claim.len() - 54) as u16;
    claim[18..20].copy_from_slice(&len.to_be_bytes());
    rig.from_a(BLUE, &claim).assert_dropped(BLUE, R::MalformedIpv6);
}

/// A first fragment whose options reach behind its end: what they hide stands in the second.
#[test]
fn a_chain_that_ends_behind_its_packet_is_refused() {
    let mut rig = Rig::new();
    let options = [0, 3, 0, 0, 0, 0, 0, 0];
    let first = guest(A).to(B).over_ipv6(A, B).fragment(0, true).extension(60, &options).udp(547, 546);
    rig.from_a(BLUE, &first.padded_to(200).build()).assert_dropped(BLUE, R::MalformedIpv6);
}

/// The IP header says 100 bytes, the frame has 4000: the wire would have had to carry them all.
#[test]
fn bytes_behind_the_packets_own_length_count_against_the_mtu() {
    let mut rig = Rig::new();
    for to in [B, C] {
        let frame = guest(A).to(to).udp(1, 2).payload(vec![0; 72]).padded_to(3000).build();
        let out = rig.from_a(BLUE, &frame);
        assert_eq!(out.drops, [((BLUE, R::PacketTooBig), 1)]);
    }
}

#[test]
fn a_device_without_a_definition_is_an_unknown_port() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    rig.tc("from_guest", uplink, &guest(A).to(B).udp(1, 2).build()).assert_dropped(0, R::UnknownPort);
}

#[test]
fn a_frame_cut_inside_its_tag_is_malformed() {
    let mut rig = Rig::new();
    let mut frame = guest(A).to(B).vlan(5).udp(1, 2).build();
    frame.truncate(16);
    let out = rig.from_a(RED, &frame);
    assert_eq!(out.drops, [((RED, R::MalformedFrame), 1)]);
}

#[test]
fn v3_a_header_without_the_vni_flag_is_refused() {
    let mut rig = Rig::new();
    let frame = outer(&rig).flags(0, [0; 3], 0).wrap(&guest(C).to(A).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(0, R::VxlanNoVni);
    let uplink = rig.uplink;
    rig.tc("from_uplink", uplink, &frame).assert_dropped(0, R::VxlanNoVni);
}

#[test]
fn v4_an_unknown_vni_is_refused_where_netpath_owns_the_port() {
    let mut rig = Rig::new();
    for vni in [0, 1, 5003, 0xff_ffff] {
        let frame = Outer::new(vni, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).wrap(&guest(C).to(A).udp(1, 2).build());
        rig.xdp(&frame).assert_dropped(0, R::UnknownSegment);
    }
}

#[test]
fn v16_a_tunnel_packet_cut_short_is_refused() {
    let mut rig = Rig::new();
    let whole = outer(&rig).wrap(&guest(C).to(A).udp(1, 2).build());
    for len in 42..64 {
        rig.xdp(&whole[..len]).assert_dropped(0, R::VxlanMalformed);
    }
}

#[test]
fn v14_a_stranger_in_the_underlay_is_refused() {
    let mut rig = Rig::new();
    rig.remove::<_, netpath_common::maps::Endpoint>(
        "ENDPOINTS",
        EndpointKey { physical_network: 1, remote: THERE.octets() },
    );
    let frame = outer(&rig).wrap(&guest(C).to(A).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(0, R::UnknownEndpoint);
}

#[test]
fn v15a_congestion_on_a_flow_that_cannot_be_told_is_refused() {
    let mut rig = Rig::new();
    let frame = outer(&rig).outer(|p| p.tos(3)).wrap(&guest(C).to(A).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(BLUE, R::CongestionNotEcn);
}

#[test]
fn v12_an_inner_tag_is_refused_on_receipt() {
    let mut rig = Rig::new();
    let frame = outer(&rig).wrap(&guest(C).to(A).vlan(5).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(BLUE, R::TaggedFrame);
}

#[test]
fn a_frame_from_the_wire_for_another_hosts_station_is_refused() {
    let mut rig = Rig::new();
    let frame = outer(&rig).wrap(&guest(STRANGER).to(C).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(BLUE, R::NotOnThisHost);
    let tagged = guest(STRANGER).to(C).vlan(100).udp(1, 2).build();
    rig.xdp(&tagged).assert_dropped(RED, R::NotOnThisHost);
    let uplink = rig.uplink;
    rig.tc("from_uplink", uplink, &tagged).assert_dropped(RED, R::NotOnThisHost);
}

#[test]
fn q3_the_reserved_vlan_is_refused_on_a_trunk() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    let frame = guest(C).to(A).vlan(4095).udp(1, 2).build();
    rig.tc("from_uplink", uplink, &frame).assert_dropped(0, R::ReservedVlan);
}

#[test]
fn a_tunnel_without_a_route_is_unresolved() {
    let mut rig = Rig::new();
    rig.change("TUNNELS", crate::rig::TUNNEL, |tunnel: &mut Tunnel| tunnel.remote = [198, 51, 100, 1]);
    rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).build()).assert_dropped(BLUE, R::UnderlayUnresolved);
}

#[test]
fn a_super_packet_of_udp_is_not_taken_out_of_its_tunnel_here() {
    let mut rig = Rig::new();
    let uplink = rig.uplink;
    let key = netpath_common::maps::SegmentKey { ifindex: uplink, udp_port: 4789, id: 5001 };
    let mut segment: netpath_common::maps::Segment = rig.get("SEGMENTS", key).unwrap();
    segment.flags = netpath_common::maps::segment_flags::STRIP;
    rig.put("SEGMENTS", key, segment);
    let frame = outer(&rig).wrap(&guest(C).to(A).udp(1, 2).payload(vec![7; 3000]).checksum(Checksum::Zero).build());
    let out = rig.tc_gso("from_uplink", uplink, &frame, 1400);
    out.assert_dropped(BLUE, R::EncapsulationRefused);
}

/// Refusals that a guest's frame alone does not bring about: each with what does.
const OTHERS: [Provoked; 11] = [
    (R::UnknownPort, |rig| rig.tc("from_guest", rig.uplink, &guest(A).to(B).udp(1, 2).build())),
    (R::MalformedFrame, |rig| rig.from_a(RED, &guest(A).to(B).vlan(5).udp(1, 2).build()[..16])),
    (R::VxlanNoVni, |rig| rig.xdp(&outer(rig).flags(0, [0; 3], 0).wrap(&from_c().build()))),
    (R::VxlanMalformed, |rig| rig.xdp(&outer(rig).wrap(&from_c().build())[..60])),
    (R::UnknownSegment, |rig| rig.xdp(&outer_of(rig, 9, THERE).wrap(&from_c().build()))),
    (R::UnknownEndpoint, |rig| rig.xdp(&outer_of(rig, 5001, [192, 0, 2, 77].into()).wrap(&from_c().build()))),
    (R::CongestionNotEcn, |rig| rig.xdp(&outer(rig).outer(|p| p.tos(3)).wrap(&from_c().build()))),
    (R::NotOnThisHost, |rig| rig.xdp(&outer(rig).wrap(&guest(STRANGER).to(C).udp(1, 2).build()))),
    (R::ReservedVlan, |rig| rig.tc("from_uplink", rig.uplink, &from_c().vlan(4095).build())),
    (R::UnderlayUnresolved, |rig| {
        rig.change("TUNNELS", crate::rig::TUNNEL, |tunnel: &mut Tunnel| tunnel.remote = [198, 51, 100, 1]);
        rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).build())
    }),
    (R::EncapsulationRefused, |rig| rig.tc_gso("from_guest", rig.ports[&(BLUE, 11)], &super_packet(), 1000)),
];

fn from_c() -> Packet {
    guest(C).to(A).udp(1, 2)
}

/// A frame from `remote`, in `vni`.
fn outer_of(rig: &Rig, vni: u32, remote: Ipv4Addr) -> Outer {
    Outer::new(vni, (THERE_MAC, remote), (rig.uplink_mac, HERE))
}

/// A super-packet of no kind that the kernel knows: a test run sets its segment size, and no more.
fn super_packet() -> Vec<u8> {
    guest(A).to(C).udp(1, 2).payload(vec![7; 3000]).build()
}

#[test]
fn every_reason_is_given_by_some_packet() {
    let mut given: BTreeSet<R> = refused_from_a().into_iter().map(|(reason, _)| reason).collect();
    for (reason, refuse) in OTHERS {
        let out = refuse(&mut Rig::new());
        assert_eq!(out.drops.iter().map(|((_, reason), count)| (*reason, *count)).collect::<Vec<_>>(), [(reason, 1)]);
        given.insert(reason);
    }
    given.extend(ROUTED.map(|(reason, _)| reason));
    given.extend(FULL.map(|(reason, _)| reason));
    given.extend(LIMITED.map(|(reason, _)| reason));
    assert_eq!(given.into_iter().collect::<Vec<_>>(), R::ALL);
}
