//! What is applied on this host, opened for reading, with the names that make indices readable.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

use netpath_common::maps::{Destination, NameKey, Network, Port, destination_kind, name_kind, segment_kind};

use crate::{
    datapath::{self, AttachState, Hook, Root, Tables, name_text},
    error::Error,
    headers::VXLAN_PORTS,
    netlink::{self, Device},
};

/// How old names may be for whoever goes on reading; an index can have been given away and have another name.
const OLD: Duration = Duration::from_secs(10);
/// The same of those that were looked for before, and not found.
const NAMELESS: Duration = Duration::from_secs(1);

/// The tables of the root, and the names of what is in them.
pub(crate) struct Applied {
    /// The pins.
    pub(crate) root: Root,
    /// The maps.
    pub(crate) tables: Tables,
    /// The names.
    pub(crate) names: Names,
    /// The devices of the namespace.
    pub(crate) devices: Vec<Device>,
    /// The UDP ports of VXLAN: the usual ones, and those of the host's tunnels.
    pub(crate) tunnel_ports: Vec<u16>,
    /// Devices that `from_guest` is pinned for.
    guarded: HashSet<String>,
    /// When the names were read.
    read: Instant,
    /// Networks with devices of which one has no name, though it was looked for.
    nameless: HashSet<(u32, u32)>,
}

impl Applied {
    /// Opens what is applied under the root.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let root = Root::open(root)?;
        let tables = Tables::open(&root)?;
        let devices = netlink::devices()?;
        let names = Names { rows: name_rows(&tables)?, devices: device_names(&devices) };
        let attachments = datapath::attachments(&root, None, &devices)?.into_iter();
        let at_work = attachments.filter(|a| a.hook == Hook::FromGuest && a.state != AttachState::Broken);
        let guarded = at_work.map(|attachment| attachment.device).collect();
        let own = tables.uplinks.rows()?.into_iter().filter_map(|(key, _)| u16::try_from(key.udp_port).ok());
        let mut tunnel_ports: Vec<u16> = own.filter(|port| *port != 0).chain(VXLAN_PORTS).collect();
        tunnel_ports.sort_unstable();
        tunnel_ports.dedup();
        Ok(Self { root, tables, names, devices, tunnel_ports, guarded, read: Instant::now(), nameless: HashSet::new() })
    }

    /// Reads the names again, as another apply may have left them; the devices, where one of these is not known.
    pub(super) fn refresh(&mut self, mut ifindexes: impl Iterator<Item = u32>) -> Result<(), Error> {
        self.names.rows = name_rows(&self.tables)?;
        if ifindexes.any(|ifindex| !self.names.devices.contains_key(&ifindex)) {
            self.devices = netlink::devices()?;
            self.names.devices = device_names(&self.devices);
        }
        self.read = Instant::now();
        Ok(())
    }

    /// Has names for a network and a device of which something is told now, whatever was applied since this was opened.
    pub(super) fn keep_up(&mut self, network: u32, ifindex: u32) -> Result<(), Error> {
        let age = self.read.elapsed();
        let is_due = match self.has_names(network, ifindex) {
            true => age >= OLD,
            // It is of an apply that came after; or it is gone already, and has no name any more.
            false => age >= NAMELESS || !self.nameless.contains(&(network, ifindex)),
        };
        if !is_due {
            return Ok(());
        }
        self.refresh([ifindex].into_iter())?;
        if !self.has_names(network, ifindex) {
            self.nameless.insert((network, ifindex));
        }
        Ok(())
    }

    fn has_names(&self, network: u32, ifindex: u32) -> bool {
        let is_named = network == 0 || self.names.rows.contains_key(&(name_kind::NETWORK, network));
        is_named && self.names.devices.contains_key(&ifindex)
    }

    /// Is there a program for the frames of this guest port?
    pub(crate) fn is_in_force(&self, port: &Port) -> bool {
        self.guarded.contains(&self.names.device(port.ifindex))
    }
}

/// Names by kind and index.
type NameRows = HashMap<(u32, u32), String>;

fn name_rows(tables: &Tables) -> Result<NameRows, Error> {
    Ok(tables.names.rows()?.into_iter().map(|(key, name)| ((key.kind, key.index), name_text(&name))).collect())
}

fn device_names(devices: &[Device]) -> HashMap<u32, String> {
    devices.iter().map(|device| (device.index, device.name.clone())).collect()
}

/// Names by what they are of.
#[derive(Debug, Default)]
pub(crate) struct Names {
    rows: NameRows,
    devices: HashMap<u32, String>,
}

