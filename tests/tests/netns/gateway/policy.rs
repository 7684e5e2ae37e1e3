//! Firewall rules in force: what they stop, what they let through, and what becomes of connections when they change.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use netpath_tests::{
    guest::{KernelGuest, PATIENCE, bind_when_free},
    topology::{NetNs, TwoHypervisors, internet::INTERNET},
};
use serde_json::{Value, json};

use super::{connect, echoes, end, kernel_guests, meet_the_router, online, shared};
use crate::scene::in_mode;

/// Whether a connection can be opened within a second.
fn opens(from: &NetNs, there: &NetNs, to: SocketAddr, at: SocketAddr) -> bool {
    let _listener = there.run(|| bind_when_free(|| TcpListener::bind(at))).unwrap();
    from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1))).is_ok()
}

/// Waits until a reason is counted more often than `before`.
#[track_caller]
fn until_dropped(topology: &TwoHypervisors, network: &str, reason: &str, before: u64) {
    let deadline = Instant::now() + PATIENCE;
    while count(topology, network, reason) <= before {
        assert!(Instant::now() < deadline, "{reason} was not counted for {network}");
        std::thread::yield_now();
    }
}

fn count(topology: &TwoHypervisors, network: &str, reason: &str) -> u64 {
    let rows = topology.hosts[0].netpath.drops();
    rows.get(&(network.to_owned(), reason.to_owned())).copied().unwrap_or(0)
}

fn web(topology: &TwoHypervisors) -> (&KernelGuest, SocketAddr) {
    (&topology.internet().host, (INTERNET.ip, 80).into())
}

#[test]
fn egress_rules_invert_the_offerings_default() {
    let topology = kernel_guests();
    let mut definitions = in_mode(topology.gateway_definitions(), "xdp");
    topology.apply(&definitions);
    meet_the_router(&topology);
    let (guest, (internet, web)) = (topology.kernel("blue", 11), web(&topology));
    let mail: SocketAddr = (INTERNET.ip, 25).into();
    connect(guest.ns(), internet.ns(), web, web);
    assert!(!opens(guest.ns(), internet.ns(), mail, mail));
    definitions["offerings"][0]["egress_default"] = "deny".into();
    topology.apply(&definitions);
    assert!(!opens(guest.ns(), internet.ns(), web, web));
    connect(guest.ns(), internet.ns(), mail, mail);
    assert!(count(&topology, "blue-web", "egress_denied") >= 2);
}

#[test]
fn ports_that_no_ingress_rule_opens_are_closed() {
    let topology = online("xdp");
    let internet = topology.internet().host.ns();
    let guest = topology.kernel("blue", 13);
    let mut definitions = in_mode(topology.gateway_definitions(), "xdp");
    for network in definitions["networks"].as_array_mut().unwrap() {
        network["firewall"]["ingress"] = json!([]);
    }
    topology.apply(&definitions);
    assert!(!opens(internet, guest.ns(), (shared("blue"), 2222).into(), end(guest, 22)));
    assert!(!opens(topology.kernel("blue", 11).ns(), guest.ns(), (shared("blue"), 2222).into(), end(guest, 22)));
    assert!(count(&topology, "blue-web", "ingress_denied") >= 2);
}

/// The document without the ingress rule at this place of blue's.
fn without_rule(definitions: &Value, index: usize) -> Value {
    let mut changed = definitions.clone();
    changed["networks"][0]["firewall"]["ingress"].as_array_mut().unwrap().remove(index);
    changed
}

#[test]
fn x7_a_revoked_rule_stops_established_connections_and_no_others() {
    let topology = online("xdp");
    let definitions = in_mode(topology.gateway_definitions(), "xdp");
    let internet = topology.internet().host.ns();
    let guest = topology.kernel("blue", 13);
    let to = |port| (shared("blue"), port).into();
    let (mut revoked, mut served) = connect(internet, guest.ns(), to(2222), end(guest, 22));
    let (mut kept, mut kept_server) = connect(internet, guest.ns(), to(8005), end(guest, 8005));
    let (inside, (_, web)) = (topology.kernel("blue", 11), web(&topology));
    let (mut outward, mut outward_server) = connect(inside.ns(), internet, web, web);
    echoes(&mut revoked, &mut served);
    let before = count(&topology, "blue-web", "ingress_denied");
    topology.apply(&without_rule(&definitions, 0));
    revoked.write_all(b"never").unwrap();
    until_dropped(&topology, "blue-web", "ingress_denied", before);
    served.set_nonblocking(true).unwrap();
    assert_eq!(served.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    echoes(&mut kept, &mut kept_server);
    echoes(&mut outward, &mut outward_server);
    // The rule comes back before TCP gives up: so does the connection.
    topology.apply(&definitions);
    served.set_nonblocking(false).unwrap();
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = [0; 5];
    served.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"never");
}

#[test]
fn a_denied_guest_is_not_heard_and_another_tenant_is() {
    let topology = kernel_guests();
    let mut definitions = in_mode(topology.gateway_definitions(), "tc");
    definitions["networks"][0]["firewall"]["egress"] = json!([{"protocol": "all", "cidrs": ["10.1.1.11/32"]}]);
    topology.apply(&definitions);
    topology.kernel("green", 11).ping(INTERNET.ip).unwrap();
    topology.kernel("blue", 13).ping(INTERNET.ip).unwrap();
    assert!(!topology.kernel("blue", 11).reaches(INTERNET.ip, Duration::from_secs(1)));
}
