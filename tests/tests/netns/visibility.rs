//! What an operator sees: counters that count exactly, names instead of indices, and waiting devices.

use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{Endpoint, guest, mac_text},
    topology::{Link, TwoHypervisors},
};

use crate::scene::{A, B, C, delivers, raw_guests, row, shown};

#[test]
fn counters_count_each_frame_and_its_bytes_once() {
    let topology = raw_guests();
    let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
    let frame = |from: Endpoint, to: Endpoint| guest(from).to(to).payload([7; 100]).build();
    for _ in 0..3 {
        a.send(frame(A, B));
        b.expect_frame(&frame(A, B));
    }
    c.send(frame(C, A));
    a.expect_frame(&frame(C, A));
    b.send(frame(B, A));
    a.expect_frame(&frame(B, A));
    let counters = topology.hosts[0].netpath.json(["show", "counters"]);
    let (of_a, of_c) = (row(&counters["ports"], "instance", "blue-11"), row(&counters["ports"], "instance", "blue-13"));
    let len = frame(A, B).len() as u64;
    for (port, sent, got) in [(of_a, 3, 2), (of_c, 1, 0)] {
        assert_eq!(port["network"], "blue-web");
        assert_eq!((&port["from_guest_packets"], &port["from_guest_bytes"]), (&sent.into(), &(sent * len).into()));
        assert_eq!((&port["to_guest_packets"], &port["to_guest_bytes"]), (&got.into(), &(got * len).into()));
    }
    let network = row(&counters["networks"], "network", "blue-web");
    assert_eq!((&network["from_guest_packets"], &network["to_guest_packets"]), (&4.into(), &2.into()));
    assert_eq!(row(&counters["networks"], "network", "green-web")["from_guest_packets"], 0);
}

#[test]
fn a_drop_is_shown_with_its_network_and_one_sentence() {
    let topology = raw_guests();
    let (a, c) = (topology.raw("green", 11), topology.raw("green", 13));
    a.send(guest(A).from(B.ip).to(C).build());
    delivers(a, c, &guest(A).to(C));
    let drops = topology.hosts[0].netpath.json(["show", "drops"]);
    let row = row(&drops, "reason", "spoofed_ipv4");
    assert_eq!((&row["network"], &row["packets"]), (&"green-web".into(), &1.into()));
    assert!(row["explanation"].as_str().unwrap().ends_with('.'));
    let text = topology.hosts[0].netpath.succeed(["show", "drops"]).stdout;
    assert!(text.contains("green-web") && text.contains("spoofed_ipv4"), "{text}");
}

#[test]
fn every_view_names_things_and_fits_a_hundred_columns() {
    let topology = raw_guests();
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let netpath = &topology.hosts[0].netpath;
    for view in ["networks", "ports", "fdb", "counters", "drops"] {
        assert!(!netpath.json(["show", view]).is_null());
        shown(netpath, &["show", view]);
    }
    let fdb = netpath.json(["show", "fdb"]);
    let station = fdb.as_array().unwrap().iter().find(|row| row["mac"] == mac_text(B.mac)).unwrap();
    assert!(station["target"].as_str().unwrap().contains("hv2"), "{station}");
    for map in ["PORTS", "NETWORKS", "FDB", "SEGMENTS", "TUNNELS", "NEIGHBOURS", "FLOODS"] {
        assert!(!netpath.succeed(["map", "dump", map]).stdout.is_empty());
        assert!(!netpath.succeed(["map", "dump", map, "--raw"]).stdout.is_empty());
    }
}

#[test]
fn a_tap_is_found_by_libvirts_mac_convention() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = topology.vxlan_definitions();
    for (nic, tap) in [(0, "vnet11"), (2, "vnet13")] {
        let nic = &mut definitions["networks"][0]["nics"][nic];
        nic.as_object_mut().unwrap().remove("device");
        let mut mac = if tap == "vnet11" { A.mac } else { C.mac };
        mac[0] = 0xfe;
        topology.hosts[0].ns.run(|| Link::named(tap).mac(mac)).unwrap();
    }
    topology.apply(&definitions);
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C));
}

#[test]
fn on_miss_pass_leaves_what_is_not_defined_to_the_bridge() {
    let topology = TwoHypervisors::builder().build().unwrap();
    for (host, ports) in topology.hosts.iter().zip([&["vnet11", "vnet13"][..], &["vnet12"]]) {
        host.ns.run(|| {
            let bridge = Link::bridge("br-blue").unwrap();
            bridge.up().unwrap();
            ports.iter().for_each(|port| Link::named(port).enslave_to(&bridge).unwrap());
        });
    }
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["on_miss"] = "pass".into();
    topology.apply(&definitions);
    let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
    delivers(a, b, &guest(A).to(B));
    let unknown = guest(A).to(Endpoint::numbered(77)).payload(marker()).build();
    a.send(&unknown);
    c.expect_frame(&unknown);
    let (spoofed, end) = (marker(), marker());
    a.send(guest(A).from(B.ip).to(Endpoint::numbered(77)).payload(&spoofed).build());
    a.send(guest(A).to(Endpoint::numbered(77)).payload(&end).build());
    c.expect_none_before(|f| contains(f, &spoofed), |f| contains(f, &end));
}

#[test]
fn a_network_that_is_not_there_is_an_error_of_every_view() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let views = ["networks", "ports", "fdb", "counters", "drops", "nat", "flows", "rules", "limits", "usage"];
    let shown = views.map(|view| vec!["show", view]);
    for args in shown.iter().chain(&[vec!["top", "--once"], vec!["top", "flows", "--once"]]) {
        let wrong = netpath.run(args.iter().chain(&["--network", "blue-wbe"]));
        assert!(wrong.code == 1 && wrong.stderr.contains("no network `blue-wbe`"), "{args:?}: {wrong:?}");
    }
}
