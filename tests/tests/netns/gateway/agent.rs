//! What an agent does for connections and public addresses, and that connections do without it.

use std::collections::BTreeSet;

use netpath::datapath::{Root, Tables};
use netpath_common::maps::{FlowKey, HOLD_DOWN, PUBLIC_SIDE};
use netpath_tests::{
    agent::{Agent, until},
    connections::{acquainted, all_in, all_out},
    guest::raw::{contains, marker},
    pace::paced,
    packet::{dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK},
    },
};

use super::{own, raw_online, shared};
use crate::scene::A;

#[test]
fn ten_thousand_connections_live_through_the_end_and_the_start_of_agents() {
    let topology = raw_online(|definitions| definitions);
    let (a, router) = (topology.raw("blue", 11), topology.internet().raw_router());
    let gateway = acquainted(&topology, &router);
    let host = &topology.hosts[0];
    let hv = host.ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
    let file = topology.write("followed.yaml", &topology.gateway_definitions());
    let agent = Agent::in_force(&host.netpath, &file);
    let ports: Vec<u16> = (20_000..20_000 + paced(10_000) as u16).collect();
    let publics = all_out(a, &router, gateway, 0x02, &ports);
    all_in(a, &router, hv, 0x12, &publics);
    assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics);
    assert!(agent.end().success());
    assert_eq!(all_out(a, &router, gateway, 0x18, &ports), publics, "without an agent");
    let mut agent = Agent::in_force(&host.netpath, &file);
    all_in(a, &router, hv, 0x18, &publics);
    agent.kill();
    assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics, "after a kill");
    all_in(a, &router, hv, 0x10, &publics);
}

fn tables(topology: &TwoHypervisors) -> Tables {
    Tables::open(&Root::open(topology.hosts[0].netpath.root()).unwrap()).unwrap()
}

/// The guest's port of a flow, on either side of it.
fn inside_port(key: &FlowKey) -> u16 {
    if key.side & PUBLIC_SIDE == 0 { key.source_port } else { key.destination_port }
}

#[test]
fn what_is_idle_is_swept_and_counted_and_what_lives_stays() {
    let topology = raw_online(|definitions| definitions);
    let (a, router) = (topology.raw("blue", 11), topology.internet().raw_router());
    let gateway = acquainted(&topology, &router);
    let send = |port| {
        let payload = marker();
        a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(port, 7777).payload(&payload).build());
        let out = router.expect("the datagram outside", |f| contains(f, &payload));
        dissect(&out).unwrap().ports().unwrap().0
    };
    let count = paced(200) as u16;
    let before: Vec<u16> = (30_000..30_000 + count).map(send).collect();
    // Even ones have been silent for an hour: the clock in their rows says so.
    let mut tables_now = tables(&topology);
    let is_aged = |port: u16| port >= 30_000 && port.is_multiple_of(2);
    for (key, mut flow) in tables_now.flows.rows().unwrap() {
        if is_aged(inside_port(&key)) {
            flow.last_seen = flow.last_seen.wrapping_sub(3600);
            tables_now.flows.put(&key, &flow).unwrap();
        }
    }
    for (key, mut binding) in tables_now.bindings.rows().unwrap() {
        let port = if key.side & PUBLIC_SIDE == 0 { key.port } else { binding.port };
        if is_aged(port) {
            binding.expires = 1;
            tables_now.bindings.put(&key, &binding).unwrap();
        }
    }
    let ports =
        || tables(&topology).flows.rows().unwrap().iter().map(|(key, _)| inside_port(key)).collect::<BTreeSet<_>>();
    assert!(ports().iter().any(|port| is_aged(*port)));
    let file = topology.write("followed.yaml", &topology.gateway_definitions());
    let _agent = Agent::in_force(&topology.hosts[0].netpath, &file);
    until("idle connections are gone", || !ports().iter().any(|port| is_aged(*port)));
    // A machine that is just up has no binding that is past its rest.
    if rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec > i64::from(HOLD_DOWN) + 10 {
        until("their bindings are gone", || {
            let rows = tables(&topology).bindings.rows().unwrap();
            !rows.iter().any(|(key, _)| key.side & PUBLIC_SIDE == 0 && is_aged(key.port))
        });
    }
    let alive: Vec<u16> = (30_000..30_000 + count).filter(|port| !is_aged(*port)).collect();
    assert!(alive.iter().all(|port| ports().contains(port)));
    for port in &alive {
        assert_eq!(send(*port), before[usize::from(port - 30_000)], "port {port} is mapped as before");
    }
    // The data path's own count of the network's rows is right.
    let tables_now = tables(&topology);
    let rows = tables_now.flows.rows().unwrap();
    let network = rows.iter().find(|(key, _)| inside_port(key) == alive[0]).unwrap().1.network;
    let state = tables_now.gateway_state.get(network).unwrap().unwrap();
    assert_eq!(state.flows, rows.iter().filter(|(_, flow)| flow.network == network).count() as u64);
}

#[test]
fn what_there_was_no_room_for_is_in_the_agents_log() {
    let limited = |mut definitions: serde_json::Value| {
        definitions["networks"][0]["connection_limit"] = 3.into();
        definitions
    };
    let topology = raw_online(limited);
    let (a, router) = (topology.raw("blue", 11), topology.internet().raw_router());
    let gateway = acquainted(&topology, &router);
    let file = topology.write("followed.yaml", &limited(topology.gateway_definitions()));
    let agent = Agent::in_force(&topology.hosts[0].netpath, &file);
    for port in 40_000..40_007 {
        a.send(guest(A).to_mac(gateway).to_ip(INTERNET.ip).udp(port, 7777).build());
    }
    until("the agent says so", || agent.log().contains("connection_limit"));
    let log = agent.log();
    let said = log.lines().find(|line| line.contains("connection_limit")).unwrap();
    assert!(said.contains("blue-web") && said.contains("as many connections as it may have"), "{said}");
}

#[test]
fn an_uplink_that_comes_back_has_its_public_addresses_announced() {
    let topology = raw_online(|definitions| definitions);
    let host = &topology.hosts[0];
    let file = topology.write("followed.yaml", &topology.gateway_definitions());
    let _agent = Agent::in_force(&host.netpath, &file);
    let wire = topology.internet().wire(0);
    wire.drain();
    host.ns.run(|| Link::named(PUBLIC_UPLINK).down()).unwrap();
    host.ns.run(|| Link::named(PUBLIC_UPLINK).up()).unwrap();
    let mut missing: BTreeSet<_> = ["blue", "green"].iter().flat_map(|tenant| [shared(tenant), own(tenant)]).collect();
    while !missing.is_empty() {
        let frame = wire.expect("an announcement", |f| dissect(f).is_some_and(|parts| parts.arp().is_some()));
        missing.remove(&dissect(&frame).unwrap().arp().unwrap().2);
    }
}
