//! Connections across a change of rules, a reload of the programs and an upgrade: none is lost, and none changes its port.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use netpath_tests::{
    guest::{
        RawGuest,
        raw::{contains, marker},
    },
    pace::paced,
    packet::{Body, Mac, Packet, dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER},
        netns::sysctl,
        two_hypervisors::GATEWAY,
    },
};
use serde_json::Value;

use super::{raw_online, shared};
use crate::scene::A;

/// The gateway's MAC address, and a packet that is sent until its answer shows that the router is known.
pub(super) fn acquainted(topology: &TwoHypervisors, router: &RawGuest) -> Mac {
    // The test is the world behind the router: nothing else may answer.
    topology.internet().router.run(|| sysctl("net/ipv4/ip_forward", "0")).unwrap();
    let (a, gateway) = (topology.raw("blue", 11), gateway_of(topology, "blue"));
    let payload = marker();
    for _ in 0..50 {
        a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(9, 9).payload(&payload).build());
        let soon = std::time::Instant::now() + std::time::Duration::from_millis(200);
        if router.until(soon, |f| contains(f, &payload)).is_some() {
            return gateway;
        }
    }
    panic!("the router is not found");
}

/// The MAC address of the gateway of a tenant's network.
pub(super) fn gateway_of(topology: &TwoHypervisors, tenant: &'static str) -> Mac {
    let a = topology.raw(tenant, 11);
    a.send(guest(A).arp_request(GATEWAY).build());
    let reply = a.expect("the gateway", |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == GATEWAY));
    dissect(&reply).unwrap().arp().unwrap().1
}

pub(super) fn outward(gateway: Mac, port: u16, flags: u8) -> Packet {
    guest(A).to_mac(gateway).to_ip(INTERNET.ip).tcp(port, 443, flags)
}

/// What the router sees of each connection: the guest's port (in the sequence number) → the public port.
fn public_ports(router: &RawGuest, flags: u8, count: usize) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    while ports.len() < count {
        let frame = router.expect("a segment", |f| {
            dissect(f).and_then(|d| d.ip).is_some_and(|ip| ip.protocol == 6 && ip.message[13] == flags)
        });
        let parts = dissect(&frame).unwrap();
        assert_eq!(parts.ip.as_ref().unwrap().src, std::net::IpAddr::from(shared("blue")));
        let message = parts.ip.as_ref().unwrap().message;
        ports.insert(u16::from_be_bytes([message[6], message[7]]), parts.ports().unwrap().0);
    }
    ports
}

/// A segment whose sequence number is the guest's port.
fn numbered(packet: Packet, from: u16, to: u16, port: u16, flags: u8) -> Vec<u8> {
    let body = Body::Tcp { src: from, dst: to, seq: u32::from(port), ack: 1, flags, payload: Vec::new() };
    packet.body(body).build()
}

/// Sends a segment of every connection in batches that no queue on the way overflows with, and gives the public ports.
pub(super) fn all_out(a: &RawGuest, router: &RawGuest, gateway: Mac, flags: u8, ports: &[u16]) -> BTreeMap<u16, u16> {
    let mut seen = BTreeMap::new();
    for batch in ports.chunks(200) {
        batch.iter().for_each(|port| a.send(numbered(outward(gateway, *port, flags), *port, 443, *port, flags)));
        seen.extend(public_ports(router, flags, batch.len()));
    }
    seen
}

/// Sends a segment to every connection, and asserts that each arrives at the guest's own port.
pub(super) fn all_in(a: &RawGuest, wire: &RawGuest, hv: Mac, flags: u8, ports: &BTreeMap<u16, u16>) {
    let all: Vec<_> = ports.iter().collect();
    for batch in all.chunks(200) {
        for (port, public) in batch {
            let packet = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared("blue").into());
            wire.send(numbered(packet, 443, **public, **port, flags));
        }
        let mut wanted: std::collections::BTreeSet<u16> = batch.iter().map(|(port, _)| **port).collect();
        while !wanted.is_empty() {
            let frame = a.expect("a segment", |f| {
                dissect(f).and_then(|d| d.ip).is_some_and(|ip| ip.protocol == 6 && ip.message[13] == flags)
            });
            let got = dissect(&frame).unwrap().ports().unwrap();
            assert_eq!(got.0, 443);
            wanted.remove(&got.1);
        }
    }
}

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
pub(super) fn exchange_until(
    topology: &TwoHypervisors,
    tenant: &'static str,
    gateway: Mac,
    stop: &AtomicBool,
    exchanged: &AtomicU64,
) {
    let (a, router) = (topology.raw(tenant, 11), topology.internet().raw_router());
    let hv = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let mut first = None;
    while !stop.load(Ordering::Relaxed) {
        let payload = marker();
        a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(7000, 7777).payload(&payload).build());
        let out = router.expect("the datagram outside", |f| contains(f, &payload));
        let public = dissect(&out).unwrap().ports().unwrap().0;
        assert_eq!(*first.get_or_insert(public), public, "the datagrams' public port");
        let back = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared(tenant).into());
        let answer = marker();
        router.send(back.udp(7777, public).payload(&answer).build());
        a.expect("its answer", |f| contains(f, &answer));
        exchanged.fetch_add(2, Ordering::Relaxed);
    }
}

#[test]
fn a_kept_flow_loses_no_packet_while_rules_change() {
    let topology = raw_online(|definitions| definitions);
    let gateway = acquainted(&topology, &topology.internet().raw_router());
    let first = topology.write("first.yaml", &topology.gateway_definitions());
    let second = topology.write("second.yaml", &changed(topology.gateway_definitions()));
    let (stop, exchanged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| exchange_until(&topology, "blue", gateway, &stop, &exchanged));
        for round in 0..paced(20) {
            if traffic.is_finished() {
                break;
            }
            topology.hosts[0].netpath.apply(if round % 2 == 0 { &second } else { &first });
        }
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
    });
    assert!(exchanged.load(Ordering::Relaxed) > 20);
}
