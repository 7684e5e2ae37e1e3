//! Physical networks on the host: uplinks, tunnels to other hosts, and the tunnel device.

use std::collections::{BTreeSet, HashMap};

use netpath_common::{
    Mac,
    maps::{Endpoint, EndpointKey, Tunnel, Uplink, UplinkKey, tunnel_flags, uplink_flags},
};

use super::{
    Attachment, Compiler, Membership, PLANNED_DEVICE, Role, TunnelDevice, UplinkUse, inventory::sends_for_xdp,
};
use crate::{
    definitions::{Isolation, Network, PhysicalNetwork, UplinkMode},
    netlink::Device,
};

/// Outer TTL to a host.
const TTL: u8 = 64;
/// Outer TTL to a group: CloudStack's.
const GROUP_TTL: u8 = 10;

/// A physical network as the host has it.
pub(super) struct Underlay<'z> {
    pub(super) physical: &'z PhysicalNetwork,
    /// Physical network index.
    pub(super) index: u32,
    /// The ifindex of the uplink; 0 for none.
    pub(super) uplink: u32,
    uplink_mac: Mac,
    /// Whether the uplink keeps packets until their time of departure.
    pub(super) is_paced: bool,
    /// Whether the uplink sends what XDP hands it; where there is none, nothing is handed to it.
    pub(super) sends_for_xdp: bool,
    /// What a multicast group is joined on.
    member_device: u32,
    /// The devices that frames arrive on, with the UDP port of their rows (0 for VLAN, and on the tunnel device, whose
    /// program sees none).
    pub(super) receivers: Vec<(u32, u16)>,
    pub(super) vxlan: Option<Vxlan<'z>>,
}

/// What only a VXLAN network has.
pub(super) struct Vxlan<'z> {
    udp_port: u16,
    local: [u8; 4],
    /// The ifindex of netpath's own tunnel device; 0 for none.
    pub(super) device: u32,
    /// The device from which the kernel's routes are asked, and its UDP port: the tunnel device, or one that is made
    /// for this where another holds the port.
    lookup: (u32, u16),
    /// The uplink, where XDP may send through it; else 0.
    egress: u32,
    /// Bit of [`tunnel_flags`] where the uplink keeps packets until their time of departure.
    paced: u8,
    /// Tunnel index by host.
    pub(super) tunnels: HashMap<&'z str, u32>,
}

