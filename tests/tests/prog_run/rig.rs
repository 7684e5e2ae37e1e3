//! The loaded programs over maps that a test fills, in a namespace of their own.
//!
//! Hypervisor 192.0.2.11 with the uplink `u0`, on which 192.0.2.12 and .13 are neighbours; two tenants with the same
//! stations: A and B on this host, C on the other. Networks 1 (blue, VNI 5001), 2 (green, VNI 5002, same addresses),
//! 3 (red, VLAN 100), 4 (plain, untagged).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuHashMap},
    programs::{Program, ProgramError, TestRun as _, TestRunOptions, TestRunResult},
};
use netpath_common::{
    Address, DropReason, Mac,
    maps::{
        Counters, Destination, DropKey, Endpoint as Host, EndpointKey, FdbKey, FloodKey, Neighbour, NeighbourKey,
        Network, Port, Segment, SegmentKey, Tunnel, Uplink, UplinkKey, destination_flags, destination_kind,
        segment_kind, uplink_flags,
    },
};
use netpath_tests::{
    packet::{Endpoint, verify_checksums},
    topology::{Link, NetNs, netns::sysctl},
};

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

/// Network indices.
pub const BLUE: u32 = 1;
/// The tenant with blue's addresses.
pub const GREEN: u32 = 2;
/// The VLAN network.
pub const RED: u32 = 3;
/// The untagged network.
pub const PLAIN: u32 = 4;
/// Row of TUNNELS to the other host.
pub const TUNNEL: u32 = 7;

/// What a program did to a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value.
    pub action: i32,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
    /// Drops that were counted: (network, reason) and how many.
    pub drops: Vec<((u32, DropReason), u64)>,
    /// Counter rows that moved: slot and by how much.
    pub counters: Vec<(u32, Counters)>,
}

/// TC: on to the next program, or to the kernel.
pub const PASS: i32 = -1;
/// TC: dropped, or consumed.
pub const SHOT: i32 = 2;
/// TC: out of another device.
pub const REDIRECT: i32 = 7;
/// XDP's return values.
pub const XDP_DROP: i32 = 1;
/// On to the kernel.
pub const XDP_PASS: i32 = 2;
/// Out of another device.
pub const XDP_REDIRECT: i32 = 4;

/// The programs, their maps and the namespace that they run in.
pub struct Rig {
    /// The hypervisor's namespace.
    pub ns: NetNs,
    /// The namespace at the other ends of its devices.
    pub far: NetNs,
    bpf: Ebpf,
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
        let (ns, far) = (NetNs::new("rig").unwrap(), NetNs::new("far").unwrap());
        let (uplink, uplink_mac) = ns.run(|| {
            let link = Link::veth("u0", "u0", &far).unwrap();
            link.mtu(1600).unwrap();
            link.up().unwrap();
            link.address(HERE, 24).unwrap();
            link.neighbour(THERE, THERE_MAC).unwrap();
            sysctl("net/ipv4/conf/u0/forwarding", "1").unwrap();
            (link.index().unwrap(), link.read_mac().unwrap())
        });
        far.run(|| Link::named("u0").up()).unwrap();
        let bpf = EbpfLoader::new().load(netpath::datapath::object::bytes().unwrap()).unwrap();
        let mut rig = Self { ns, far, bpf, uplink, uplink_mac, ports: BTreeMap::new() };
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
            let ifindex = self.port(network, last);
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
    fn port(&mut self, network: u32, last: u8) -> u32 {
        let name = format!("p{network}-{last}");
        let ifindex = self.ns.run(|| {
            let link = Link::veth(&name, &name, &self.far).unwrap();
            link.up().unwrap();
            link.index().unwrap()
        });
        self.far.run(|| Link::named(&name).up()).unwrap();
        self.ports.insert((network, last), ifindex);
        ifindex
    }

