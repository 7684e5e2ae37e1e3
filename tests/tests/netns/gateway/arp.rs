//! ARP on the public link: each public address is answered by the one host that has it.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use netpath_tests::{
    connections::acquainted,
    guest::{
        PacketSocket, RawGuest,
        kernel::NIC,
        raw::{contains, marker},
    },
    packet::{Endpoint, dissect, guest},
    topology::{
        Link,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER, STATION},
        netns::sysctl,
    },
};

use super::{online, own, raw_online, shared};

#[test]
fn public_addresses_are_answered_by_exactly_one_host() {
    let topology = online("xdp");
    let station = topology.internet().station.ns().clone();
    let socket = RawGuest::on_socket("station", station.run(|| PacketSocket::open(NIC)).unwrap());
    let ours = [shared("blue"), own("blue"), shared("green"), own("green")];
    let nobodys = Ipv4Addr::new(203, 0, 113, 99);
    for address in ours.into_iter().chain([nobodys]).chain(ours) {
        socket.send(guest(STATION).arp_request(address).build());
    }
    // The router's answer comes after all others: the bridge and each host keep their order.
    let mut replies: BTreeMap<Ipv4Addr, Vec<_>> = BTreeMap::new();
    for _ in 0..8 {
        let frame = socket.expect("an answer", |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.0 == 2));
        let (_, mac, address, ..) = dissect(&frame).unwrap().arp().unwrap();
        replies.entry(address).or_default().push(mac);
    }
    socket.send(guest(STATION).arp_request(ROUTER.ip).build());
    socket.expect_none_before(
        |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.0 == 2 && arp.2 != ROUTER.ip),
        |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == ROUTER.ip),
    );
    assert_eq!(replies.keys().copied().collect::<Vec<_>>(), ours);
    let hv1 = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    for (address, macs) in replies {
        assert_eq!(macs, [hv1, hv1], "{address}");
    }
}

/// Inside, nobody has a public address.
#[test]
fn a2_public_addresses_are_not_answered_inside() {
    let topology = raw_online(|definitions| definitions);
    let a = topology.raw("blue", 11);
    let station = Endpoint::numbered(11);
    a.send(guest(station).arp_request(shared("green")).build());
    a.send(guest(station).arp_request(Ipv4Addr::new(10, 1, 1, 1)).build());
    let is_reply =
        |f: &[u8], from: Ipv4Addr| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| (arp.0, arp.2) == (2, from));
    a.expect_none_before(|f| is_reply(f, shared("green")), |f| is_reply(f, Ipv4Addr::new(10, 1, 1, 1)));
}

/// What is known of the old router is not the new one's.
#[test]
fn another_router_in_the_definitions_has_the_packets_at_once() {
    let topology = raw_online(|definitions| definitions);
    let internet = topology.internet();
    let gateway = acquainted(&topology, &internet.raw_router());
    let ns = internet.station.ns().clone();
    let station = RawGuest::on_socket("station", ns.run(|| PacketSocket::open(NIC)).unwrap());
    let mut definitions = topology.gateway_definitions();
    definitions["public_ranges"][0]["gateway"] = STATION.ip.to_string().into();
    topology.apply(&definitions);
    let a = topology.raw("blue", 11);
    // Well before what is known of the first router would be old.
    let deadline = Instant::now() + Duration::from_secs(25);
    let payload = marker();
    let sent = guest(Endpoint::numbered(11)).to_mac(gateway).to_ip(INTERNET.ip).udp(9, 9).payload(&payload).build();
    let arrived = std::iter::from_fn(|| (Instant::now() < deadline).then(|| a.send(&sent)))
        .find_map(|()| station.until(Instant::now() + Duration::from_millis(100), |f| contains(f, &payload)));
    assert_eq!(dissect(&arrived.expect("nothing came to the new router")).unwrap().dst_mac, STATION.mac);
}

/// An upstream router that was replaced announces itself, as routers do (RFC 5227 §3), and is followed at once.
#[test]
fn a_router_with_a_new_mac_address_is_found_again() {
    let topology = online("xdp");
    let internet = topology.internet();
    internet
        .router
        .run(|| -> anyhow::Result<()> {
            sysctl(&format!("net/ipv4/conf/{NIC}/arp_notify"), "1")?;
            Link::named(NIC).mac([2, 0, 203, 0, 113, 0x77])
        })
        .unwrap();
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
}
