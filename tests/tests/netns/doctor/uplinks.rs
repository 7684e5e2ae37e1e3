//! Uplinks, and how their frames are taken.

use netpath::netlink::fq;
use netpath_tests::{
    skip_unless,
    topology::{Link, internet::PUBLIC_UPLINK, netns::sysctl, two_hypervisors::UPLINK},
};

use super::{apply, assert_among, assert_finds, assert_nothing, at_work, faults, hypervisors, with_file, words};
use crate::scene::in_mode;

#[test]
fn an_uplink_that_is_down_or_in_another_bridge_is_found() {
    let topology = at_work();
    let host = &topology.hosts[0];
    host.ns.run(|| Link::named(UPLINK).down()).unwrap();
    assert_among(&host.netpath, &[], "uplink_down", "uplink eth1");
    host.ns.run(|| Link::named(UPLINK).up()).unwrap();
    assert_nothing(&host.netpath, &[]);
    host.ns.run(|| {
        let bridge = Link::bridge("br9").unwrap();
        bridge.up().unwrap();
        Link::named(UPLINK).enslave_to(&bridge).unwrap();
    });
    assert_among(&host.netpath, &[], "uplink_enslaved", "uplink eth1");
    host.ns.run(|| Link::named("br9").down()).unwrap();
    assert_among(&host.netpath, &[], "uplink_down", "bridge br9");
    host.ns.run(|| Link::named("br9").delete()).unwrap();
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn an_uplink_that_is_gone_is_found_with_the_document_and_without_until_it_is_released() {
    let topology = at_work();
    let (host, file) = (&topology.hosts[0], topology.write("zone.yaml", &topology.gateway_definitions()));
    host.ns.run(|| Link::named(UPLINK).delete()).unwrap();
    assert_among(&host.netpath, &[], "uplink_missing", "uplink eth1");
    assert_among(&host.netpath, &with_file(&file, "hv1"), "uplink_missing", "uplink eth1");
    let released = host.netpath.run(["doctor", "--release"]);
    assert!(released.stdout.contains("- program from_uplink on device eth1"), "{}", released.stdout);
    assert!(!faults(&host.netpath, &[]).iter().any(|(id, _)| id == "uplink_missing" || id.starts_with("orphan")));
}

#[test]
fn offloads_of_uplinks_that_do_harm_are_found() {
    let topology = hypervisors();
    apply(&topology, &in_mode(topology.vlan_gateway_definitions(), "xdp"));
    let host = &topology.hosts[0];
    assert_nothing(&host.netpath, &[]);
    let tags_out = |on| host.ns.run(|| Link::named(UPLINK).offload("rx-vlan-hw-parse", on)).unwrap();
    tags_out(true);
    let can = host.ns.run(|| Link::named(UPLINK).offload_is_on("rx-vlan-hw-parse")).unwrap();
    skip_unless!(can, "this kernel's veth does not take tags out");
    assert_finds(&host.netpath, &[], &[("rxvlan_on", "uplink eth1")]);
    tags_out(false);
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn gro_that_is_off_is_found_on_every_uplink() {
    let topology = at_work();
    let host = &topology.hosts[0];
    let gro = |device: &str, on| host.ns.run(|| Link::named(device).offload("rx-gro", on)).unwrap();
    gro(UPLINK, false);
    gro(PUBLIC_UPLINK, false);
    assert_finds(&host.netpath, &[], &[("gro_off", "uplink eth1"), ("gro_off", "uplink eth3")]);
    gro(UPLINK, true);
    gro(PUBLIC_UPLINK, true);
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn a_tunnel_device_without_forwarding_or_down_is_found() {
    let topology = at_work();
    let host = &topology.hosts[0];
    // What many an operator does for hardening takes it from every device.
    host.ns.run(|| {
        sysctl("net/ipv4/ip_forward", "1").unwrap();
        sysctl("net/ipv4/ip_forward", "0").unwrap();
    });
    assert_finds(&host.netpath, &[], &[("tunnel_device", "tunnel device np4789")]);
    host.ns.run(|| sysctl("net/ipv4/conf/np4789/forwarding", "1")).unwrap();
    assert_nothing(&host.netpath, &[]);
    host.ns.run(|| Link::named("np4789").down()).unwrap();
    assert_finds(&host.netpath, &[], &[("tunnel_device", "tunnel device np4789")]);
    host.netpath.apply(&topology.write("zone.yaml", &topology.gateway_definitions()));
    assert_nothing(&host.netpath, &[]);
}

/// Packets above a rate can wait in an fq alone.
#[test]
fn an_uplink_that_is_to_pace_and_cannot_is_found() {
    let topology = hypervisors();
    let host = &topology.hosts[0];
    let has_fq = host.ns.run(fq::is_known).unwrap();
    let mut document = topology.gateway_definitions();
    document["offerings"][0]["network_rate"] = "100Mbps".into();
    document["hosts"][0]["pacing"] = "fq".into();
    let file = topology.write("zone.yaml", &document);
    let args = with_file(&file, "hv1");
    let unpaced = |uplink: &str| words(&host.netpath, &args, "uplink_unpaced", &format!("uplink {uplink}"));
    let both = [("uplink_unpaced", "uplink eth1"), ("uplink_unpaced", "uplink eth3")];
    // Where there is one, netpath puts it there; where there is none, the doctor says so.
    let assert_paced_if_possible = || match has_fq {
        true => assert_nothing(&host.netpath, &args),
        false => {
            assert_finds(&host.netpath, &args, &both);
            [UPLINK, PUBLIC_UPLINK].map(unpaced).iter().for_each(|said| assert!(said.contains("has no fq"), "{said}"));
        }
    };
    host.netpath.apply(&file);
    assert_paced_if_possible();
    host.ns.run(|| Link::named(UPLINK).fifo()).unwrap();
    assert_among(&host.netpath, &args, "uplink_unpaced", "uplink eth1");
    let said = unpaced(UPLINK);
    assert!(said.contains("is its operator's, pfifo, and stays"), "{said}");
    host.netpath.apply(&file);
    assert_eq!(unpaced(UPLINK), said, "an apply leaves it there");
    host.ns.run(|| Link::named(UPLINK).default_qdisc()).unwrap();
    host.netpath.apply(&file);
    assert_paced_if_possible();
    // Whoever does not ask for it misses nothing.
    document["hosts"][0]["pacing"] = "off".into();
    host.ns.run(|| Link::named(UPLINK).fifo()).unwrap();
    apply(&topology, &document);
    assert_nothing(&host.netpath, &args);
}
