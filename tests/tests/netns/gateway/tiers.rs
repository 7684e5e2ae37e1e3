//! Networks of one router, on one host and across two, with an access list.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use netpath_tests::{
    agent::until,
    guest::{KernelGuest, bind_when_free, bulk::tcp_both_ways, kernel::NIC},
    packet::{Endpoint, mac_text},
    topology::{Link, NetNs, TwoHypervisors},
};
use serde_json::{Value, json};

use super::{end, exchange, kernel_guests};
use crate::scene::{UPLINK_MODES, in_mode};

const TIER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 1);

fn station(number: u8) -> Endpoint {
    let of_web = Endpoint::numbered(number);
    Endpoint { mac: [2, 0, 0x0a, 1, 2, number], ip: Ipv4Addr::new(10, 1, 2, number), ..of_web }
}

/// A guest of blue's second tier on a hypervisor.
fn tier_guest(topology: &TwoHypervisors, number: u8, host: usize) -> KernelGuest {
    let ns = NetNs::new(&format!("tier{number}")).unwrap();
    topology.hosts[host].ns.run(|| Link::veth(&format!("vnet2{number}"), NIC, &ns).unwrap().up()).unwrap();
    ns.run(|| Link::named(NIC).offload("rx-gro", true)).unwrap();
    KernelGuest::new(ns, station(number), Some(IpAddr::V4(TIER_GATEWAY)), None).unwrap()
}

/// Blue's second tier: 10.1.2.0/24, NIC 21 on hv1 and 22 on hv2.
fn with_tier(mut definitions: Value, segment: u32) -> Value {
    let nic = |number: u8, host: &str| {
        json!({"instance": format!("db-{number}"), "mac": mac_text(station(number).mac), "ip": station(number).ip,
               "host": host, "device": format!("vnet2{number}")})
    };
    definitions["networks"][0]["router"] = "blue-vpc".into();
    let tier = json!({"name": "blue-db", "account": "blue", "physical_network": "guest", "segment": segment,
        "cidr": "10.1.2.0/24", "gateway": TIER_GATEWAY, "router": "blue-vpc", "offering": "standard",
        "nics": [nic(21, "hv1"), nic(22, "hv2")]});
    definitions["networks"].as_array_mut().unwrap().push(tier);
    definitions
}

#[track_caller]
fn tiers_talk(topology: &TwoHypervisors, db: [&KernelGuest; 2], mode: &str) {
    for number in [11, 12, 13] {
        let web = topology.kernel("blue", number);
        for db in db {
            web.ping(db.station().ip).unwrap();
            db.ping(web.station().ip).unwrap();
            let peer = tcp_both_ways(web.ns(), db.ns(), end(db, 5432), end(db, 5432), 8).unwrap();
            assert_eq!(peer.ip(), web.station().ip, "untranslated, in {mode}");
        }
    }
}

#[test]
fn tiers_are_routed_between_hosts_and_on_one_over_vxlan() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let (one, two) = (tier_guest(&topology, 21, 0), tier_guest(&topology, 22, 1));
        topology.apply(&in_mode(with_tier(topology.gateway_definitions(), 5005), mode));
        tiers_talk(&topology, [&one, &two], mode);
        assert!(!topology.kernel("green", 11).reaches(one.station().ip, std::time::Duration::from_millis(500)));
    }
}

#[test]
fn tiers_are_routed_between_hosts_and_on_one_over_vlans() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let (one, two) = (tier_guest(&topology, 21, 0), tier_guest(&topology, 22, 1));
        topology.apply(&in_mode(with_tier(topology.vlan_gateway_definitions(), 105), mode));
        tiers_talk(&topology, [&one, &two], mode);
    }
}

