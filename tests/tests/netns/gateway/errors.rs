//! ICMP errors of real routers and hosts, and path MTU discovery through NAT.

use std::time::{Duration, Instant};

use netpath_tests::{
    guest::{
        PATIENCE, RawGuest,
        bulk::{tcp, tcp_both_ways},
    },
    packet::{Mac, Packet, dissect, guest},
    topology::{
        Link,
        internet::{INTERNET, ROUTER},
        two_hypervisors::GATEWAY,
    },
};

use super::{end, kernel_guests, meet_the_router, online, raw_online, shared};
use crate::scene::{A, UPLINK_MODES, in_mode};

/// The gateway's MAC address, as the guest learns it.
fn gateway_of(guest_: &RawGuest) -> Mac {
    guest_.send(guest(A).arp_request(GATEWAY).build());
    let reply = guest_.expect("the gateway", |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == GATEWAY));
    dissect(&reply).unwrap().arp().unwrap().1
}

/// Sends a packet until an ICMP error about it comes, as traceroute does, and gives who sent it and what it quotes.
#[track_caller]
fn probe(a: &RawGuest, packet: &Packet, kind: (u8, u8)) -> (std::net::IpAddr, Vec<u8>) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        a.send(packet.build());
        let soon = Instant::now() + Duration::from_secs(3);
        if let Some(error) = a.until(soon, |f| dissect(f).is_some_and(|d| d.icmp() == Some(kind))) {
            let parts = dissect(&error).unwrap();
            let ip = parts.ip.unwrap();
            assert_eq!(ip.dst, std::net::IpAddr::from(A.ip));
            return (ip.src, ip.message[8..].to_vec());
        }
    }
    panic!("no error {kind:?} about {packet:?}");
}

/// What traceroute sees: the gateway, the router, the target.
#[test]
fn r1_i4_every_hop_of_a_traceroute_is_seen() {
    let topology = raw_online(|definitions| definitions);
    let a = topology.raw("blue", 11);
    let gateway = gateway_of(a);
    let hop = |ttl, port| guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(40_000, port).ttl(ttl).id(9);
    for (ttl, from, kind) in [(1, GATEWAY, (11, 0)), (2, ROUTER.ip, (11, 0)), (3, INTERNET.ip, (3, 3))] {
        let (source, quote) = probe(a, &hop(ttl, 33_434), kind);
        assert_eq!(source, std::net::IpAddr::from(from));
        assert_eq!(quote[12..16], A.ip.octets(), "the quote is the guest's own packet");
        assert_eq!(quote[20..24], [40_000u16.to_be_bytes(), 33_434u16.to_be_bytes()].concat());
    }
}

#[test]
fn r6_r6b_a_narrow_way_behind_the_router_is_found_and_used() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        let internet = topology.internet();
        internet.router.run(|| Link::named("eth1").mtu(1300)).unwrap();
        // What the host sends does not fit either, and nobody tells it: only the way out is tested.
        let guest_ = topology.kernel("blue", 11);
        tcp(guest_.ns(), internet.host.ns(), INTERNET.ip.into(), 80, 8).unwrap();
    }
}

/// The guests' network takes less than what comes from outside: the sender is told by the public address.
#[test]
fn r6_a_narrow_network_behind_nat_is_found_and_used() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let mut definitions = in_mode(topology.gateway_definitions(), mode);
        for network in definitions["networks"].as_array_mut().unwrap() {
            network["mtu"] = 1400.into();
        }
        topology.apply(&definitions);
        meet_the_router(&topology);
        let internet = topology.internet();
        for (number, port) in [(13, 2222), (12, 2223)] {
            let guest_ = topology.kernel("blue", number);
            let to = (shared("blue"), port).into();
            tcp_both_ways(internet.host.ns(), guest_.ns(), to, end(guest_, 22), 8)
                .unwrap_or_else(|e| panic!("NIC {number} in {mode}: {e:#}: {:?}", topology.hosts[0].netpath.drops()));
        }
    }
}

#[test]
fn r6_a_guest_learns_of_a_narrow_public_link() {
    let topology = kernel_guests();
    topology.hosts[0].ns.run(|| Link::named(netpath_tests::topology::internet::PUBLIC_UPLINK).mtu(1300)).unwrap();
    topology.apply(&in_mode(topology.gateway_definitions(), "tc"));
    meet_the_router(&topology);
    tcp(topology.kernel("blue", 11).ns(), topology.internet().host.ns(), INTERNET.ip.into(), 80, 8).unwrap();
}
