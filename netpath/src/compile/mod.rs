//! From a zone to the rows that one host's maps shall have. Pure: the same input makes the same rows.
//!
//! ```text
//! Zone ─┐
//! host ─┼─► compile ─► Compiled { rows, attachments, waiting, … }   rows ─► reconcile ─► edits
//! devices, tunnel devices, rows in force ─┘
//! ```
//!
//! A host has the networks that have a NIC on it, those that it does NAT for, and those that either are routed to; and of
//! each of them every station, wherever it is. The rows in force matter only for what is to stay: a network, port, tunnel or
//! flood member keeps its index, a list of rules its place, a gateway its epoch.

mod epoch;
mod error;
mod gateway;
mod indices;
mod inventory;
mod meters;
mod network;
mod port_prefixes;
mod presence;
mod public;
mod rows;
mod rule_lists;
mod rule_rows;
mod underlay;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use netpath_common::{
    Mac,
    maps::{BLOCKS, MapShape, NameKey, POOL_PROTOCOLS, name_kind, shape},
};

pub(crate) use self::inventory::member_device;
pub use self::{
    error::CompileError,
    inventory::{PLANNED_DEVICE, TunnelDevice, tap_mac, tunnel_device_name, tunnel_devices},
    rows::{Prefix, Row, Rows, Table},
};
use self::{
    gateway::Routed, indices::AllIndices, inventory::Inventory, network::PortPlace, presence::Presence,
    rule_lists::RuleLists, underlay::Underlay,
};
use crate::{
    definitions::{Host, Isolation, Network, Nic, Ports, UplinkMode, Zone},
    netlink::{Device, address::Membership},
};

/// What the host has, beside the zone.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'s> {
    /// The devices of the host.
    pub devices: &'s [Device],
    /// What listens on each UDP port in use, from [`tunnel_devices`].
    pub tunnel_devices: &'s BTreeMap<u16, TunnelDevice>,
    /// The rows in force.
    pub existing: &'s Rows,
    /// The IPv4 addresses of the host itself.
    pub host_addresses: &'s [Ipv4Addr],
    /// Protocol numbers and ports that the host itself listens on.
    pub reserved: &'s [(u8, u16)],
    /// The ports that its own connections begin from, where one of its addresses is a network's.
    pub ephemeral: Option<Ports>,
    /// Which uplinks can keep packets until their time of departure.
    pub fair_queues: &'s FairQueues,
}

/// Uplinks, by ifindex, that keep packets until their time of departure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FairQueues {
    /// Those that do already, whoever saw to it, and how many bytes one limit may have waiting there.
    pub present: BTreeMap<u32, u64>,
    /// Those that netpath makes do so, or has made.
    pub possible: BTreeSet<u32>,
}

/// A host's part of a zone.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// The rows that its maps shall have.
    pub rows: Rows,
    /// Where programs shall be attached, by ifindex.
    pub attachments: Vec<Attachment>,
    /// NICs whose device does not exist yet.
    pub waiting: Vec<Waiting>,
    /// The uplinks that its networks use.
    pub uplinks: Vec<UplinkUse>,
    /// Those of them, by ifindex, that are to have fq from netpath.
    pub fair_queues: BTreeSet<u32>,
    /// The multicast groups that it has to be a member of.
    pub memberships: BTreeSet<Membership>,
}

/// A device that programs are attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// What it is.
    pub role: Role,
}

/// What a device is to netpath, and so which programs it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A guest's tap or veth.
    GuestPort,
    /// An uplink.
    Uplink(UplinkMode),
    /// netpath's own tunnel device.
    TunnelDevice,
}

/// A NIC whose device does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// Its network.
    pub network: String,
    /// Its instance.
    pub instance: String,
    /// Its MAC address.
    pub mac: String,
    /// The device that the definitions name.
    pub device: Option<String>,
}

