//! The agent: follows its definitions and the host's devices, and nothing depends on it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Seek as _, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use netpath::netlink::{self, address};
use netpath_tests::{
    agent::{Agent, until},
    guest::{
        PATIENCE, RawGuest,
        raw::{contains, marker},
    },
    pace::paced,
    packet::{Endpoint, guest},
    topology::{Link, Offloads, Tap, TwoHypervisors},
};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use serde_json::{Value, json};

use crate::{
    scene::{A, B, C, delivers, raw_guests},
    traffic::{beside, between_guests},
};

/// Writes a document as an editor does: to a new file, which is renamed over the old one.
pub(crate) fn replace(topology: &TwoHypervisors, file: &Path, text: &str) {
    let fresh = topology.scratch().write("fresh.tmp", text).unwrap();
    fs::rename(fresh, file).unwrap();
}

/// The document, and the same without blue's NIC 13.
fn whole_and_fewer(topology: &TwoHypervisors) -> (Value, Value) {
    let whole = topology.vxlan_definitions();
    let mut fewer = whole.clone();
    fewer["networks"][0]["nics"].as_array_mut().unwrap().remove(2);
    (whole, fewer)
}

/// Whether a frame from one guest reaches another within a moment.
pub(crate) fn reaches(from: &RawGuest, to: &RawGuest, source: Endpoint, destination: Endpoint) -> bool {
    let payload = marker();
    from.send(guest(source).to(destination).payload(&payload).build());
    to.until(Instant::now() + Duration::from_millis(20), |frame| contains(frame, &payload)).is_some()
}

pub(crate) fn last_error(agent: &Value) -> &str {
    agent["last_error"]["message"].as_str().unwrap_or_default()
}

#[test]
fn definitions_that_are_replaced_are_in_force() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &fewer);
    let netpath = &topology.hosts[0].netpath;
    let _agent = Agent::in_force(netpath, &file);
    let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
    assert!(netpath.is_converged(&file));
    delivers(a, b, &guest(A).to(B));
    replace(&topology, &file, &whole.to_string());
    until("the new NIC is reached", || reaches(a, c, A, C));
    // Its own program comes last.
    until("nothing is left to do", || netpath.is_converged(&file));
    delivers(c, b, &guest(C).to(B));
    fs::write(&file, fewer.to_string()).unwrap();
    until("a file that is written over is followed too", || netpath.is_converged(&file));
}

#[test]
fn a_document_that_is_being_written_when_the_agent_starts_is_taken_when_it_is_whole() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let path = topology.scratch().path().join("followed.yaml");
    let netpath = &topology.hosts[0].netpath;
    // What is there so far is a document, of which the guests behind the cut are no part.
    let mut writer = fs::File::create(&path).unwrap();
    writer.write_all(fewer.to_string().as_bytes()).unwrap();
    let mut agent = Agent::start(netpath, &path);
    until("it says that it waits", || agent.log().contains("definitions are being written"));
    writer.set_len(0).unwrap();
    writer.rewind().unwrap();
    writer.write_all(whole.to_string().as_bytes()).unwrap();
    drop(writer);
    agent.until("they are in force", |agent| !agent["last_apply"].is_null() && agent["last_error"].is_null());
    assert!(netpath.is_converged(&path));
    let history = netpath.json(["history"]);
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history}");
    let document = netpath.succeed(["history", "show", "1"]).stdout;
    assert!(document.contains(&whole.to_string()), "{document}");
}

#[test]
fn a_broken_file_is_reported_with_its_line_and_the_last_good_one_stays_in_force() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &whole);
    let good = topology.write("good.yaml", &whole);
    let netpath = &topology.hosts[0].netpath;
    let mut agent = Agent::in_force(netpath, &file);
    // Cut off in its third line; YAML misses the bracket at the end of the file.
    replace(&topology, &file, "zone: zone1\nnetworks:\n  - {name: blue-web, cidr: 10.1.1.0/24\n");
    let status = agent.until("the error is shown", |agent| !last_error(agent).is_empty());
    assert!(last_error(&status).contains("followed.yaml:4:1: "), "{status}");
    let shown = netpath.run(["status"]).stdout;
    assert!(shown.contains("followed.yaml:4:1: "), "{shown}");
    assert!(netpath.is_converged(&good));
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C));
    fs::remove_file(&file).unwrap();
    agent.until("that it is gone is shown", |agent| last_error(agent).contains("there is no file"));
    assert!(netpath.is_converged(&good));
    replace(&topology, &file, &fewer.to_string());
    agent.until("all is well again", |agent| last_error(agent).is_empty());
    assert!(netpath.is_converged(&file));
}

