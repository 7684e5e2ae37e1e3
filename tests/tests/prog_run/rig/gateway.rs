//! Gateways, a public link with its stations, and the clock.
//!
//! ```text
//!   blue, green, red: A .11, B .13 │ gateway .1 ─ 203.0.113.10, .20, .30 ─ VLAN 900 ─┬─ router .1 ─ server 198.51.100.7
//!                                  │                                                └─ neighbour .200
//! ```

use std::net::Ipv4Addr;

use netpath_common::{
    Mac,
    maps::{
        BLOCKS, Binding, BindingKey, Flow, FlowKey, Fragment, FragmentKey, Gateway, GatewayState, POOL_PROTOCOLS,
        PUBLIC_SIDE, PoolAddress, PublicAddress, PublicKey, Resolved, RuleList, Segment, SegmentKey, Timeouts,
        Upstream, gateway_flags, nat_place, segment_flags,
    },
    reap,
};
use netpath_tests::packet::{Endpoint, Packet, guest};

use super::{BLUE, GATEWAY, GREEN, Outcome, RED, Rig, UPLINK_MAC};

/// Row of UPSTREAMS: the public link, VLAN 900 of the uplink.
pub const LINK: u32 = 2;
/// The public link as a side.
pub const PUBLIC: u32 = PUBLIC_SIDE | LINK;
/// Its VLAN id.
pub const PUBLIC_VLAN: u16 = 900;
/// The upstream router.
pub const ROUTER: Endpoint = public_station(1);
/// A station on the public link itself.
pub const NEIGHBOUR: Endpoint = public_station(200);
/// A server behind the router.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Another one.
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
/// The public addresses of source NAT.
pub const BLUE_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Green's.
pub const GREEN_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// Red's.
pub const RED_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 30);

/// The timeouts of the definitions' defaults.
pub const TIMEOUTS: Timeouts =
    Timeouts { udp: 300, udp_one_way: 120, tcp_established: 7440, tcp_opening: 240, tcp_closing: 240, icmp: 60 };

const fn public_station(last: u8) -> Endpoint {
    let station = Endpoint::numbered(last);
    Endpoint { mac: [0x02, 0, 203, 0, 113, last], ip: Ipv4Addr::new(203, 0, 113, last), ..station }
}

/// The public address of a network's source NAT.
pub fn public_of(network: u32) -> Ipv4Addr {
    match network {
        BLUE => BLUE_PUBLIC,
        GREEN => GREEN_PUBLIC,
        RED => RED_PUBLIC,
        other => panic!("network {other} has no public address"),
    }
}

/// The seconds of the monotonic clock, as the data path counts them.
pub fn now() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32
}

/// A packet from a guest to the server behind the router, by its gateway.
pub fn outward(station: Endpoint) -> Packet {
    guest(station).to_mac(GATEWAY.0).to_ip(SERVER)
}

/// A packet from a server to a public address, as the router sends it on the public link.
pub fn inward(server: Ipv4Addr, to: Ipv4Addr) -> Packet {
    Packet::between(ROUTER.mac, UPLINK_MAC, server.into(), to.into()).vlan(PUBLIC_VLAN)
}

impl Rig {
    pub fn standard_gateways(&mut self) {
        let upstream = Upstream {
            ifindex: self.uplink,
            prefix: [203, 0, 113, 0],
            mask: [255, 255, 255, 0],
            gateway: ROUTER.ip.octets(),
            vlan: PUBLIC_VLAN,
            mtu: 1500,
            mac: Mac(self.uplink_mac),
            flags: 0,
        };
        self.array("UPSTREAMS", LINK, upstream);
        let segment =
            Segment { ifindex: self.uplink, network: LINK, physical_network: 1, flags: segment_flags::PUBLIC };
        let key = SegmentKey { ifindex: self.uplink, udp_port: 0, id: u32::from(PUBLIC_VLAN) };
        self.put("SEGMENTS", key, segment);
        let now = now();
        let resolved = |station: Endpoint| Resolved {
            mac: Resolved::word(Mac(station.mac)),
            confirmed: now,
            asked: now,
            ..Resolved::default()
        };
        self.answered = now;
        self.array("UPSTREAM_MACS", LINK, resolved(ROUTER));
        self.put("ON_LINK", PublicKey { side: PUBLIC, address: NEIGHBOUR.ip.octets() }, resolved(NEIGHBOUR));
        for (pool, network) in [BLUE, GREEN, RED].into_iter().enumerate() {
            let address = public_of(network);
            self.array("GATEWAYS", network, gateway(self.uplink_mac, address, pool as u32));
            self.array("GATEWAY_STATE", network, GatewayState::default());
            self.public_address(network, address, 0, RuleList::default());
        }
    }

    /// Has the stations on the public link answer again, as they would have when they were asked: a test may take longer
    /// than they are known for. What a test has written of them stays.
    pub(super) fn stations_answer(&mut self) {
        let (answered, now) = (self.answered, now());
        if now.wrapping_sub(answered) < 10 {
            return;
        }
        self.answered = now;
        let again = |row: &mut Resolved| {
            if row.confirmed == answered {
                row.confirmed = now;
            }
        };
        self.change("UPSTREAM_MACS", LINK, again);
        let key = PublicKey { side: PUBLIC, address: NEIGHBOUR.ip.octets() };
        if let Some(mut row) = self.get("ON_LINK", key) {
            again(&mut row);
            self.put("ON_LINK", key, row);
        }
    }