    /// Writes a row of a hash.
    pub fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, K, V> = HashMap::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.insert(key, value, 0).unwrap();
    }

    /// Reads a row of a hash.
    pub fn get<K: Pod, V: Pod>(&self, map: &str, key: K) -> Option<V> {
        let map: HashMap<&MapData, K, V> = HashMap::try_from(self.bpf.map(map).unwrap()).unwrap();
        map.get(&key, 0).ok()
    }

    /// Removes a row of a hash.
    pub fn remove<K: Pod, V: Pod>(&mut self, map: &str, key: K) {
        let mut map: HashMap<&mut MapData, K, V> = HashMap::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.remove(&key).unwrap();
    }

    /// Writes a row of an array.
    pub fn array<V: Pod>(&mut self, map: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, V> = Array::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.set(index, value, 0).unwrap();
    }

    /// Changes a row of an array.
    pub fn change<V: Pod>(&mut self, map: &str, index: u32, change: impl FnOnce(&mut V)) {
        let mut map: Array<&mut MapData, V> = Array::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        let mut row = map.get(&index, 0).unwrap();
        change(&mut row);
        map.set(index, row, 0).unwrap();
    }

    fn drops(&self) -> BTreeMap<(u32, DropReason), u64> {
        let map: PerCpuHashMap<&MapData, DropKey, u64> =
            PerCpuHashMap::try_from(self.bpf.map("DROPS").unwrap()).unwrap();
        map.iter()
            .map(|row| row.unwrap())
            .map(|(key, cpus)| ((key.network, DropReason::from_code(key.reason).unwrap()), cpus.iter().sum()))
            .collect()
    }

    /// Every row of COUNTERS that a station here may have, over all CPUs.
    pub fn counters(&self) -> BTreeMap<u32, Counters> {
        let map: PerCpuArray<&MapData, Counters> = PerCpuArray::try_from(self.bpf.map("COUNTERS").unwrap()).unwrap();
        (0..500).map(|slot| (slot, map.get(&slot, 0).unwrap().iter().fold(Counters::default(), sum))).collect()
    }

    /// Runs a TC program over a frame from a device.
    pub fn tc(&mut self, program: &str, ifindex: u32, frame: &[u8]) -> Outcome {
        self.tc_gso(program, ifindex, frame, 0)
    }

    /// Runs a TC program over a super-packet with segments of `gso_size` payload bytes.
    pub fn tc_gso(&mut self, program: &str, ifindex: u32, frame: &[u8], gso_size: u32) -> Outcome {
        self.run(program, &skb_context(ifindex, gso_size), frame)
    }

    /// Runs a TC program without an account of what it did, which takes most of the time. A frame that no kernel
    /// would have let in as far is refused before the program runs.
    pub fn tc_only(&self, program: &str, ifindex: u32, frame: &[u8]) {
        let _ = self.run_only(program, &skb_context(ifindex, 0), frame, &mut vec![0; frame.len() + 1024]);
    }

    /// Runs the XDP program without an account of what it did.
    pub fn xdp_only(&self, frame: &[u8]) {
        let _ = self.run_only("from_uplink_xdp", &self.xdp_context(frame), frame, &mut vec![0; frame.len() + 1024]);
    }

    /// Runs the XDP program over a frame on the uplink.
    pub fn xdp(&mut self, frame: &[u8]) -> Outcome {
        self.run("from_uplink_xdp", &self.xdp_context(frame), frame)
    }

    /// A `struct xdp_md` of a frame on the uplink.
    fn xdp_context(&self, frame: &[u8]) -> [u8; 24] {
        let mut ctx = [0; 24];
        ctx[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        ctx[12..16].copy_from_slice(&self.uplink.to_ne_bytes());
        ctx
    }

    fn run_only(
        &self,
        program: &str,
        ctx: &[u8],
        frame: &[u8],
        bytes: &mut [u8],
    ) -> Result<TestRunResult, ProgramError> {
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(bytes), ctx_in: Some(ctx), ..Default::default() };
        match self.bpf.program(program).unwrap() {
            Program::Xdp(xdp) => xdp.test_run(options),
            Program::SchedClassifier(tc) => tc.test_run(options),
            other => panic!("{program} is a {:?}", other.prog_type()),
        }
    }

    /// Loads a program unless it is loaded: most tests want one, and the verifier takes most of their time.
    pub fn load(&mut self, program: &str) {
        match self.bpf.program_mut(program).unwrap() {
            Program::Xdp(xdp) if xdp.fd().is_err() => xdp.load().unwrap(),
            Program::SchedClassifier(tc) if tc.fd().is_err() => tc.load().unwrap(),
            _ => {}
        }
    }

    fn run(&mut self, program: &str, ctx: &[u8], frame: &[u8]) -> Outcome {
        self.load(program);
        let (drops, counters) = (self.drops(), self.counters());
        let mut bytes = vec![0; frame.len() + 256];
        let result = self.ns.run(|| self.run_only(program, ctx, frame, &mut bytes));
        let result = result.unwrap();
        bytes.truncate(result.data_size_out as usize);
        Outcome {
            action: result.return_value as i32,
            bytes,
            drops: self
                .drops()
                .into_iter()
                .map(|(key, now)| (key, now - drops.get(&key).copied().unwrap_or(0)))
                .filter(|(_, moved)| *moved != 0)
                .collect(),
            counters: self
                .counters()
                .into_iter()
                .map(|(slot, now)| (slot, difference(&now, &counters[&slot])))
                .filter(|(_, moved)| *moved != Counters::default())
                .collect(),
        }
    }

    /// Runs `from_guest` over a frame from A's port in a network.
    pub fn from_a(&mut self, network: u32, frame: &[u8]) -> Outcome {
        self.tc("from_guest", self.ports[&(network, 11)], frame)
    }
}

