//! What `netpath monitor` shows while packets are refused and connections begin.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use netpath_tests::{
    guest::PATIENCE,
    packet::{Packet, guest},
    runner::Netpath,
    topology::internet::INTERNET,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    gateway::online,
    scene::{A, C, STRANGER, raw_guests},
};

/// A monitor under way.
struct Monitor {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Monitor {
    /// Begins, and waits until the data path is told so.
    fn begin(netpath: &Netpath, args: &[&str]) -> Self {
        let mut child = netpath.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while watcher(netpath) != Some(child.id().into()) {
            assert!(child.try_wait().unwrap().is_none(), "the monitor has ended");
            assert!(Instant::now() < deadline, "the monitor does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the monitor has ended");
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// The process that watches, by the row of WATCH.
pub(crate) fn watcher(netpath: &Netpath) -> Option<u64> {
    netpath.json(["map", "dump", "WATCH"])[0]["value"]["process"].as_u64()
}

fn spoofed() -> Packet {
    guest(A).from(STRANGER.ip).to(C).udp(1, 2)
}

#[test]
fn a_monitor_shows_a_spoofed_frame_with_its_sentence() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut monitor = Monitor::begin(netpath, &["monitor", "--count", "1"]);
    topology.raw("blue", 11).send(spoofed().build());
    let line = monitor.line();
    for part in [
        " blue-web ",
        " udp 10.1.1.99:1 > 10.1.1.13:2 ",
        "spoofed_ipv4: The guest sent from an IPv4 address that its definition does not give it.",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(monitor.child.wait().unwrap().success());
    assert_eq!(watcher(netpath), None);
}

#[test]
fn a_monitor_of_an_address_a_reason_or_a_network_shows_nothing_else() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    for filter in [["--address", "10.1.1.99"], ["--reason", "spoofed_ipv4"], ["--network", "blue-web"], ["--port", "1"]]
    {
        let args: Vec<_> = ["monitor", "--drops", "--count", "1", "-o", "json"].into_iter().chain(filter).collect();
        let mut monitor = Monitor::begin(netpath, &args);
        // Of another network, for another reason, from another address and port.
        topology.raw("green", 11).send(guest(A).from_mac(STRANGER.mac).to(C).udp(3, 4).build());
        topology.raw("blue", 11).send(spoofed().build());
        let shown = monitor.json();
        assert_eq!((&shown["network"], &shown["reason"]), (&"blue-web".into(), &"spoofed_ipv4".into()), "{filter:?}");
        assert_eq!(shown["packet"]["source"], "10.1.1.99");
        assert!(monitor.child.wait().unwrap().success());
    }
}

#[test]
fn a_monitor_shows_a_new_connection_with_its_translation() {
    let topology = online("tc");
    let netpath = &topology.hosts[0].netpath;
    let mut monitor = Monitor::begin(netpath, &["monitor", "--flows", "--address", "198.51.100.7", "-o", "json"]);
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
    let shown = monitor.json();
    assert_eq!((&shown["kind"], &shown["network"]), (&"connection".into(), &"blue-web".into()));
    assert_eq!(shown["packet"]["source"], "10.1.1.11");
    assert_eq!(shown["translated"]["source"], "203.0.113.10");
    assert_eq!(shown["translated"]["hop"], "upstream");
    monitor.signal(Signal::INT);
    assert!(monitor.child.wait().unwrap().success());
    assert_eq!(watcher(netpath), None);
}

#[test]
fn a_second_monitor_is_told_who_watches_and_may_after_the_first_is_killed() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut first = Monitor::begin(netpath, &["monitor"]);
    let second = netpath.run(["monitor", "--count", "1"]);
    assert_eq!(second.code, 1);
    let who = format!("process {} watches already", first.child.id());
    assert!(second.stderr.contains(&who), "{}", second.stderr);
    first.signal(Signal::KILL);
    first.child.wait().unwrap();
    let mut third = Monitor::begin(netpath, &["monitor", "--count", "1"]);
    topology.raw("blue", 11).send(spoofed().build());
    assert!(third.line().contains("spoofed_ipv4"));
    assert!(third.child.wait().unwrap().success());
}

#[test]
fn a_monitor_ends_when_its_time_is_over_and_says_what_it_did_not_show() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let monitor = Monitor::begin(netpath, &["monitor", "--for", "1s", "--rate", "0"]);
    (0..7).for_each(|_| topology.raw("blue", 11).send(spoofed().build()));
    let output = monitor.child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("7 more events were above the rate"), "{said}");
}
