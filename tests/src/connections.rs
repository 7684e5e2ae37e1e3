//! TCP connections of guests through the gateway, at whose other end the test is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Deref,
    time::{Duration, Instant},
};

use crate::{
    guest::{
        PATIENCE, RawGuest,
        raw::{contains, marker},
    },
    pace::paced,
    packet::{Body, Endpoint, Mac, Packet, dissect, guest},
    topology::{
        Link, TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK, ROUTER, shared},
        netns::sysctl,
        two_hypervisors::GATEWAY,
    },
};

/// NIC 11, on hv1.
const A: Endpoint = Endpoint::numbered(11);

/// The gateway's MAC address, and a packet that is sent until its answer shows that the router is known.
pub fn acquainted(topology: &TwoHypervisors, router: &RawGuest) -> Mac {
    // The test is the world behind the router: nothing else may answer.
    topology.internet().router.run(|| sysctl("net/ipv4/ip_forward", "0")).expect("the router is a namespace of ours");
    let gateway = gateway_of(topology, "blue");
    until_found(topology.raw("blue", 11), A, gateway, router);
    gateway
}

/// Sends a guest's datagram until it arrives at the router, which shows that its host knows the router.
///
/// # Panics
/// When it does not arrive within [`PATIENCE`].
pub fn until_found(from: &RawGuest, station: Endpoint, gateway: Mac, router: &RawGuest) {
    let payload = marker();
    let deadline = Instant::now() + PATIENCE;
    loop {
        from.send(guest(station).to_mac(gateway).to_ip(INTERNET.ip).udp(9, 9).payload(&payload).build());
        let soon = Instant::now() + Duration::from_millis(200);
        if router.until(soon, |f| contains(f, &payload)).is_some() {
            return;
        }
        assert!(Instant::now() < deadline, "the router is not found");
    }
}

/// The MAC address of the gateway of a tenant's network.
pub fn gateway_of(topology: &TwoHypervisors, tenant: &'static str) -> Mac {
    let a = topology.raw(tenant, 11);
    a.send(guest(A).arp_request(GATEWAY).build());
    let reply = a.expect("the gateway", |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == GATEWAY));
    dissect(&reply).and_then(|reply| reply.arp()).expect("an ARP reply").1
}

fn outward(gateway: Mac, port: u16, flags: u8) -> Packet {
    guest(A).to_mac(gateway).to_ip(INTERNET.ip).tcp(port, 443, flags)
}

/// What the router sees of each connection: the guest's port (in the sequence number) → the public port.
fn public_ports(router: &RawGuest, flags: u8, count: usize) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    while ports.len() < count {
        let frame = router.expect("a segment", |f| {
            dissect(f).and_then(|d| d.ip).is_some_and(|ip| ip.protocol == 6 && ip.message[13] == flags)
        });
        let parts = dissect(&frame).expect("a segment");
        let (public, _, _) = parts.ports().expect("a segment has ports");
        let ip = parts.ip.as_ref().expect("a segment has addresses");
        assert_eq!(ip.src, IpAddr::from(shared("blue")));
        ports.insert(u16::from_be_bytes([ip.message[6], ip.message[7]]), public);
    }
    ports
}

/// A segment whose sequence number is the guest's port.
fn numbered(packet: Packet, from: u16, to: u16, port: u16, flags: u8) -> Vec<u8> {
    let body = Body::Tcp { src: from, dst: to, seq: u32::from(port), ack: 1, flags, payload: Vec::new() };
    packet.body(body).build()
}

/// Sends a segment of every connection in batches that no queue on the way overflows with, and gives the public ports.
pub fn all_out(a: &RawGuest, router: &RawGuest, gateway: Mac, flags: u8, ports: &[u16]) -> BTreeMap<u16, u16> {
    let mut seen = BTreeMap::new();
    for batch in ports.chunks(200) {
        batch.iter().for_each(|port| a.send(numbered(outward(gateway, *port, flags), *port, 443, *port, flags)));
        seen.extend(public_ports(router, flags, batch.len()));
    }
    seen
}

/// Sends a segment to every connection, and asserts that each arrives at the guest's own port.
pub fn all_in(a: &RawGuest, wire: &RawGuest, hv: Mac, flags: u8, ports: &BTreeMap<u16, u16>) {
    let all: Vec<_> = ports.iter().collect();
    for batch in all.chunks(200) {
        for (port, public) in batch {
            let packet = Packet::between(ROUTER.mac, hv, INTERNET.ip.into(), shared("blue").into());
            wire.send(numbered(packet, 443, **public, **port, flags));
        }
        let mut wanted: BTreeSet<u16> = batch.iter().map(|(port, _)| **port).collect();
        while !wanted.is_empty() {
            let frame = a.expect("a segment", |f| {
                dissect(f).and_then(|d| d.ip).is_some_and(|ip| ip.protocol == 6 && ip.message[13] == flags)
            });
            let got =
                dissect(&frame).and_then(|d| d.ports().map(|(from, to, _)| (from, to))).expect("a segment has ports");
            assert_eq!(got.0, 443);
            wanted.remove(&got.1);
        }
    }
}

/// Connections of blue's NIC 11, which are asserted to be as they were.
#[derive(Debug)]
pub struct Connections<T> {
    topology: T,
    gateway: Mac,
    hv: Mac,
    /// The guest's ports.
    pub ports: Vec<u16>,
    publics: BTreeMap<u16, u16>,
}

impl<T: Deref<Target = TwoHypervisors>> Connections<T> {
    /// Opens as many.
    #[track_caller]
    pub fn open(topology: T, count: usize) -> Self {
        let router = topology.internet().raw_router();
        let gateway = acquainted(&topology, &router);
        let hv = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).expect("the public uplink exists");
        let ports: Vec<u16> = (20_000..20_000 + paced(count) as u16).collect();
        let a = topology.raw("blue", 11);
        let publics = all_out(a, &router, gateway, 0x02, &ports);
        all_in(a, &router, hv, 0x12, &publics);
        assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics);
        Self { topology, gateway, hv, ports, publics }
    }

    /// A segment of each, both ways.
    #[track_caller]
    pub fn live(&self, flags: u8) {
        assert_eq!(self.mapped_anew(flags), 0, "connections mapped anew");
        let (a, router) = (self.topology.raw("blue", 11), self.topology.internet().raw_router());
        all_in(a, &router, self.hv, flags, &self.publics);
    }

    /// Sends a segment of each, and gives how many have another public port than when they were opened.
    #[track_caller]
    pub fn mapped_anew(&self, flags: u8) -> usize {
        // A socket that nobody reads from meanwhile would be full of other traffic.
        let (a, router) = (self.topology.raw("blue", 11), self.topology.internet().raw_router());
        let now = all_out(a, &router, self.gateway, flags, &self.ports);
        self.publics.iter().filter(|(port, public)| now.get(port) != Some(public)).count()
    }
}
