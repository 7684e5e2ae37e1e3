//! What nothing needs any more: found, and released on demand.

use netpath_tests::{
    guest::KernelGuest,
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK},
        two_hypervisors::UPLINK,
    },
};

use super::{assert_among, assert_finds, assert_nothing, hypervisors, with_file};

fn both_at_work() -> TwoHypervisors {
    let topology = hypervisors();
    topology.apply(&topology.gateway_definitions());
    topology
}

#[test]
fn what_stands_for_a_device_that_is_gone_is_found_and_released() {
    let topology = both_at_work();
    let host = &topology.hosts[0];
    host.ns.run(|| Link::named("vnet13").delete()).unwrap();
    assert_among(&host.netpath, &[], "orphan_program", "device vnet13");
    let found = super::faults(&host.netpath, &[]);
    assert!(found.iter().any(|(id, object)| id == "orphan_rows" && object.contains("blue-web/blue-13")), "{found:?}");
    // It is found for as long as it is there, and only `--release` takes it away.
    assert_among(&host.netpath, &[], "orphan_program", "device vnet13");
    host.netpath.succeed(["doctor", "--release"]);
    assert_nothing(&host.netpath, &[]);
    topology.kernel("blue", 11).ping(topology.kernel("blue", 12).station().ip).unwrap();
}

#[test]
fn a_device_that_is_renamed_is_no_orphan_and_goes_on() {
    let topology = both_at_work();
    let host = &topology.hosts[0];
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    host.ns.run(|| Link::named(UPLINK).rename("lan0")).unwrap();
    let with_file = with_file(&file, "hv1");
    for args in [&[][..], &with_file] {
        let found = super::faults(&host.netpath, args);
        assert!(found.contains(&("device_renamed".into(), "device lan0".into())), "{found:?}");
        assert!(!found.iter().any(|(id, object)| id == "orphan_program" && object.contains(UPLINK)), "{found:?}");
        host.netpath.run(["doctor", "--release"].iter().chain(args));
        topology.kernel("blue", 11).ping(topology.kernel("blue", 12).station().ip).unwrap();
    }
}

#[test]
fn what_is_in_no_definition_is_found_and_released_and_the_others_go_on() {
    let topology = both_at_work();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    document["networks"].as_array_mut().unwrap().remove(1);
    let file = topology.write("less.yaml", &document);
    let args = with_file(&file, "hv1");
    assert_among(netpath, &args, "orphan_rows", "network green-web");
    assert_among(netpath, &args, "orphan_program", "device vnet111");
    assert_nothing(netpath, &[]);
    let (a, b, of_green): (_, _, &KernelGuest) =
        (topology.kernel("blue", 11), topology.kernel("blue", 12), topology.kernel("green", 11));
    of_green.ping(topology.kernel("green", 13).station().ip).unwrap();
    let released = netpath.run(["doctor", "--release"].into_iter().chain(args));
    // Names and the like are for the next apply to remove.
    assert_eq!(released.code, 1, "{}", released.stdout);
    assert_finds(netpath, &args, &[("document_not_applied", "host hv1")]);
    a.ping(b.station().ip).unwrap();
    netpath.apply(&file);
    assert_nothing(netpath, &args);
    netpath.apply(&topology.write("zone.yaml", &topology.gateway_definitions()));
    assert_nothing(netpath, &[]);
    of_green.ping(topology.kernel("green", 13).station().ip).unwrap();
}

/// Old rules, and the old way, are in use until the new ones are in force.
#[test]
fn what_the_document_has_changed_or_moved_is_no_orphan() {
    let topology = both_at_work();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    document["networks"][0]["firewall"]["egress"] = serde_json::json!([{"protocol": "tcp", "ports": "26"}]);
    document["networks"][0]["segment"] = 6001.into();
    document["vxlan_port"] = 8472.into();
    let file = topology.write("moved.yaml", &document);
    let args = with_file(&file, "hv1");
    let found = super::faults(netpath, &args);
    assert!(!found.iter().any(|(id, _)| id.starts_with("orphan")), "{found:?}");
    netpath.run(["doctor", "--release"].iter().chain(&args));
    topology.kernel("blue", 11).ping(topology.kernel("blue", 12).station().ip).unwrap();
    assert_nothing(netpath, &[]);
}

/// A typing error in the name of an uplink is no word about the one that is in use.
#[test]
fn an_uplink_in_use_is_no_orphan_while_the_document_names_one_that_does_not_exist() {
    for (physical, uplink) in [("public", PUBLIC_UPLINK), ("guest", UPLINK)] {
        let topology = both_at_work();
        let netpath = &topology.hosts[0].netpath;
        let mut document = topology.gateway_definitions();
        let named = document["hosts"][0]["uplinks"][physical].take();
        assert_eq!(named, uplink);
        document["hosts"][0]["uplinks"][physical] = "ethX".into();
        let file = topology.write("absent.yaml", &document);
        let args = with_file(&file, "hv1");
        let found = super::faults(netpath, &args);
        assert!(found.contains(&("uplink_missing".into(), "uplink ethX".into())), "{found:?}");
        assert!(!found.iter().any(|(id, _)| id.starts_with("orphan")), "{found:?}");
        netpath.run(["doctor", "--release"].iter().chain(&args));
        topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
        topology.kernel("blue", 11).ping(topology.kernel("blue", 12).station().ip).unwrap();
        assert_nothing(netpath, &[]);
    }
}

/// Nor is one in the name of a guest's device.
#[test]
fn a_guests_device_in_use_is_no_orphan_while_the_document_has_its_nic_on_one_that_is_not_there() {
    let topology = both_at_work();
    let netpath = &topology.hosts[0].netpath;
    let mut document = topology.gateway_definitions();
    assert_eq!(document["networks"][0]["nics"][0]["device"].take(), "vnet11");
    document["networks"][0]["nics"][0]["device"] = "vnet99".into();
    let file = topology.write("mistyped.yaml", &document);
    let args = with_file(&file, "hv1");
    let found = super::faults(netpath, &args);
    assert!(!found.iter().any(|(id, _)| id.starts_with("orphan")), "{found:?}");
    netpath.run(["doctor", "--release"].iter().chain(&args));
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
    topology.kernel("blue", 11).ping(topology.kernel("blue", 12).station().ip).unwrap();
    assert_nothing(netpath, &[]);
}
