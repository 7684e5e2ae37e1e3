//! Two CPUs that give out ports of one pool at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use netpath_common::maps::{PUBLIC_SIDE, gateway_flags};
use netpath_tests::{pace::paced, packet::Endpoint};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::rig::{A, B, BLUE, Rig, SERVER, SYN, outward};

/// Connections that one CPU opens in a round: two of them do not fill the pool of one protocol.
const ROUND: u32 = 20_000;

/// Opens [`ROUND`] connections of a station on a CPU.
fn open(rig: &Rig, cpu: usize, station: Endpoint) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).unwrap();
    let port = rig.ports[&(BLUE, station.ip.octets()[3])];
    rig.ns.run(|| {
        for n in 0..ROUND {
            let packet = outward(station).to_ip(SERVER).tcp(1024 + (n % 30_000) as u16, 443, SYN);
            rig.tc_only("from_guest", port, &packet.build());
        }
    });
}

/// X2: a million allocations, twenty thousand at a time by each of two CPUs that want the very same ports.
#[test]
fn x2_two_cpus_never_give_out_one_port_twice() {
    let mut rig = Rig::routed_sized(&[("FLOWS", 262_144), ("BINDINGS", 262_144)]);
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 1_000_000);
    rig.load("from_guest");
    let rounds = paced(25);
    let mut given = 0;
    for round in 0..rounds {
        // Every other round in pairs of rows.
        rig.change_gateway(BLUE, |gateway| gateway.flags ^= gateway_flags::ENDPOINT_INDEPENDENT);
        let (one, two) = (&rig, &rig);
        std::thread::scope(|scope| {
            scope.spawn(move || open(one, 0, A));
            scope.spawn(move || open(two, 1, B));
        });
        given += check(&rig);
        // Everything ends, and its ports' hold-down too: the next round finds rows to reclaim.
        if round + 1 < rounds {
            rig.forget_connections();
        }
    }
    assert!(given >= rounds * ROUND as usize * 19 / 10, "{given} ports in {rounds} rounds; {:?}", rig.drops());
}

/// Asserts that no two inside ends share a public one, and that rows of outside ends point back; gives how many bindings there are.
fn check(rig: &Rig) -> usize {
    let rows = rig.bindings();
    let mut publics: BTreeMap<_, _> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, row) in rows.iter().filter(|(key, _)| key.side & PUBLIC_SIDE == 0) {
        let public = (row.side, Ipv4Addr::from(row.address), row.port, key.protocol);
        assert!(seen.insert(public), "{public:?} was given out twice: {key:?} and {:?}", publics[&public]);
        publics.insert(public, *key);
    }
    for (key, row) in rows.iter().filter(|(key, _)| key.side & PUBLIC_SIDE != 0) {
        let inside = publics.get(&(key.side, key.address.into(), key.port, key.protocol));
        assert!(inside.is_some_and(|i| (i.address, i.port) == (row.address, row.port)), "{key:?} → {row:?}");
    }
    publics.len()
}
