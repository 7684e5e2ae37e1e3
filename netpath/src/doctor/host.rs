//! All that checks look at: gathered first, so that they are pure. What was not gathered is empty, and is no fault.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Instant};

use ipnet::Ipv4Net;

use crate::{
    apply::{Fallback, Unpaced},
    compile::{TunnelDevice, UplinkUse},
    datapath::{Attachment, Hook},
    netlink::{
        Device,
        ethtool::{Offload, ReceiveQueues},
        link::Received,
    },
};

/// What the host looks like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The host whose part is looked at; empty where nothing is applied and no document says.
    pub(crate) name: String,
    /// The pin root.
    pub(crate) root: PathBuf,
    /// The command that brings it in line with its definitions.
    pub(crate) apply: String,
    /// The command that takes orphans away.
    pub(crate) release: String,
    /// What is pinned.
    pub(crate) pins: Pins,
    /// What the document says, where there is one.
    pub(crate) document: Option<Document>,
    /// Devices of the namespace.
    pub(crate) devices: Vec<Device>,
    /// Its IPv4 addresses and their prefixes, with the index of the device that has each.
    pub(crate) addresses: Vec<(u32, Ipv4Net)>,
    /// The uplinks that its networks use.
    pub(crate) uplinks: Vec<UplinkUse>,
    /// Devices that are gone, and were attached to as uplinks.
    pub(crate) lost_uplinks: Vec<String>,
    /// Devices that netpath's programs are on, and that have another name now than when those were attached.
    pub(crate) renamed: BTreeMap<String, String>,
    /// What listens on the UDP ports in use.
    pub(crate) tunnels: BTreeMap<u16, TunnelDevice>,
    /// Multicast groups of networks in force that no device is a member of: network, group, and the device that was.
    pub(crate) unjoined: Vec<(String, Ipv4Addr, String)>,
    /// Uplinks that do not take XDP though they could be asked to.
    pub(crate) fallbacks: Vec<(String, Fallback)>,
    /// Uplinks on which packets above a rate are dropped though the document asks for fq.
    pub(crate) unpaced: Vec<(String, Unpaced)>,
    /// Guest ports that have their device.
    pub(crate) guests: Vec<Guest>,
    /// What others have put on guests' devices: by device, in words.
    pub(crate) bypasses: Vec<(String, Vec<String>)>,
    /// Guests' devices that have netpath under another root.
    pub(crate) rivals: Vec<String>,
    /// Segments of its networks and public links, by the device that they arrive on.
    pub(crate) segments: Vec<OwnSegment>,
    /// The kernel's VLAN devices.
    pub(crate) vlan_devices: Vec<VlanDevice>,
    /// The other hosts.
    pub(crate) peers: Vec<Peer>,
    /// What there is to know of uplinks, and of the slaves of bonds.
    pub(crate) links: Vec<Link>,
    /// Public links.
    pub(crate) public_links: Vec<PublicLink>,
    /// Networks of guests of this host that netpath routes for.
    pub(crate) gateways: Vec<Egress>,
    /// How full maps are.
    pub(crate) fills: Vec<Fill>,
    /// Connections of networks of which netpath is the gateway.
    pub(crate) connections: Vec<Connections>,
    /// Networks whose packets were refused for want of a public port between the two looks.
    pub(crate) portless: Vec<Portless>,
    /// What is attached.
    pub(crate) attachments: Vec<Attachment>,
    /// Programs that rows in force ask for, of devices that are there, and that nothing is pinned for.
    pub(crate) unpinned: Vec<(String, Hook)>,
    /// What nothing needs any more.
    pub(crate) orphans: Vec<Orphan>,
    /// Files under /proc and /sys.
    pub(crate) system: System,
}

/// What is pinned under the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Pins {
    /// It was not asked.
    #[default]
    Unknown,
    /// The root is not on a BPF file system.
    NotBpffs,
    /// Nothing is.
    Nothing,
    /// Pins of another ABI, by the name of its folder.
    OtherAbi(String),
    /// Pins of another ABI beside those of this one, because an apply was killed between them.
    BetweenAbis(String),
    /// Maps that this build cannot work with, and why.
    Unusable(String),
    /// Programs are pinned, and these of their maps are not.
    Missing(Vec<&'static str>),
    /// What this build works with.
    Applied {
        /// This build's programs are loaded.
        is_current: bool,
    },
}

