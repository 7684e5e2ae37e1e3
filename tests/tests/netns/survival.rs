//! Kill -9 of `apply` at any point: the next one converges, and guests that were not touched lost nothing.

use std::{fs, time::Instant};

use netpath_tests::{
    agent::until,
    pace::is_emulated,
    packet::guest,
    topology::{Builder, TwoHypervisors, two_hypervisors::Attachment},
};
use serde_json::Value;

use crate::{
    scene::{A, B, UPLINK_MODES, delivers, in_mode},
    traffic::{beside, between_guests},
};

fn builder() -> Builder {
    (20..36).fold(TwoHypervisors::builder(), |b, n| b.nic("green", n, usize::from(n % 2), Attachment::RawTap))
}

/// The document without green, without its extra NICs, and whole: three states to move between.
fn states(whole: &Value) -> [Value; 3] {
    let (mut without, mut fewer) = (whole.clone(), whole.clone());
    without["networks"].as_array_mut().unwrap().pop();
    fewer["networks"][1]["nics"].as_array_mut().unwrap().truncate(3);
    [without, fewer, whole.clone()]
}

#[test]
fn a_killed_apply_is_finished_by_the_next_and_untouched_guests_lose_nothing() {
    for mode in UPLINK_MODES {
        let topology = builder().build().unwrap();
        let whole = in_mode(topology.vxlan_definitions(), mode);
        let started = Instant::now();
        topology.apply(&whole);
        let usual = started.elapsed() / 2;
        let files: Vec<_> = states(&whole)
            .iter()
            .enumerate()
            .map(|(n, state)| topology.write(&format!("state-{n}.yaml"), state))
            .collect();
        let netpath = &topology.hosts[0].netpath;
        let rounds = |has_failed: &dyn Fn() -> bool| {
            let rounds = if is_emulated() { 12 } else { 24 };
            for round in 0u32..rounds {
                if has_failed() {
                    break;
                }
                let file = &files[round as usize % 3];
                netpath.killed_apply(file, usual * (round % 12) / 12);
                if round % 4 == 3 {
                    netpath.apply(file);
                    assert!(netpath.is_converged(file), "round {round} in {mode}");
                }
            }
        };
        let passed = beside(|traffic| between_guests(&topology, traffic), rounds);
        assert!(passed > 0);
        netpath.apply(&files[2]);
        delivers(topology.raw("green", 11), topology.raw("green", 12), &guest(A).to(B));
    }
}

#[test]
fn an_apply_that_is_killed_while_nothing_was_there_is_finished_by_the_next() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        let file = topology.write("zone.yaml", &in_mode(topology.vxlan_definitions(), mode));
        let netpath = &topology.hosts[0].netpath;
        topology.hosts[1].netpath.apply(&file);
        let started = Instant::now();
        netpath.apply(&file);
        let usual = started.elapsed();
        let steps = if is_emulated() { 4 } else { 12 };
        for step in 0..steps {
            netpath.succeed(["detach", "--purge"]);
            netpath.killed_apply(&file, usual * step / steps);
            netpath.apply(&file);
            assert!(netpath.is_converged(&file), "step {step} in {mode}");
            delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
        }
    }
}

#[test]
fn expedited_grace_periods_that_a_killed_apply_left_on_are_turned_off_by_the_next() {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";
    let found = fs::read_to_string(SWITCH).unwrap();
    let topology = TwoHypervisors::builder().build().unwrap();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    for what in ["attaches", "has nothing to do"] {
        fs::write(SWITCH, "4789").unwrap();
        topology.hosts[0].netpath.apply(&file);
        until(&format!("an apply that {what} has turned it off"), || fs::read_to_string(SWITCH).unwrap().trim() == "0");
    }
    // Machines that start with it on want it on.
    if found.trim() == "1" {
        fs::write(SWITCH, "1").unwrap();
    }
}
