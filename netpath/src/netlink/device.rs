//! The devices of a namespace, as the kernel lists them.

use std::collections::HashMap;

use netpath_common::Mac;

use super::{
    NetlinkError,
    codec::{Attributes, Message, Reply, text_of, u16_at, u32_at},
    generic,
    socket::Socket,
};

/// `struct ifinfomsg`.
pub(super) const IFINFO_LEN: usize = 16;
pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_XDP: u16 = 43;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
/// `RTEXT_FILTER_SKIP_STATS`: ten thousand taps answer in half the bytes.
const SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
pub(super) const IFF_PROMISC: u32 = 0x100;
/// `IF_OPER_UP`; devices without a carrier of their own report `IF_OPER_UNKNOWN` (0) while they work.
const OPER_UP: u8 = 6;

/// Whether XDP runs in a device's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpSupport {
    /// The driver has it, and can take packets that other devices redirect to it when `transmits`.
    Native {
        /// `NETDEV_XDP_ACT_NDO_XMIT`.
        transmits: bool,
        /// `NETDEV_XDP_ACT_RX_SG`: frames of several buffers, what an MTU above a page needs.
        fragments: bool,
    },
    /// The driver has none.
    Absent,
    /// The kernel does not say (before 6.3); attaching tells.
    Unknown,
}

/// What a vxlan device was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSettings {
    /// UDP port it listens on.
    pub port: u16,
    /// VNI; zero for a collect-metadata device.
    pub vni: u32,
    /// Takes the VNI from packet metadata (`ip link add ... type vxlan external`).
    pub external: bool,
}

/// One network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Index, unique in the namespace and not reused before it wraps.
    pub index: u32,
    /// Link kind as rtnetlink names it (`tun`, `veth`, `bridge`, `bond`, `vlan`, `vxlan`); `None` for hardware.
    pub kind: Option<String>,
    /// Hardware address, for devices that have one of Ethernet's length.
    pub mac: Option<Mac>,
    /// MTU, without the Ethernet header.
    pub mtu: u32,
    /// Index of the bridge or bond it is enslaved to.
    pub master: Option<u32>,
    /// Index of the device below (a VLAN's parent).
    pub parent: Option<u32>,
    /// Administratively up.
    pub is_up: bool,
    /// Up, and its carrier too where it has one.
    pub is_running: bool,
    /// How many want it to take frames that are not for its own address: a bridge, who captures, whoever has said so.
    pub promiscuity: u32,
    /// Somebody has said so of the device itself (`ip link set DEV promisc on`).
    pub is_promiscuous: bool,
    /// Id of the XDP program attached, whoever attached it.
    pub xdp_program: Option<u32>,
    /// Attached in generic (skb) mode.
    pub xdp_is_generic: bool,
    /// Settings of a vxlan device.
    pub vxlan: Option<VxlanSettings>,
    /// Whether the driver runs XDP.
    pub xdp: XdpSupport,
}

impl Device {
    /// One of which nothing else is known yet.
    const fn unnamed(index: u32, is_up: bool) -> Self {
        Self {
            name: String::new(),
            index,
            kind: None,
            mac: None,
            mtu: 0,
            master: None,
            parent: None,
            is_up,
            is_running: false,
            promiscuity: 0,
            is_promiscuous: false,
            xdp_program: None,
            xdp_is_generic: false,
            vxlan: None,
            xdp: XdpSupport::Unknown,
        }
    }

    /// A device of hardware for a test: up, by itself, with Ethernet's MTU.
    #[cfg(test)]
    pub(crate) fn hardware(index: u32, name: &str) -> Self {
        Self { name: name.into(), mtu: 1500, is_running: true, ..Self::unnamed(index, true) }
    }
}

/// Every device of the calling thread's network namespace, in the kernel's order.
///
/// # Errors
/// When the kernel refuses the request.
pub fn devices() -> Result<Vec<Device>, NetlinkError> {
    let socket = Socket::route()?;
    let request = Message::new(RTM_GETLINK, super::codec::DUMP, &[0; IFINFO_LEN])
        .attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    let replies = socket.ask("list network devices", request)?;
    let features = generic::xdp_features()?;
    Ok(replies.iter().filter(|reply| reply.kind == RTM_NEWLINK).filter_map(|r| device(r, features.as_ref())).collect())
}

