//! What a row belongs to, for a plan that speaks of networks and NICs instead of maps.

use std::{collections::HashMap, fmt, net::IpAddr};

use netpath_common::{
    Address, Mac,
    maps::{Destination, NameKey, destination_kind, name_kind, segment_kind},
};

use crate::compile::{PLANNED_DEVICE, Row, Rows};

/// What a row belongs to. The order is that of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// The host itself.
    Host(String),
    /// A physical network.
    PhysicalNetwork(String),
    /// A device that tenants' frames arrive on.
    Uplink(String),
    /// A tunnel: `physical network/host`, or `network/group`.
    Tunnel(String),
    /// A network.
    Network(String),
    /// A station of a network: a NIC here or elsewhere.
    Station {
        /// The network.
        network: String,
        /// Its MAC address.
        mac: Mac,
        /// Its instance, where it is a NIC of this host.
        instance: Option<String>,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host {name}"),
            Self::PhysicalNetwork(name) => write!(f, "physical network {name}"),
            Self::Uplink(device) => write!(f, "uplink {device}"),
            Self::Tunnel(name) => write!(f, "tunnel {name}"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::Station { network, mac, instance: Some(instance) } => write!(f, "nic {network}/{instance} {mac}"),
            Self::Station { network, mac, instance: None } => write!(f, "station {network} {mac}"),
        }
    }
}

/// Reads rows in the light of the others: what an index is called, and whose a row is.
pub(super) struct Reader<'r> {
    rows: &'r Rows,
    devices: &'r HashMap<u32, String>,
    /// Instances by network and MAC address.
    instances: HashMap<(&'r str, Mac), &'r str>,
    /// Local stations by slot.
    slots: HashMap<u32, (&'r str, &'r str, Mac)>,
}

impl<'r> Reader<'r> {
    /// A reader of `rows`; `devices` names ifindices.
    pub(super) fn of(rows: &'r Rows, devices: &'r HashMap<u32, String>) -> Self {
        let ports = NameKey { kind: name_kind::PORT, index: 0 }..=NameKey { kind: name_kind::PORT, index: u32::MAX };
        let slots: HashMap<_, _> =
            rows.names.range(ports).filter_map(|(key, name)| Some((key.index, port(name)?))).collect();
        let instances = slots.values().map(|(network, instance, mac)| ((*network, *mac), *instance)).collect();
        Self { rows, devices, instances, slots }
    }

    fn name(&self, kind: u32, index: u32) -> String {
        self.rows.names.get(&NameKey { kind, index }).cloned().unwrap_or_else(|| format!("#{index}"))
    }

    fn device(&self, ifindex: u32) -> String {
        match self.devices.get(&ifindex) {
            Some(name) => name.clone(),
            None if ifindex == PLANNED_DEVICE => "(to be made)".into(),
            None => format!("ifindex {ifindex}"),
        }
    }

    fn network(&self, index: u32) -> Object {
        Object::Network(self.name(name_kind::NETWORK, index))
    }

    fn station(&self, network: u32, mac: Mac) -> Object {
        if self.rows.networks.get(&network).is_some_and(|row| row.gateway_mac == mac) {
            return self.network(network);
        }
        let network = self.name(name_kind::NETWORK, network);
        let instance = self.instances.get(&(&*network, mac)).map(|instance| (*instance).to_owned());
        Object::Station { network, mac, instance }
    }

    fn slot(&self, slot: u32) -> Object {
        match self.slots.get(&slot) {
            Some((network, instance, mac)) => {
                Object::Station { network: (*network).into(), mac: *mac, instance: Some((*instance).into()) }
            }
            None => Object::Host(format!("slot {slot}")),
        }
    }

