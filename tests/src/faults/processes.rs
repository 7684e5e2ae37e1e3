//! Faults of netpath's own processes.

use std::{
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use super::{Cost, kernel::open, lab::Lab, traffic::COMER};
use crate::{
    agent::{Agent, until},
    packet::mutate::Random,
    process::has_ended,
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
            let agent = Agent::start(&lab.netpath, &lab.followed);
            at_random(random, lab.usual);
            lab.kill_agent(agent);
        } else {
            let agent = Agent::in_force(&lab.netpath, &lab.followed);
            lab.follow(lab.either(random));
            at_random(random, CHANGE);
            lab.kill_agent(agent);
        }
    }
    Cost::Nothing
}

/// Applies are killed.
pub(super) fn apply_killed(lab: &Lab, random: &mut Random) -> Cost {
    for _ in 0..rounds(random) {
        let args = lab.netpath.apply_args(lab.either(random));
        lab.kill(&args.iter().map(String::as_str).collect::<Vec<_>>(), random);
    }
    Cost::Nothing
}

/// Rollbacks are killed.
pub(super) fn rollback_killed(lab: &Lab, random: &mut Random) -> Cost {
    for _ in 0..rounds(random) {
        lab.netpath.apply(&lab.fewer);
        if lab.kill(&["rollback"], random).is_some() {
            assert!(lab.netpath.is_converged(&lab.whole), "what was in force before is not brought back");
        }
    }
    Cost::Nothing
}

/// What takes everything off is killed, and what removes all pins beside that.
pub(super) fn detach_killed(lab: &Lab, random: &mut Random) -> Cost {
    lab.traffic.outage(&[]);
    let mut cost = Cost::Nothing;
    for _ in 0..rounds(random) {
        if random.below(2) == 0 {
            lab.kill(&["detach"], random);
        } else {
            lab.kill(&["detach", "--purge"], random);
            cost = Cost::Tables;
        }
        match random.below(3) {
            0 => drop(lab.netpath.apply(lab.either(random))),
            1 => lab.kill_apply(lab.either(random), random),
            _ => {}
        }
    }
    cost
}

/// Confirmations are killed: each is made, or can still be made or be taken back.
pub(super) fn confirm_killed(lab: &Lab, random: &mut Random) -> Cost {
    let awaited = || lab.netpath.history().awaited().expect("the history can be read");
    for _ in 0..rounds(random) {
        lab.netpath.apply(&lab.whole);
        let args = lab.netpath.apply_args(&lab.fewer);
        lab.netpath.succeed(args.iter().map(String::as_str).chain(["--confirm-within", "1h"]));
        let waiting = awaited().expect("it is to be confirmed").pid;
        lab.kill(&["confirm"], random);
        let in_force = match awaited() {
            Some(awaited) => {
                assert!(awaited.is_watched, "nobody waits for a confirmation that was not made");
                let (verb, in_force) = *random.pick(&[("confirm", &lab.fewer), ("rollback", &lab.whole)]);
                lab.netpath.succeed([verb]);
                in_force
            }
            None => &lab.fewer,
        };
        until("whoever waits has ended", || has_ended(waiting));
        assert!(awaited().is_none() && lab.netpath.is_converged(in_force), "{} is not in force", in_force.display());
    }
    Cost::Nothing
}

/// A doctor is killed that takes away what is in no definition, or stands for a device that is gone.
pub(super) fn release_killed(lab: &Lab, random: &mut Random) -> Cost {
    for _ in 0..rounds(random) {
        lab.netpath.apply(&lab.whole);
        let ended = if random.below(2) == 0 {
            let file = lab.fewer.display().to_string();
            lab.kill(&["doctor", "--release", "-f", &file, "--host", lab.netpath.host()], random)
        } else {
            lab.traffic.outage(&[COMER]);
            lab.delete_device();
            let ended = lab.kill(&["doctor", "--release"], random);
            lab.make_device();
            ended
        };
        if let Some(ended) = ended {
            assert!(ended.stdout.contains("- program from_guest on device"), "nothing is released: {}", ended.stdout);
        }
    }
    Cost::Nothing
}

/// How often something is killed for one fault.
fn rounds(random: &mut Random) -> usize {
    2 + random.below(3)
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
