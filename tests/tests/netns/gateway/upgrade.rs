//! A build of another ABI takes over under traffic, and gives back: no connection is reset or mapped anew, no packet is lost, and
//! counters only grow.

use std::{path::Path, time::Instant};

use aya::maps::{HashMap, Map, MapData};
use netpath_tests::{
    agent::{Agent, until},
    connections::{Connections, gateway_of},
    pace::is_emulated,
    runner::{Build, Netpath},
};

use super::{live::with_the_outside, raw_online};
use crate::{
    scene::{UPLINK_MODES, in_mode},
    traffic::beside,
};

/// The program as it is after an upgrade.
fn next(netpath: &Netpath) -> Netpath {
    netpath.of(Build::Next)
}

/// Frames that passed NIC 11 of a tenant, both ways.
fn passed(netpath: &Netpath, tenant: &str) -> u64 {
    let counters = netpath.json(["show", "counters"]);
    let ports = counters["ports"].as_array().expect("ports have counters");
    let row = ports.iter().find(|row| row["instance"] == format!("{tenant}-11"));
    let row = row.unwrap_or_else(|| panic!("no NIC 11 of {tenant} in {counters}"));
    row["from_guest_packets"].as_u64().unwrap() + row["to_guest_packets"].as_u64().unwrap()
}

#[test]
fn ten_thousand_connections_live_through_an_upgrade_and_a_downgrade() {
    for mode in UPLINK_MODES {
        let topology = raw_online(|definitions| in_mode(definitions, mode));
        let file = topology.write("same.yaml", &in_mode(topology.gateway_definitions(), mode));
        let host = &topology.hosts[0];
        let connections = Connections::open(&topology, 10_000);
        let green = gateway_of(&topology, "green");
        let since = |netpath: &Netpath| netpath.json(["show", "usage"])["counted_since"].clone();
        let began = since(&host.netpath);
        let before = [passed(&host.netpath, "blue"), passed(&host.netpath, "green")];
        let there_and_back = |_: &dyn Fn() -> bool| {
            let upgraded = next(&host.netpath).apply(&file);
            assert!(upgraded.stdout.contains("takes over in place"), "{}", upgraded.stdout);
            connections.live(0x18);
            assert!(next(&host.netpath).is_converged(&file));
            assert_eq!(since(&next(&host.netpath)), began);
            let refused = host.netpath.run(["show", "nat"]);
            assert!(refused.code == 1 && refused.stderr.contains("ABI v1003"), "{refused:?}");
            host.netpath.apply(&file);
            connections.live(0x10);
            assert!(host.netpath.is_converged(&file));
        };
        let moved = beside(|traffic| with_the_outside(&topology, "green", green, traffic), there_and_back);
        let after = [passed(&host.netpath, "blue"), passed(&host.netpath, "green")];
        assert!(moved > 20, "{moved} datagrams in {mode}");
        assert_eq!(after[1] - before[1], moved, "datagrams counted in {mode}");
        assert_eq!(after[0] - before[0], 4 * connections.ports.len() as u64, "segments counted in {mode}");
        assert_eq!(folders(host.netpath.root()), ["links", "v3"], "what is left in {mode}");
    }
}

