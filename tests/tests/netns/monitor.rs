//! What `netpath monitor` shows while packets are refused and connections begin.

use netpath_tests::{
    agent::until,
    monitor::{Monitor, watcher},
    packet::{Packet, guest},
    topology::internet::INTERNET,
};
use rustix::process::Signal;

use crate::{
    gateway::online,
    scene::{A, C, STRANGER, raw_guests},
};

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
    assert!(monitor.ends().success());
    assert_eq!(watcher(netpath), None);
}

#[test]
fn a_monitor_knows_the_names_of_what_is_applied_after_it_began() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let whole = topology.vxlan_definitions();
    let mut fewer = whole.clone();
    fewer["networks"].as_array_mut().unwrap().pop();
    topology.apply(&fewer);
    let mut monitor = Monitor::begin(netpath, &["monitor", "--count", "1", "-o", "json"]);
    topology.apply(&whole);
    topology.raw("green", 11).send(spoofed().build());
    let shown = monitor.json();
    assert_eq!((&shown["network"], &shown["reason"]), (&"green-web".into(), &"spoofed_ipv4".into()));
    assert!(monitor.ends().success());
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
        assert!(monitor.ends().success());
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
    assert!(monitor.ends().success());
    assert_eq!(watcher(netpath), None);
}

#[test]
fn a_second_monitor_is_told_who_watches_and_may_after_the_first_is_killed() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut first = Monitor::begin(netpath, &["monitor"]);
    let second = netpath.run(["monitor", "--count", "1"]);
    assert_eq!(second.code, 1);
    let who = format!("process {} watches already", first.pid());
    assert!(second.stderr.contains(&who), "{}", second.stderr);
    first.signal(Signal::KILL);
    first.ends();
    let mut third = Monitor::begin(netpath, &["monitor", "--count", "1"]);
    topology.raw("blue", 11).send(spoofed().build());
    assert!(third.line().contains("spoofed_ipv4"));
    assert!(third.ends().success());
}

#[test]
fn a_monitor_ends_when_its_time_is_over_and_says_what_it_did_not_show() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut monitor = Monitor::begin(netpath, &["monitor", "--for", "10s", "--rate", "0"]);
    (0..7).for_each(|_| topology.raw("blue", 11).send(spoofed().build()));
    let (status, said) = monitor.ends_saying();
    assert!(status.success());
    assert!(said.contains("7 more events were above the rate"), "{said}");
}

#[test]
fn a_monitor_whose_output_nobody_reads_ends_when_it_is_told_to() {
    const PIPE: usize = 4096;
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut monitor = Monitor::begin(netpath, &["monitor", "-o", "json"]);
    rustix::pipe::fcntl_setpipe_size(monitor.output(), PIPE).unwrap();
    topology.raw("blue", 11).send(spoofed().build());
    until("it prints", || rustix::io::ioctl_fionread(monitor.output()).unwrap() > 0);
    // More than there is room for.
    (0..50).for_each(|_| topology.raw("blue", 11).send(spoofed().build()));
    monitor.signal(Signal::TERM);
    until("it has ended", || monitor.has_ended());
    assert_eq!(watcher(netpath), None);
}