/// How the document and what is in force relate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// It has no such host; the hosts that it has.
    UnknownHost(String),
    /// It cannot be applied, and why.
    Unfit(String),
    /// It can: how many rows and steps an apply would make.
    Compared {
        /// Rows.
        edits: usize,
        /// Steps.
        steps: usize,
    },
}

/// A guest port that has its device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guest {
    /// The device.
    pub(crate) device: String,
    /// The device is a tap.
    pub(crate) is_tap: bool,
    /// The device is a port of a bridge.
    pub(crate) is_bridge_port: bool,
    /// Its network's `on_miss: pass`.
    pub(crate) passes: bool,
}

/// A segment that netpath takes frames of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnSegment {
    /// The device's index.
    pub(crate) device: u32,
    /// The UDP port; 0 for VLANs.
    pub(crate) udp_port: u16,
    /// VNI or VLAN id; 0 for untagged.
    pub(crate) id: u32,
    /// Whose it is: `network acme-web`, `public link public/900`.
    pub(crate) owner: String,
    /// What netpath has no use for goes on to the kernel's devices: a public link, or a network with `on_miss: pass`.
    pub(crate) is_shared: bool,
}

/// A VLAN device of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VlanDevice {
    pub(crate) name: String,
    /// The index of the device below.
    pub(crate) parent: u32,
    pub(crate) id: u16,
}

/// Another host, to which there is a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// `physical network/host`.
    pub(crate) name: String,
    /// This host's tunnel address.
    pub(crate) local: Ipv4Addr,
    /// Its tunnel address.
    pub(crate) remote: Ipv4Addr,
    /// The device that the definitions give for the way there.
    pub(crate) uplink: Option<u32>,
    /// The device that the kernel's route to it has.
    pub(crate) route: Option<u32>,
    /// The largest packet that tunnels of the largest network make, in bytes.
    pub(crate) needed: u32,
    /// The network that needs it.
    pub(crate) network: String,
    /// What came of asking it.
    pub(crate) echo: Echo,
}

/// The answer to echo requests that may not be fragmented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It was not asked: this host does not have the address to ask from.
    #[default]
    Unasked,
    /// Nothing came back.
    Silent,
    /// The largest packet that was answered.
    Answered(u32),
}

/// A device that frames of tenants arrive on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) device: String,
    /// Its driver; empty where it does not say.
    pub(crate) driver: String,
    /// Hardware, and not a veth or a bridge.
    pub(crate) is_hardware: bool,
    /// A physical network on it has VXLAN.
    pub(crate) has_tunnels: bool,
    /// netpath's XDP program is on it.
    pub(crate) takes_xdp: bool,
    /// XDP runs there after the kernel has made a packet of the frame.
    pub(crate) xdp_is_generic: bool,
    pub(crate) rx_vlan: Option<Offload>,
    pub(crate) gro: Option<Offload>,
    pub(crate) tunnel_port: Option<Offload>,
    pub(crate) queues: Option<ReceiveQueues>,
    /// What it had counted at the first look, and at the second.
    pub(crate) received: (Received, Received),
    /// The driver's own counters of frames that were lost, at both.
    pub(crate) lost: (BTreeMap<String, u64>, BTreeMap<String, u64>),
    /// When the first look was.
    pub(crate) begun: Option<Instant>,
    /// Seconds between the two.
    pub(crate) seconds: f64,
}

/// A public link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicLink {
    /// `physical network/VLAN id`.
    pub(crate) name: String,
    pub(crate) device: String,
    /// 0 for untagged.
    pub(crate) vlan: u16,
    pub(crate) router: Ipv4Addr,
    /// Seconds since the data path last heard of the router; `None` where it does not know it.
    pub(crate) heard: Option<u32>,
    /// The router has answered an ARP probe.
    pub(crate) answers: bool,
}

