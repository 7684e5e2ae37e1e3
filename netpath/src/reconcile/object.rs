//! What a row belongs to, for a plan that speaks of networks and NICs instead of maps.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
};

use netpath_common::{
    Address, Mac,
    maps::{
        Destination, FROM_GUEST, Limit, NameKey, PUBLIC_SIDE, PortMeters, destination_kind, forward_flags, name_kind,
        nat_place, segment_flags, segment_kind,
    },
};

use crate::{
    compile::{PLANNED_DEVICE, Row, Rows},
    definitions::RateLimit,
};

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
    /// A public link: `physical network/VLAN id`.
    PublicLink(String),
    /// Rules that no list has.
    Rules,
    /// An account.
    Account(String),
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
    /// A limit: `nic network/instance`, `network name`, `account name`, `address link/address`.
    Limit(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host {name}"),
            Self::PhysicalNetwork(name) => write!(f, "physical network {name}"),
            Self::Uplink(device) => write!(f, "uplink {device}"),
            Self::Tunnel(name) => write!(f, "tunnel {name}"),
            Self::PublicLink(name) => write!(f, "public link {name}"),
            Self::Rules => f.write_str("rules"),
            Self::Account(name) => write!(f, "account {name}"),
            Self::Limit(name) => write!(f, "limit {name}"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::Station { network, mac, instance: Some(instance) } => write!(f, "nic {network}/{instance} {mac}"),
            Self::Station { network, mac, instance: None } => write!(f, "station {network} {mac}"),
        }
    }
}

/// How an object is there: the more, the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// As the name of a NIC whose device is not there.
    Waiting,
    /// With all that it is.
    InForce,
}

