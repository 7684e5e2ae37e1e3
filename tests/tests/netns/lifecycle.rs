//! Apply, apply again, change, detach: the kernel is left as the definitions say, and as it was before.

use std::{fs, net::IpAddr, os::unix::fs::symlink, path::Path};

use netpath_tests::{
    guest::{
        bulk,
        raw::{contains, marker},
    },
    packet::guest,
    topology::{Link, TwoHypervisors, two_hypervisors::UPLINK},
};

use crate::scene::{A, B, C, UPLINK_MODES, delivers, in_mode, raw_guests, raw_guests_in};

#[test]
fn a_second_apply_makes_zero_edits() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        let definitions = in_mode(topology.vxlan_definitions(), mode);
        let file = topology.write("zone.yaml", &definitions);
        for host in &topology.hosts {
            assert!(!host.netpath.is_converged(&file));
            host.netpath.apply(&file);
            assert!(host.netpath.is_converged(&file));
            host.netpath.apply(&file);
            assert!(host.netpath.is_converged(&file));
        }
    }
}

#[test]
fn a_nic_that_is_added_and_removed_again_comes_and_goes() {
    let topology = raw_guests();
    let full = topology.vxlan_definitions();
    let mut less = full.clone();
    less["networks"][0]["nics"].as_array_mut().unwrap().remove(2);
    topology.apply(&less);
    let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
    delivers(a, b, &guest(A).to(B));
    // C has no definition: what is for it is unknown unicast, which no longer reaches it.
    let (secret, end) = (marker(), marker());
    a.send(guest(A).to(C).payload(&secret).build());
    topology.apply(&full);
    a.send(guest(A).to(C).payload(&end).build());
    c.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
    delivers(c, b, &guest(C).to(B));
}

#[test]
fn a_segment_that_changes_takes_its_guests_along() {
    let topology = raw_guests();
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["segment"] = 6001.into();
    topology.apply(&definitions);
    let wire = topology.wire(0);
    let payload = marker();
    topology.raw("blue", 11).send(guest(A).to(B).payload(&payload).build());
    let outer = wire.expect("the frame", |f| contains(f, &payload));
    assert_eq!(netpath_tests::packet::dissect(&outer).unwrap().vxlan().unwrap().0, 6001);
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
}

#[test]
fn detach_restores_the_host_as_it_was() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        let host = &topology.hosts[0];
        let rxvlan = || host.ns.run(|| Link::named(UPLINK).offload_is_on("rx-vlan-hw-parse").unwrap());
        let devices = || host.ns.run(devices_of_this_namespace);
        let (rxvlan_before, devices_before) = (rxvlan(), devices());
        topology.apply(&in_mode(topology.vxlan_definitions(), mode));
        delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
        host.netpath.succeed(["detach", "--purge"]);
        assert_eq!(rxvlan(), rxvlan_before);
        assert_eq!(devices(), devices_before);
        assert_eq!(pins(host.netpath.root()), 0, "pins are left under {}", host.netpath.root().display());
        // A Linux bridge takes over: no program stands in its way.
        host.ns.run(|| {
            let bridge = Link::bridge("br0").unwrap();
            bridge.up().unwrap();
            Link::named("vnet11").enslave_to(&bridge).unwrap();
            Link::named("vnet113").enslave_to(&bridge).unwrap();
        });
        delivers(topology.raw("blue", 11), topology.raw("green", 13), &guest(A).to(C));
    }
}

#[test]
fn a_vlan_uplink_takes_frames_for_its_guests_stations_until_it_has_none() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    let promiscuity = || {
        let devices = host.ns.run(|| netpath::netlink::devices().unwrap());
        devices.iter().find(|device| device.name == UPLINK).unwrap().promiscuity
    };
    let file = topology.write("zone.yaml", &topology.vlan_definitions());
    let plan = host.netpath.succeed(["plan", "-f", &file.display().to_string(), "--host", "hv1"]).stdout;
    assert!(plan.contains(&format!("promiscuous mode of device {UPLINK}: on")), "{plan}");
    let before = promiscuity();
    for undo in [&["detach"][..], &["detach", "--purge"]] {
        host.netpath.apply(&file);
        assert_eq!(promiscuity(), before + 1);
        assert!(host.netpath.is_converged(&file));
        host.netpath.succeed(undo);
        assert_eq!(promiscuity(), before);
    }
    host.netpath.apply(&file);
    host.netpath.apply(&topology.write("vxlan.yaml", &topology.vxlan_definitions()));
    assert_eq!(promiscuity(), before);
}

#[test]
fn after_detach_the_same_definitions_apply_again() {
    let topology = raw_guests();
    let definitions = topology.vxlan_definitions();
    for purge in [&["detach"][..], &["detach", "--purge"]] {
        topology.hosts[0].netpath.succeed(purge);
        topology.apply(&definitions);
        delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
        delivers(topology.raw("blue", 12), topology.raw("blue", 11), &guest(B).to(A));
    }
}

#[test]
fn instances_with_roots_of_their_own_do_not_disturb_each_other() {
    let topology = raw_guests();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    topology.hosts[1].netpath.succeed(["detach", "--purge"]);
    assert!(topology.hosts[0].netpath.is_converged(&file));
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C));
}

#[test]
fn a_device_that_does_not_exist_yet_is_waited_for() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["nics"].as_array_mut().unwrap().push(serde_json::json!({
        "instance": "late", "mac": "02:00:0a:01:01:0e", "ip": "10.1.1.14", "host": "hv1", "device": "vnet14",
    }));
    let file = topology.write("zone.yaml", &definitions);
    let netpath = &topology.hosts[0].netpath;
    let first = netpath.apply(&file);
    assert!(format!("{}{}", first.stdout, first.stderr).contains("vnet14"), "{first:?}");
    let late = netpath_tests::packet::Endpoint::numbered(14);
    let tap = topology.hosts[0]
        .ns
        .run(|| netpath_tests::topology::Tap::new("vnet14", netpath_tests::topology::Offloads::None).unwrap());
    netpath.apply(&file);
    let late_guest = netpath_tests::guest::RawGuest::on_tap("late", tap);
    delivers(topology.raw("blue", 11), &late_guest, &guest(A).to(late));
    delivers(&late_guest, topology.raw("blue", 11), &guest(late).to(A));
}

/// An apply beside this one may remove a pin that was listed; a name that leads nowhere is the same to whoever opens it.
#[test]
fn a_pin_that_goes_while_it_is_looked_at_is_no_error() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let definitions = topology.vxlan_definitions();
    topology.apply(&definitions);
    let file = topology.write("zone.yaml", &definitions);
    let netpath = &topology.hosts[0].netpath;
    let pins = netpath.root().join("links").join("vnet119");
    fs::create_dir(&pins).unwrap();
    symlink(pins.join("gone"), pins.join("from_guest")).unwrap();
    assert!(netpath.is_converged(&file));
    netpath.succeed(["status"]);
}

#[test]
fn the_programs_outlive_the_command() {
    let topology = raw_guests_in("xdp");
    for _ in 0..3 {
        delivers(topology.raw("green", 12), topology.raw("green", 11), &guest(B).to(A));
    }
    let (one, two) = (&topology.hosts[0], &topology.hosts[1]);
    bulk::tcp(&one.ns, &two.ns, IpAddr::V4(two.address), 0, 1).unwrap();
}

fn devices_of_this_namespace() -> String {
    // Only the names: counters move.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect::<Vec<_>>().join(" ")
}

fn pins(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { pins(&entry.path()) } else { 1 }).sum()
}