/// What leaves a network of a guest of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Egress {
    pub(crate) network: String,
    /// It has rules for what may leave.
    pub(crate) has_rules: bool,
    /// What no rule names may leave.
    pub(crate) allows: bool,
    /// Its guests have a public address to leave from, or another host does that for them and says.
    pub(crate) has_address: bool,
    /// It has an ACL: of the networks of a router, some are not meant to reach the outside.
    pub(crate) is_tier: bool,
}

/// How full a map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) map: &'static str,
    /// The field of a host's `capacities`.
    pub(crate) field: &'static str,
    pub(crate) rows: u64,
    pub(crate) capacity: u64,
}

/// How many connections a network has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) network: String,
    /// Those that live.
    pub(crate) live: u64,
    /// The most that it may have.
    pub(crate) limit: u64,
}

/// Packets of a network that found no free public port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Portless {
    pub(crate) network: String,
    pub(crate) packets: u64,
    /// In so many seconds.
    pub(crate) seconds: f64,
}

/// What nothing needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orphan {
    /// Whose it was: `network acme-web`, `device vnet7`.
    pub(crate) object: String,
    /// What it is: `program from_guest`, `3 rows`.
    pub(crate) what: String,
    /// A program or a device, and not rows.
    pub(crate) is_attached: bool,
}

/// Settings of br_netfilter, under `net.bridge`.
pub(crate) const BRIDGE_CALLS: [&str; 3] =
    ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"];

/// What files under /proc and /sys say; `None` where there is no such file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct System {
    /// Version of the kernel: major, minor; (0, 0) where it cannot be read.
    pub(crate) kernel: (u32, u32),
    /// `net.core.bpf_jit_enable`.
    pub(crate) jit: Option<u32>,
    /// `net.core.bpf_jit_harden`.
    pub(crate) jit_harden: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub(crate) unprivileged_bpf_disabled: Option<u32>,
    /// Those of [`BRIDGE_CALLS`] that are on.
    pub(crate) bridge_calls: Vec<&'static str>,
    /// Processors that are online.
    pub(crate) processors: usize,
    /// How many processors have a governor, by its name.
    pub(crate) governors: BTreeMap<String, usize>,
    /// `vhost_net` is there, or comes when it is asked for.
    pub(crate) has_vhost_net: bool,
    /// `net.ipv4.conf.DEVICE.rp_filter`, `all` among them.
    pub(crate) rp_filter: BTreeMap<String, u32>,
    /// `net.ipv4.conf.DEVICE.forwarding`.
    pub(crate) forwarding: BTreeMap<String, u32>,
    /// Interrupts that have the name of a device.
    pub(crate) interrupts: Vec<Interrupt>,
    /// Bytes that the caller may lock; `None` for no limit.
    pub(crate) memlock: Option<u64>,
}

/// An interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) number: u32,
    /// What /proc/interrupts calls it: `eth1-TxRx-0`.
    pub(crate) name: String,
    /// The processors that take it: `3`, `0-7`.
    pub(crate) processors: String,
}

impl Host {
    /// The host, as the object of a finding.
    pub(crate) fn object(&self) -> String {
        if self.name.is_empty() { "host".to_owned() } else { format!("host {}", self.name) }
    }

    /// The device with this index.
    pub(crate) fn device(&self, index: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.index == index)
    }

    /// The device of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The device above: a bridge or a bond.
    pub(crate) fn master(&self, device: &Device) -> Option<&Device> {
        device.master.and_then(|master| self.device(master))
    }

    /// The name of the device with this index.
    pub(crate) fn device_name(&self, index: u32) -> String {
        self.device(index).map_or_else(|| format!("#{index}"), |device| device.name.clone())
    }

    /// The uplinks that exist, each once, with what they are used for.
    pub(crate) fn present_uplinks(&self) -> impl Iterator<Item = (&UplinkUse, &Device)> {
        self.uplinks.iter().filter_map(|uplink| Some((uplink, self.device(uplink.ifindex?)?)))
    }
}
