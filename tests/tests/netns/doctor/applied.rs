//! What is pinned, attached and in the maps, against the document.

use std::{fs, path::Path};

use netpath_tests::{
    agent::until,
    runner::Netpath,
    topology::{Link, NetNs},
};

use super::{assert_among, assert_finds, assert_nothing, at_work, doctor, faults, hypervisors, with_file};

#[test]
fn hypervisors_at_work_are_healthy_and_the_doctor_changes_nothing() {
    let topology = hypervisors();
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    topology.apply(&topology.gateway_definitions());
    for host in &topology.hosts {
        assert_nothing(&host.netpath, &[]);
        assert_nothing(&host.netpath, &with_file(&file, host.netpath.host()));
        let text = host.netpath.run(["doctor"]).stdout;
        assert!(text.contains("healthy"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(host.netpath.is_converged(&file));
    }
}

#[test]
fn a_host_where_nothing_is_applied_is_looked_at_with_a_document_or_without() {
    let topology = hypervisors();
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    let host = &topology.hosts[0];
    for (args, object) in [(&[][..], "host"), (&with_file(&file, "hv1"), "host hv1")] {
        let (code, _) = doctor(&host.netpath, args);
        assert_eq!(code, 0);
        assert_among(&host.netpath, args, "document_not_applied", object);
    }
    assert!(!host.netpath.root().exists(), "the doctor has made {}", host.netpath.root().display());
    // What a document needs is found before it is applied.
    host.ns.run(|| Link::named("eth1").down()).unwrap();
    assert_among(&host.netpath, &with_file(&file, "hv1"), "uplink_down", "uplink eth1");
}

#[test]
fn a_document_that_is_not_applied_does_not_fit_or_does_not_know_the_host_is_found() {
    let topology = at_work();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    document["networks"][0]["mtu"] = 1400.into();
    let file = topology.write("changed.yaml", &document);
    assert_finds(netpath, &with_file(&file, "hv1"), &[("document_not_applied", "host hv1")]);
    netpath.apply(&file);
    assert_nothing(netpath, &with_file(&file, "hv1"));
    assert_among(netpath, &with_file(&file, "hv9"), "host_unknown", "host hv9");
    document["hosts"][0]["capacities"]["flows"] = 1000.into();
    let file = topology.write("grown.yaml", &document);
    assert_among(netpath, &with_file(&file, "hv1"), "document_unfit", "host hv1");
}

#[test]
fn a_map_that_is_full_is_found() {
    let topology = hypervisors();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    // Four guests, room for four.
    document["hosts"][0]["capacities"]["ports"] = 4.into();
    netpath.apply(&topology.write("small.yaml", &document));
    assert_finds(netpath, &[], &[("map_fill", "map PORTS")]);
    netpath.succeed(["detach", "--purge"]);
    netpath.apply(&topology.write("zone.yaml", &topology.gateway_definitions()));
    assert_nothing(netpath, &[]);
}

#[test]
fn programs_of_another_build_and_programs_taken_off_are_found() {
    let topology = at_work();
    let (host, file) = (&topology.hosts[0], topology.write("zone.yaml", &topology.gateway_definitions()));
    let netpath = &host.netpath;
    let root = format!("root {}", netpath.root().display());
    let programs = netpath.root().join(format!("v{}/programs", netpath_common::maps::ABI_VERSION));
    let build = fs::read_dir(&programs).unwrap().next().unwrap().unwrap().path();
    fs::rename(&build, programs.join("0123456789abcdef")).unwrap();
    assert_finds(netpath, &[], &[("programs_outdated", &root)]);
    netpath.apply(&file);
    assert_nothing(netpath, &[]);
    // A device that was made anew runs nothing, whatever is pinned for its name.
    let guest = NetNs::new("again").unwrap();
    host.ns.run(|| {
        Link::named("vnet11").delete().unwrap();
        Link::veth("vnet11", "eth0", &guest).unwrap().up().unwrap();
    });
    assert_among(netpath, &[], "program_off", "device vnet11");
    netpath.apply(&file);
    assert_nothing(netpath, &[]);
}

#[test]
fn programs_whose_pins_are_gone_are_found_on_every_device() {
    let topology = at_work();
    let (host, file) = (&topology.hosts[0], topology.write("zone.yaml", &topology.gateway_definitions()));
    let netpath = &host.netpath;
    fs::remove_file(fs::read_dir(netpath.root().join("links/vnet11")).unwrap().next().unwrap().unwrap().path())
        .unwrap();
    assert_among(netpath, &[], "program_off", "device vnet11");
    assert_among(netpath, &with_file(&file, "hv1"), "program_off", "device vnet11");
    assert!(!faults(netpath, &[]).contains(&("program_off".into(), "device vnet13".into())));
    remove_links(netpath);
    for device in ["vnet11", "vnet13", "eth1", "eth3", "np4789"] {
        assert_among(netpath, &[], "program_off", &format!("device {device}"));
    }
    apply_again(netpath, &file);
    assert_nothing(netpath, &[]);
    // A device that is not there waits.
    host.ns.run(|| Link::named("vnet13").delete()).unwrap();
    assert!(!faults(netpath, &[]).iter().any(|(id, _)| id == "program_off"));
}

/// Removes what is attached, as `rm -r` does.
fn remove_links(netpath: &Netpath) {
    for device in fs::read_dir(netpath.root().join("links")).unwrap() {
        let device = device.unwrap().path();
        for pin in fs::read_dir(&device).unwrap() {
            fs::remove_file(pin.unwrap().path()).unwrap();
        }
        fs::remove_dir(device).unwrap();
    }
}

/// Until the kernel has taken off programs whose pins are gone, an apply takes them for another root's.
fn apply_again(netpath: &Netpath, file: &Path) {
    let args = ["apply", "-f", file.to_str().unwrap(), "--host", netpath.host()];
    until("an apply is not refused", || netpath.run(args).code == 0);
}

#[test]
fn maps_whose_pins_are_gone_are_found_and_an_apply_makes_them_anew() {
    let topology = at_work();
    let (host, file) = (&topology.hosts[0], topology.write("zone.yaml", &topology.gateway_definitions()));
    let netpath = &host.netpath;
    let root = format!("root {}", netpath.root().display());
    let folder = netpath.root().join(format!("v{}/maps", netpath_common::maps::ABI_VERSION));
    for map in ["RULES", "NAMES", "FLOWS"] {
        fs::remove_file(folder.join(map)).unwrap();
        assert_eq!(doctor(netpath, &[]).0, 1);
        assert_finds(netpath, &[], &[("pins_missing", &root)]);
        let found = faults(netpath, &with_file(&file, "hv1"));
        assert!(found.contains(&("pins_missing".into(), root.clone())), "{found:?}");
        assert!(!found.iter().any(|(id, _)| id == "guest_of_other_root"), "{found:?}");
        netpath.apply(&file);
        assert_nothing(netpath, &with_file(&file, "hv1"));
    }
}

#[test]
fn pins_that_this_build_cannot_use_are_found() {
    let topology = hypervisors();
    let host = &topology.hosts[0];
    let old = topology.instance(0, "old");
    fs::create_dir_all(old.root().join("v1/maps/PORTS")).unwrap();
    let object = format!("root {}", old.root().display());
    assert_finds(&old, &[], &[("pins_of_other_abi", &object)]);
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    assert_among(&old, &with_file(&file, "hv1"), "pins_of_other_abi", &object);
    fs::remove_dir_all(old.root()).unwrap();
    assert!(!faults(&old, &[]).iter().any(|(id, _)| id == "pins_of_other_abi"));
    let elsewhere = topology.scratch().path().join("no-bpffs");
    let object = format!("root {}", elsewhere.display());
    let netpath = Netpath::new(&host.ns, elsewhere, topology.scratch().path().join("state"), "hv1");
    assert_finds(&netpath, &[], &[("bpffs_missing", &object)]);
}
