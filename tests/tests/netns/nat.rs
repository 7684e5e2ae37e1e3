//! Guests on two hosts behind one public address, whose NAT hv1 does; the test is the router on the public link.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use netpath_tests::{
    guest::{
        PATIENCE, RawGuest,
        raw::{contains, marker},
    },
    packet::{Endpoint, Mac, Packet, guest},
    topology::{
        TwoHypervisors,
        two_hypervisors::{Attachment, GATEWAY, TENANTS, UPLINK},
    },
};
use serde_json::{Value, json};

use crate::scene::{A, B, UPLINK_MODES, in_mode};

/// The upstream router, and a server beside it.
const ROUTER: Endpoint = public_station(1);
/// A server behind the router.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The public address of the first tenant.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The public link's VLAN id, where it has one.
const VLANS: [Option<u16>; 2] = [Some(900), None];

const fn public_station(last: u8) -> Endpoint {
    let station = Endpoint::numbered(last);
    Endpoint { mac: [0x02, 0, 203, 0, 113, last], ip: Ipv4Addr::new(203, 0, 113, last), ..station }
}

/// Both tenants behind public addresses that live on hv1.
fn with_nat(mut definitions: Value, vlan: Option<u16>) -> Value {
    let vlan = vlan.map_or(json!("untagged"), Value::from);
    let public = json!({"name": "public", "isolation": "vlan", "vlans": "900-909", "traffic": ["public"]});
    definitions["physical_networks"].as_array_mut().unwrap().push(public);
    for host in definitions["hosts"].as_array_mut().unwrap() {
        host["uplinks"]["public"] = UPLINK.into();
    }
    definitions["public_ranges"] = json!([
        {"physical_network": "public", "vlan": vlan, "cidr": "203.0.113.0/24", "gateway": ROUTER.ip}
    ]);
    for (index, network) in definitions["networks"].as_array_mut().unwrap().iter_mut().enumerate() {
        network["nat_host"] = "hv1".into();
        network["source_nat"] = format!("203.0.113.{}", 10 * (index + 1)).into();
    }
    definitions
}

/// The public link as the router sees it.
struct Outside<'a> {
    topology: &'a TwoHypervisors,
    router: RawGuest,
    vlan: Option<u16>,
}

impl<'a> Outside<'a> {
    fn new(topology: &'a TwoHypervisors, vlan: Option<u16>) -> Self {
        Self { topology, router: topology.wire(0), vlan }
    }

    fn tagged(&self, packet: Packet) -> Packet {
        self.vlan.map_or(packet.clone(), |vid| packet.vlan(vid))
    }

    /// A packet of the router's to the first tenant's public address.
    fn inward(&self) -> Packet {
        self.tagged(Packet::between(ROUTER.mac, self.topology.uplink_mac(0), SERVER.into(), PUBLIC.into()))
    }

    /// A packet as it leaves hv1 for the router.
    fn outward(&self) -> Packet {
        let packet = Packet::between(self.topology.uplink_mac(0), ROUTER.mac, PUBLIC.into(), SERVER.into());
        self.tagged(packet).ttl(63).dont_fragment()
    }

    /// Sends a guest's packet until it leaves, while the router says who it is: an answer counts only where it was asked for.
    #[track_caller]
    fn first(&self, from: &RawGuest, packet: &Packet) -> Vec<u8> {
        let (payload, deadline) = (marker(), Instant::now() + PATIENCE);
        let us = Endpoint { mac: self.topology.uplink_mac(0), ip: PUBLIC, ..ROUTER };
        loop {
            self.router.send(self.tagged(guest(ROUTER).arp_reply(us)).build());
            from.send(packet.clone().payload(&payload).build());
            let round = Instant::now() + Duration::from_millis(300);
            if let Some(frame) = self.router.until(round, |frame| contains(frame, &payload)) {
                return frame;
            }
            assert!(Instant::now() < deadline, "the packet has not left");
        }
    }
}

/// A raw guest's packet to the server, by its gateway.
fn to_server(from: &RawGuest, station: Endpoint) -> (Packet, Mac) {
    from.send(guest(station).arp_request(GATEWAY).build());
    let reply = from.expect("the gateway's ARP reply", |frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]);
    let gateway: Mac = reply[6..12].try_into().unwrap();
    (guest(station).to_mac(gateway).to_ip(SERVER).dont_fragment(), gateway)
}

