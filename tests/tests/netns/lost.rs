//! Pins that somebody has removed while guests are served, and what a boot leaves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netpath_common::maps;
use netpath_tests::{
    agent::{Agent, until},
    guest::raw::marker,
    packet::guest,
    runner::Netpath,
    topology::TwoHypervisors,
};

use crate::scene::{A, B, C, delivers, raw_guests};

fn map(netpath: &Netpath, name: &str) -> PathBuf {
    netpath.root().join(format!("v{}/maps", maps::ABI_VERSION)).join(name)
}

/// Every row that definitions make, in words.
fn rows(netpath: &Netpath) -> String {
    let tables = ["NAMES", "NETWORKS", "FDB", "NEIGHBOURS", "PORTS", "SEGMENTS", "FLOODS"];
    tables.map(|table| netpath.succeed(["map", "dump", table]).stdout).concat()
}

fn all_is_delivered(topology: &TwoHypervisors) {
    for tenant in ["blue", "green"] {
        let raw = |last| topology.raw(tenant, last);
        delivers(raw(11), raw(13), &guest(A).to(C).udp(1, 2).payload(marker()));
        delivers(raw(11), raw(12), &guest(A).to(B).udp(1, 2).payload(marker()));
    }
}

/// An apply numbers networks anew where it finds none: what other maps hold of the old numbers would be other tenants'.
#[test]
fn networks_have_nothing_of_each_others_after_one_map_is_lost() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let whole = topology.vxlan_definitions();
    let mut first = whole.clone();
    // The last network alone is the first by number.
    let networks = first["networks"].as_array_mut().unwrap();
    networks.drain(..networks.len() - 1);
    let netpath = &topology.hosts[0].netpath;
    netpath.apply(&topology.write("first.yaml", &first));
    topology.apply(&whole);
    let file = topology.write("zone.yaml", &whole);
    for lost in ["RULES", "NAMES"] {
        fs::remove_file(map(netpath, lost)).unwrap();
        netpath.apply(&file);
        assert!(netpath.is_converged(&file), "without {lost}");
        all_is_delivered(&topology);
        let found = rows(netpath);
        netpath.succeed(["detach", "--purge"]);
        netpath.apply(&file);
        assert_eq!(found, rows(netpath), "without {lost}");
        netpath.apply(&topology.write("first.yaml", &first));
        netpath.apply(&file);
    }
}

#[test]
fn an_agent_has_lost_maps_made_anew() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("followed.yaml", &topology.vxlan_definitions());
    let agent = Agent::in_force(netpath, &file);
    for lost in ["STAGES", "RULES"] {
        fs::remove_file(map(netpath, lost)).unwrap();
        until("the map is pinned again", || map(netpath, lost).exists());
        until("all is in force", || netpath.is_converged(&file));
        assert!(agent.log().contains(&format!("the pin of map {lost} is gone")), "{}", agent.log());
        all_is_delivered(&topology);
    }
}

#[test]
fn what_is_attached_without_maps_is_taken_off_and_is_no_nothing_to_go_back_to() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let folder = map(netpath, "");
    fs::remove_dir_all(&folder).unwrap();
    let args = netpath.apply_args(&file);
    let confirmed = ["--confirm-within", "1s"].map(str::to_owned);
    netpath.run(args.into_iter().chain(confirmed));
    until("it is in force again", || netpath.is_converged(&file));
    all_is_delivered(&topology);
    fs::remove_dir_all(&folder).unwrap();
    let detached = netpath.succeed(["detach"]).stdout;
    assert!(detached.contains("vnet11"), "{detached}");
    assert!(fs::read_dir(netpath.root().join("links")).map_or(0, Iterator::count) == 0);
}

fn applied_without_host(netpath: &Netpath, file: &Path) -> i32 {
    netpath.run(["apply", "-f", file.to_str().unwrap()]).code
}

#[test]
fn after_a_boot_the_host_is_the_one_that_was_applied_before() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    netpath.apply(&file);
    netpath.succeed(["detach", "--purge"]);
    assert!(!netpath.root().join("links").exists());
    assert_eq!(applied_without_host(netpath, &file), 0);
    assert!(netpath.is_converged(&file));
    all_is_delivered(&topology);
    // Nothing tells who this is where nothing was ever applied.
    let other = topology.instance(0, "other");
    assert_ne!(applied_without_host(&other, &file), 0);
}