fn folders(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_upgrade_that_is_killed_is_finished_or_undone_by_the_next_apply_of_either_build() {
    let topology = raw_online(|definitions| definitions);
    let file = topology.write("same.yaml", &topology.gateway_definitions());
    let host = &topology.hosts[0];
    let connections = Connections::open(&topology, 1000);
    let green = gateway_of(&topology, "green");
    let started = Instant::now();
    next(&host.netpath).apply(&file);
    let usual = started.elapsed();
    host.netpath.apply(&file);
    let before = passed(&host.netpath, "green");
    let killed = |has_failed: &dyn Fn() -> bool| {
        let rounds: u32 = if is_emulated() { 6 } else { 24 };
        for round in 0..rounds {
            if has_failed() {
                break;
            }
            // Every point of an upgrade, one of the downgrade that follows, and either build to finish.
            next(&host.netpath).killed_apply(&file, usual * round / rounds);
            host.netpath.killed_apply(&file, usual * (round * 7 % rounds) / rounds);
            let (build, folder) = if round % 2 == 0 { (Build::Current, "v3") } else { (Build::Next, "v1003") };
            let finishing = host.netpath.of(build);
            finishing.apply(&file);
            assert!(finishing.is_converged(&file), "round {round}");
            assert_eq!(folders(host.netpath.root()), ["links", folder], "round {round}");
            connections.live(0x18);
        }
    };
    let moved = beside(|traffic| with_the_outside(&topology, "green", green, traffic), killed);
    host.netpath.apply(&file);
    let counted = passed(&host.netpath, "green") - before;
    assert!(moved > 0);
    // A kill between the addition of sixteen rows and the note of it adds them once more.
    assert!(counted.abs_diff(moved) * 1000 <= moved, "{counted} of {moved} datagrams counted");
}

/// Says of a map that its rows are of a version that nobody else knows.
fn make_foreign(netpath: &Netpath, map: &str) -> impl FnOnce() {
    type Schema = HashMap<MapData, [u8; 16], [u32; 6]>;
    let data = MapData::from_pin(netpath.root().join("v3/schema")).unwrap();
    let mut schema: Schema = Map::from_map_data(data).unwrap().try_into().unwrap();
    let mut key = [0; 16];
    key[..map.len()].copy_from_slice(map.as_bytes());
    let before = schema.get(&key, 0).unwrap();
    let [kind, key_size, value_size, flags, ..] = before;
    schema.insert(key, [kind, key_size, value_size, flags, 9, 9], 0).unwrap();
    move || schema.insert(key, before, 0).unwrap()
}

#[test]
fn what_cannot_be_carried_over_is_refused_by_its_name_and_nothing_is_touched() {
    let topology = raw_online(|definitions| definitions);
    let file = topology.write("same.yaml", &topology.gateway_definitions());
    let netpath = &topology.hosts[0].netpath;
    let new = next(netpath);
    let restore = make_foreign(netpath, "BINDINGS");
    for verb in ["plan", "apply"] {
        let refused = new.run([verb, "-f", &file.display().to_string(), "--host", "hv1"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        for part in ["map BINDINGS of ABI v3", "version 9", "detach --purge"] {
            assert!(refused.stderr.contains(part), "{}", refused.stderr);
        }
    }
    restore();
    // Rules follow from the definitions, whatever their rows were.
    let restore = make_foreign(netpath, "RULES");
    new.apply(&file);
    drop(restore);
    assert!(new.is_converged(&file));
    let connections = Connections::open(&topology, 200);
    netpath.apply(&file);
    connections.live(0x18);
}

#[test]
fn an_agent_takes_over_when_it_starts_and_nobody_does_while_another_builds_agent_runs() {
    let topology = raw_online(|definitions| definitions);
    let file = topology.write("same.yaml", &topology.gateway_definitions());
    let netpath = &topology.hosts[0].netpath;
    let agent = Agent::in_force(netpath, &file);
    let refused = next(netpath).run(next(netpath).apply_args(&file));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("end it first"), "{}", refused.stderr);
    assert!(netpath.is_converged(&file));
    let connections = Connections::open(&topology, 200);
    assert!(agent.end().success());
    let _agent = Agent::in_force(&next(netpath), &file);
    connections.live(0x18);
    assert!(next(netpath).is_converged(&file));
}

/// The next build is one for debugging, too (feature `log`).
#[test]
fn a_build_for_debugging_tells_in_its_agents_log_what_becomes_of_packets() {
    let topology = raw_online(|definitions| definitions);
    let file = topology.write("same.yaml", &topology.gateway_definitions());
    let mut agent = Agent::start_with(&next(&topology.hosts[0].netpath), &file, &["-v"]);
    agent.until("its definitions are in force", |agent| !agent["last_apply"].is_null());
    Connections::open(&topology, 8).live(0x18);
    // Hook 5 is the gateway, action 1 a redirect.
    until("the gateway's lines are in the log", || {
        agent.log().contains("DEBUG netpath::debug: hook 5, network 1: action 1, reason 0")
    });
}
