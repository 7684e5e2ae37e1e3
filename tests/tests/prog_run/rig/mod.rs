//! The loaded programs over maps that a test fills, in a namespace of their own.
//!
//! Hypervisor 192.0.2.11 with the uplink `u0`, on which 192.0.2.12 and .13 are neighbours; two tenants with the same
//! stations: A and B on this host, C on the other. Networks 1 (blue, VNI 5001), 2 (green, VNI 5002, same addresses),
//! 3 (red, VLAN 100), 4 (plain, untagged). [`Rig::routed`] has gateways and a public link besides.

mod gateway;
mod limits;
mod policy;
mod pool;
mod run;
mod seen;
mod tables;
mod tier;
mod traffic;
mod watch;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use aya::{Ebpf, EbpfLoader};
use netpath_common::{
    Address, Mac,
    maps::{
        Destination, Endpoint as Host, EndpointKey, FdbKey, FloodKey, Neighbour, NeighbourKey, Network, Port, Segment,
        SegmentKey, Tunnel, Uplink, UplinkKey, destination_flags, destination_kind, segment_kind, uplink_flags,
    },
};
use netpath_tests::{
    packet::Endpoint,
    topology::{Link, NetNs, netns::sysctl},
};

pub use self::{gateway::*, limits::*, policy::*, pool::Routed, run::*, seen::*, tier::*, traffic::*, watch::*};

/// A station on this host.
pub const A: Endpoint = Endpoint::numbered(11);
/// Another station on this host.
pub const B: Endpoint = Endpoint::numbered(13);
/// A station on the other host.
pub const C: Endpoint = Endpoint::numbered(12);
/// A station that no definition names.
pub const STRANGER: Endpoint = Endpoint::numbered(99);
/// The gateway's MAC address in every network.
pub const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0, 1]);
/// The gateway's address in every network.
pub const GATEWAY_IP: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
/// This host's tunnel address.
pub const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// The other host's tunnel address.
pub const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// The other host's MAC address.
pub const THERE_MAC: [u8; 6] = [0x02, 0, 0xc0, 0, 2, 12];

/// The uplink's MAC address.
pub const UPLINK_MAC: [u8; 6] = [0x02, 0, 0xc0, 0, 2, 11];

/// Network indices.
pub const BLUE: u32 = 1;
/// The tenant with blue's addresses.
pub const GREEN: u32 = 2;
/// The VLAN network.
pub const RED: u32 = 3;
/// The untagged network.
pub const PLAIN: u32 = 4;
/// Another tier, to be defined by the test that wants it.
pub const TIER: u32 = 5;
/// Row of TUNNELS to the other host.
pub const TUNNEL: u32 = 7;

/// The programs, their maps and the namespace that they run in.
pub struct Rig {
    /// The hypervisor's namespace.
    pub ns: NetNs,
    /// The namespace at the other ends of its devices.
    pub far: NetNs,
    bpf: Ebpf,
    rules: u32,
    /// When the stations on the public link answered last.
    answered: u32,
    /// ifindex of the uplink.
    pub uplink: u32,
    /// The uplink's MAC address.
    pub uplink_mac: [u8; 6],
    /// ifindex of each network's ports for A and B, by (network, station's last octet).
    pub ports: BTreeMap<(u32, u8), u32>,
}

impl Rig {
    /// A rig with the standard networks.
    pub fn new() -> Self {
        Self::sized(&[])
    }

