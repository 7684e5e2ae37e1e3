//! `netpath top` under traffic: who stands first, on a terminal and without, and that the terminal is given back.

use netpath_tests::{
    guest::{KernelGuest, Load},
    pty::{Pty, Screen},
    runner::Netpath,
    topology::{TwoHypervisors, internet::INTERNET},
};
use rustix::process::Signal;

use crate::{gateway::online, scene::raw_guests};

const MBIT: u64 = 1_000_000;
const PORT: u16 = 9000;

/// Blue's NIC 11 sends much to the Internet, green's a little to its neighbour on the other host.
fn busy() -> (TwoHypervisors, [Load; 2]) {
    let topology = online("tc");
    let guest = |tenant, number| -> &KernelGuest { topology.kernel(tenant, number) };
    let much = (INTERNET.ip, PORT).into();
    let much = Load::udp(guest("blue", 11).ns(), topology.internet().host.ns(), much, 8 * MBIT).unwrap();
    let there = guest("green", 12);
    let little = Load::udp(guest("green", 11).ns(), there.ns(), (there.station().ip, PORT).into(), MBIT).unwrap();
    (topology, [much, little])
}

fn start(netpath: &Netpath, args: &[&str]) -> Pty {
    Pty::start(netpath.command(["top"].iter().chain(args)), 80, 24).unwrap()
}

fn has(screen: &Screen, text: &str) -> bool {
    screen.lines().iter().any(|line| line.contains(text))
}

#[test]
fn the_busiest_nic_network_and_connection_stand_first() {
    let (topology, [much, _little]) = busy();
    let netpath = &topology.hosts[0].netpath;
    let before = much.sent();
    let nics = netpath.json(["top", "nics", "--once"]);
    let sent = much.sent() - before;
    let first = &nics[0];
    assert_eq!((&first["network"], &first["instance"]), (&"blue-web".into(), &"blue-11".into()), "{nics}");
    assert_eq!((&nics[1]["network"], &nics[1]["instance"]), (&"green-web".into(), &"green-11".into()), "{nics}");
    // Over a second, which lies within the command's run.
    let rate = first["from_guest_bits_per_second"].as_u64().unwrap();
    assert!(rate > 0 && rate / 8 <= sent, "{rate} bit/s, of {sent} bytes: {first}");
    assert!(first["from_guest_packets_per_second"].as_u64().unwrap() > 0, "{first}");
    let networks = netpath.json(["top", "--once", "--interval", "300ms"]);
    assert_eq!(networks[0]["network"], "blue-web", "{networks}");
    assert_eq!(networks[0]["nics"], 2);
    let flows = netpath.json(["top", "flows", "--once", "--network", "blue-web"]);
    assert_eq!(flows[0]["original"]["destination_port"], PORT, "{flows}");
    assert_eq!(flows[0]["original"]["destination"], INTERNET.ip.to_string());
    assert!(flows[0]["original_bits_per_second"].as_u64().unwrap() > 0, "{flows}");
    let none = netpath.json(["top", "flows", "--once", "--network", "green-web", "--interval", "100ms"]);
    assert_eq!(none, serde_json::json!([]));
    let text = netpath.succeed(["top", "nics", "--once", "--filter", "blue", "--limit", "1"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("hv1  from ") && lines[4].contains(" blue-11 ") && lines.len() == 5, "{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_terminal_shows_it_opens_what_is_chosen_and_is_given_back() {
    let (topology, _loads) = busy();
    let mut top = start(&topology.hosts[0].netpath, &["--interval", "200ms"]);
    let first = |screen: &Screen, text: &str| screen.lines()[3].starts_with(text) && screen.lines()[3].contains('M');
    let screen = top.wait("busiest network first", |screen| first(screen, "blue-web ")).unwrap();
    assert!(screen.is_other && screen.is_hidden);
    assert!(screen.lines()[23].ends_with("q quit"), "{:?}", screen.lines());
    top.press("\r").unwrap();
    top.wait("busiest NIC", |screen| screen.lines()[3].contains(" blue-11 ") && first(screen, "blue-web ")).unwrap();
    assert!(has(top.screen(), "NICs of blue-web by bits"));
    top.press("\r").unwrap();
    let connection = format!(" > {}:{PORT} ", INTERNET.ip);
    top.wait("connection", |screen| screen.lines()[3].contains(&connection) && first(screen, "blue-web ")).unwrap();
    top.press("/nothing\r").unwrap();
    top.wait("filter", |screen| has(screen, "filter: nothing") && screen.lines()[3].is_empty()).unwrap();
    top.press("q").unwrap();
    let (status, screen) = top.end().unwrap();
    assert!(status.success() && !screen.is_other && !screen.is_hidden);
}

#[test]
fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut top = start(netpath, &["nics"]);
        let before = Pty::start(netpath.command(["status"]), 80, 24).unwrap().modes().unwrap();
        top.wait("NICs", |screen| has(screen, "green-13")).unwrap();
        assert_ne!(top.modes().unwrap(), before);
        top.signal(signal).unwrap();
        let (status, screen) = top.end().unwrap();
        assert!(status.success() && !screen.is_other && !screen.is_hidden, "{signal:?}: {status:?}");
        assert_eq!(top.modes().unwrap(), before, "{signal:?}");
    }
}

#[test]
fn while_it_is_stopped_the_terminal_is_the_shells() {
    let topology = raw_guests();
    let mut top = start(&topology.hosts[0].netpath, &["nics"]);
    top.wait("NICs", |screen| has(screen, "green-13")).unwrap();
    let drawing = top.modes().unwrap();
    for stop in ["\x1a", ""] {
        match stop {
            "" => top.signal(Signal::TSTP).unwrap(),
            key => top.press(key).unwrap(),
        }
        top.stopped().unwrap();
        assert!(!top.screen().is_other && !top.screen().is_hidden);
        assert_ne!(top.modes().unwrap(), drawing);
        top.signal(Signal::CONT).unwrap();
        top.wait("NICs again", |screen| screen.is_other && has(screen, "green-13")).unwrap();
        assert_eq!(top.modes().unwrap(), drawing);
    }
}

#[test]
fn what_is_taken_away_and_applied_again_meanwhile_is_shown_again() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let mut top = start(netpath, &["nics", "--interval", "100ms"]);
    top.wait("NICs", |screen| has(screen, "green-13")).unwrap();
    netpath.succeed(["detach", "--purge"]);
    top.wait("word of it", |screen| has(screen, "nothing is applied")).unwrap();
    topology.apply(&topology.vxlan_definitions());
    top.wait("NICs again", |screen| has(screen, "green-13") && !has(screen, "nothing is applied")).unwrap();
}

#[test]
fn without_a_terminal_it_says_what_there_is_instead() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let refused = netpath.run(["top"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("standard output is none: `netpath top --once`"), "{}", refused.stderr);
    let idle = netpath.succeed(["top", "nics", "--once", "--interval", "100ms"]);
    assert!(idle.stdout.contains("green-13"), "{}", idle.stdout);
}