#[test]
fn a_definition_that_the_host_cannot_carry_is_reported_and_taken_once_it_can() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &fewer);
    let good = topology.write("good.yaml", &fewer);
    let netpath = &topology.hosts[0].netpath;
    let mut agent = Agent::in_force(netpath, &file);
    let mut large = whole;
    large["networks"][0]["mtu"] = 1700.into();
    replace(&topology, &file, &large.to_string());
    let status = agent.until("the error is shown", |agent| !last_error(agent).is_empty());
    assert!(last_error(&status).contains("MTU"), "{status}");
    assert!(netpath.is_converged(&good));
    topology.hosts[0].ns.run(|| Link::named("eth1").mtu(2000)).unwrap();
    agent.until("all is well again", |agent| last_error(agent).is_empty());
    assert!(netpath.is_converged(&file));
}

#[test]
fn a_folder_of_documents_is_one_document() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let folder = topology.scratch().path().join("definitions");
    fs::create_dir(&folder).unwrap();
    let networks = |of: &Value, index: usize| json!({"networks": [of["networks"][index]]}).to_string();
    let mut rest = whole.clone();
    rest.as_object_mut().unwrap().remove("networks");
    fs::write(folder.join("00-zone.yaml"), rest.to_string()).unwrap();
    fs::write(folder.join("10-blue.yaml"), networks(&fewer, 0)).unwrap();
    fs::write(folder.join("20-green.yaml"), networks(&whole, 1)).unwrap();
    let netpath = &topology.hosts[0].netpath;
    let mut agent = Agent::in_force(netpath, &folder);
    assert!(netpath.is_converged(&topology.write("same.yaml", &fewer)));
    replace(&topology, &folder.join("10-blue.yaml"), &networks(&whole, 0));
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    until("the new NIC is reached", || reaches(a, c, A, C));
    // Green's network a second time.
    fs::write(folder.join("30-again.yaml"), networks(&whole, 1)).unwrap();
    let status = agent.until("the error is shown", |agent| !last_error(agent).is_empty());
    let error = last_error(&status);
    assert!(error.contains("30-again.yaml:1:") && error.contains("line 1 of"), "{error}");
    assert!(netpath.is_converged(&topology.write("same.yaml", &whole)));
}

/// A document with one NIC more, whose device is not there yet.
pub(crate) fn with_late(topology: &TwoHypervisors) -> Value {
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"][0]["nics"].as_array_mut().unwrap().push(json!({
        "instance": "late", "mac": "02:00:0a:01:01:0e", "ip": "10.1.1.14", "host": "hv1", "device": "vnet14",
    }));
    definitions
}

#[test]
fn a_device_that_appears_is_attached_and_one_that_goes_is_cleaned_up() {
    let topology = raw_guests();
    let file = topology.write("followed.yaml", &with_late(&topology));
    let host = &topology.hosts[0];
    let mut agent = Agent::in_force(&host.netpath, &file);
    let late = Endpoint::numbered(14);
    let a = topology.raw("blue", 11);
    let mut took = Vec::new();
    for _ in 0..paced(20) {
        let (tap, start) = (host.ns.run(|| Tap::new("vnet14", Offloads::None).unwrap()), Instant::now());
        let guest_14 = RawGuest::on_tap("late", tap);
        let deadline = start + PATIENCE;
        while !reaches(&guest_14, a, late, A) {
            assert!(Instant::now() < deadline, "the device is not attached\n{}", agent.log());
        }
        took.push(start.elapsed());
        delivers(a, &guest_14, &guest(A).to(late));
        drop(guest_14);
        agent.until("its NIC waits again", |agent| agent["last_apply"]["waiting"] == 1);
        let ports = host.netpath.json(["map", "dump", "PORTS"]);
        assert_eq!(ports.as_array().unwrap().len(), 4, "{ports}");
    }
    took.sort();
    eprintln!(
        "from a device's appearance to its first frame delivered: median {:?}, most {:?}",
        took[took.len() / 2],
        took.last()
    );
}

#[test]
fn a_log_on_a_full_disk_keeps_no_agent_from_its_work() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &whole);
    let netpath = &topology.hosts[0].netpath;
    symlink("/dev/full", netpath.state_dir().join("agent.log")).unwrap();
    let agent = Agent::in_force(netpath, &file);
    replace(&topology, &file, &fewer.to_string());
    until("what it could not log is in force", || netpath.is_converged(&file));
    assert!(agent.end().success());
}

#[test]
fn of_two_agents_for_one_root_the_second_is_refused_and_the_first_is_named() {
    let topology = raw_guests();
    let file = topology.write("followed.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    let first = Agent::in_force(netpath, &file);
    let second = netpath.run(["agent", "-f", &file.display().to_string(), "--host", "hv1"]);
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains(&format!("process {}", first.pid())), "{}", second.stderr);
    let detach = netpath.run(["detach"]);
    assert_eq!(detach.code, 1);
    assert!(detach.stderr.contains(&format!("process {}", first.pid())), "{}", detach.stderr);
    // Another root is another matter.
    let _other = Agent::in_force(&topology.hosts[1].netpath, &file);
    assert!(first.end().success());
    let _next = Agent::in_force(netpath, &file);
}

