//! Guests' devices, and what stands beside netpath on them.

use std::{path::Path, process::Command};

use netpath_tests::{
    oracle::routers::has_nftables,
    skip_unless,
    topology::{Link, TwoHypervisors, netns::sysctl, two_hypervisors::Attachment},
};

use super::{EXPECTED, apply, assert_among, assert_finds, assert_nothing, at_work, doctor, with_file};

#[test]
fn guests_that_would_talk_to_the_host_itself_are_found() {
    let topology = at_work();
    let host = &topology.hosts[0];
    let mut document = topology.gateway_definitions();
    document["networks"][0]["on_miss"] = "pass".into();
    let file = topology.write("pass.yaml", &document);
    let args = with_file(&file, "hv1");
    assert_among(&host.netpath, &args, "guest_bridgeless", "device vnet11");
    host.ns.run(|| {
        let bridge = Link::bridge("br0").unwrap();
        bridge.up().unwrap();
        for name in ["vnet11", "vnet13"] {
            Link::named(name).enslave_to(&bridge).unwrap();
        }
    });
    host.netpath.apply(&file);
    let left = super::faults(&host.netpath, &args);
    assert!(left.iter().all(|(id, _)| id == "bridge_netfilter"), "{left:?}");
    // The same guests without their bridge, which is what is in force now.
    host.ns.run(|| Link::named("br0").delete()).unwrap();
    assert_among(&host.netpath, &[], "guest_bridgeless", "device vnet13");
}

#[test]
fn iptables_for_bridged_frames_is_found_while_guests_are_on_bridges() {
    let topology = at_work();
    let host = &topology.hosts[0];
    let setting = |family| format!("net/bridge/bridge-nf-call-{family}tables");
    let is_there = host.ns.run(|| Path::new("/proc/sys").join(setting("ip")).exists());
    skip_unless!(is_there, "this kernel has no br_netfilter");
    let call = |family, value| host.ns.run(|| sysctl(&setting(family), value)).unwrap();
    call("ip", "1");
    assert_nothing(&host.netpath, &[]);
    host.ns.run(|| Link::named("vnet11").enslave_to(&Link::bridge("br0").unwrap())).unwrap();
    assert_finds(&host.netpath, &[], &[("bridge_netfilter", "bridges")]);
    assert_eq!(doctor(&host.netpath, &[]).0, 1, "it costs what goes over the bridge");
    for family in ["ip", "ip6", "arp"] {
        assert_finds(&host.netpath, &[], &[("bridge_netfilter", "bridges")]);
        call(family, "0");
    }
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn taps_without_vhost_are_found() {
    skip_unless!(!Path::new("/dev/vhost-net").exists(), "this kernel has vhost-net");
    let topology = TwoHypervisors::builder().attached(Attachment::Tap).build().unwrap();
    apply(&topology, &topology.vxlan_definitions());
    assert_among(&topology.hosts[0].netpath, &[], "vhost_net_missing", "host");
}

#[test]
fn guests_of_another_root_are_found() {
    let topology = at_work();
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    let second = topology.instance(0, "second");
    assert_among(&second, &with_file(&file, "hv1"), "guest_of_other_root", "device vnet11");
    topology.hosts[0].netpath.succeed(["detach"]);
    let (_, found) = doctor(&second, &with_file(&file, "hv1"));
    assert!(!found.iter().any(|(id, _)| id == "guest_of_other_root"), "{found:?} beside {EXPECTED:?}");
}

/// nwfilter writes tables of the family bridge, others chains of the family netdev.
#[test]
fn rules_of_others_on_a_guests_device_are_found() {
    skip_unless!(has_nftables(), "no nft that can set a ruleset here");
    let topology = at_work();
    let host = &topology.hosts[0];
    let nft = |script: &str| host.ns.run(|| Command::new("nft").arg(script).status()).unwrap().success();
    for (table, chain) in [
        ("netdev other", "type filter hook ingress device \"vnet11\" priority 0; policy accept;"),
        ("bridge other", "type filter hook forward priority 0; policy accept; iifname \"vnet11\" drop;"),
    ] {
        let is_set = nft(&format!("add table {table}; table {table} {{ chain c {{ {chain} }}; }}"));
        skip_unless!(is_set, "this kernel has no tables of {table}");
        assert_finds(&host.netpath, &[], &[("guest_bypass", "device vnet11")]);
        assert!(nft(&format!("delete table {table}")));
        assert_nothing(&host.netpath, &[]);
    }
}