/// The device that a message is about; without `features` what its driver can is not known.
pub(super) fn device(reply: &Reply, features: Option<&HashMap<u32, u64>>) -> Option<Device> {
    let index = u32_at(&reply.payload, 4)?;
    let flags = u32_at(&reply.payload, 8)?;
    let is_up = flags & IFF_UP != 0;
    let mut device = Device { is_promiscuous: flags & IFF_PROMISC != 0, ..Device::unnamed(index, is_up) };
    for (kind, payload) in reply.attributes(IFINFO_LEN) {
        match kind {
            IFLA_IFNAME => device.name = text_of(payload),
            IFLA_ADDRESS => device.mac = <[u8; 6]>::try_from(payload).ok().map(Mac),
            IFLA_MTU => device.mtu = u32_at(payload, 0)?,
            IFLA_MASTER => device.master = u32_at(payload, 0),
            IFLA_LINK => device.parent = u32_at(payload, 0),
            IFLA_OPERSTATE => device.is_running = is_up && matches!(payload.first(), Some(&(0 | OPER_UP))),
            IFLA_LINKINFO => read_kind(&mut device, Attributes(payload)),
            IFLA_PROMISCUITY => device.promiscuity = u32_at(payload, 0).unwrap_or(0),
            IFLA_XDP => read_xdp(&mut device, Attributes(payload)),
            _ => {}
        }
    }
    device.xdp = xdp_support(features, index, device.kind.as_deref());
    Some(device)
}

fn read_kind(device: &mut Device, info: Attributes<'_>) {
    device.kind = info.find(IFLA_INFO_KIND).map(text_of);
    if device.kind.as_deref() == Some("vxlan") {
        let data = Attributes(info.find(IFLA_INFO_DATA).unwrap_or_default());
        device.vxlan = Some(VxlanSettings {
            port: data.find(IFLA_VXLAN_PORT).and_then(|p| u16_at(p, 0)).map_or(0, u16::from_be),
            vni: data.find(IFLA_VXLAN_ID).and_then(|p| u32_at(p, 0)).unwrap_or(0),
            external: data.find(IFLA_VXLAN_COLLECT_METADATA).is_some_and(|p| p.first().is_none_or(|b| *b != 0)),
        });
    }
}

fn read_xdp(device: &mut Device, xdp: Attributes<'_>) {
    device.xdp_program = xdp.find(IFLA_XDP_PROG_ID).and_then(|p| u32_at(p, 0)).filter(|id| *id != 0);
    // XDP_ATTACHED_SKB
    device.xdp_is_generic = xdp.find(IFLA_XDP_ATTACHED).and_then(|p| p.first()) == Some(&2);
}

/// What the kernel says of a driver; before 6.3 it says nothing, and the kind must do.
fn xdp_support(features: Option<&HashMap<u32, u64>>, index: u32, kind: Option<&str>) -> XdpSupport {
    const BASIC: u64 = 1;
    const REDIRECT: u64 = 2;
    const NDO_XMIT: u64 = 4;
    const RX_SG: u64 = 32;
    match (features, kind) {
        (Some(features), _) => {
            let bits = features.get(&index).copied().unwrap_or(0);
            if bits & (BASIC | REDIRECT) == BASIC | REDIRECT {
                XdpSupport::Native { transmits: bits & NDO_XMIT != 0, fragments: bits & RX_SG != 0 }
            } else {
                XdpSupport::Absent
            }
        }
        (None, Some("tun")) => XdpSupport::Native { transmits: true, fragments: false },
        // A veth's other end takes what XDP sends only while its NAPI runs, which these kernels do not tell either.
        (None, Some("veth")) => XdpSupport::Native { transmits: false, fragments: true },
        (None, Some("bridge" | "vlan" | "vxlan" | "dummy" | "macvlan" | "macvtap" | "gre" | "geneve")) => {
            XdpSupport::Absent
        }
        (None, _) => XdpSupport::Unknown,
    }
}