impl<'z> Compiler<'z, '_> {
    /// The rows of a physical network that the host's networks use.
    pub(super) fn underlay(&mut self, physical: &'z PhysicalNetwork) -> Underlay<'z> {
        let name = physical.name.as_str();
        let index = self.indices.physical_networks.index(name, &mut self.compiled.rows);
        let device = self.inventory.uplink(self.host, name);
        let mode = self.host.uplink_mode.get(name).map_or(UplinkMode::Auto, |mode| mode.value);
        let mut underlay = Underlay {
            physical,
            index,
            uplink: device.map_or(0, |device| device.index),
            sends_for_xdp: device.is_none_or(sends_for_xdp),
            is_paced: device.is_some_and(|device| self.is_paced(device)),
            uplink_mac: device.and_then(|device| device.mac).unwrap_or(Mac::ZERO),
            member_device: device.map_or(0, |device| self.inventory.member_device(device)),
            receivers: Vec::new(),
            vxlan: None,
        };
        if *physical.isolation == Isolation::Vxlan {
            underlay.vxlan = self.vxlan(&underlay);
        }
        // Without a tunnel address, which a zone of one host may lack, nothing can arrive.
        let has_way = *physical.isolation == Isolation::Vlan || underlay.vxlan.is_some();
        if let Some(device) = device.filter(|_| has_way) {
            self.receive(&mut underlay, device, mode);
        }
        let vxlan = underlay.vxlan.as_ref();
        self.compiled.uplinks.push(UplinkUse {
            physical_network: name.into(),
            isolation: *physical.isolation,
            device: self.host.uplinks.get(name).map(|device| device.to_string()),
            ifindex: device.map(|device| device.index),
            mode,
            udp_port: vxlan.map(|vxlan| vxlan.udp_port),
            local: vxlan.map(|vxlan| vxlan.local.into()),
            largest: self.largest(name),
        });
        underlay
    }

    /// Whether a device keeps packets until their time of departure, or will.
    pub(super) fn is_paced(&self, device: &Device) -> bool {
        self.surroundings.fair_queues.present.contains_key(&device.index) || self.gets_fair_queue(device.index)
    }

    /// Whether a device is to have fq from netpath: also where nothing is limited, for putting it there takes what is queued.
    fn gets_fair_queue(&self, ifindex: u32) -> bool {
        self.surroundings.fair_queues.possible.contains(&ifindex)
    }

    /// The network of the host that needs the most of an underlay.
    fn largest(&self, physical_network: &str) -> (String, u32) {
        let networks = self.presence.networks(self.zone).map(|(_, network)| network);
        let networks: Vec<_> =
            networks.filter(|network| network.physical_network.as_str() == physical_network).collect();
        // The first of several: `max_by_key` takes the last.
        let largest = networks.into_iter().rev().max_by_key(|network| network.mtu.get());
        largest.map_or_else(Default::default, |network| (network.name.to_string(), network.mtu.get()))
    }

    /// UPLINKS of the uplink, of its slaves and of the tunnel device, and the programs' places.
    fn receive(&mut self, underlay: &mut Underlay<'z>, device: &Device, mode: UplinkMode) {
        let (local, udp_port, tunnel_device) = match &underlay.vxlan {
            Some(vxlan) => (vxlan.local, vxlan.udp_port, vxlan.device),
            None => ([0; 4], 0, 0),
        };
        let owns = if tunnel_device == 0 { 0 } else { uplink_flags::OWNS_PORT };
        let gets_queue = self.gets_fair_queue(device.index);
        if gets_queue {
            self.compiled.fair_queues.insert(device.index);
        }
        let receivers: Vec<u32> = self.inventory.receivers(device).map(|device| device.index).collect();
        for ifindex in receivers {
            let key = UplinkKey { ifindex, udp_port: udp_port.into() };
            // Whether rxvlan was on is known only to the row that the loader wrote when it turned it off.
            let existing = self.surroundings.existing.uplinks.get(&key).map_or(0, |row| row.flags);
            let queue = if gets_queue && ifindex == device.index { uplink_flags::RESTORE_QDISC } else { 0 };
            let flags = owns | queue | (existing & uplink_flags::RESTORE_RXVLAN);
            self.compiled.rows.uplinks.insert(key, Uplink { local, flags });
            underlay.receivers.push((ifindex, udp_port));
        }
        self.attach(device.index, &device.name, Role::Uplink(mode));
        if tunnel_device != 0 {
            let key = UplinkKey { ifindex: tunnel_device, udp_port: udp_port.into() };
            let flags = owns | uplink_flags::TUNNEL_DEVICE;
            self.compiled.rows.uplinks.insert(key, Uplink { local, flags });
            underlay.receivers.push((tunnel_device, 0));
            self.attach(tunnel_device, &super::tunnel_device_name(udp_port), Role::TunnelDevice);
        } else if let Some(Vxlan { lookup: (lookup, port @ 1..), .. }) = underlay.vxlan {
            // No segment is received there: its program drops whatever is sent to its port.
            let key = UplinkKey { ifindex: lookup, udp_port: port.into() };
            let flags = uplink_flags::OWNS_PORT | uplink_flags::TUNNEL_DEVICE;
            self.compiled.rows.uplinks.insert(key, Uplink { local, flags });
            self.attach(lookup, &super::tunnel_device_name(port), Role::TunnelDevice);
        }
    }

    /// Two physical networks may share a device; a mode that one of them asks for holds for both.
    fn attach(&mut self, ifindex: u32, device: &str, role: Role) {
        match self.compiled.attachments.iter_mut().find(|attachment| attachment.ifindex == ifindex) {
            None => self.compiled.attachments.push(Attachment { ifindex, device: device.into(), role }),
            Some(attachment) if attachment.role == Role::Uplink(UplinkMode::Auto) => attachment.role = role,
            Some(_) => {}
        }
    }

    /// Tunnels to every other host of the physical network, so that a NIC that moves finds its tunnel there.
    fn vxlan(&mut self, underlay: &Underlay<'z>) -> Option<Vxlan<'z>> {
        let name = underlay.physical.name.as_str();
        let udp_port = self.zone.udp_port(underlay.physical);
        let local = self.host.tunnel_address.get(name)?.octets();
        let listening = self.surroundings.tunnel_devices;
        let device = listening.get(&udp_port).map_or(0, TunnelDevice::index);
        let own = listening.iter().rev().map(|(port, device)| (device.index(), *port)).find(|(device, _)| *device != 0);
        let lookup = if device != 0 { (device, udp_port) } else { own.unwrap_or((underlay.uplink, 0)) };
        let egress = if underlay.sends_for_xdp { underlay.uplink } else { 0 };
        let paced = if underlay.is_paced { tunnel_flags::PACED } else { 0 };
        let mut vxlan = Vxlan { udp_port, local, device, lookup, egress, paced, tunnels: HashMap::new() };
        for host in self.zone.hosts.iter().filter(|host| host.name.value != self.host.name.value) {
            let Some(address) = host.tunnel_address.get(name) else { continue };
            let remote = address.octets();
            let title = format!("{name}/{}", host.name.value);
            let tunnel = self.indices.tunnels.index(&title, &mut self.compiled.rows);
            let key = EndpointKey { physical_network: underlay.index, remote };
            self.compiled.rows.endpoints.insert(key, Endpoint { tunnel, local });
            let row = vxlan.tunnel(remote, TTL);
            self.compiled.rows.tunnels.insert(tunnel, row);
            vxlan.tunnels.insert(host.name.as_str(), tunnel);
        }
        Some(vxlan)
    }

    /// The tunnel index of a network's multicast group; `None` when it is not replicated by multicast.
    pub(super) fn group(&mut self, network: &Network, underlay: &Underlay<'z>) -> Option<u32> {
        let vxlan = underlay.vxlan.as_ref().filter(|_| underlay.uplink != 0)?;
        let group = self.zone.group(network)?;
        let title = format!("{}/group", network.name.value);
        let tunnel = self.indices.tunnels.index(&title, &mut self.compiled.rows);
        let row = Tunnel {
            flags: tunnel_flags::GROUP | vxlan.paced,
            egress: underlay.uplink,
            source_mac: underlay.uplink_mac,
            ..vxlan.tunnel(group.octets(), GROUP_TTL)
        };
        self.compiled.rows.tunnels.insert(tunnel, row);
        self.compiled.memberships.insert(Membership { device: underlay.member_device, group });
        Some(tunnel)
    }

    /// The other hosts of a network that it has a tunnel to.
    pub(super) fn remote_members(&self, network: &'z Network, vxlan: &Vxlan<'z>) -> BTreeSet<u32> {
        let hosts = network.nics.iter().filter_map(|nic| Some(nic.host.as_ref()?.as_str()));
        hosts.filter_map(|host| vxlan.tunnels.get(host).copied()).collect()
    }
}

impl Vxlan<'_> {
    fn tunnel(&self, remote: [u8; 4], ttl: u8) -> Tunnel {
        Tunnel {
            remote,
            local: self.local,
            udp_port: self.udp_port,
            ttl,
            flags: self.paced,
            device: self.device,
            lookup: self.lookup.0,
            egress: self.egress,
            ..Tunnel::default()
        }
    }

    /// Whether netpath has a tunnel device of its own, or will have.
    pub(super) fn owns_port(&self) -> bool {
        const { assert!(PLANNED_DEVICE != 0) };
        self.device != 0
    }
}
