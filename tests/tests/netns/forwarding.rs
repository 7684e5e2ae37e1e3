//! Guests of one network talk, across hosts and on one host, by every protocol and every way into a guest.

use netpath_tests::packet::{Body, guest};

use crate::scene::{A, B, C, UPLINK_MODES, delivers, kernel_guests_in, raw_guests_in};

#[test]
fn every_kind_of_frame_arrives_unchanged_on_the_other_host() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
        let experimental = Body::Ether { ethertype: 0x88b5, payload: Vec::new() };
        let cases = [
            guest(A).to(B).udp(1000, 2000),
            guest(A).to(B).tcp(1000, 80, 0x18),
            guest(A).to(B).echo_request(1, 1),
            guest(A).to(B).udp(1, 2).options(&[7, 7, 4, 0, 0, 0, 0]),
            guest(A).to(B).udp(1, 2).id(77).fragment(0, true),
            guest(A).to(B).body(Body::Ip { protocol: 17, payload: Vec::new() }).id(77).fragment(64, false),
            guest(A).to(B).body(Body::Ip { protocol: 47, payload: Vec::new() }),
            guest(A).over_ipv6(A, B).udp(1000, 2000),
            guest(A).over_ipv6(A, B).tcp(1000, 80, 0x18),
            guest(A).over_ipv6(A, B).echo_request(1, 1),
            guest(A).over_ipv6(A, B).udp(1, 2).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]),
            guest(A).to(B).body(experimental),
            guest(A).to(B).udp(1000, 2000).ttl(1),
            guest(A).to(B).udp(1000, 2000).tos(0xb8),
        ];
        for packet in &cases {
            delivers(a, b, packet);
        }
        delivers(b, a, &guest(B).to(A).udp(2000, 1000));
        delivers(b, a, &guest(B).to(A).tcp(80, 1000, 0x12));
    }
}

#[test]
fn frames_of_every_size_up_to_the_mtu_arrive() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
        for len in [0, 1, 17, 18, 63, 64, 500, 1471, 1472] {
            let frame = guest(A).to(B).udp(len, 9).payload(vec![0x5a; usize::from(len)]).build();
            a.send(&frame);
            b.expect_frame(&frame);
        }
        // A minimal frame keeps its padding (Q10).
        let padded = guest(A).to(B).udp(1, 9).payload([1]).padded_to(60).build();
        a.send(&padded);
        b.expect_frame(&padded);
    }
}

#[test]
fn guests_of_one_host_talk_without_the_wire() {
    let topology = raw_guests_in("xdp");
    let (a, c, wire) = (topology.raw("blue", 11), topology.raw("blue", 13), topology.wire(0));
    let packet = guest(A).to(C).udp(1000, 2000);
    delivers(a, c, &packet);
    delivers(c, a, &guest(C).to(A).tcp(1, 2, 2));
    delivers(a, topology.raw("blue", 12), &guest(A).to(B).udp(1000, 2000));
    let (to_c, to_b) = (C.mac, B.mac);
    wire.expect_none_before(
        |frame| frame.windows(6).any(|bytes| bytes == to_c),
        |frame| frame.windows(6).any(|bytes| bytes == to_b),
    );
}

#[test]
fn kernel_guests_ping_and_exchange_udp_across_hosts_and_locally() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests_in(mode);
        for tenant in ["blue", "green"] {
            let (a, b, c) = (topology.kernel(tenant, 11), topology.kernel(tenant, 12), topology.kernel(tenant, 13));
            for (from, to) in [(a, b), (b, a), (a, c), (c, b)] {
                from.ping(to.station().ip).unwrap();
                from.ping(to.station().ip6).unwrap();
                from.exchanges_udp(to, &[7; 1400]).unwrap();
            }
        }
    }
}

#[test]
fn bulk_tcp_into_a_tap_arrives_byte_for_byte() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests_in(mode);
        let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        b.sends_tcp(a, 100, false).unwrap();
        b.sends_tcp(a, 30, true).unwrap();
    }
}

#[test]
fn bulk_tcp_from_a_tap_into_a_veth_arrives_byte_for_byte() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests_in(mode);
        let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        a.sends_tcp(b, 100, false).unwrap();
        a.sends_tcp(b, 30, true).unwrap();
    }
}

#[test]
fn bulk_tcp_between_guests_of_one_host_arrives_byte_for_byte() {
    let topology = kernel_guests_in("xdp");
    let (a, c) = (topology.kernel("blue", 11), topology.kernel("blue", 13));
    a.sends_tcp(c, 100, false).unwrap();
    c.sends_tcp(a, 100, true).unwrap();
}

#[test]
fn large_udp_in_fragments_arrives() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests_in(mode);
        let (a, b) = (topology.kernel("green", 11), topology.kernel("green", 12));
        a.ping(b.station().ip).unwrap();
        a.exchanges_udp(b, &[0xa5; 20_000]).unwrap();
    }
}