impl Outcome {
    /// Asserts that the packet was refused for one reason, counted once, and left as it was.
    #[track_caller]
    pub fn assert_dropped(&self, network: u32, reason: DropReason) {
        assert_eq!(self.drops, [((network, reason), 1)]);
        assert!([SHOT, XDP_DROP].contains(&self.action), "{self:?}");
    }

    /// Asserts that nothing was refused and that every checksum of the packet is right.
    #[track_caller]
    pub fn assert_sent(&self, action: i32) -> &[u8] {
        assert_eq!((self.action, &self.drops[..]), (action, &[][..]), "{self:?}");
        verify_checksums(&self.bytes).unwrap();
        &self.bytes
    }
}

/// The slot of a station's port.
pub fn slot(network: u32, station: Endpoint) -> u32 {
    network * 100 + u32::from(station.ip.octets()[3])
}

/// One frame from the guest.
pub fn sent(len: usize) -> Counters {
    Counters { from_guest_packets: 1, from_guest_bytes: len as u64, ..Counters::default() }
}

/// One frame to the guest.
pub fn received(len: usize) -> Counters {
    Counters { to_guest_packets: 1, to_guest_bytes: len as u64, ..Counters::default() }
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

/// A `struct __sk_buff` of a packet from a device.
fn skb_context(ifindex: u32, gso_size: u32) -> [u8; 192] {
    const IFINDEX: usize = 40;
    const GSO_SIZE: usize = 176;
    let mut ctx = [0; 192];
    ctx[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    ctx[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&gso_size.to_ne_bytes());
    ctx
}

fn sum(a: Counters, b: &Counters) -> Counters {
    combine(&a, b, u64::wrapping_add)
}

fn difference(a: &Counters, b: &Counters) -> Counters {
    combine(a, b, u64::wrapping_sub)
}

fn combine(a: &Counters, b: &Counters, with: impl Fn(u64, u64) -> u64) -> Counters {
    Counters {
        from_guest_packets: with(a.from_guest_packets, b.from_guest_packets),
        from_guest_bytes: with(a.from_guest_bytes, b.from_guest_bytes),
        to_guest_packets: with(a.to_guest_packets, b.to_guest_packets),
        to_guest_bytes: with(a.to_guest_bytes, b.to_guest_bytes),
    }
}