    /// Gives a network a public address of this host.
    pub fn public_address(&mut self, network: u32, address: Ipv4Addr, flags: u32, ingress: RuleList) {
        let row = PublicAddress { ingress, side: PUBLIC, network, inside: [0; 4], flags, ..PublicAddress::default() };
        self.put("PUBLIC_ADDRESS", PublicKey { side: PUBLIC, address: address.octets() }, row);
    }

    /// Runs a packet from a station of a network through the programs.
    pub fn from(&mut self, network: u32, station: Endpoint, packet: &Packet) -> Outcome {
        self.tc("from_guest", self.ports[&(network, station.ip.octets()[3])], &packet.build())
    }

    /// [`inward`], for whoever has a rig at hand.
    pub fn inward(&self, server: Ipv4Addr, to: Ipv4Addr) -> Packet {
        inward(server, to)
    }

    /// Runs a packet from the uplink through the programs.
    #[expect(clippy::wrong_self_convention, reason = "where the packet comes from, no conversion")]
    pub fn from_wire(&mut self, packet: &Packet) -> Outcome {
        self.tc("from_uplink", self.uplink, &packet.build())
    }

    /// Every direction of every connection.
    pub fn flows(&self) -> std::collections::BTreeMap<FlowKey, Flow> {
        self.rows("FLOWS")
    }

    /// Every end of every binding.
    pub fn bindings(&self) -> std::collections::BTreeMap<BindingKey, Binding> {
        self.rows("BINDINGS")
    }

    /// How many public ports of the standard networks are given out.
    pub fn ports_in_use(&self) -> u64 {
        let words = self.first::<u64>("PORT_BLOCKS", (3 * POOL_PROTOCOLS * BLOCKS) as usize);
        words.into_iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Makes everything that the data path remembers older, as if this time had passed.
    pub fn age(&mut self, seconds: u32) {
        self.change_each::<FlowKey, Flow>("FLOWS", |flow| {
            flow.created = flow.created.wrapping_sub(seconds);
            flow.last_seen = flow.last_seen.wrapping_sub(seconds);
        });
        self.change_each::<BindingKey, Binding>("BINDINGS", |binding| {
            // Zero would mean that somebody is taking it away.
            binding.expires = binding.expires.saturating_sub(seconds).max(1);
        });
        self.change_each::<FragmentKey, Fragment>("FRAGMENTS", |fragment| {
            fragment.seen = fragment.seen.wrapping_sub(seconds);
        });
        // No network's row: it says in which second room was last made.
        self.array("GATEWAY_STATE", 0, GatewayState::default());
    }

    /// Changes a network's gateway, then counts its epoch up, and opens bindings where everybody is to come in, as the loader does.
    pub fn change_gateway(&mut self, network: u32, change: impl FnOnce(&mut Gateway)) {
        self.change("GATEWAYS", network, change);
        self.change("GATEWAYS", network, |gateway: &mut Gateway| gateway.epoch += 1);
        if self.read::<Gateway>("GATEWAYS", network).flags & gateway_flags::ENDPOINT_INDEPENDENT != 0 {
            self.open_bindings(network);
        }
    }

    /// Has a network's bindings let in whoever sends to them.
    pub fn open_bindings(&mut self, network: u32) {
        let keys: Vec<_> = self.bindings().into_keys().filter(|key| key.side == network).collect();
        assert_eq!(self.reap(reap::OPEN, &keys), keys.len());
    }

    /// Has the data path do something to the rows of these keys; gives to how many it did.
    pub fn reap<K: bytemuck::Pod>(&mut self, kind: u8, keys: &[K]) -> usize {
        let (uplink, mut done) = (self.uplink, 0);
        for keys in keys.chunks(reap::KEYS_MAX) {
            let mut frame = vec![0; reap::HEAD_LEN];
            frame[14..].copy_from_slice(&[kind, keys.len() as u8]);
            for (place, key) in (1..).zip(keys) {
                frame.extend(bytemuck::bytes_of(key));
                frame.resize(reap::HEAD_LEN + place * reap::KEY_LEN, 0);
            }
            done += self.tc("reap", uplink, &frame).action as usize;
        }
        done
    }

    /// Forgets the rows of bindings' outside ends.
    pub fn close_bindings(&mut self) {
        for key in self.bindings().into_keys().filter(|key| key.side & PUBLIC_SIDE != 0) {
            self.remove::<BindingKey, Binding>("BINDINGS", key);
        }
    }

    /// What the data path counts for a network.
    pub fn state(&self, network: u32) -> GatewayState {
        self.read("GATEWAY_STATE", network)
    }
}

/// A gateway that lets everything out, with one public address.
fn gateway(wire_mac: [u8; 6], address: Ipv4Addr, pool: u32) -> Gateway {
    let mut row = Gateway {
        epoch: 1,
        flags: gateway_flags::ROUTES | gateway_flags::EGRESS_ALLOW,
        prefix: [10, 1, 1, 0],
        mask: [255, 255, 255, 0],
        nat_place: nat_place::HERE,
        wire_mac: Mac(wire_mac),
        pool_count: 1,
        flow_limit: 100_000,
        timeouts: TIMEOUTS,
        ..Gateway::default()
    };
    row.pool[0] = PoolAddress { side: PUBLIC, address: address.octets(), pool };
    row
}
