//! The public side.

use netpath_tests::{
    guest::kernel::NIC,
    topology::{Link, internet::INTERNET},
};
use serde_json::json;

use super::{apply, assert_finds, assert_nothing, hypervisors};

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
