//! Static NAT of guests that are not on their network's NAT host: NIC 12 of both tenants, on hv2, has a public address of its own.

use std::net::Ipv4Addr;

use netpath_tests::{
    connections::{acquainted, gateway_of, until_found},
    guest::{
        KernelGuest, RawGuest,
        bulk::tcp_both_ways,
        raw::{contains, marker},
    },
    packet::{Packet, dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER, STATION},
        two_hypervisors::TENANTS,
    },
};
use serde_json::{Value, json};

use super::{end, exchange, kernel_guests, own, raw_online, shared};
use crate::scene::{A, B, UPLINK_MODES, in_mode};

/// The public address of a tenant's NIC 12.
fn remote(tenant: &str) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, if tenant == TENANTS[0] { 12 } else { 22 })
}

/// The definitions with addresses for NICs 12, and no forwarded port that leads there.
fn with_remote(mut definitions: Value) -> Value {
    for (tenant, network) in TENANTS.iter().zip(definitions["networks"].as_array_mut().unwrap()) {
        let nic = format!("{tenant}-12");
        network["port_forwarding"].as_array_mut().unwrap().retain(|forward| forward["to"] != nic.as_str());
        network["static_nat"].as_array_mut().unwrap().push(json!({"public": remote(tenant), "nic": nic}));
        let all = json!({"public": remote(tenant), "protocol": "all"});
        network["firewall"]["ingress"].as_array_mut().unwrap().push(all);
    }
    definitions
}

/// What a hypervisor puts on the public link.
fn public_wire(topology: &TwoHypervisors, host: usize) -> RawGuest {
    topology.internet().wire(host)
}

/// The address that an ARP reply is about.
fn answered(frame: &[u8]) -> Option<Ipv4Addr> {
    dissect(frame).and_then(|parts| parts.arp()).filter(|arp| arp.0 == 2).map(|arp| arp.2)
}

/// Asserts that one hypervisor answers ARP for the address and the other, which has `others`, does not.
#[track_caller]
fn answers(topology: &TwoHypervisors, host: usize, address: Ipv4Addr, others: Ipv4Addr) {
    let [here, there] = [host, 1 - host].map(|host| public_wire(topology, host));
    let router = topology.internet().raw_router();
    for asked in [address, others] {
        router.send(guest(ROUTER).arp_request(asked).build());
    }
    let mac = topology.hosts[host].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let reply = here.expect("the answer", |frame| answered(frame) == Some(address));
    assert_eq!(reply[6..12], mac);
    there.expect_none_before(|frame| answered(frame) == Some(address), |frame| answered(frame) == Some(others));
}

#[test]
fn a_guests_own_host_answers_for_its_address_and_its_packets_pass_no_other() {
    for mode in UPLINK_MODES {
        let topology = raw_online(|definitions| in_mode(with_remote(definitions), mode));
        answers(&topology, 1, remote("blue"), shared("blue"));
        let router = topology.internet().raw_router();
        // Turns the router's own stack off.
        acquainted(&topology, &router);
        let (b, gateway) = (topology.raw("blue", 12), gateway_of(&topology, "blue"));
        until_found(b, B, gateway, &router);

        let (underlay, link) = (topology.wire(1), public_wire(&topology, 0));
        let mac = topology.hosts[1].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
        let mut payloads = Vec::new();
        for _ in 0..5 {
            let (out, back) = (marker(), marker());
            let to = guest(B).to_mac(gateway).to_ip(INTERNET.ip).udp(4500, 7777).dont_fragment();
            b.send(to.payload(&out).build());
            let sent = router.expect("the datagram outside", |frame| contains(frame, &out));
            let as_own = Packet::between(mac, ROUTER.mac, remote("blue").into(), INTERNET.ip.into()).ttl(63);
            assert_eq!(sent, as_own.dont_fragment().udp(4500, 7777).payload(&out).build(), "in {mode}");
            let from = Packet::between(ROUTER.mac, mac, INTERNET.ip.into(), remote("blue").into()).udp(7777, 4500);
            router.send(from.payload(&back).build());
            let to_guest = Packet::between(gateway, B.mac, INTERNET.ip.into(), B.ip.into()).ttl(63);
            b.expect_frame(&to_guest.udp(7777, 4500).payload(&back).build());
            payloads.extend([out, back]);
        }
        // What both hosts say after it, on either link: none of it came before.
        let is_one = |frame: &[u8]| payloads.iter().any(|payload| contains(frame, payload));
        let last = marker();
        b.send(guest(B).to(A).payload(&last).build());
        underlay.expect_none_before(is_one, |frame| contains(frame, &last));
        topology.raw("blue", 11).send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(9, 9).payload(&last).build());
        link.expect_none_before(is_one, |frame| contains(frame, &last));
        let flows = [0, 1].map(|host| topology.hosts[host].netpath.json(["show", "flows", "--port", "4500"]));
        assert_eq!(flows.map(|flows| flows.as_array().unwrap().len()), [0, 1], "in {mode}");
    }
}

