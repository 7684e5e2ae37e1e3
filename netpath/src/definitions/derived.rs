//! What follows from the definitions without being written in them.

use std::net::{IpAddr, Ipv4Addr};

use netpath_common::Mac;

use super::{
    decode::At,
    model::{Host, Network, Nic, PhysicalNetwork, Zone},
    values::{GatewayMode, Isolation, Replication, Segment},
};

impl Zone {
    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name.as_str() == name)
    }

    /// The physical network of that name.
    pub fn physical_network(&self, name: &str) -> Option<&PhysicalNetwork> {
        self.physical_networks.iter().find(|network| network.name.as_str() == name)
    }

    /// The UDP port of VXLAN on a physical network.
    pub fn udp_port(&self, network: &PhysicalNetwork) -> u16 {
        network.vxlan_port.as_ref().unwrap_or(&self.vxlan_port).get_u16()
    }

    /// The multicast group that reaches every host of a network, where its physical network replicates so: CloudStack's, which
    /// is 239 and the VNI.
    pub fn group(&self, network: &Network) -> Option<Ipv4Addr> {
        let physical = self.physical_network(network.physical_network.as_str())?;
        let is_multicast = *physical.isolation == Isolation::Vxlan && *physical.replication == Replication::Multicast;
        match *network.segment {
            Segment::Id(vni) if is_multicast => {
                let [_, a, b, c] = vni.to_be_bytes();
                Some(Ipv4Addr::new(239, a, b, c))
            }
            Segment::Id(_) | Segment::Untagged => None,
        }
    }
}

/// The first octets of a gateway's MAC address that is not defined: locally administered, and `np` in ASCII.
const GATEWAY_PREFIX: [u8; 3] = [0x02, b'n', b'p'];

impl Network {
    /// The MAC address of its gateway, the same on every host: the one that is defined, or for gateway_mode netpath
    /// the one that its segment makes. `None` for an external gateway that no `gateway_mac` names.
    pub fn gateway_station(&self) -> Option<Mac> {
        let segment = match *self.segment {
            Segment::Untagged => 0,
            Segment::Id(id) => id,
        };
        let [a, b, c] = GATEWAY_PREFIX;
        let [_, d, e, f] = segment.to_be_bytes();
        match (&self.gateway_mac, *self.gateway_mode) {
            (Some(mac), _) => Some(mac.value),
            (None, GatewayMode::Netpath) => Some(Mac([a, b, c, d, e, f])),
            (None, GatewayMode::External) => None,
        }
    }

    /// The hosts of its NICs, as many times as they have one.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.nics.iter().filter_map(|nic| nic.host.as_ref()).map(|host| host.as_str())
    }
}

impl Nic {
    /// Whether its guest runs on the host.
    pub fn is_on(&self, host: &str) -> bool {
        self.host.as_ref().is_some_and(|name| name.as_str() == host)
    }

    /// Every address of it: `ip`, `ip6`, `secondary_ips`.
    pub fn addresses(&self) -> impl Iterator<Item = At<IpAddr>> {
        let ip = self.ip.map(|ip| At { value: IpAddr::V4(*ip), at: ip.at });
        let ip6 = self.ip6.map(|ip| At { value: IpAddr::V6(*ip), at: ip.at });
        ip.into_iter().chain(ip6).chain(self.secondary_ips.iter().copied())
    }
}
