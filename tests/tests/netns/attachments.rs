//! Programs on devices and the pins that speak of them, where the two differ: below Linux 6.6 a filter outlives its pin.

use std::fs;

use netpath_tests::{
    agent::until,
    guest::{RawGuest, raw::marker},
    packet::guest,
    skip_unless,
    topology::{Link, NetNs, Offloads, Tap, TwoHypervisors},
};
use serde_json::Value;

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

/// Gives a device of hv1 another name: below Linux 6.2 while it is down.
fn rename(topology: &TwoHypervisors, from: &str, to: &str) {
    topology.hosts[0].ns.run(|| {
        Link::named(from).down().unwrap();
        Link::named(from).rename(to).unwrap();
        Link::named(to).up().unwrap();
    });
}

/// Has two devices of hv1 change their names with each other; `between` is called while one has a name of neither.
fn swap(topology: &TwoHypervisors, [one, other]: [&str; 2], between: impl FnOnce()) {
    let rename = |from, to| rename(topology, from, to);
    rename(one, "between");
    rename(other, one);
    between();
    rename("between", other);
}

/// The document with the devices of blue's NICs 11 and 13 exchanged.
fn exchanged(topology: &TwoHypervisors) -> Value {
    let mut definitions = topology.vxlan_definitions();
    let nics = definitions["networks"][0]["nics"].as_array_mut().unwrap();
    (nics[0]["device"], nics[2]["device"]) = (nics[2]["device"].take(), nics[0]["device"].take());
    definitions
}

#[test]
fn devices_that_change_their_names_with_each_other_keep_their_programs() {
    for applies_between in [false, true] {
        let topology = raw_guests();
        let netpath = &topology.hosts[0].netpath;
        let mut definitions = exchanged(&topology);
        let file = topology.write("exchanged.yaml", &definitions);
        let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
        swap(&topology, ["vnet11", "vnet13"], || {
            if applies_between {
                netpath.apply(&file);
            }
        });
        netpath.apply(&file);
        assert!(netpath.is_converged(&file), "applied between: {applies_between}");
        delivers(a, c, &guest(A).to(C).udp(1, 2).payload(marker()));
        delivers(c, b, &guest(C).to(B).udp(1, 2).payload(marker()));
        definitions["networks"][0]["nics"].as_array_mut().unwrap().pop();
        let fewer = topology.write("fewer.yaml", &definitions);
        netpath.apply(&fewer);
        assert!(netpath.is_converged(&fewer), "applied between: {applies_between}");
        delivers(a, b, &guest(A).to(B).udp(1, 2).payload(marker()));
        netpath.apply(&file);
        assert!(netpath.is_converged(&file), "applied between: {applies_between}");
        delivers(c, a, &guest(C).to(A).udp(1, 2).payload(marker()));
    }
}

/// A device that is made anew with the name of blue's NIC 13 is served from the next apply on. It goes with what is handed back.
fn serves_a_new_one(topology: &TwoHypervisors) -> RawGuest {
    let (host, a) = (&topology.hosts[0], topology.raw("blue", 11));
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let tap = host.ns.run(|| Tap::new("vnet13", Offloads::None).unwrap());
    let c = RawGuest::on_tap("the new one", tap);
    host.netpath.apply(&file);
    assert!(host.netpath.is_converged(&file));
    delivers(a, &c, &guest(A).to(C).udp(1, 2).payload(marker()));
    delivers(&c, a, &guest(C).to(A).udp(1, 2).payload(marker()));
    c
}

#[test]
fn a_device_with_the_name_that_another_one_had_is_served_and_the_other_is_not_any_more() {
    let topology = raw_guests();
    rename(&topology, "vnet13", "former");
    let _new = serves_a_new_one(&topology);
    assert!(!topology.hosts[0].netpath.succeed(["status"]).stdout.contains("former"));
}

#[test]
fn a_device_with_the_name_of_one_that_went_to_another_namespace_is_served() {
    let topology = raw_guests();
    let elsewhere = NetNs::new("elsewhere").unwrap();
    topology.hosts[0].ns.run(|| Link::named("vnet13").move_to(&elsewhere).unwrap());
    serves_a_new_one(&topology);
}
