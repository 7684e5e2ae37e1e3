//! Programs on devices and the pins that speak of them, where the two differ: below Linux 6.6 a filter outlives its pin.

use std::fs;

use netpath_tests::{agent::until, guest::raw::marker, packet::guest, skip_unless, topology::TwoHypervisors};

use crate::{
    refusals::assert_refused,
    scene::{A, B, C, delivers, raw_guests},
};

fn has_tcx() -> bool {
    netpath::datapath::Kernel::probe().unwrap().has_tcx
}

#[test]
fn one_apply_after_all_pins_are_lost_has_every_device_at_work() {
    let topology = raw_guests();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    for lost in [netpath.root().join("links"), netpath.root().to_owned()] {
        fs::remove_dir_all(&lost).unwrap();
        match has_tcx() {
            // The kernel takes programs off whose links are gone, when it finds the time.
            true => until("an apply is not refused", || netpath.run(netpath.apply_args(&file)).code == 0),
            false => drop(netpath.apply(&file)),
        }
        assert!(netpath.is_converged(&file), "after {} is lost", lost.display());
        delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
        delivers(topology.raw("green", 11), topology.raw("green", 12), &guest(A).to(B).udp(1, 2).payload(marker()));
    }
}

#[test]
fn a_guest_of_another_root_is_refused() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    topology.hosts[0].netpath.apply(&file);
    let second = topology.instance(0, "second");
    assert_refused(&second.run(second.apply_args(&file)), &["vnet11", "root"]);
    assert!(!second.root().join("v1").exists());
    assert!(topology.hosts[0].netpath.is_converged(&file));
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C).udp(1, 2).payload(marker()));
}

#[test]
fn an_uplink_whose_one_filter_is_another_roots_is_refused_and_goes_on() {
    skip_unless!(!has_tcx(), "tcx has programs of several roots on a device");
    let topology = raw_guests();
    let mut others = topology.vxlan_definitions();
    others["networks"][0]["nics"] = serde_json::json!([]);
    let file = topology.write("others.yaml", &others);
    let first = &topology.hosts[0].netpath;
    let mut fewer = topology.vxlan_definitions();
    fewer["networks"].as_array_mut().unwrap().pop();
    let own = topology.write("fewer.yaml", &fewer);
    first.apply(&own);
    let second = topology.instance(0, "second");
    assert_refused(&second.run(second.apply_args(&file)), &["under another root", "from_uplink-clsact"]);
    assert!(first.is_converged(&own));
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B).udp(1, 2).payload(marker()));
}
