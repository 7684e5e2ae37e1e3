//! Pins that are of two builds, or of none.

use std::{fs, path::Path, time::Instant};

use aya::maps::MapData;
use netpath_tests::{
    guest::PATIENCE,
    runner::{Build, Netpath},
};

use super::{assert_finds, assert_nothing, at_work, doctor, with_file, words};

/// Starts the other build's apply, and kills it while it brings devices over.
fn killed_between(netpath: &Netpath, file: &Path) {
    let other = netpath.of(Build::Next);
    let of = |abi: &str, what: &str| netpath.root().join(abi).join(what).exists();
    let is_between = || of("v1003", "switching") && !of("v3", "incomplete");
    let deadline = Instant::now() + PATIENCE;
    loop {
        other.killed_when(other.apply_args(file), is_between);
        if is_between() && of("v3", "maps") {
            return;
        }
        assert!(Instant::now() < deadline, "no apply is killed between two builds");
        // It was at its end already.
        netpath.apply(file);
    }
}

#[test]
fn an_apply_that_was_killed_between_two_builds_is_found_by_both_and_completed_by_either() {
    let topology = at_work();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    let root = format!("root {}", netpath.root().display());
    for finishing in [Build::Next, Build::Current] {
        netpath.apply(&file);
        assert_nothing(netpath, &[]);
        killed_between(netpath, &file);
        for (build, other) in [(Build::Current, "v1003"), (Build::Next, "v3")] {
            let netpath = netpath.of(build);
            assert_finds(&netpath, &[], &[("apply_unfinished", &root)]);
            assert_eq!(doctor(&netpath, &[]).0, 1);
            assert_finds(&netpath, &with_file(&file, "hv1"), &[("apply_unfinished", &root)]);
            let said = words(&netpath, &[], "apply_unfinished", &root);
            assert!(said.contains(&format!("between ABI {other} and")), "{said}");
        }
        let netpath = netpath.of(finishing);
        netpath.apply(&file);
        assert_nothing(&netpath, &with_file(&file, "hv1"));
    }
}

#[test]
fn a_map_of_another_size_under_a_maps_name_is_found() {
    let topology = at_work();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    let root = format!("root {}", netpath.root().display());
    let maps = netpath.root().join(format!("v{}/maps", netpath_common::maps::ABI_VERSION));
    for map in ["PORTS", "FLOWS"] {
        let own = MapData::from_pin(maps.join(map)).unwrap();
        fs::remove_file(maps.join(map)).unwrap();
        MapData::from_pin(maps.join("NAMES")).unwrap().pin(maps.join(map)).unwrap();
        for args in [&[][..], &with_file(&file, "hv1")] {
            assert_finds(netpath, args, &[("pins_unusable", &root)]);
            assert_eq!(doctor(netpath, args).0, 1);
        }
        let said = words(netpath, &[], "pins_unusable", &root);
        assert!(said.contains(&format!("map {map} pinned at")) && said.contains("this build needs"), "{said}");
        fs::remove_file(maps.join(map)).unwrap();
        own.pin(maps.join(map)).unwrap();
        assert_nothing(netpath, &with_file(&file, "hv1"));
    }
}