/// Reads rows in the light of the others: what an index is called, and whose a row is.
pub(super) struct Reader<'r> {
    rows: &'r Rows,
    devices: &'r HashMap<u32, String>,
    /// Instances by network and MAC address.
    instances: HashMap<(&'r str, Mac), &'r str>,
    /// The networks that lists of rules are of: by first row, with the one behind the last.
    lists: BTreeMap<u32, (u32, u32)>,
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
        Self { rows, devices, instances, lists: lists(rows), slots }
    }

    /// The network that a rule is one of; of several with the same rules, one.
    fn rule_owner(&self, place: u32) -> Object {
        match self.lists.range(..=place).next_back() {
            Some((_, (end, network))) if place < *end => self.network(*network),
            _ => Object::Rules,
        }
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

    fn link(&self, index: u32) -> Object {
        Object::PublicLink(self.name(name_kind::PUBLIC_LINK, index))
    }

    fn station(&self, network: u32, mac: Mac) -> Object {
        if self.rows.networks.get(&network).is_some_and(|row| row.gateway_mac == mac) {
            return self.network(network);
        }
        let network = self.name(name_kind::NETWORK, network);
        let instance = self.instances.get(&(&*network, mac)).map(|instance| (*instance).to_owned());
        Object::Station { network, mac, instance }
    }

    fn limit(&self, meter: u32) -> Object {
        Object::Limit(limit(&self.name(name_kind::METER, meter)))
    }

    /// The network of a public address, by the address's index.
    fn counted(&self, index: u32) -> Object {
        let mut rows = self.rows.public_address.values();
        match rows.find(|row| u32::from(row.index) == index) {
            Some(row) => self.network(row.network),
            None => Object::PublicLink(self.name(name_kind::PUBLIC_ADDRESS, index)),
        }
    }

    /// The limits that a port is under, or none.
    fn limits(&self, row: &PortMeters) -> String {
        let meters = [row.port, row.network, row.account].into_iter().filter(|meter| *meter != 0);
        let names: Vec<String> = meters.map(|meter| limit(&self.name(name_kind::METER, meter))).collect();
        format!("is under the limits of {}", names.join(", "))
    }

    fn slot(&self, slot: u32) -> Object {
        match self.slots.get(&slot) {
            Some((network, instance, mac)) => {
                Object::Station { network: (*network).into(), mac: *mac, instance: Some((*instance).into()) }
            }
            None => Object::Host(format!("slot {slot}")),
        }
    }

    /// The objects that there are, by the rows without which they would not be: limits and further addresses of a NIC come
    /// and go without it. A NIC that waits for its device is known by its name alone.
    pub(super) fn objects(&self) -> HashMap<Object, Presence> {
        let Rows { names, ports, fdb, uplinks, .. } = self.rows;
        let slots = self.slots.keys().map(|slot| (self.slot(*slot), Presence::Waiting));
        let is_of_another = |kind: u32| [name_kind::PORT, name_kind::OWNER, name_kind::PUBLIC_ADDRESS].contains(&kind);
        let named = names.iter().filter(|(key, _)| !is_of_another(key.kind));
        let named = named.map(|(key, name)| self.owner(&Row::Names(*key, name.clone())));
        let nics = ports.values().map(|port| self.slot(port.slot));
        let stations = fdb.keys().map(|key| self.station(key.network, key.mac));
        let uplinks = uplinks.keys().map(|key| Object::Uplink(self.device(key.ifindex)));
        let in_force = named.chain(nics).chain(stations).chain(uplinks).map(|object| (object, Presence::InForce));
        slots.chain(in_force).collect()
    }

    /// What the row belongs to.
    pub(super) fn owner(&self, row: &Row) -> Object {
        match row {
            Row::Names(key, name) => match key.kind {
                name_kind::NETWORK => Object::Network(name.clone()),
                name_kind::TUNNEL => Object::Tunnel(name.clone()),
                name_kind::PHYSICAL_NETWORK => Object::PhysicalNetwork(name.clone()),
                name_kind::PORT => self.slot(key.index),
                name_kind::PUBLIC_LINK => Object::PublicLink(name.clone()),
                name_kind::PORT_POOL => Object::Host(format!("ports of {name}")),
                name_kind::METER => Object::Limit(limit(name)),
                name_kind::ACCOUNT => Object::Account(name.clone()),
                name_kind::OWNER => self.network(key.index),
                name_kind::PUBLIC_ADDRESS => self.counted(key.index),
                _ => Object::Host(name.clone()),
            },
            Row::Limits(row, _) => self.limit(row / 2),
            Row::PortMeters(slot, _) => self.slot(*slot),
            Row::PublicMeters(index, _) => self.counted(*index),
            Row::Tunnels(index, _) => Object::Tunnel(self.name(name_kind::TUNNEL, *index)),
            Row::Endpoints(_, endpoint) => Object::Tunnel(self.name(name_kind::TUNNEL, endpoint.tunnel)),
            Row::Networks(index, _) => self.network(*index),
            Row::Neighbours(key, neighbour) => self.station(key.network, neighbour.mac),
            Row::Fdb(key, row) if row.kind == destination_kind::GATEWAY => self.network(key.network),
            Row::Fdb(key, _) => self.station(key.network, key.mac),
            Row::Floods(key, member) if member.kind != destination_kind::LOCAL => self.network(key.network),
            Row::Floods(_, member) => self.slot(member.slot),
            Row::Addresses(key, _) => match self.rows.ports.get(&key.ifindex) {
                Some(port) => self.slot(port.slot),
                None => Object::Uplink(self.device(key.ifindex)),
            },
            Row::Ports(_, port) => self.slot(port.slot),
            Row::Uplinks(key, _) => Object::Uplink(self.device(key.ifindex)),
            Row::Segments(_, segment) if segment.flags & segment_flags::PUBLIC != 0 => self.link(segment.network),
            Row::Segments(_, segment) => self.network(segment.network),
            Row::Upstreams(index, _) => self.link(*index),
            Row::Rules(place, _) => self.rule_owner(*place),
            Row::StaticNat(key, _) => self.network(key.network),
            Row::Forwards((_, key), row) if row.flags & forward_flags::RESERVED != 0 => {
                self.link(u32::from_be_bytes(key.side) & !PUBLIC_SIDE)
            }
            Row::Forwards(_, row) => self.network(row.network),
            Row::Routes((_, key), _) => self.network(u32::from_be_bytes(key.network)),
            Row::PublicAddress(_, row) => self.network(row.network),
            Row::Gateways(index, _) => self.network(*index),
        }
    }

    /// A row of the gateway's tables in one line.
    fn describe_gateway(&self, row: &Row) -> String {
        let ip = |bytes: [u8; 4]| IpAddr::from(bytes);
        let prefix = |address, mask: [u8; 4]| format!("{}/{}", ip(address), u32::from_be_bytes(mask).count_ones());
        match row {
            Row::Upstreams(_, row) => {
                let (device, on) = (self.device(row.ifindex), prefix(row.prefix, row.mask));
                format!("device {device} has {on} on VLAN {}, gateway {}", row.vlan, ip(row.gateway))
            }
            Row::StaticNat(key, row) => format!("{} is {} outside", ip(key.address), ip(row.address)),
            Row::Forwards((bits, key), row) => {
                let first = u16::from_be_bytes(key.port);
                let last = first | (u32::from(u16::MAX) >> bits.saturating_sub(80)) as u16;
                let ports = format!("{} protocol {} ports {first}-{last}", ip(key.address), key.protocol[0]);
                match row.flags & forward_flags::RESERVED {
                    0 => format!("{ports} lead to {} port {}", ip(row.address), row.port),
                    _ => format!("{ports} are the host's"),
                }
            }
            Row::Routes((bits, key), row) => {
                let to = self.name(name_kind::NETWORK, row.network);
                format!("{}/{} is in {to}, via {}", ip(key.address), bits.saturating_sub(32), ip(row.via))
            }
            Row::PublicAddress(key, row) => format!("{} has {} ingress rules", ip(key.address), row.ingress.count),
            Row::Gateways(_, row) => {
                let rules = row.egress.count + row.acl_ingress.count + row.acl_egress.count;
                let (on, pool) = (prefix(row.prefix, row.mask), row.pool_count);
                let host = match row.nat_place {
                    nat_place::HERE => " on this host".to_owned(),
                    nat_place::TUNNEL => format!(" behind tunnel {}", self.name(name_kind::TUNNEL, row.nat_target)),
                    nat_place::UPLINK => format!(" at {} on uplink {}", row.nat_mac, self.device(row.nat_target)),
                    _ => " nowhere".to_owned(),
                };
                format!("gateway of {on}: NAT{host}, {pool} addresses, {rules} rules, epoch {}", row.epoch)
            }
            _ => String::new(),
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
            Row::Names(key, name) if key.kind == name_kind::OWNER => format!("belongs to account {name}"),
            Row::Names(key, name) => format!("{name} has index {}", key.index),
            Row::Limits(row, limit) => {
                let direction = if row % 2 == FROM_GUEST { "from" } else { "to" };
                let paced = if limit.horizon == 0 { "" } else { ", paced" };
                format!("{direction} the guest: {}{paced}", rate(limit))
            }
            Row::PortMeters(_, row) => self.limits(row),
            Row::PublicMeters(index, meter) => {
                let (address, limit) =
                    (self.name(name_kind::PUBLIC_ADDRESS, *index), self.name(name_kind::METER, *meter));
                format!("{address} is under the limit of {limit}")
            }
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
            row => self.describe_gateway(row),
        }
    }
}

