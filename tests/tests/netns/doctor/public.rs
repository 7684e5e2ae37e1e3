//! The public side.

use std::{net::IpAddr, thread, time::Duration};

use netpath_tests::{
    agent::until,
    guest::kernel::NIC,
    topology::{Link, TwoHypervisors, internet::INTERNET},
};
use serde_json::json;

use super::{apply, assert_finds, assert_nothing, hypervisors};
use crate::traffic::{Traffic, beside};

#[test]
fn a_router_that_is_down_is_found_until_it_answers() {
    let topology = hypervisors();
    let (netpath, router) = (&topology.hosts[0].netpath, &topology.internet().router);
    router.run(|| Link::named(NIC).down()).unwrap();
    topology.apply(&topology.gateway_definitions());
    assert_finds(netpath, &[], &[("upstream_silent", "public link public/untagged")]);
    // The other host has no public address: the link is none of its.
    assert_nothing(&topology.hosts[1].netpath, &[]);
    router.run(|| Link::named(NIC).up()).unwrap();
    assert_nothing(netpath, &[]);
    // The data path has heard of it, and goes on for a while; doctor asks by itself.
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
    router.run(|| Link::named(NIC).down()).unwrap();
    assert_finds(netpath, &[], &[("upstream_silent", "public link public/untagged")]);
}

#[test]
fn a_wrong_tag_on_the_public_link_is_found() {
    let topology = hypervisors();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    document["public_ranges"][0]["vlan"] = 901.into();
    apply(&topology, &document);
    assert_finds(netpath, &[], &[("upstream_silent", "public link public/901")]);
    apply(&topology, &topology.gateway_definitions());
    assert_nothing(netpath, &[]);
}

#[test]
fn a_network_that_lets_its_guests_out_without_a_public_address_is_found() {
    let topology = hypervisors();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.vxlan_definitions();
    apply(&topology, &document);
    let both = [("egress_without_address", "network blue-web"), ("egress_without_address", "network green-web")];
    assert_finds(netpath, &[], &both);
    assert_eq!(super::doctor(netpath, &[]).0, 1);
    document["networks"][0]["firewall"] = json!({"egress": [{"protocol": "tcp", "ports": "25"}]});
    apply(&topology, &document);
    assert_finds(netpath, &[], &both);
    let mut document = topology.gateway_definitions();
    apply(&topology, &document);
    assert_nothing(netpath, &[]);
    // Ports that are forwarded, and one guest's own address, are no way out for the others.
    for missing in ["source_nat", "port_forwarding"] {
        let blue = &mut document["networks"][0];
        blue.as_object_mut().unwrap().remove(missing);
        blue["firewall"].as_object_mut().unwrap().remove("ingress");
        apply(&topology, &document);
        assert_finds(netpath, &[], &both[..1]);
    }
}

#[test]
fn a_network_at_its_limit_of_connections_is_found() {
    let topology = hypervisors();
    let mut document = topology.gateway_definitions();
    document["networks"][0]["connection_limit"] = 2.into();
    apply(&topology, &document);
    let netpath = &topology.hosts[0].netpath;
    assert_nothing(netpath, &[]);
    let guest = topology.kernel("blue", 11);
    for _ in 0..2 {
        guest.ping(INTERNET.ip).unwrap();
    }
    assert_finds(netpath, &[], &[("connection_limit", "network blue-web")]);
    document["networks"][0]["connection_limit"] = 100.into();
    apply(&topology, &document);
    assert_nothing(netpath, &[]);
}

/// Lets a guest of blue's send datagrams to the Internet beside what is done.
fn while_blue_sends(topology: &TwoHypervisors, act: impl FnOnce()) {
    const PACE: Duration = Duration::from_millis(5);
    let socket = topology.kernel("blue", 11).udp(5000).unwrap();
    let send = |traffic: &Traffic| {
        while traffic.goes_on() {
            // That the one before was refused, the socket may say here.
            traffic.passed(u64::from(socket.send_to(b"which port?", (INTERNET.ip, 7)).is_ok()));
            thread::sleep(PACE);
        }
    };
    assert!(beside(send, |_| act()) > 0);
}

/// All ports of its one address are forwarded, and none of them is given to anybody else.
#[test]
fn a_network_whose_guests_find_no_public_port_is_found_while_they_look_for_one() {
    let topology = hypervisors();
    let mut document = topology.gateway_definitions();
    let all = json!({"public": "203.0.113.10", "protocol": "udp", "ports": "1-65535", "to": "blue-13"});
    document["networks"][0]["port_forwarding"] = json!([all]);
    apply(&topology, &document);
    let netpath = &topology.hosts[0].netpath;
    let of_blue = ("blue-web".to_owned(), "ports_exhausted".to_owned());
    while_blue_sends(&topology, || {
        until("a packet finds no port", || netpath.drops().contains_key(&of_blue));
        assert_finds(netpath, &[], &[("ports_exhausted", "network blue-web")]);
    });
    // They have given up, and what was refused before is no fault of now.
    assert_nothing(netpath, &[]);
    document["networks"][0]["source_nat"] = json!(["203.0.113.10", "203.0.113.12"]);
    apply(&topology, &document);
    let there = topology.internet().host.udp(7).unwrap();
    while_blue_sends(&topology, || {
        let (_, from) = there.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from.ip(), IpAddr::from([203, 0, 113, 12]));
        assert_nothing(netpath, &[]);
    });
}
