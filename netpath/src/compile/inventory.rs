//! The host's devices, as far as definitions refer to them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use netpath_common::Mac;

use super::presence::Presence;
use crate::{
    definitions::{Host, Isolation, PhysicalNetwork, Zone},
    netlink::{Device, XdpSupport},
};

/// What stands in a row for a tunnel device that `apply` has yet to make: `plan` shows rows with it, and none is written.
pub const PLANNED_DEVICE: u32 = u32::MAX;

/// The UDP ports of devices that only routes are asked from: beyond Linux's ephemeral ports, and nobody sends there.
const SPARE_PORTS: RangeInclusive<u16> = 65_400..=65_535;

/// The device that listens on a UDP port of VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelDevice {
    /// netpath's own, with its ifindex.
    Own(u32),
    /// netpath's own, yet to be made.
    Planned,
    /// Another vxlan device, by its name: netpath makes none.
    Foreign(String),
}

impl TunnelDevice {
    /// The ifindex of netpath's own device; 0 for none.
    pub(super) fn index(&self) -> u32 {
        match self {
            Self::Own(index) => *index,
            Self::Planned => PLANNED_DEVICE,
            Self::Foreign(_) => 0,
        }
    }
}

/// The name of netpath's own device for a UDP port.
pub fn tunnel_device_name(port: u16) -> String {
    format!("np{port}")
}

/// The UDP ports on which the host needs a tunnel device, and what listens there now. `is_own` tells whether a device
/// of the right name and kind was made by this instance of netpath, and not by another one on the same kernel.
///
/// Where another device holds a port, one more is for a device of netpath's own from which the kernel's routes are
/// asked: `bpf_fib_lookup` begins at a device with forwarding on, which the host's own devices must not be given.
pub fn tunnel_devices(
    zone: &Zone,
    host: &str,
    devices: &[Device],
    is_own: impl Fn(&Device) -> bool,
) -> BTreeMap<u16, TunnelDevice> {
    let has_tunnels = |physical: &&PhysicalNetwork| {
        *physical.isolation == Isolation::Vxlan
            && zone.host(host).is_some_and(|host| {
                let name = physical.name.as_str();
                host.tunnel_address.get(name).is_some() && host.uplinks.get(name).is_some()
            })
    };
    let presence = Presence::of(zone, host);
    let used = presence.physical_networks(zone).filter(has_tunnels);
    let ports: BTreeSet<u16> = used.map(|physical| zone.udp_port(physical)).collect();
    let classify = |port: u16| {
        let name = tunnel_device_name(port);
        let mut holders = devices.iter().filter(|device| device.vxlan.is_some_and(|vxlan| vxlan.port == port));
        match holders.clone().find(|device| device.name == name && is_own(device)) {
            Some(own) => TunnelDevice::Own(own.index),
            None => match holders.next() {
                Some(foreign) => TunnelDevice::Foreign(foreign.name.clone()),
                None => TunnelDevice::Planned,
            },
        }
    };
    let mut tunnels: BTreeMap<u16, TunnelDevice> = ports.into_iter().map(|port| (port, classify(port))).collect();
    if tunnels.values().any(|device| matches!(device, TunnelDevice::Foreign(_))) {
        let mut spare = SPARE_PORTS.rev().filter(|port| !tunnels.contains_key(port)).map(|port| (port, classify(port)));
        tunnels.extend(spare.find(|(_, device)| !matches!(device, TunnelDevice::Foreign(_))));
    }
    tunnels
}

/// The MAC address of the tap that libvirt makes for a guest's interface: the interface's, with a first octet of fe.
pub fn tap_mac(nic: Mac) -> Mac {
    let [_, a, b, c, d, e] = nic.0;
    Mac([0xfe, a, b, c, d, e])
}

/// The host's devices by name, by index and by MAC address.
pub(super) struct Inventory<'d> {
    devices: &'d [Device],
    by_name: HashMap<&'d str, &'d Device>,
    taps: HashMap<Mac, Vec<&'d Device>>,
}

impl<'d> Inventory<'d> {
    pub(super) fn of(devices: &'d [Device]) -> Self {
        let mut taps: HashMap<Mac, Vec<&Device>> = HashMap::new();
        for device in devices.iter().filter(|device| device.kind.as_deref() == Some("tun")) {
            if let Some(mac) = device.mac {
                taps.entry(mac).or_default().push(device);
            }
        }
        Self { devices, by_name: devices.iter().map(|device| (&*device.name, device)).collect(), taps }
    }

    pub(super) fn named(&self, name: &str) -> Option<&'d Device> {
        self.by_name.get(name).copied()
    }

    /// The taps that libvirt made for a guest's interface.
    pub(super) fn taps_of(&self, mac: Mac) -> &[&'d Device] {
        self.taps.get(&tap_mac(mac)).map_or(&[], Vec::as_slice)
    }

    /// The host's device on a physical network.
    pub(super) fn uplink(&self, host: &Host, physical_network: &str) -> Option<&'d Device> {
        self.named(host.uplinks.get(physical_network)?)
    }

    /// The devices on which an uplink's frames may show up: itself, and a bond's slaves.
    pub(super) fn receivers(&self, uplink: &'d Device) -> impl Iterator<Item = &'d Device> {
        let is_bond = uplink.kind.as_deref() == Some("bond");
        let slaves = self.devices.iter().filter(move |device| is_bond && device.master == Some(uplink.index));
        std::iter::once(uplink).chain(slaves)
    }

    /// The device that a multicast group is joined on, by its uplink.
    pub(super) fn member_device(&self, uplink: &Device) -> u32 {
        member_device(uplink, self.devices)
    }
}

/// The device that a multicast group is joined on: the uplink, or the bridge above it, which has its address.
pub(crate) fn member_device(uplink: &Device, devices: &[Device]) -> u32 {
    let is_bridge =
        |index: &u32| devices.iter().any(|device| device.index == *index && device.kind.as_deref() == Some("bridge"));
    uplink.master.filter(is_bridge).unwrap_or(uplink.index)
}

/// Whether an uplink sends frames that XDP hands it. What has XDP in its driver does; a veth, where its peer takes them.
pub(super) fn sends_for_xdp(uplink: &Device) -> bool {
    uplink.xdp != XdpSupport::Absent && (uplink.kind.as_deref() != Some("veth") || takes_redirects(uplink))
}

/// Whether XDP may redirect frames into the device.
pub(super) fn takes_redirects(device: &Device) -> bool {
    matches!(device.xdp, XdpSupport::Native { transmits: true, .. })
}
