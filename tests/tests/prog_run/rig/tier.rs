//! A second tier of blue's router: 10.1.2.0/24, VNI 5005, with a station here and one on the other host.

use std::net::Ipv4Addr;

use netpath_common::{
    Mac,
    maps::{Destination, FdbKey, Gateway, Network, Segment, SegmentKey, destination_kind, gateway_flags, segment_kind},
};
use netpath_tests::packet::{Endpoint, Packet, guest};

use super::{A, BLUE, Rig, TIER, TIMEOUTS, TUNNEL, port, slot};

/// The tier's gateway's MAC address.
pub const TIER_GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0, 2]);
/// The tier's gateway's address.
pub const TIER_GATEWAY_IP: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 1);
/// A station of the tier on this host.
pub const D: Endpoint = tier_station(11);
/// A station of the tier on the other host.
pub const E: Endpoint = tier_station(12);

const fn tier_station(last: u8) -> Endpoint {
    let station = Endpoint::numbered(last);
    Endpoint { mac: [0x02, 0, 0x0a, 0x01, 0x02, last], ip: Ipv4Addr::new(10, 1, 2, last), ..station }
}

/// A packet from a station of the tier to its gateway's MAC address.
pub fn tier_outward(station: Endpoint) -> Packet {
    guest(station).to_mac(TIER_GATEWAY.0)
}

impl Rig {
    /// Makes the tier and routes both ways.
    pub fn tier(&mut self) {
        let row = Network {
            kind: segment_kind::VXLAN,
            mtu: 1500,
            segment: 5005,
            physical_network: 1,
            gateway_mac: TIER_GATEWAY,
            gateway_ip4: TIER_GATEWAY_IP.octets(),
            ..Network::default()
        };
        self.array("NETWORKS", TIER, row);
        let segment = Segment { ifindex: self.uplink, network: TIER, physical_network: 1, flags: 0 };
        self.put("SEGMENTS", SegmentKey { ifindex: self.uplink, udp_port: 4789, id: 5005 }, segment);
        let ifindex = self.ports[&(TIER, 11)];
        self.put("PORTS", ifindex, port(TIER, ifindex, slot(TIER, D), D));
        let here = Destination {
            network: TIER,
            kind: destination_kind::LOCAL,
            target: ifindex,
            slot: slot(TIER, D),
            ..Destination::default()
        };
        let there =
            Destination { network: TIER, kind: destination_kind::TUNNEL, target: TUNNEL, ..Destination::default() };
        self.station(TIER, D, here);
        self.station(TIER, E, there);
        let gateway = Destination { network: TIER, kind: destination_kind::GATEWAY, ..Destination::default() };
        self.put("FDB", FdbKey::new(TIER, TIER_GATEWAY), gateway);
        let row = Gateway {
            epoch: 1,
            flags: gateway_flags::ROUTES | gateway_flags::EGRESS_ALLOW,
            prefix: [10, 1, 2, 0],
            mask: [255, 255, 255, 0],
            wire_mac: Mac(self.uplink_mac),
            flow_limit: 100_000,
            timeouts: TIMEOUTS,
            ..Gateway::default()
        };
        self.array("GATEWAYS", TIER, row);
        self.route(BLUE, [10, 1, 2, 0].into(), 24, TIER, Ipv4Addr::UNSPECIFIED);
        self.route(TIER, [10, 1, 1, 0].into(), 24, BLUE, Ipv4Addr::UNSPECIFIED);
        self.change_gateway(BLUE, |_| {});
        assert_eq!(A.ip.octets()[..3], [10, 1, 1]);
    }
}