#[test]
fn what_is_lost_behind_an_agents_back_it_puts_there_again_and_its_root_is_its_own() {
    let topology = raw_guests();
    let file = topology.write("followed.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    let agent = Agent::in_force(netpath, &file);
    let plan = ["plan", "-f", &file.display().to_string(), "--host", "hv1", "--detailed-exitcode"].map(str::to_owned);
    for lost in [netpath.root().join("links"), netpath.root().to_owned()] {
        fs::remove_dir_all(&lost).unwrap();
        until("all is in force again", || netpath.run(&plan).code == 0);
        delivers(a, c, &guest(A).to(C));
    }
    let second = netpath.run(["agent", "-f", &file.display().to_string(), "--host", "hv1"]);
    assert!(second.stderr.contains(&format!("process {}", agent.pid())), "{}", second.stderr);
    assert!(agent.end().success());
}

#[test]
fn groups_that_are_left_and_a_tunnel_device_that_is_taken_down_behind_an_agents_back_are_put_right() {
    let topology = raw_guests();
    let mut definitions = topology.vxlan_definitions();
    definitions["physical_networks"][0]["replication"] = "multicast".into();
    let host = &topology.hosts[0];
    let _agent = Agent::in_force(&host.netpath, &topology.write("followed.yaml", &definitions));
    let joined = || host.ns.run(|| address::memberships().unwrap());
    let groups = joined();
    assert_eq!(groups.len(), 2, "{groups:?}");
    // The first time, what new definitions are about may not be known yet, and all that happens calls for an apply.
    for _ in 0..2 {
        host.ns.run(|| groups.iter().try_for_each(|group| address::leave(*group)).unwrap());
        until("they are joined again", || joined() == groups);
    }
    let is_up = || {
        let devices = host.ns.run(|| netlink::devices().unwrap());
        devices.iter().any(|device| device.name == "np4789" && device.is_up)
    };
    assert!(is_up());
    host.ns.run(|| Link::named("np4789").down()).unwrap();
    until("it is up again", is_up);
}

#[test]
fn a_stopped_agent_leaves_traffic_and_apply_alone_and_goes_on_where_it_was() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &whole);
    let other = topology.write("other.yaml", &fewer);
    let netpath = &topology.hosts[0].netpath;
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    let agent = Agent::in_force(netpath, &file);
    agent.stop_at_rest();
    delivers(a, c, &guest(A).to(C));
    let applied = netpath.apply(&other);
    assert!(applied.stderr.contains(&format!("process {}", agent.pid())), "{}", applied.stderr);
    assert!(netpath.is_converged(&other));
    agent.signal(Signal::CONT);
    // What it follows is in force again with its next change.
    replace(&topology, &file, &format!("{whole}\n"));
    until("its own definitions are in force", || netpath.is_converged(&file));
    delivers(a, c, &guest(A).to(C));
}

#[test]
fn an_apply_that_waits_says_for_whom() {
    let topology = raw_guests();
    let file = topology.write("zone.yaml", &topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    let history = netpath.history();
    fs::create_dir_all(history.folder()).unwrap();
    for folder in [history.folder(), netpath.root()] {
        let lock = fs::File::open(folder).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let mut apply =
            netpath.command(netpath.apply_args(&file)).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(apply.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let (whom, folder) = (format!("waiting for process {}", std::process::id()), folder.display().to_string());
        assert!(line.contains(&whom) && line.contains(&folder), "{line}");
        drop(lock);
        assert!(apply.wait().unwrap().success());
    }
}

#[test]
fn a_killed_agent_is_followed_by_one_that_converges_and_traffic_loses_nothing() {
    let topology = raw_guests();
    let (whole, fewer) = whole_and_fewer(&topology);
    let file = topology.write("followed.yaml", &whole);
    let netpath = &topology.hosts[0].netpath;
    let start = Instant::now();
    Agent::in_force(netpath, &file).kill();
    let usual = start.elapsed();
    let rounds = |has_failed: &dyn Fn() -> bool| {
        for round in 0..paced(20) as u32 {
            if has_failed() {
                break;
            }
            let document = if round % 2 == 0 { &fewer } else { &whole };
            replace(&topology, &file, &document.to_string());
            let mut agent = Agent::start(netpath, &file);
            // A point in time of its life, another one each round.
            let until = Instant::now() + usual * (round * 7 % 20) / 20;
            while Instant::now() < until && !has_failed() {
                thread::yield_now();
            }
            agent.kill();
            if round % 5 == 4 {
                let next = Agent::in_force(netpath, &file);
                let left = netpath.left_to_do(&file);
                assert_eq!(left, None, "round {round}\n{}", next.log());
            }
        }
    };
    let passed = beside(|traffic| between_guests(&topology, traffic), rounds);
    assert!(passed > 0);
    eprintln!("{passed} frames delivered while agents were killed");
    let _last = Agent::in_force(netpath, &file);
    assert!(netpath.is_converged(&file));
}
