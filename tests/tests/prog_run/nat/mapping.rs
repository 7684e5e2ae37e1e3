//! Which public end an inside end gets, and that it is the same for every destination.

use netpath_common::{
    DropReason,
    maps::{PoolAddress, gateway_flags},
};
use netpath_tests::packet::Checksum;

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, C, D, DNS, GATEWAY, GREEN, NEIGHBOUR, OTHER_SERVER, PUBLIC, ROUTER, Rig, SERVER, SYN,
    WEB, any, inward, outward, public_of,
};

#[test]
fn u1_mapping_is_endpoint_independent() {
    let mut rig = Rig::routed();
    let ends = [(SERVER, 53), (SERVER, 54), (OTHER_SERVER, 53)];
    let seen: Vec<_> = ends.map(|end| rig.udp_out(BLUE, A, 5000, end).seen()).into();
    for (got, end) in seen.iter().zip(ends) {
        assert_eq!(got.source, seen[0].source);
        assert_eq!((got.source.0, got.destination), (BLUE_PUBLIC, end));
    }
}

#[test]
fn t1_mapping_is_endpoint_independent() {
    let mut rig = Rig::routed();
    let ends = [(SERVER, 80), (SERVER, 443), (OTHER_SERVER, 80)];
    let seen = ends.map(|end| rig.tcp_out(BLUE, A, 5000, end, SYN).seen().source);
    assert!(seen.iter().all(|end| *end == seen[0]), "{seen:?}");
}

#[test]
fn r1_a_routed_packet_has_one_hop_less_and_the_next_hops_macs() {
    let mut rig = Rig::routed();
    let got = rig.from(BLUE, A, &outward(A).udp(5000, 53).ttl(64).payload(b"query")).seen();
    assert_eq!((got.ttl, &got.payload[..]), (63, &b"query"[..]));
    assert_eq!(got.macs, (rig.uplink_mac, ROUTER.mac));
    let back = rig.arrives(DNS, got.source, (A.ip, 5000));
    assert_eq!((back.ttl, back.macs), (63, (GATEWAY.0, A.mac)));
}

#[test]
fn a_station_on_the_public_link_is_reached_without_the_router() {
    let mut rig = Rig::routed();
    let got = rig.udp_out(BLUE, A, 5000, (NEIGHBOUR.ip, 53)).seen();
    assert_eq!(got.macs, (rig.uplink_mac, NEIGHBOUR.mac));
    let reply = inward(NEIGHBOUR.ip, got.source.0).from_mac(NEIGHBOUR.mac).udp(53, got.source.1);
    assert_eq!(rig.from_wire(&reply).seen().destination, (A.ip, 5000));
}

#[test]
fn u7_tenants_with_the_same_addresses_are_never_crossed() {
    let mut rig = Rig::routed();
    for network in [BLUE, GREEN] {
        let got = rig.udp_out(network, A, 5000, DNS).seen();
        assert_eq!(got.source.0, public_of(network));
        let wrapped = rig.udp_in(DNS, got.source);
        assert_eq!(wrapped.seen().destination, (A.ip, 5000));
        assert_eq!(wrapped.counters[0].0, crate::rig::slot(network, A));
    }
}

/// X1 for flows: the same five-tuple of two tenants is two connections with a state of their own.
#[test]
fn x1_the_same_flow_in_two_networks_is_two_connections() {
    let mut rig = Rig::routed();
    let blue = rig.connect(BLUE, A, 5000, WEB);
    let green = rig.connect(GREEN, A, 5000, WEB);
    assert_ne!(blue, green);
    assert_eq!(rig.flows().len(), 4);
    rig.tcp_in(WEB, blue, crate::rig::RST).seen();
    let state = |network| rig.flow_out(network, 6, (A.ip, 5000), WEB).unwrap().state;
    assert_ne!(state(BLUE), state(GREEN));
}

/// U7: a host outside that has the very address of a host inside.
#[test]
fn u7_an_outside_host_with_an_inside_address_is_not_reached_inside() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let out = rig.udp_in((B.ip, 53), public);
    assert_eq!(out.counters, [], "{out:?}");
    assert_eq!(out.drops.len(), 1);
}

/// The guest's own host would route the answer to whoever has the address inside.
#[test]
fn u7_an_outside_host_with_an_inside_address_does_not_reach_a_guest_of_another_host() {
    let mut rig = Rig::routed();
    rig.tier();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, C, 22);
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2223, A, 22);
    for outside in [B.ip, D.ip] {
        let there = rig.tcp_in((outside, 4000), (BLUE_PUBLIC, 2222), SYN);
        there.assert_dropped(BLUE, DropReason::MartianSource);
        assert_eq!(rig.tcp_in((outside, 4000), (BLUE_PUBLIC, 2223), SYN).seen().destination, (A.ip, 22));
        let answer = rig.tcp_out(BLUE, A, 22, (outside, 4000), SYN | ACK).seen();
        assert_eq!((answer.source, answer.macs.1), ((BLUE_PUBLIC, 2223), ROUTER.mac));
    }
    assert_eq!(rig.tcp_in((SERVER, 4000), (BLUE_PUBLIC, 2222), SYN).seen().destination, (C.ip, 22));
}

