//! Devices of the current namespace: made, moved, addressed, enslaved.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};

use super::{
    netlink::{NEW, REPLACE, Request, index_of},
    netns::{NetNs, sysctl},
};
use crate::packet::Mac;

// linux/if_link.h, linux/veth.h: what libc does not name.
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_TTL: u16 = 5;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const VETH_INFO_PEER: u16 = 1;

/// A device by its name in the namespace of the calling thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(String);

/// The settings of a kernel vxlan device.
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// The VNI.
    pub vni: u32,
    /// The UDP destination port.
    pub port: u16,
    /// The local tunnel address.
    pub local: Ipv4Addr,
    /// The default destination: an endpoint, or a multicast group.
    pub remote: Option<Ipv4Addr>,
    /// The underlay device; required for a group.
    pub device: Option<String>,
    /// Whether it learns MACs from what it receives.
    pub learning: bool,
}

impl Link {
    /// A device that exists.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A veth pair, `peer` put into `peer_ns`; both down.
    pub fn veth(name: &str, peer: &str, peer_ns: &NetNs) -> Result<Self> {
        Self::create(name, "veth", |request| {
            request.nest(VETH_INFO_PEER, &ifinfo(0, 0, 0), |peer_request| {
                peer_request.attr_name(libc::IFLA_IFNAME, peer).attr_u32(libc::IFLA_NET_NS_FD, peer_ns.raw_fd() as u32)
            })
        })
    }

    /// A bridge without STP.
    pub fn bridge(name: &str) -> Result<Self> {
        Self::create(name, "bridge", |request| request)
    }

    /// A vxlan device.
    pub fn vxlan(name: &str, settings: &Vxlan) -> Result<Self> {
        let underlay = settings.device.as_deref().map(index_of).transpose()?;
        Self::create(name, "vxlan", |mut request| {
            request = request
                .attr_u32(IFLA_VXLAN_ID, settings.vni)
                .attr(IFLA_VXLAN_PORT, &settings.port.to_be_bytes())
                .attr(IFLA_VXLAN_LOCAL, &settings.local.octets())
                .attr(IFLA_VXLAN_TTL, &[10])
                .attr(IFLA_VXLAN_LEARNING, &[u8::from(settings.learning)]);
            if let Some(remote) = settings.remote {
                request = request.attr(IFLA_VXLAN_GROUP, &remote.octets());
            }
            if let Some(index) = underlay {
                request = request.attr_u32(IFLA_VXLAN_LINK, index);
            }
            request
        })
    }