/// A limit's row in words.
pub(super) fn rate(row: &Limit) -> String {
    RateLimit::of_row(row).map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// A meter's name without the MAC address of a NIC, which its instance tells as well.
fn limit(name: &str) -> String {
    let short = name.strip_prefix("nic ").and_then(|nic| nic.rsplit_once('/')).map(|(nic, _)| format!("nic {nic}"));
    short.unwrap_or_else(|| name.to_owned())
}

/// Where lists of rules stand, and of which network they are.
fn lists(rows: &Rows) -> BTreeMap<u32, (u32, u32)> {
    let gateways = rows.gateways.iter().flat_map(|(index, row)| {
        [row.egress, row.acl_ingress, row.acl_egress].map(|list| (list.start, list.count, *index))
    });
    let public = rows.public_address.values().map(|row| (row.ingress.start, row.ingress.count, row.network));
    let forwards = rows.forwards.values().map(|row| (row.sources_start, row.sources_count, row.network));
    let lists = gateways.chain(public).chain(forwards).filter(|(_, count, _)| *count > 0);
    lists.map(|(start, count, network)| (start, (start.saturating_add(count), network))).collect()
}

fn is_none(address: &Address) -> bool {
    *address == Address::NONE || *address == Address::v4([0; 4])
}

/// The parts of a port's name.
fn port(name: &str) -> Option<(&str, &str, Mac)> {
    let mut parts = name.split('/');
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}
