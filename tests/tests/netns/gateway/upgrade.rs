//! A build of another ABI takes over under traffic, and gives back: no connection is reset or mapped anew, no packet is lost, and
//! counters only grow.

use std::{collections::BTreeMap, path::Path, time::Instant};

use aya::maps::{HashMap, Map, MapData};
use netpath_tests::{
    agent::{Agent, until},
    connections::{Connections, acquainted, gateway_of},
    pace::is_emulated,
    packet::{Mac, guest},
    runner::{Build, Netpath},
    topology::{TwoHypervisors, internet::INTERNET},
};
use serde_json::{Value, json};

use super::{live::with_the_outside, own, raw_online};
use crate::{
    scene::{A, B, C, UPLINK_MODES, in_mode},
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

/// Everything that is counted for `tenant`, by what `show usage`, `show limits` and `show drops` call it.
fn counted(netpath: &Netpath, tenant: &str) -> BTreeMap<String, u64> {
    let usage = netpath.json(["show", "usage"]);
    let (limits, drops) = (netpath.json(["show", "limits"]), netpath.json(["show", "drops"]));
    let mut views: Vec<_> = ["nics", "networks", "accounts", "addresses"].map(|list| (list, &usage[list])).to_vec();
    views.extend([("limits", &limits), ("drops", &drops)]);
    let mut counts = BTreeMap::new();
    for (view, rows) in views {
        for row in rows.as_array().unwrap_or_else(|| panic!("{view} is no list: {rows}")) {
            let fields = row.as_object().unwrap();
            let name: Vec<_> = fields.values().filter_map(Value::as_str).collect();
            let is_count = |name: &str| name == "peak" || name.ends_with("packets") || name.ends_with("_bytes");
            let numbers = fields.iter().filter(|(field, _)| is_count(field) && *field != "burst_bytes");
            counts.extend(
                numbers.map(|(field, number)| (format!("{view} {field} {}", name.join(" ")), number.as_u64().unwrap())),
            );
        }
    }
    counts.retain(|name, _| name.contains(tenant));
    counts
}

/// The sum of the counts whose names have all of `words`, of which there has to be one.
#[track_caller]
fn count(counts: &BTreeMap<String, u64>, words: &[&str]) -> u64 {
    let mut named = counts.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))).peekable();
    assert!(named.peek().is_some(), "no {words:?} in {counts:#?}");
    named.map(|(_, number)| number).sum()
}

/// Has NIC 11 of blue and the address of NIC 13 exceed their limits, and refuses a frame with an address that is not NIC 11's.
fn overdo(topology: &TwoHypervisors, gateway: Mac) {
    for (number, station) in [(11, A), (13, C)] {
        for _ in 0..200 {
            let datagram = guest(station).to_mac(gateway).to_ip(INTERNET.ip).udp(9, 9).payload([7; 1400]);
            topology.raw("blue", number).send(datagram.build());
        }
    }
    topology.raw("blue", 11).send(guest(A).from(B.ip).to(C).build());
}

#[test]
fn usage_limits_and_refusals_count_on_through_an_upgrade_and_a_downgrade() {
    for mode in UPLINK_MODES {
        let limited = |definitions: Value| {
            let mut definitions = in_mode(definitions, mode);
            let blue = &mut definitions["networks"][0];
            blue["public_rates"] = json!([{"public": own("blue"), "rate": "1Mbps"}]);
            assert_eq!(blue["nics"][0]["instance"], "blue-11");
            blue["nics"][0]["network_rate"] = "1Mbps".into();
            definitions
        };
        let topology = raw_online(limited);
        let file = topology.write("same.yaml", &limited(topology.gateway_definitions()));
        let [gateway, green] =
            [acquainted(&topology, &topology.internet().raw_router()), gateway_of(&topology, "green")];
        let old = &topology.hosts[0].netpath;
        let new = &next(old);
        let overdone = |netpath: &Netpath, spoofed: u64| {
            overdo(&topology, gateway);
            until("the spoofed frame is refused", || {
                netpath.drops().get(&("blue-web".to_owned(), "spoofed_ipv4".to_owned())) == Some(&spoofed)
            });
            counted(netpath, "blue")
        };
        let first = overdone(old, 1);
        for limit in [["blue-11", "dropped_packets"], ["203.0.113.11", "dropped_packets"]] {
            assert!(count(&first, &limit) > 0, "{first:#?}");
        }
        let green_before = counted(old, "green");
        let there_and_back = |_: &dyn Fn() -> bool| {
            new.apply(&file);
            assert_eq!(counted(new, "blue"), first, "after the upgrade in {mode}");
            let second = overdone(new, 2);
            for (name, number) in &first {
                assert!(second.get(name) >= Some(number), "{name} has fallen from {number}: {second:#?}");
            }
            for limit in [["blue-11", "dropped_packets"], ["203.0.113.11", "dropped_packets"]] {
                assert!(count(&second, &limit) > count(&first, &limit), "{second:#?}");
            }
            old.apply(&file);
            assert_eq!(counted(old, "blue"), second, "after the downgrade in {mode}");
        };
        let moved = beside(|traffic| with_the_outside(&topology, "green", green, traffic), there_and_back);
        let green_after = counted(old, "green");
        assert!(moved > 0);
        for list in ["nics ", "networks ", "accounts ", "addresses "] {
            for direction in ["from_guest_packets", "to_guest_packets"] {
                let [before, after] = [&green_before, &green_after].map(|counts| count(counts, &[list, direction]));
                assert_eq!(after - before, moved / 2, "{list}{direction} in {mode}: {green_after:#?}");
            }
        }
        assert!(!green_after.keys().any(|name| name.starts_with("drops")), "{green_after:#?}");
    }
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