    /// An 802.1Q (0x8100) or 802.1ad (0x88a8) device on top of `lower`.
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel has no VLAN devices.
    pub fn vlan(name: &str, lower: &Link, protocol: u16, vid: u16) -> Result<Self> {
        let lower = lower.index()?;
        let request = Request::new(libc::RTM_NEWLINK, NEW, &ifinfo(0, 0, 0))
            .attr_name(libc::IFLA_IFNAME, name)
            .attr_u32(libc::IFLA_LINK, lower);
        Self::create_from(request, name, "vlan", |data| {
            data.attr(IFLA_VLAN_ID, &vid.to_ne_bytes()).attr(IFLA_VLAN_PROTOCOL, &protocol.to_be_bytes())
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its index in the calling thread's namespace.
    pub fn index(&self) -> Result<u32> {
        index_of(&self.0)
    }

    /// Takes it up.
    pub fn up(&self) -> Result<()> {
        let up = libc::IFF_UP as u32;
        self.change(up, up, "taking up", |request| request)
    }

    /// Takes it down.
    pub fn down(&self) -> Result<()> {
        self.change(0, libc::IFF_UP as u32, "taking down", |request| request)
    }

    /// Gives it another name.
    pub fn rename(&self, name: &str) -> Result<()> {
        self.change(0, 0, "renaming", |request| request.attr_name(libc::IFLA_IFNAME, name))
    }

    /// Takes it to another namespace.
    pub fn move_to(&self, ns: &NetNs) -> Result<()> {
        self.change(0, 0, "moving", |request| request.attr_u32(libc::IFLA_NET_NS_FD, ns.raw_fd() as u32))
    }

    /// Sets its MTU.
    pub fn mtu(&self, mtu: u32) -> Result<()> {
        self.change(0, 0, "setting the MTU", |request| request.attr_u32(libc::IFLA_MTU, mtu))
    }

    /// Sets how many packets wait in it at most.
    pub fn queue_length(&self, packets: u32) -> Result<()> {
        self.change(0, 0, "setting the queue's length", |request| request.attr_u32(libc::IFLA_TXQLEN, packets))
    }

    /// Sets its MAC address.
    pub fn mac(&self, mac: Mac) -> Result<()> {
        self.change(0, 0, "setting the MAC", |request| request.attr(libc::IFLA_ADDRESS, &mac))
    }

    /// Makes it a port of a bridge.
    pub fn enslave_to(&self, bridge: &Link) -> Result<()> {
        let index = bridge.index()?;
        self.change(0, 0, "enslaving", |request| request.attr_u32(libc::IFLA_MASTER, index))
    }

    /// Puts it into a group of devices.
    pub fn group(&self, group: u32) -> Result<()> {
        self.change(0, 0, "putting into a group", |request| request.attr_u32(libc::IFLA_GROUP, group))
    }

    /// Removes a group of devices at once: one after the other each takes a grace period of the kernel's.
    pub fn delete_group(group: u32) -> Result<()> {
        let request = Request::new(libc::RTM_DELLINK, 0, &ifinfo(0, 0, 0)).attr_u32(libc::IFLA_GROUP, group);
        request.send(&format!("deleting group {group} of devices"))
    }

    /// Removes it, with its veth peer.
    pub fn delete(&self) -> Result<()> {
        let body = ifinfo(self.index()?, 0, 0);
        Request::new(libc::RTM_DELLINK, 0, &body).send(&format!("deleting {}", self.0))
    }

    /// Its MAC address.
    pub fn read_mac(&self) -> Result<Mac> {
        super::ethtool::hardware_address(&self.0)
    }

    /// Adds an address; IPv6 is switched on for the device first, without duplicate address detection.
    pub fn address(&self, address: impl Into<IpAddr>, prefix: u8) -> Result<()> {
        const IFA_F_NODAD: u8 = 0x02;
        let address = address.into();
        let (family, bytes) = octets(address);
        if address.is_ipv6() {
            sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", self.0), "0")?;
        }
        let mut body = vec![family, prefix, if address.is_ipv6() { IFA_F_NODAD } else { 0 }, 0];
        body.extend(self.index()?.to_ne_bytes());
        Request::new(libc::RTM_NEWADDR, REPLACE, &body)
            .attr(libc::IFA_LOCAL, &bytes)
            .attr(libc::IFA_ADDRESS, &bytes)
            .send(&format!("adding {address}/{prefix} to {}", self.0))
    }

    /// Takes an IPv4 address off it.
    pub fn remove_address(&self, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut body = vec![libc::AF_INET as u8, prefix, 0, 0];
        body.extend(self.index()?.to_ne_bytes());
        Request::new(libc::RTM_DELADDR, 0, &body)
            .attr(libc::IFA_LOCAL, &address.octets())
            .send(&format!("taking {address}/{prefix} off {}", self.0))
    }

    /// Adds a route by a gateway, or on-link without one.
    pub fn route(&self, to: impl Into<IpAddr>, prefix: u8, gateway: Option<IpAddr>) -> Result<()> {
        let to = to.into();
        let (family, bytes) = octets(to);
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let mut body = vec![family, prefix, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST];
        body.extend([0; 4]);
        let mut request = Request::new(libc::RTM_NEWROUTE, REPLACE, &body)
            .attr(libc::RTA_DST, &bytes)
            .attr_u32(libc::RTA_OIF, self.index()?);
        if let Some(gateway) = gateway {
            request = request.attr(libc::RTA_GATEWAY, &octets(gateway).1);
        }
        request.send(&format!("routing {to}/{prefix} to {}", self.0))
    }

    /// A permanent neighbour entry.
    pub fn neighbour(&self, address: impl Into<IpAddr>, mac: Mac) -> Result<()> {
        let address = address.into();
        let (family, bytes) = octets(address);
        Request::new(libc::RTM_NEWNEIGH, REPLACE, &ndmsg(family, self.index()?, libc::NUD_PERMANENT, 0))
            .attr(libc::NDA_DST, &bytes)
            .attr(libc::NDA_LLADDR, &mac)
            .send(&format!("neighbour {address} on {}", self.0))
    }

    fn create(name: &str, kind: &str, data: impl FnOnce(Request) -> Request) -> Result<Self> {
        let request = Request::new(libc::RTM_NEWLINK, NEW, &ifinfo(0, 0, 0)).attr_name(libc::IFLA_IFNAME, name);
        Self::create_from(request, name, kind, data)
    }

    fn create_from(request: Request, name: &str, kind: &str, data: impl FnOnce(Request) -> Request) -> Result<Self> {
        request
            .nest(libc::IFLA_LINKINFO, &[], |info| {
                info.attr_name(libc::IFLA_INFO_KIND, kind).nest(libc::IFLA_INFO_DATA, &[], data)
            })
            .send(&format!("making {kind} {name}"))?;
        Ok(Self::named(name))
    }

    fn change(&self, flags: u32, mask: u32, what: &str, fill: impl FnOnce(Request) -> Request) -> Result<()> {
        let index = self.index().with_context(|| format!("{what} {}", self.0))?;
        fill(Request::new(libc::RTM_NEWLINK, 0, &ifinfo(index, flags, mask))).send(&format!("{what} {}", self.0))
    }
}

/// `struct ifinfomsg` of linux/rtnetlink.h.
fn ifinfo(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(mask.to_ne_bytes());
    body
}

/// `struct ndmsg` of linux/neighbour.h.
pub(super) fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(state.to_ne_bytes());
    body.extend([flags, 0]);
    body
}

pub(super) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (libc::AF_INET as u8, a.octets().to_vec()),
        IpAddr::V6(a) => (libc::AF_INET6 as u8, a.octets().to_vec()),
    }
}