    /// The same with maps of other capacities.
    pub fn sized(rows: &[(&'static str, u32)]) -> Self {
        let (ns, far) = (NetNs::new("rig").unwrap(), NetNs::new("far").unwrap());
        let (uplink, uplink_mac) = ns.run(|| {
            let link = Link::veth("u0", "u0", &far).unwrap();
            link.mac(UPLINK_MAC).unwrap();
            link.mtu(1600).unwrap();
            link.up().unwrap();
            link.address(HERE, 24).unwrap();
            link.neighbour(THERE, THERE_MAC).unwrap();
            sysctl("net/ipv4/conf/u0/forwarding", "1").unwrap();
            (link.index().unwrap(), link.read_mac().unwrap())
        });
        far.run(|| Link::named("u0").up()).unwrap();
        let mut loader = EbpfLoader::new();
        for (map, rows) in rows {
            loader.map_max_entries(map, *rows);
        }
        let bpf = loader.load(netpath::datapath::object::bytes().unwrap()).unwrap();
        let mut rig = Self { ns, far, bpf, rules: 0, answered: 0, uplink, uplink_mac, ports: BTreeMap::new() };
        for network in [BLUE, GREEN, RED, PLAIN, TIER] {
            for station in [A, B] {
                rig.device(network, station.ip.octets()[3]);
            }
        }
        rig.standard_networks();
        rig
    }

    fn standard_networks(&mut self) {
        let tunnel = Tunnel {
            remote: THERE.octets(),
            local: HERE.octets(),
            udp_port: 4789,
            ttl: 64,
            lookup: self.uplink,
            egress: self.uplink,
            ..Tunnel::default()
        };
        self.array("TUNNELS", TUNNEL, tunnel);
        let flags = uplink_flags::OWNS_PORT;
        self.put("UPLINKS", UplinkKey { ifindex: self.uplink, udp_port: 4789 }, Uplink { local: HERE.octets(), flags });
        self.put("UPLINKS", UplinkKey { ifindex: self.uplink, udp_port: 0 }, Uplink::default());
        let host = Host { tunnel: TUNNEL, local: HERE.octets() };
        self.put("ENDPOINTS", EndpointKey { physical_network: 1, remote: THERE.octets() }, host);
        for (network, kind, segment) in [
            (BLUE, segment_kind::VXLAN, 5001),
            (GREEN, segment_kind::VXLAN, 5002),
            (RED, segment_kind::VLAN, 100),
            (PLAIN, segment_kind::UNTAGGED, 0),
        ] {
            self.network(network, kind, segment);
        }
    }

    fn network(&mut self, network: u32, kind: u8, segment: u32) {
        let vxlan = kind == segment_kind::VXLAN;
        let row = Network {
            kind,
            mtu: 1500,
            segment,
            uplink: if vxlan { 0 } else { self.uplink },
            flood_count: 3,
            physical_network: 1,
            gateway_mac: GATEWAY,
            gateway_ip4: GATEWAY_IP.octets(),
            ..Network::default()
        };
        self.array("NETWORKS", network, row);
        let key = SegmentKey { ifindex: self.uplink, udp_port: if vxlan { 4789 } else { 0 }, id: segment };
        let row = Segment { ifindex: self.uplink, network, physical_network: 1, flags: 0 };
        self.put("SEGMENTS", key, row);
        for (position, station) in [A, B].into_iter().enumerate() {
            let last = station.ip.octets()[3];
            let ifindex = self.ports[&(network, last)];
            let slot = network * 100 + u32::from(last);
            self.put("PORTS", ifindex, port(network, ifindex, slot, station));
            let local = Destination {
                network,
                kind: destination_kind::LOCAL,
                flags: destination_flags::XDP_TARGET,
                target: ifindex,
                slot,
                ..Destination::default()
            };
            self.station(network, station, local);
            self.put("FLOODS", FloodKey { network, position: position as u32 }, local);
        }
        let (kind, target) =
            if vxlan { (destination_kind::TUNNEL, TUNNEL) } else { (destination_kind::UPLINK, self.uplink) };
        let remote = Destination { network, kind, target, ..Destination::default() };
        self.station(network, C, remote);
        self.put("FLOODS", FloodKey { network, position: 2 }, remote);
        let gateway = Destination { network, kind: destination_kind::GATEWAY, ..Destination::default() };
        self.put("FDB", FdbKey::new(network, GATEWAY), gateway);
    }

    fn station(&mut self, network: u32, station: Endpoint, place: Destination) {
        self.put("FDB", FdbKey::new(network, Mac(station.mac)), place);
        for ip in [IpAddr::from(station.ip), IpAddr::from(station.ip6)] {
            let key = NeighbourKey { network, address: Address::from(ip) };
            self.put("NEIGHBOURS", key, Neighbour { network, mac: Mac(station.mac), pad: [0; 2] });
        }
    }

    /// A guest's device: a veth whose other end is in the far namespace.
    fn device(&mut self, network: u32, last: u8) {
        let name = format!("p{network}-{last}");
        let ifindex = self.ns.run(|| {
            let link = Link::veth(&name, &name, &self.far).unwrap();
            link.up().unwrap();
            link.index().unwrap()
        });
        self.far.run(|| Link::named(&name).up()).unwrap();
        self.ports.insert((network, last), ifindex);
    }
}

fn port(network: u32, ifindex: u32, slot: u32, station: Endpoint) -> Port {
    Port {
        ifindex,
        network,
        slot,
        mac: Mac(station.mac),
        ip4: station.ip.octets(),
        ip6: Address(station.ip6.octets()),
        link_local: Mac(station.mac).link_local(),
        ..Port::default()
    }
}
