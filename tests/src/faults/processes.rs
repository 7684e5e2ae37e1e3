//! Faults of netpath's own processes.

use std::{
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use super::{Cost, kernel::open, lab::Lab};
use crate::{
    agent::{Agent, until},
    packet::mutate::Random,
};

/// An agent's life from a change of its definitions until that is in force, and longer.
const CHANGE: Duration = Duration::from_millis(500);
/// Seconds by which a clock jumps ahead.
const DAY: i64 = 24 * 60 * 60;

/// Agents are killed while they start, and while they bring a change into force.
pub(super) fn agent_killed(lab: &Lab, random: &mut Random) -> Cost {
    for _ in 0..=random.below(3) {
        lab.follow(lab.either(random));
        if random.below(2) == 0 {
            let mut agent = Agent::start(&lab.netpath, &lab.followed);
            at_random(random, lab.usual);
            agent.kill();
        } else {
            let mut agent = Agent::in_force(&lab.netpath, &lab.followed);
            lab.follow(lab.either(random));
            at_random(random, CHANGE);
            agent.kill();
        }
    }
    Cost::Nothing
}

/// Applies are killed.
pub(super) fn apply_killed(lab: &Lab, random: &mut Random) -> Cost {
    for _ in 0..=random.below(4) {
        let file = lab.either(random).clone();
        lab.netpath.killed_apply(&file, part(random, lab.usual));
    }
    Cost::Nothing
}

/// Two applies of two documents at once: one waits for the other, and both come into force.
pub(super) fn two_applies(lab: &Lab, random: &mut Random) -> Cost {
    let start = |file| -> Child {
        let mut command = lab.netpath.command(lab.netpath.apply_args(file));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be started")
    };
    let first = start(&lab.fewer);
    at_random(random, lab.usual / 4);
    let second = start(lab.either(random));
    for mut apply in [first, second] {
        assert!(apply.wait().expect("the apply is ours").success(), "one of two applies has failed");
    }
    Cost::Nothing
}

/// The clocks of netpath's processes jump by a day: an apply, an agent and its sweep judge by them. The data path's do not.
pub(super) fn clock_jumped(lab: &Lab, random: &mut Random) -> Cost {
    // Back by half of what there is: no clock goes below zero.
    let behind = -(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as i64 / 2);
    let ahead = random.below(2) == 0;
    let jumped = lab.netpath.with_clock(if ahead { DAY } else { behind.max(-DAY) });
    jumped.apply(&lab.fewer);
    if ahead {
        // A connection of the past: that it is gone shows that the agent has walked through them all, by its own clock.
        let port = 30_000 + random.below(10_000) as u16;
        open(lab, 13, port, 5000, b"the past");
        until("a connection has expired", || is_expired(lab, port) == Some(true));
        lab.follow(&lab.fewer);
        let agent = Agent::in_force(&jumped, &lab.followed);
        until("it is swept", || is_expired(lab, port).is_none());
        assert!(agent.end().success());
    } else {
        lab.follow(&lab.whole);
        assert!(Agent::in_force(&jumped, &lab.followed).end().success());
    }
    Cost::Nothing
}

/// Whether the connection from a port has expired; `None` where there is none.
fn is_expired(lab: &Lab, port: u16) -> Option<bool> {
    let flows = lab.netpath.json(["show", "flows", "--all", "--port", &port.to_string()]);
    let flows = flows.as_array().expect("a list");
    flows.first().map(|flow| flow["expired"] == true)
}

/// A random part of a time.
pub(super) fn part(random: &mut Random, of: Duration) -> Duration {
    of * random.below(1000) as u32 / 1000
}

/// Lets a random part of a time pass: what follows happens at any point of what is going on.
pub(super) fn at_random(random: &mut Random, within: Duration) {
    thread::sleep(part(random, within));
}
