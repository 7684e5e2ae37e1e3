//! The agent as a service manager sees it: ready, at work, alive, ending; and its log as a program reads it.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use netpath_tests::{
    agent::{Agent, until},
    runner::Netpath,
    service_manager::{ALIVE, ServiceManager},
    topology::TwoHypervisors,
};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
    time::{ClockId, clock_gettime},
};
use serde_json::Value;

use crate::agent::replace;

/// The service manager of these tests wants a sign of life three times in this.
const WATCHDOG: Duration = Duration::from_millis(300);
/// A document that is cut off in its third line; YAML misses the bracket at the end of the file.
const BROKEN: &str = "zone: zone1\nnetworks:\n  - {name: blue-web, cidr: 10.1.1.0/24\n";
/// What an agent says whose definitions are in force.
const IN_FORCE: &str = "STATUS=definitions in force; NICs that wait for their device: 0";
/// The same of one that could not read them: the first line of what its log says.
const IS_BROKEN: &str = "followed.yaml has 1 error";

/// Hypervisors on which nothing is applied, and the first one's service manager.
fn managed() -> (TwoHypervisors, ServiceManager) {
    let topology = TwoHypervisors::builder().build().unwrap();
    let manager = ServiceManager::listen(topology.scratch().path().join("notify"));
    (topology, manager)
}

/// An agent that the service manager starts, with a log for programs.
fn start(manager: &ServiceManager, netpath: &Netpath, file: &Path) -> Agent {
    let mut command = Agent::command(netpath, file, &["--log", "json"]);
    manager.introduce(&mut command, WATCHDOG);
    Agent::spawn(netpath, command)
}

/// Keeps every apply of an instance waiting until it is dropped.
fn hold(netpath: &Netpath) -> File {
    let history = netpath.history();
    fs::create_dir_all(history.folder()).unwrap();
    let folder = File::open(history.folder()).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    folder
}

/// That the service manager hears of nothing but life, for as long as takes some signs of it.
#[track_caller]
fn hears_of_life_alone(manager: &ServiceManager) {
    let heard = manager.heard().into_iter().chain((0..3).map(|_| manager.hears()));
    assert_eq!(heard.filter(|said| said != ALIVE).collect::<Vec<_>>(), [""; 0]);
}

/// The lines of a log for programs, each an object.
#[track_caller]
fn lines(log: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in a line: {line}"));
    let lines: Vec<Value> = log.lines().map(line).collect();
    for line in &lines {
        let text = |field: &str| line[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(text("timestamp") && text("level") && line["message"].is_string(), "{line}");
    }
    lines
}

/// Whether a line of this level has these words.
fn says(lines: &[Value], level: &str, words: &str) -> bool {
    let message = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(words));
    lines.iter().any(|line| line["level"] == level && message(line))
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[test]
fn a_service_manager_hears_that_the_agent_is_ready_when_definitions_are_in_force_and_not_before() {
    let (topology, manager) = managed();
    let file = topology.write("followed.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    let held = hold(netpath);
    let agent = start(&manager, netpath, &file);
    until("its apply waits", || agent.log().contains("waiting for process"));
    hears_of_life_alone(&manager);
    assert!(!netpath.root().join("links").exists(), "something is attached");
    drop(held);
    assert_eq!(manager.until(|said| said == "READY=1"), [IN_FORCE, "READY=1"]);
    assert!(netpath.is_converged(&file));
    // What is broken is said, and when it is mended.
    replace(&topology, &file, BROKEN);
    manager.until(|said| said.starts_with("STATUS=") && said.contains(IS_BROKEN));
    let mut fewer = topology.vxlan_definitions();
    fewer["networks"][0]["nics"].as_array_mut().unwrap().remove(2);
    replace(&topology, &file, &fewer.to_string());
    let heard = manager.until(|said| said == IN_FORCE);
    assert!(heard.iter().all(|said| said.starts_with("STATUS=")), "{heard:?}");
    assert!(netpath.is_converged(&file));
    assert!(agent.end().success());
    assert_eq!(manager.until(|said| said == "STOPPING=1").last().unwrap(), "STOPPING=1");
    assert_eq!(manager.heard(), [""; 0], "after it said that it ends");
    let log = lines(&fs::read_to_string(netpath.state_dir().join("agent.log")).unwrap());
    for (level, words) in [
        ("INFO", "agent started"),
        ("WARN", "waiting for process"),
        ("ERROR", IS_BROKEN),
        ("ERROR", "followed.yaml:4:1: "),
        ("INFO", "applied"),
        ("INFO", "agent ended"),
    ] {
        assert!(says(&log, level, words), "{words} is not in {log:#?}");
    }
}

#[test]
fn a_reload_is_over_when_what_was_read_is_in_force() {
    let (topology, manager) = managed();
    let mut document = topology.vxlan_definitions();
    let file = topology.write("followed.yaml", &document);
    let netpath = &topology.hosts[0].netpath;
    let agent = start(&manager, netpath, &file);
    manager.until(|said| said == "READY=1");
    document["networks"][0]["nics"].as_array_mut().unwrap().remove(2);
    let (held, before) = (hold(netpath), monotonic_us());
    replace(&topology, &file, &document.to_string());
    agent.signal(Signal::HUP);
    let reloading = manager.until(|said| said.starts_with("RELOADING=1\n")).pop().unwrap();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|at| at.parse::<u64>().ok());
    assert!(at.is_some_and(|at| (before..=monotonic_us()).contains(&at)), "{reloading}");
    hears_of_life_alone(&manager);
    drop(held);
    // What else was to be done meanwhile is done first.
    let mut heard = manager.until(|said| said == "READY=1");
    heard.dedup();
    assert_eq!(heard, [IN_FORCE, "READY=1"]);
    assert!(netpath.is_converged(&file));
    assert!(agent.end().success());
    lines(&fs::read_to_string(netpath.state_dir().join("agent.log")).unwrap());
}

/// Ready it is all the same: it waits for definitions that can be read, and is not to be started again and again meanwhile.
#[test]
fn an_agent_that_starts_with_broken_definitions_says_so_before_it_is_ready() {
    let (topology, manager) = managed();
    let file = topology.scratch().write("followed.yaml", BROKEN).unwrap();
    let netpath = &topology.hosts[0].netpath;
    let agent = start(&manager, netpath, &file);
    let heard = manager.until(|said| said == "READY=1");
    assert!(heard[0].starts_with("STATUS=") && heard[0].contains(IS_BROKEN), "{heard:?}");
    // Whoever is refused in such a log says why as an object, too.
    let second = netpath.run(["agent", "-f", &file.display().to_string(), "--host", netpath.host(), "--log", "json"]);
    assert_eq!(second.code, 1);
    assert!(says(&lines(&second.stderr), "ERROR", &format!("process {}", agent.pid())), "{}", second.stderr);
}