/// An uplink in use: what a check before `apply` has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkUse {
    /// The physical network.
    pub physical_network: String,
    /// What tells its networks apart.
    pub isolation: Isolation,
    /// The device; `None` when the host's definition names none, and none is needed.
    pub device: Option<String>,
    /// The device's ifindex; `None` when it does not exist.
    pub ifindex: Option<u32>,
    /// The mode that the definitions ask for.
    pub mode: UplinkMode,
    /// The UDP port, for VXLAN.
    pub udp_port: Option<u16>,
    /// This host's tunnel address, for VXLAN.
    pub local: Option<Ipv4Addr>,
    /// The network with the largest MTU, and that MTU.
    pub largest: (String, u32),
}

/// Compiles `host`'s part of `zone`.
///
/// # Errors
/// When the zone has no such host, a device cannot be told for certain, or a map has no room.
pub fn compile(zone: &Zone, host: &str, surroundings: Surroundings<'_>) -> Result<Compiled, CompileError> {
    let host = zone.host(host).ok_or_else(|| unknown_host(zone, host))?;
    let mut compiler = Compiler {
        zone,
        host,
        surroundings,
        inventory: Inventory::of(surroundings.devices),
        indices: AllIndices::of(surroundings.existing),
        presence: Presence::of(zone, &host.name),
        lists: RuleLists::of(surroundings.existing),
        compiled: Compiled::default(),
    };
    compiler.compiled.rows.names.insert(NameKey { kind: name_kind::HOST, index: 0 }, host.name.to_string());
    let places = compiler.places()?;
    compiler.meters();
    let underlays = compiler.underlays();
    let mut indices = HashMap::new();
    let networks: Vec<_> = compiler.presence.networks(zone).collect();
    for (position, network) in &networks {
        if let Some(underlay) = underlays.get(network.physical_network.as_str()) {
            indices.insert(network.name.as_str(), compiler.network(*position, network, underlay, &places));
        }
    }
    let links = compiler.links(&underlays);
    let routed = Routed { indices: &indices, links: &links };
    for (position, network) in networks {
        if let Some(underlay) = underlays.get(network.physical_network.as_str()) {
            compiler.gateway_of(position, network, underlay, &routed);
        }
    }
    compiler.public_addresses(&routed);
    compiler.owners(&indices);
    epoch::set(surroundings.existing, &mut compiler.compiled.rows);
    compiler.finish()
}

fn unknown_host(zone: &Zone, host: &str) -> CompileError {
    const SHOWN: usize = 8;
    let mut known: Vec<&str> = zone.hosts.iter().map(|host| host.name.as_str()).take(SHOWN + 1).collect();
    if known.len() > SHOWN {
        known[SHOWN] = "…";
    }
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    CompileError::UnknownHost { host: host.into(), known }
}

/// Which NIC of the zone: the positions of its network and its own in that.
type NicId = (usize, usize);

/// How the NICs of the host claim devices.
#[derive(Default)]
struct Claims<'z> {
    /// By name.
    named: BTreeSet<&'z str>,
    /// By MAC address.
    by_mac: HashMap<Mac, Vec<(&'z Network, &'z Nic)>>,
}

impl<'z> Claims<'z> {
    fn add(&mut self, network: &'z Network, nic: &'z Nic) {
        match &nic.device {
            Some(device) => drop(self.named.insert(device.as_str())),
            None => self.by_mac.entry(*nic.mac).or_default().push((network, nic)),
        }
    }
}

struct Compiler<'z, 's> {
    zone: &'z Zone,
    host: &'z Host,
    surroundings: Surroundings<'s>,
    inventory: Inventory<'s>,
    indices: AllIndices<'s>,
    presence: Presence<'z>,
    lists: RuleLists,
    compiled: Compiled,
}