/// A guest is reached at `address` from outside by everything, and is known by it outside.
#[track_caller]
fn speaks_as(topology: &TwoHypervisors, guest: &KernelGuest, address: Ipv4Addr) {
    let internet = topology.internet();
    guest.ping(INTERNET.ip).unwrap();
    for client in [&internet.host, &internet.station] {
        client.ping(address).unwrap();
        let peer = tcp_both_ways(client.ns(), guest.ns(), (address, 4433).into(), end(guest, 4433), 8).unwrap();
        assert_eq!(peer.ip(), client.station().ip, "the client's address is kept");
        exchange(client.ns(), guest.ns(), (address, 4433).into(), end(guest, 4433), &[2; 4000]);
    }
    for (server, ip) in [(&internet.host, INTERNET.ip), (&internet.station, STATION.ip)] {
        let web = (ip, 80).into();
        let peer = tcp_both_ways(guest.ns(), server.ns(), web, web, 8).unwrap();
        assert_eq!(peer.ip(), address);
        assert_eq!(exchange(guest.ns(), server.ns(), web, web, &[3; 4000]).ip(), address);
    }
}

#[test]
fn guests_whose_own_hosts_translate_speak_to_the_world_and_to_each_other_by_their_own_addresses() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        topology.apply(&in_mode(with_remote(topology.gateway_definitions()), mode));
        for tenant in TENANTS {
            speaks_as(&topology, topology.kernel(tenant, 12), remote(tenant));
        }
        let [blue11, blue12, blue13] = [11, 12, 13].map(|number| topology.kernel("blue", number));
        let green12 = topology.kernel("green", 12);
        for (from, by, to, at) in [
            (blue11, shared("blue"), blue12, remote("blue")),
            (blue13, own("blue"), blue12, remote("blue")),
            (blue12, remote("blue"), blue13, own("blue")),
            (blue12, remote("blue"), green12, remote("green")),
            (green12, remote("green"), blue12, remote("blue")),
        ] {
            from.ping(at).unwrap();
            let peer = tcp_both_ways(from.ns(), to.ns(), (at, 4433).into(), end(to, 4433), 4).unwrap();
            assert_eq!(peer.ip(), by, "to {at} in {mode}");
        }
        let peer = tcp_both_ways(blue12.ns(), blue13.ns(), (shared("blue"), 2222).into(), end(blue13, 22), 4).unwrap();
        assert_eq!(peer.ip(), remote("blue"), "to a forwarded port in {mode}");
    }
}

/// The host of a static address and its link there, as `show nat` has them: of the host that translates, and of the guest's own.
fn places(topology: &TwoHypervisors, address: Ipv4Addr) -> [Value; 2] {
    [0, 1].map(|host| {
        let nat = topology.hosts[host].netpath.json(["show", "nat", "--address", &address.to_string()]);
        let rows = nat["addresses"].as_array().unwrap().iter().map(|row| json!([row["host"], row["link"]]));
        rows.collect()
    })
}

#[test]
fn where_a_guests_own_host_has_no_public_uplink_the_nat_host_translates_for_it() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let mut definitions = in_mode(with_remote(topology.gateway_definitions()), mode);
        topology.apply(&definitions);
        for tenant in TENANTS {
            let here = json!([["hv2", "public/untagged"]]);
            assert_eq!(places(&topology, remote(tenant)), [json!([]), here], "{tenant} in {mode}");
        }
        definitions["hosts"][1]["uplinks"].as_object_mut().unwrap().remove("public");
        topology.apply(&definitions);
        for tenant in TENANTS {
            let here = json!([["hv1", "public/untagged"]]);
            assert_eq!(places(&topology, remote(tenant)), [here, json!([["hv1", null]])], "{tenant} in {mode}");
            speaks_as(&topology, topology.kernel(tenant, 12), remote(tenant));
        }
        let own_flows = topology.hosts[0].netpath.json(["show", "flows", "--address", &remote("blue").to_string()]);
        assert!(!own_flows.as_array().unwrap().is_empty());
        let elsewhere = topology.hosts[1].netpath.json(["show", "flows"]);
        assert!(elsewhere.as_array().unwrap().iter().all(|flow| flow["state"] == "transit"), "{elsewhere}");
    }
}

#[test]
fn a_guest_that_forwarded_ports_lead_to_has_its_own_address_where_those_are() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        let mut definitions = in_mode(with_remote(topology.gateway_definitions()), mode);
        let forward =
            json!({"public": shared("blue"), "protocol": "tcp", "ports": "2223", "to": "blue-12", "to_ports": 22});
        definitions["networks"][0]["port_forwarding"].as_array_mut().unwrap().push(forward);
        topology.apply(&definitions);
        answers(&topology, 0, remote("blue"), remote("green"));
        answers(&topology, 1, remote("green"), shared("blue"));
        let guest = topology.kernel("blue", 12);
        speaks_as(&topology, guest, remote("blue"));
        let internet = topology.internet().host.ns();
        let peer = tcp_both_ways(internet, guest.ns(), (shared("blue"), 2223).into(), end(guest, 22), 8).unwrap();
        assert_eq!(peer.ip(), INTERNET.ip);
    }
}
