//! The peer: a Linux bridge with a vxlan device, tuned as its users tune it. Forwarding entries are static, the
//! tunnel learns nothing and answers ARP itself.

use std::path::Path;

use anyhow::Result;

use super::stations::{GUEST, HERE, PORT, REMOTE, THERE, VNI};
use crate::{
    packet::Mac,
    topology::{
        Link, Vxlan,
        netlink::{REPLACE, Request},
        netns::sysctl,
    },
};

// linux/if_link.h
const IFLA_PROTINFO: u16 = 12;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
const NLA_F_NESTED: u16 = 1 << 15;

/// Builds the bridge in the current namespace, over an uplink that has its address, with `guest` as a port.
///
/// # Errors
/// When the kernel refuses a device or an entry.
pub fn build(guest: &str) -> Result<()> {
    // Where br_netfilter is loaded, every bridged packet would go through iptables too.
    for family in ["ip", "ip6", "arp"] {
        let key = format!("net/bridge/bridge-nf-call-{family}tables");
        if Path::new("/proc/sys").join(&key).exists() {
            sysctl(&key, "0")?;
        }
    }
    let vxlan =
        Link::vxlan("vx0", &Vxlan { vni: VNI, port: PORT, local: HERE, remote: None, device: None, learning: false })?;
    let bridge = Link::bridge("br0")?;
    let guest = Link::named(guest);
    for port in [&vxlan, &guest] {
        port.mtu(1500)?;
        port.enslave_to(&bridge)?;
        port.up()?;
    }
    bridge.up()?;
    vxlan.fdb(REMOTE.mac, THERE)?;
    port_flags(&vxlan)?;
    static_entry(&vxlan, REMOTE.mac)?;
    static_entry(&guest, GUEST.mac)
}

/// `bridge link set dev DEV learning off neigh_suppress on`.
fn port_flags(port: &Link) -> Result<()> {
    let mut body = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    body.extend(port.index()?.to_ne_bytes());
    body.extend([0; 8]);
    Request::new(libc::RTM_SETLINK, 0, &body)
        .nest(IFLA_PROTINFO | NLA_F_NESTED, &[], |info| {
            info.attr(IFLA_BRPORT_LEARNING, &[0]).attr(IFLA_BRPORT_NEIGH_SUPPRESS, &[1])
        })
        .send(&format!("learning off and neigh_suppress on for {}", port.name()))
}

/// `bridge fdb replace MAC dev DEV master static`.
fn static_entry(port: &Link, mac: Mac) -> Result<()> {
    const NTF_MASTER: u8 = 0x04;
    let mut body = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    body.extend(port.index()?.to_ne_bytes());
    body.extend(libc::NUD_NOARP.to_ne_bytes());
    body.extend([NTF_MASTER, 0]);
    Request::new(libc::RTM_NEWNEIGH, REPLACE, &body)
        .attr(libc::NDA_LLADDR, &mac)
        .send(&format!("static entry {mac:02x?} on {}", port.name()))
}
