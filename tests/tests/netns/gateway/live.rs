//! Connections across a change of rules, a reload of the programs and an upgrade: none is lost, and none changes its port.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netpath_tests::{
    connections::{acquainted, all_in, all_out},
    guest::raw::{contains, marker},
    pace::paced,
    packet::{Mac, Packet, dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER},
    },
};
use serde_json::Value;

use super::{raw_online, shared};
use crate::{
    scene::A,
    traffic::{Traffic, beside},
};

fn changed(mut definitions: Value) -> Value {
    definitions["networks"][0]["firewall"]["egress"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"protocol": "udp", "ports": "19"}));
    definitions
}

/// The folder of the pinned programs, which lies in that of the maps' version.
fn pinned_programs(root: &Path) -> PathBuf {
    let versions = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("programs"));
    versions.into_iter().find(|path| path.exists()).expect("programs are pinned")
}

#[test]
fn x5_ten_thousand_connections_live_through_apply_and_reload() {
    let topology = raw_online(|definitions| definitions);
    let (a, router) = (topology.raw("blue", 11), topology.internet().raw_router());
    let gateway = acquainted(&topology, &router);
    let host = &topology.hosts[0];
    let hv = host.ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let ports: Vec<u16> = (20_000..20_000 + paced(10_000) as u16).collect();
    let publics = all_out(a, &router, gateway, 0x02, &ports);
    all_in(a, &router, hv, 0x12, &publics);
    assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics);
    // Other rules: every connection is judged again.
    let file = topology.write("changed.yaml", &changed(topology.gateway_definitions()));
    host.netpath.apply(&file);
    assert_eq!(all_out(a, &router, gateway, 0x18, &ports), publics, "after other rules");
    all_in(a, &router, hv, 0x18, &publics);
    // Other programs, as after an upgrade: loaded anew, and put in the old ones' places.
    fs::remove_dir_all(pinned_programs(host.netpath.root())).unwrap();
    host.netpath.apply(&file);
    assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics, "after a reload");
    all_in(a, &router, hv, 0x10, &publics);
}

/// Datagrams of a tenant's NIC 11 out and back, one after the other; a lost one, or one from another public port, fails the test.
pub(super) fn with_the_outside(topology: &TwoHypervisors, tenant: &'static str, gateway: Mac, traffic: &Traffic) {
    let (a, router) = (topology.raw(tenant, 11), topology.internet().raw_router());
    let hv = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let mut first = None;
    while traffic.goes_on() {
        let payload = marker();
        a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(7000, 7777).payload(&payload).build());
        let out = router.expect("the datagram outside", |f| contains(f, &payload));
        let public = dissect(&out).unwrap().ports().unwrap().0;
        assert_eq!(*first.get_or_insert(public), public, "the datagrams' public port");
        let back = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared(tenant).into());
        let answer = marker();
        router.send(back.udp(7777, public).payload(&answer).build());
        a.expect("its answer", |f| contains(f, &answer));
        traffic.passed(2);
    }
}

#[test]
fn a_kept_flow_loses_no_packet_while_rules_change() {
    let topology = raw_online(|definitions| definitions);
    let gateway = acquainted(&topology, &topology.internet().raw_router());
    let first = topology.write("first.yaml", &topology.gateway_definitions());
    let second = topology.write("second.yaml", &changed(topology.gateway_definitions()));
    let rounds = |has_failed: &dyn Fn() -> bool| {
        for round in 0..paced(20) {
            if has_failed() {
                break;
            }
            topology.hosts[0].netpath.apply(if round % 2 == 0 { &second } else { &first });
        }
    };
    let passed = beside(|traffic| with_the_outside(&topology, "blue", gateway, traffic), rounds);
    assert!(passed > 20);
}

#[test]
fn t3_bindings_that_there_are_let_everybody_in_from_an_apply_on_and_nobody_after_another() {
    let topology = raw_online(|definitions| definitions);
    let (a, router, host) = (topology.raw("blue", 11), topology.internet().raw_router(), &topology.hosts[0]);
    let gateway = acquainted(&topology, &router);
    let hv = host.ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let payload = marker();
    a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(7000, 7777).payload(&payload).build());
    let out = router.expect("the datagram outside", |f| contains(f, &payload));
    let public = dissect(&out).unwrap().ports().unwrap().0;
    let sends = |from: u16, payload: &[u8]| {
        let packet = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared("blue").into());
        router.send(packet.udp(from, public).payload(payload).build());
    };
    let a_stranger_is_refused = || {
        let (strangers, known) = (marker(), marker());
        sends(8888, &strangers);
        sends(7777, &known);
        a.expect_none_before(|f| contains(f, &strangers), |f| contains(f, &known));
    };
    a_stranger_is_refused();
    let closed = topology.gateway_definitions();
    let mut open = closed.clone();
    open["networks"][0]["filtering"] = serde_json::json!("endpoint_independent");
    host.netpath.apply(&topology.write("open.yaml", &open));
    let strangers = marker();
    sends(8888, &strangers);
    a.expect("a stranger's datagram", |f| contains(f, &strangers));
    host.netpath.apply(&topology.write("closed.yaml", &closed));
    a_stranger_is_refused();
}
