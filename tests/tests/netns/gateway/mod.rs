//! Guests and the world: NAT, forwarded ports, firewall and routing with the kernel's own stacks at both ends.
//!
//! The definitions are [`TwoHypervisors::gateway_definitions`]: blue is 203.0.113.10 (and .11 for NIC 13), green .20 (and .21).

mod agent;
mod arp;
mod browse;
mod errors;
mod flood;
mod hairpin;
mod inbound;
mod live;
mod policy;
mod remote;
mod static_nat;
mod tiers;
mod upgrade;
mod views;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use netpath_tests::{
    guest::{KernelGuest, PATIENCE, bind_when_free, bulk::accept},
    topology::{
        Link, NetNs, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, own, shared},
        two_hypervisors::Attachment,
    },
};
use serde_json::Value;

use crate::scene::in_mode;

/// Kernel guests behind veths (NIC 11 behind a tap) with gateways, not applied yet.
fn kernel_guests() -> TwoHypervisors {
    let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
    let topology = builder.with_internet().build().unwrap();
    for host in &topology.hosts {
        // What comes from outside is merged, as by a real NIC.
        host.ns.run(|| Link::named(PUBLIC_UPLINK).offload("rx-gro", true)).unwrap();
    }
    topology
}

/// The same, in force, the upstream router known.
pub(crate) fn online(mode: &str) -> TwoHypervisors {
    let topology = kernel_guests();
    topology.apply(&in_mode(topology.gateway_definitions(), mode));
    meet_the_router(&topology);
    topology
}

/// Pings until the upstream's MAC address is known where NAT is done.
fn meet_the_router(topology: &TwoHypervisors) {
    topology.kernel("blue", 11).ping(INTERNET.ip).unwrap();
}

/// Raw guests with gateways, in force.
fn raw_online(definitions: impl FnOnce(Value) -> Value) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().with_internet().build().unwrap();
    topology.apply(&definitions(topology.gateway_definitions()));
    topology
}

/// One datagram from a namespace to `to`, which leads to a socket at `at` in another, and one back. Gives where it came from.
#[track_caller]
fn exchange(from: &NetNs, there: &NetNs, to: SocketAddr, at: SocketAddr, payload: &[u8]) -> SocketAddr {
    let server = there.run(|| bind_when_free(|| UdpSocket::bind(at))).unwrap();
    let client = from.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect(to).unwrap();
    client.send(payload).unwrap();
    let mut buffer = vec![0; 65_536];
    let (got, peer) = server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{to} at {at}: {e}"));
    assert_eq!(&buffer[..got], payload);
    server.send_to(payload, peer).unwrap();
    let got = client.recv(&mut buffer).unwrap_or_else(|e| panic!("the answer of {to}: {e}"));
    assert_eq!(&buffer[..got], payload);
    peer
}

/// Opens a connection to `to`, which leads to `at`.
fn connect(from: &NetNs, there: &NetNs, to: SocketAddr, at: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = there.run(|| bind_when_free(|| TcpListener::bind(at))).unwrap();
    let client = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap_or_else(|e| panic!("{to}: {e}"));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, accept(&listener).unwrap().0)
}

/// One byte there and back.
#[track_caller]
fn echoes(one: &mut TcpStream, other: &mut TcpStream) {
    let mut byte = [0];
    one.write_all(b"?").unwrap();
    other.read_exact(&mut byte).unwrap();
    other.write_all(b"!").unwrap();
    one.read_exact(&mut byte).unwrap();
}

/// An end of a guest.
fn end(guest: &KernelGuest, port: u16) -> SocketAddr {
    (guest.station().ip, port).into()
}