#[test]
fn u2_c2_a_guest_has_one_public_address_for_all_its_flows() {
    let mut rig = Rig::routed();
    let second = PoolAddress { side: PUBLIC, address: [203, 0, 113, 77], pool: 9 };
    rig.public_address(BLUE, second.address.into(), 0, Default::default());
    rig.change_gateway(BLUE, |gateway| {
        gateway.pool[1] = second;
        gateway.pool_count = 2;
    });
    for station in [A, B] {
        let mut of_guest = std::collections::BTreeSet::new();
        for port in [1000, 2001, 3002, 4003, 5004] {
            of_guest.insert(rig.udp_out(BLUE, station, port, DNS).seen().source.0);
            of_guest.insert(rig.tcp_out(BLUE, station, port, WEB, SYN).seen().source.0);
            of_guest.insert(rig.ping_out(BLUE, station, port, SERVER).seen().source.0);
        }
        assert_eq!(of_guest.len(), 1, "{of_guest:?}");
        assert!([BLUE_PUBLIC, second.address.into()].contains(of_guest.first().unwrap()), "{of_guest:?}");
    }
}

#[test]
fn c3_guests_are_spread_over_the_addresses_of_their_network_and_each_is_reached_by_its_own() {
    let mut rig = Rig::routed();
    let address = |n: u8| PoolAddress { side: PUBLIC, address: [203, 0, 113, 70 + 3 * n], pool: 10 + u32::from(n) };
    let pool: Vec<_> = (0..8).map(address).collect();
    for address in &pool {
        rig.public_address(BLUE, address.address.into(), 0, Default::default());
    }
    rig.change_gateway(BLUE, |gateway| {
        gateway.pool[..8].copy_from_slice(&pool);
        gateway.pool_count = 8;
    });
    let public = [A, B].map(|station| rig.udp_out(BLUE, station, 5000, DNS).seen().source);
    assert!(public.iter().all(|end| pool.iter().any(|p| end.0.octets() == p.address)), "{public:?}");
    assert!(public.iter().all(|end| end.0.octets() != pool[0].address), "not only the first: {public:?}");
    assert_ne!(public[0], public[1]);
    rig.arrives(DNS, public[0], (A.ip, 5000));
    rig.arrives(DNS, public[1], (B.ip, 5000));
}

/// From a public address that is also a host's tunnel address it would be let into any tenant's network there (V14).
#[test]
fn a_guest_whose_public_address_is_a_tunnels_sends_nothing_to_tunnels() {
    let mut rig = Rig::routed();
    rig.tunnel_port(SERVER, 4789);
    for network in [BLUE, GREEN] {
        rig.udp_out(network, A, 5000, (SERVER, 4789)).seen();
    }
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::TUNNEL_ADDRESS);
    for port in [5000, 5001] {
        rig.udp_out(BLUE, A, port, (SERVER, 4789)).assert_refused(BLUE, DropReason::MartianDestination);
        rig.udp_out(BLUE, A, port, (SERVER, 4790)).seen();
        rig.udp_out(GREEN, A, port, (SERVER, 4789)).seen();
    }
}

#[test]
fn u10_t6_payload_with_the_guests_address_is_not_touched() {
    let mut rig = Rig::routed();
    let sip = b"INVITE sip:x SIP/2.0\r\nContact: <sip:10.1.1.11:5060>\r\n\r\nc=IN IP4 10.1.1.11\r\n";
    let got = rig.from(BLUE, A, &outward(A).udp(5060, 5060).payload(sip)).seen();
    assert_eq!(got.payload, sip);
    let ftp = b"PORT 10,1,1,11,19,136\r\n";
    let got = rig.from(BLUE, A, &outward(A).tcp(5061, 21, 0x18).payload(ftp)).seen();
    assert_eq!(got.payload, ftp);
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).udp(5000, 53).checksum(Checksum::Zero));
    let public = out.seen().source;
    assert_eq!(out.bytes[40..42], [0, 0]);
    let back = inward(SERVER, public.0).udp(53, public.1).checksum(Checksum::Zero);
    let out = rig.from_wire(&back);
    assert_eq!(out.seen().destination, (A.ip, 5000));
    let bytes = &out.bytes;
    let udp = bytes.len() - 8 - b"netpath".len();
    assert_eq!(bytes[udp + 6..udp + 8], [0, 0]);
}

/// A sum that comes to zero is sent as all ones (RFC 768), and odd lengths sum right; sums of every kind of rewrite.
#[test]
fn checksums_are_right_whatever_the_bytes() {
    let mut rig = Rig::routed();
    for n in 0..300u16 {
        let payload = [n.to_be_bytes(), (n.wrapping_mul(40503)).to_be_bytes()].concat();
        let packet = outward(A).udp(5000, 53).id(n).payload(&payload[..2 + usize::from(n % 3)]);
        let got = rig.from(BLUE, A, &packet).seen();
        assert_eq!(got.payload, payload[..2 + usize::from(n % 3)]);
        rig.udp_in(DNS, got.source).seen();
    }
}

#[test]
fn r8_ip_options_do_not_hide_the_ports() {
    let mut rig = Rig::routed();
    for options in [&[1u8, 1, 1, 1][..], &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0], &[1; 40]] {
        let out = rig.from(BLUE, A, &outward(A).udp(5000, 53).options(options));
        assert_eq!(out.seen().source, (BLUE_PUBLIC, 5000));
    }
}