#[test]
fn an_acl_lets_in_what_it_names_and_nothing_else() {
    let topology = kernel_guests();
    let db = tier_guest(&topology, 22, 1);
    let mut definitions = with_tier(topology.gateway_definitions(), 5005);
    definitions["networks"][2]["acl"] = json!([
        {"number": 1, "direction": "ingress", "action": "deny", "protocol": "tcp", "ports": "5432", "cidrs": ["10.1.1.13/32"]},
        {"number": 2, "direction": "ingress", "action": "allow", "protocol": "tcp", "ports": "5432"},
    ]);
    topology.apply(&in_mode(definitions, "xdp"));
    let (a, c) = (topology.kernel("blue", 11), topology.kernel("blue", 13));
    tcp_both_ways(a.ns(), db.ns(), end(&db, 5432), end(&db, 5432), 2).unwrap();
    assert!(!a.reaches(db.station().ip, std::time::Duration::from_millis(500)), "ping is not in the list");
    let _listener = db.ns().run(|| bind_when_free(|| std::net::TcpListener::bind(end(&db, 5432)))).unwrap();
    let second = std::time::Duration::from_secs(1);
    assert!(c.ns().run(|| std::net::TcpStream::connect_timeout(&end(&db, 5432), second)).is_err());
    // Its own connections go out: an ACL's egress has no tail.
    db.ping(a.station().ip).unwrap();
}

/// X7, with the two hosts at different times: the one that the other's packets come to puts nothing in force again.
#[test]
fn x7_what_an_acl_no_longer_lets_in_stops_in_both_directions_between_hosts() {
    let topology = kernel_guests();
    let db = tier_guest(&topology, 22, 1);
    let mut definitions = with_tier(topology.gateway_definitions(), 5005);
    definitions["networks"][2]["acl"] = json!([
        {"number": 1, "direction": "ingress", "action": "allow", "protocol": "udp", "ports": "4500"},
    ]);
    topology.apply(&in_mode(definitions.clone(), "tc"));
    let web = topology.kernel("blue", 11);
    let [here, there] = [web, &db].map(|guest| {
        let socket = guest.ns().run(|| UdpSocket::bind(end(guest, 4500)).unwrap());
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let crosses = |from: &UdpSocket, to: &UdpSocket| {
        from.send_to(b"netpath", to.local_addr().unwrap()).unwrap();
        until("the datagram arrives", || to.recv(&mut [0; 16]).is_ok());
    };
    crosses(&here, &there);
    crosses(&there, &here);
    definitions["networks"][2]["acl"] = json!([]);
    let file = topology.write("revoked.yaml", &in_mode(definitions, "tc"));
    topology.hosts[1].netpath.apply(&file);
    crosses(&here, &there);
    topology.hosts[0].netpath.apply(&file);
    let denied = || {
        let drops = topology.hosts[0].netpath.drops();
        drops.iter().filter(|((_, reason), _)| reason == "acl_denied").map(|(_, packets)| packets).sum::<u64>()
    };
    for (from, to) in [(&here, &there), (&there, &here), (&here, &there), (&there, &here)] {
        let before = denied();
        from.send_to(b"netpath", to.local_addr().unwrap()).unwrap();
        until("it is refused", || denied() > before);
        assert!(to.recv(&mut [0; 16]).is_err());
    }
}

#[test]
fn u14_large_datagrams_pass_an_acl_in_fragments_both_ways_between_hosts() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let db = tier_guest(&topology, 22, 1);
        let mut definitions = with_tier(topology.gateway_definitions(), 5005);
        definitions["networks"][2]["acl"] = json!([
            {"number": 1, "direction": "ingress", "action": "allow", "protocol": "udp", "ports": "53"},
        ]);
        topology.apply(&in_mode(definitions, mode));
        for number in [11, 12] {
            let web = topology.kernel("blue", number);
            for len in [1, 4000, 40_000] {
                let peer = exchange(web.ns(), db.ns(), end(&db, 53), end(&db, 53), &vec![0xa5; len]);
                assert_eq!(peer.ip(), web.station().ip, "{len} bytes in {mode}");
            }
        }
    }
}