impl Names {
    /// The host that was applied.
    pub(crate) fn host(&self) -> Option<&str> {
        self.rows.get(&(name_kind::HOST, 0)).map(String::as_str)
    }

    /// A network; what has no name any more is its number.
    pub(crate) fn network(&self, index: u32) -> String {
        if index == 0 { "-".to_owned() } else { self.named(name_kind::NETWORK, index) }
    }

    /// A physical network.
    pub(crate) fn physical_network(&self, index: u32) -> String {
        self.named(name_kind::PHYSICAL_NETWORK, index)
    }

    /// A guest port, `network/instance/mac`.
    pub(crate) fn port(&self, slot: u32) -> String {
        self.named(name_kind::PORT, slot)
    }

    /// A tunnel, `physical network/host`.
    pub(crate) fn tunnel(&self, index: u32) -> String {
        self.named(name_kind::TUNNEL, index)
    }

    /// A public link, `physical network/VLAN id`.
    pub(crate) fn public_link(&self, index: u32) -> String {
        self.named(name_kind::PUBLIC_LINK, index)
    }

    /// A public address that ports are given out of.
    pub(crate) fn port_pool(&self, index: u32) -> String {
        self.named(name_kind::PORT_POOL, index)
    }

    /// A limit: `nic network/instance/mac`, `network name`, `account name`, `address link/address`.
    pub(crate) fn meter(&self, index: u32) -> String {
        if index == 0 { "-".to_owned() } else { self.named(name_kind::METER, index) }
    }

    /// An account.
    pub(crate) fn account(&self, index: u32) -> String {
        self.named(name_kind::ACCOUNT, index)
    }

    /// A public address that is counted, `link/address`.
    pub(crate) fn public_address(&self, index: u32) -> String {
        if index == 0 { "-".to_owned() } else { self.named(name_kind::PUBLIC_ADDRESS, index) }
    }

    /// A device; one that is gone is its index.
    pub(crate) fn device(&self, index: u32) -> String {
        match (index, self.devices.get(&index)) {
            (0, _) => "-".to_owned(),
            (_, Some(name)) => name.clone(),
            (_, None) => format!("#{index}"),
        }
    }

    /// Every name of a kind, by index.
    pub(crate) fn all(&self, kind: u32) -> Vec<(u32, &str)> {
        let mut all: Vec<_> = self
            .rows
            .iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, index), name)| (*index, name.as_str()))
            .collect();
        all.sort_unstable();
        all
    }

    /// What a row of NAMES is of.
    pub(crate) fn kind(key: NameKey) -> &'static str {
        match key.kind {
            name_kind::HOST => "host",
            name_kind::NETWORK => "network",
            name_kind::PORT => "port",
            name_kind::TUNNEL => "tunnel",
            name_kind::PHYSICAL_NETWORK => "physical_network",
            name_kind::PUBLIC_LINK => "public_link",
            name_kind::PORT_POOL => "port_pool",
            name_kind::METER => "meter",
            name_kind::ACCOUNT => "account",
            name_kind::OWNER => "owner",
            name_kind::PUBLIC_ADDRESS => "public_address",
            _ => "unknown",
        }
    }

    /// Where a frame goes, in words.
    pub(crate) fn destination(&self, destination: &Destination) -> (&'static str, String) {
        match destination.kind {
            destination_kind::LOCAL => ("local", self.device(destination.target)),
            destination_kind::TUNNEL => ("tunnel", self.tunnel(destination.target)),
            destination_kind::UPLINK => ("uplink", self.device(destination.target)),
            destination_kind::GATEWAY => ("gateway", "-".to_owned()),
            _ => ("unknown", destination.target.to_string()),
        }
    }

    fn named(&self, kind: u32, index: u32) -> String {
        self.rows.get(&(kind, index)).cloned().unwrap_or_else(|| format!("#{index}"))
    }
}

/// The kind of a network's segment and its id, in words.
pub(crate) fn segment(network: &Network) -> (&'static str, String) {
    match network.kind {
        segment_kind::VXLAN => ("vxlan", network.segment.to_string()),
        segment_kind::VLAN => ("vlan", network.segment.to_string()),
        segment_kind::UNTAGGED => ("untagged", "-".to_owned()),
        _ => ("none", "-".to_owned()),
    }
}

/// An IPv4 address of a row, `None` when it is zero.
pub(crate) fn ipv4(octets: [u8; 4]) -> Option<std::net::Ipv4Addr> {
    (octets != [0; 4]).then(|| octets.into())
}