impl<'z, 's> Compiler<'z, 's> {
    /// The host's own NICs with their slots and, where they exist, their devices.
    fn places(&mut self) -> Result<HashMap<NicId, PortPlace>, CompileError> {
        let zone = self.zone;
        let host = self.host.name.as_str();
        let nics = || {
            let networks = zone.networks.iter().enumerate();
            networks.flat_map(|(n, network)| {
                let nics = network.nics.iter().enumerate().filter(|(_, nic)| nic.is_on(host));
                nics.map(move |(i, nic)| ((n, i), network, nic))
            })
        };
        let mut claims = Claims::default();
        for (_, network, nic) in nics() {
            claims.add(network, nic);
        }
        let mut places = HashMap::new();
        for (id, network, nic) in nics() {
            let device = match &nic.device {
                Some(device) => self.inventory.named(device),
                None => self.tap_of(network, nic, &claims)?,
            };
            let mac = nic.mac.to_string();
            let name = format!("{}/{}/{mac}", network.name.value, nic.instance.value);
            let slot = self.indices.ports.index(&name, &mut self.compiled.rows);
            match device {
                Some(device) => {
                    places.insert(id, PortPlace::new(device, slot));
                    let (ifindex, device) = (device.index, device.name.clone());
                    self.compiled.attachments.push(Attachment { ifindex, device, role: Role::GuestPort });
                }
                None => self.compiled.waiting.push(Waiting {
                    network: network.name.to_string(),
                    instance: nic.instance.to_string(),
                    mac,
                    device: nic.device.as_ref().map(|device| device.to_string()),
                }),
            }
        }
        Ok(places)
    }

    /// The tap of a NIC without `device`, by libvirt's convention. One that another NIC names is not meant.
    fn tap_of(&self, network: &Network, nic: &Nic, claims: &Claims<'_>) -> Result<Option<&'s Device>, CompileError> {
        let taps = self.inventory.taps_of(*nic.mac).iter().filter(|tap| !claims.named.contains(&*tap.name));
        let taps: Vec<&'s Device> = taps.copied().collect();
        let ambiguous = |cause: String| CompileError::AmbiguousDevice {
            nic: format!("{}/{}", network.name.value, nic.instance.value),
            mac: nic.mac.to_string(),
            cause,
        };
        if taps.len() > 1 {
            let names: Vec<&str> = taps.iter().map(|tap| &*tap.name).collect();
            return Err(ambiguous(format!("the taps {} fit", names.join(" and "))));
        }
        let rivals = claims.by_mac.get(&*nic.mac).map_or(&[][..], Vec::as_slice);
        let rival = rivals.iter().find(|(_, rival)| !std::ptr::eq(*rival, nic));
        match (taps.first(), rival) {
            (Some(_), Some((network, rival))) => {
                let rival = format!("{}/{}", network.name.value, rival.instance.value);
                Err(ambiguous(format!("NIC {rival} has the same address and no `device` either")))
            }
            (tap, _) => Ok(tap.copied()),
        }
    }

    /// Compares what is needed with the capacities.
    fn finish(mut self) -> Result<Compiled, CompileError> {
        self.compiled.attachments.sort_by_key(|attachment| attachment.ifindex);
        for table in Table::ALL {
            let shape = table.shape();
            self.fits(shape, self.compiled.rows.needed(*table))?;
        }
        let pools = self.named(name_kind::PORT_POOL);
        self.fits(&shape::PORT_BLOCKS, pools * (POOL_PROTOCOLS * BLOCKS) as usize)?;
        self.fits(&shape::PUBLIC_COUNTERS, self.named(name_kind::PUBLIC_ADDRESS))?;
        self.fits(&shape::RETIRED_ACCOUNT, self.named(name_kind::ACCOUNT))?;
        Ok(self.compiled)
    }

    /// How many rows an array takes that is indexed by what has names of a kind.
    fn named(&self, kind: u32) -> usize {
        let keys = NameKey { kind, index: 0 }..=NameKey { kind, index: u32::MAX };
        self.compiled.rows.names.range(keys).next_back().map_or(0, |(key, _)| key.index as usize + 1)
    }

    fn fits(&self, shape: &MapShape, needed: usize) -> Result<(), CompileError> {
        let capacity = self.host.capacities.get(shape.capacity_field).unwrap_or(shape.capacity);
        if needed <= capacity as usize {
            return Ok(());
        }
        Err(CompileError::capacity(shape, needed, capacity, &self.host.name))
    }

    fn underlays(&mut self) -> HashMap<&'z str, Underlay<'z>> {
        let used: Vec<_> = self.presence.physical_networks(self.zone).collect();
        used.into_iter().map(|physical| (physical.name.as_str(), self.underlay(physical))).collect()
    }
}