fn raw(mode: &str, vlan: Option<u16>) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.wire_takes_xdp();
    topology.apply(&in_mode(with_nat(topology.vxlan_definitions(), vlan), mode));
    topology
}

#[test]
fn a1_exactly_one_host_answers_for_a_public_address() {
    for (mode, vlan) in UPLINK_MODES.iter().flat_map(|mode| VLANS.map(|vlan| (mode, vlan))) {
        let topology = raw(mode, vlan);
        let outside = Outside::new(&topology, vlan);
        let request = outside.tagged(guest(ROUTER).arp_request(PUBLIC)).build();
        outside.router.send(&request);
        let us = Endpoint { mac: topology.uplink_mac(0), ip: PUBLIC, ..ROUTER };
        let reply = outside.tagged(guest(us).arp_reply(ROUTER)).build();
        outside.router.expect("the reply", |frame| *frame == reply[..]);
        // What hv2's own kernel answers comes after what hv2 would have answered.
        let other = topology.wire(1);
        other.send(&request);
        let neighbour = Endpoint { ip: Ipv4Addr::new(192, 0, 2, 200), ..ROUTER };
        other.send(guest(neighbour).arp_request(topology.hosts[1].address).build());
        let says = |frame: &[u8], ip: Ipv4Addr| frame.windows(4).any(|bytes| bytes == ip.octets());
        let is_arp = |frame: &[u8]| frame.windows(4).any(|bytes| bytes == [6, 4, 0, 2]);
        other.expect_none_before(
            |frame| is_arp(frame) && says(frame, PUBLIC),
            |frame| is_arp(frame) && says(frame, topology.hosts[1].address),
        );
    }
}

#[test]
fn guests_on_both_hosts_leave_from_the_public_address_and_get_their_answers() {
    for (mode, vlan) in UPLINK_MODES.iter().flat_map(|mode| VLANS.map(|vlan| (mode, vlan))) {
        let topology = raw(mode, vlan);
        let outside = Outside::new(&topology, vlan);
        for (station, port) in [(A, 40_000), (B, 41_000)] {
            let inside = topology.raw("blue", station.ip.octets()[3]);
            let (packet, gateway) = to_server(inside, station);
            let packet = packet.udp(port, 53);
            outside.first(inside, &packet);

            // The first ones are new to the gateway; what follows may take a shorter way.
            for _ in 0..5 {
                let payload = marker();
                inside.send(packet.clone().payload(&payload).build());
                let sent = outside.router.expect("the packet", |frame| contains(frame, &payload));
                assert_eq!(sent, outside.outward().udp(port, 53).payload(&payload).build());
                let payload = marker();
                outside.router.send(outside.inward().udp(53, port).payload(&payload).build());
                let answer = Packet::between(gateway, station.mac, SERVER.into(), station.ip.into()).ttl(63);
                inside.expect_frame(&answer.udp(53, port).payload(&payload).build());
            }
        }
    }
}

#[test]
fn x1_tenants_with_the_same_addresses_leave_from_their_own_public_address() {
    for mode in UPLINK_MODES {
        let topology = raw(mode, VLANS[0]);
        let outside = Outside::new(&topology, VLANS[0]);
        for (index, tenant) in TENANTS.iter().enumerate() {
            let inside = topology.raw(tenant, 11);
            let (packet, _) = to_server(inside, A);
            let sent = outside.first(inside, &packet.udp(40_000, 53));
            assert_eq!(sent[30..34], [203, 0, 113, 10 * (index as u8 + 1)]);
        }
    }
}

#[test]
fn kernel_guests_move_bulk_data_to_a_server_outside() {
    for (mode, takes_xdp) in [("xdp", true), ("xdp", false), ("tc", false)] {
        let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
        let topology = builder.build().unwrap();
        if takes_xdp {
            topology.wire_takes_xdp();
        }
        let server = topology.on_wire(ROUTER).unwrap();
        topology.apply(&in_mode(with_nat(topology.vxlan_definitions(), None), mode));
        for number in [11, 12] {
            let inside = topology.kernel("blue", number);
            inside.ping(server.station().ip).unwrap();

            inside.sends_tcp(&server, 50, false).unwrap();
        }
    }
}