    /// What the row belongs to.
    pub(super) fn owner(&self, row: &Row) -> Object {
        match row {
            Row::Names(key, name) => match key.kind {
                name_kind::NETWORK => Object::Network(name.clone()),
                name_kind::TUNNEL => Object::Tunnel(name.clone()),
                name_kind::PHYSICAL_NETWORK => Object::PhysicalNetwork(name.clone()),
                name_kind::PORT => self.slot(key.index),
                _ => Object::Host(name.clone()),
            },
            Row::Tunnels(index, _) => Object::Tunnel(self.name(name_kind::TUNNEL, *index)),
            Row::Endpoints(_, endpoint) => Object::Tunnel(self.name(name_kind::TUNNEL, endpoint.tunnel)),
            Row::Networks(index, _) => self.network(*index),
            Row::Neighbours(key, neighbour) => self.station(key.network, neighbour.mac),
            Row::Fdb(key, _) => self.station(key.network, key.mac),
            Row::Floods(key, member) if member.kind != destination_kind::LOCAL => self.network(key.network),
            Row::Floods(_, member) => self.slot(member.slot),
            Row::Addresses(key, _) => match self.rows.ports.get(&key.ifindex) {
                Some(port) => self.slot(port.slot),
                None => Object::Uplink(self.device(key.ifindex)),
            },
            Row::Ports(_, port) => self.slot(port.slot),
            Row::Uplinks(key, _) => Object::Uplink(self.device(key.ifindex)),
            Row::Segments(_, segment) => self.network(segment.network),
        }
    }

    fn destination(&self, destination: &Destination) -> String {
        match destination.kind {
            destination_kind::LOCAL => format!("device {}", self.device(destination.target)),
            destination_kind::TUNNEL => format!("tunnel {}", self.name(name_kind::TUNNEL, destination.target)),
            destination_kind::UPLINK => format!("uplink {}", self.device(destination.target)),
            destination_kind::GATEWAY => "the gateway".into(),
            kind => format!("kind {kind}"),
        }
    }

    /// The row in one line.
    pub(super) fn describe(&self, row: &Row) -> String {
        let ip = |bytes: [u8; 4]| IpAddr::from(bytes);
        match row {
            Row::Names(key, name) => format!("{name} has index {}", key.index),
            Row::Tunnels(_, row) => {
                format!("{} to {}, UDP {}, TTL {}", ip(row.local), ip(row.remote), row.udp_port, row.ttl)
            }
            Row::Endpoints(key, row) => format!("{} may send to {}", ip(key.remote), ip(row.local)),
            Row::Networks(_, row) => {
                let segment = match row.kind {
                    segment_kind::VXLAN => format!("VNI {}", row.segment),
                    segment_kind::VLAN => format!("VLAN {}", row.segment),
                    _ => "untagged".into(),
                };
                format!("{segment}, MTU {}, {} flood positions", row.mtu, row.flood_count)
            }
            Row::Neighbours(key, row) => format!("{} is at {}", key.address, row.mac),
            Row::Fdb(key, row) => format!("{} is behind {}", key.mac, self.destination(row)),
            Row::Floods(key, row) => format!("member {} is {}", key.position, self.destination(row)),
            Row::Addresses(key, _) => format!("device {} has {}", self.device(key.ifindex), key.address),
            Row::Ports(ifindex, row) => {
                let addresses = [Address::v4(row.ip4), row.ip6].into_iter().filter(|address| !is_none(address));
                let addresses: String = addresses.map(|address| format!(" {address}")).collect();
                format!("device {} is {}{addresses}", self.device(*ifindex), row.mac)
            }
            Row::Uplinks(key, row) => match key.udp_port {
                0 => format!("device {} carries VLANs", self.device(key.ifindex)),
                port => format!("device {} carries VXLAN on UDP {port} to {}", self.device(key.ifindex), ip(row.local)),
            },
            Row::Segments(key, _) => format!("id {} on device {}", key.id, self.device(key.ifindex)),
        }
    }
}

fn is_none(address: &Address) -> bool {
    *address == Address::NONE || *address == Address::v4([0; 4])
}

/// The parts of a port's name.
fn port(name: &str) -> Option<(&str, &str, Mac)> {
    let mut parts = name.split('/');
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}
