//! A packet for every reason that a gateway refuses one.

use netpath_common::{
    DropReason as R,
    maps::{BLOCKS, Forward, Gateway, Resolved, nat_place, stage},
};
use netpath_tests::packet::{Body, Checksum, Endpoint, guest};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, D, DNS, GATEWAY_IP, LINK, NEIGHBOUR, OTHER_SERVER, PUBLIC_VLAN, Provoked, ROUTER, Rig,
    SERVER, STRANGER, SYN, TIER, WEB, any, inward, only_from, outward,
};

/// Each with what brings it about in a rig with gateways.
pub const ROUTED: [Provoked; 24] = [
    (R::BadIpv4Checksum, |rig| rig.from(BLUE, A, &outward(A).udp(1, 2).ip_checksum(Checksum::Wrong))),
    (R::MartianSource, |rig| rig.from_wire(&inward([127, 0, 0, 1].into(), BLUE_PUBLIC).udp(1, 2))),
    (R::MartianDestination, |rig| rig.from(BLUE, A, &outward(A).to_ip([240, 0, 0, 1]).udp(1, 2))),
    (R::TtlExpired, |rig| rig.from(BLUE, A, &outward(A).udp(1, 2).ttl(1))),
    (R::EgressDenied, |rig| {
        rig.egress(BLUE, false, &[]);
        rig.udp_out(BLUE, A, 5000, DNS)
    }),
    (R::IngressDenied, |rig| {
        rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
        rig.tcp_in(WEB, (BLUE_PUBLIC, 2222), SYN)
    }),
    (R::AclDenied, |rig| {
        rig.tier();
        rig.acl(TIER, &[], &[]);
        rig.from(BLUE, A, &outward(A).to_ip(D.ip).udp(1, 2))
    }),
    (R::Unsolicited, |rig| rig.udp_in(DNS, (BLUE_PUBLIC, 5000))),
    (R::UnsolicitedSource, |rig| {
        rig.udp_out(BLUE, A, 5000, DNS).seen();
        rig.udp_in((OTHER_SERVER, 53), (BLUE_PUBLIC, 5000))
    }),
    (R::PortsExhausted, |rig| {
        (0..3 * BLOCKS).for_each(|block| rig.array("PORT_BLOCKS", block, u64::MAX));
        rig.udp_out(BLUE, A, 5000, DNS)
    }),
    (R::ConnectionLimit, |rig| {
        rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 2);
        rig.udp_out(BLUE, A, 5000, DNS).seen();
        rig.udp_out(BLUE, A, 5001, DNS)
    }),
    (R::FragmentBeforeFirst, |rig| {
        let body = Body::Ip { protocol: 17, payload: vec![0; 64] };
        rig.from(BLUE, A, &outward(A).body(body).fragment(9, false))
    }),
    (R::NeighbourUnresolved, |rig| {
        rig.change("UPSTREAM_MACS", LINK, |row: &mut Resolved| *row = Resolved::default());
        rig.udp_out(BLUE, A, 5000, DNS)
    }),
    (R::NoPublicAddress, |rig| {
        rig.change_gateway(BLUE, |gateway: &mut Gateway| {
            (gateway.pool_count, gateway.nat_place) = (0, nat_place::NONE);
        });
        rig.udp_out(BLUE, A, 5000, DNS)
    }),
    (R::IcmpErrorUnmatched, |rig| {
        let quote = crate::rig::ip_bytes(&inward(BLUE_PUBLIC, SERVER).udp(5000, 53));
        let error = Body::Icmp { kind: 3, code: 3, rest: [0; 4], payload: quote };
        rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error))
    }),
    (R::MalformedIcmp, |rig| {
        let error = Body::Icmp { kind: 3, code: 3, rest: [0; 4], payload: vec![0x45; 9] };
        rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error))
    }),
    (R::GatewayClosed, |rig| rig.from(BLUE, A, &outward(A).to_ip(GATEWAY_IP).udp(1, 2))),
    (R::NatProtocol, |rig| rig.from(BLUE, A, &outward(A).body(Body::Ip { protocol: 47, payload: vec![0; 40] }))),
    (R::RoutedTooOften, |rig| {
        // A loop by definition would be refused before it is in force; a program that is missing ends as one.
        rig.remove_stage(stage::CONNECT);
        let out = rig.udp_out(BLUE, A, 5000, DNS);
        rig.load_stages();
        out
    }),
    (R::AddressConflict, |rig| {
        let station = Endpoint { ip: BLUE_PUBLIC, ..NEIGHBOUR };
        rig.from_wire(&guest(station).arp_reply(ROUTER).vlan(PUBLIC_VLAN))
    }),
    (R::Ipv6NotRouted, |rig| {
        rig.from(BLUE, A, &outward(A).over_ipv6(A, STRANGER).to_mac(crate::rig::GATEWAY.0).udp(1, 2))
    }),
    (R::MalformedTransport, |rig| rig.from(BLUE, A, &outward(A).body(Body::Ip { protocol: 6, payload: vec![0; 9] }))),
    (R::ConnectionClash, |rig| {
        rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
        for port in [2222, 2223] {
            rig.forward_tcp(BLUE, BLUE_PUBLIC, port, B, 22);
        }
        rig.tcp_in(WEB, (BLUE_PUBLIC, 2222), SYN).seen();
        rig.tcp_in(WEB, (BLUE_PUBLIC, 2223), SYN)
    }),
    (R::ForwardDenied, |rig| {
        rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
        let sources = rig.rules(&[only_from(OTHER_SERVER, any(true))]);
        let to = Forward {
            sources_start: sources.start,
            sources_count: sources.count,
            network: BLUE,
            address: B.ip.octets(),
            ..Forward::default()
        };
        rig.forward(BLUE_PUBLIC, 6, 2222, 16, to);
        rig.tcp_in(WEB, (BLUE_PUBLIC, 2222), SYN)
    }),
];

/// Each with the map whose few rows bring it about.
pub const FULL: [(R, &str); 2] = [(R::FlowTableFull, "FLOWS"), (R::BindingTableFull, "BINDINGS")];

#[test]
fn every_refusal_of_a_gateway_has_its_reason() {
    for (reason, refuse) in ROUTED {
        let out = refuse(&mut Rig::routed());
        assert_eq!(out.drops.iter().map(|((_, why), count)| (*why, *count)).collect::<Vec<_>>(), [(reason, 1)]);
    }
    for (reason, map) in FULL {
        let mut rig = Rig::routed_sized(&[(map, 4)]);
        let out: Vec<_> = (5000..5008).flat_map(|port| rig.udp_out(BLUE, A, port, DNS).drops).collect();
        assert!(!out.is_empty() && out.iter().all(|((_, why), _)| *why == reason), "{map}: {out:?}");
    }
}
