//! A guest with a kernel's stack behind the hypervisor that is measured, and a kernel's vxlan device as its partner.
//!
//! ```text
//!   guest eth0 ═ vnet11 ─ [netpath or bridge + vxlan] ─ eth1 ═ port1 ─ wire ─ port2 ═ eth1 ─ vx0 10.1.1.12   remote host
//! ```
//!
//! The remote host and the wire are the same whatever is measured. The remote host sends MTU-sized frames on the
//! underlay, as a NIC without tunnel offloads does. The wire redirects in XDP, so that the hypervisor's uplink receives
//! frames as a NIC's driver does: in pages of a pool, with room before them. From a veth's stack it would receive socket
//! buffers, which XDP has to copy. The uplink merges what it receives (GRO).

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    bridge,
    floor::Floor,
    lab::{GUEST_DEVICE, UPLINK},
    machine::own_last_cpu,
    stations::{GUEST, HERE, PORT, REMOTE, THERE, THERE_MAC, VNI},
    subject::{Subject, UplinkMode},
};
use crate::{
    guest::{KernelGuest, Relay, kernel::NIC},
    topology::{Link, NetNs, Offloads, Tap, Vxlan},
};

/// MTU of the underlay: room for a full frame in a tunnel.
const MTU: u32 = 1600;

/// What the guest hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A tap with virtio offloads, relayed to the guest's own.
    Tap,
    /// A veth.
    Veth,
}

/// What forwards on the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// netpath.
    Netpath(UplinkMode),
    /// A Linux bridge with a vxlan device.
    Bridge,
}

/// The two stations and all between them.
pub struct Pair {
    /// The guest.
    pub guest: KernelGuest,
    /// The remote host.
    pub remote: NetNs,
    _netpath: Option<Subject>,
    _hypervisor: NetNs,
    _wire: Wire,
}

/// The namespace between the two hosts, and the programs that redirect in it.
struct Wire {
    _ns: NetNs,
    _programs: Vec<Floor>,
}

impl Pair {
    /// Builds it, and proves that the guest reaches its partner. `floor` is the object with the benchmark's programs.
    ///
    /// # Errors
    /// When a device is refused, or no packet passes.
    pub fn new(floor: &Path, port: Port, forwarder: Forwarder) -> Result<Self> {
        let (hypervisor, remote, wire) = (NetNs::new("bench")?, NetNs::new("remote")?, NetNs::new("wire")?);
        let uplink_mac = hypervisor.run(|| -> Result<_> {
            let uplink = host_end("port1", &wire)?;
            uplink.address(HERE, 24)?;
            uplink.neighbour(THERE, THERE_MAC)?;
            uplink.read_mac()
        })?;
        remote.run(|| -> Result<()> {
            let uplink = host_end("port2", &wire)?;
            uplink.mac(THERE_MAC)?;
            uplink.address(THERE, 24)?;
            uplink.neighbour(HERE, uplink_mac)?;
            station()
        })?;
        let wire = Wire::new(wire, floor)?;
        let guest = guest(&hypervisor, port)?;
        let netpath = match forwarder {
            Forwarder::Netpath(mode) => Some(Subject::apply(&hypervisor, mode)?),
            Forwarder::Bridge => {
                hypervisor.run(|| bridge::build(GUEST_DEVICE))?;
                None
            }
        };
        guest.ping(REMOTE.ip).with_context(|| format!("over {forwarder:?}"))?;
        Ok(Self { guest, remote, _netpath: netpath, _hypervisor: hypervisor, _wire: wire })
    }
}

/// The partner: a vxlan device with the station's addresses.
fn station() -> Result<()> {
    let settings = Vxlan { vni: VNI, port: PORT, local: THERE, remote: None, device: None, learning: false };
    let vxlan = Link::vxlan("vx0", &settings)?;
    vxlan.mac(REMOTE.mac)?;
    vxlan.mtu(1500)?;
    vxlan.up()?;
    vxlan.address(REMOTE.ip, 24)?;
    vxlan.neighbour(GUEST.ip, GUEST.mac)?;
    vxlan.fdb(GUEST.mac, HERE)
}

fn guest(hypervisor: &NetNs, port: Port) -> Result<KernelGuest> {
    let ns = NetNs::new("guest")?;
    let relay = match port {
        Port::Tap => {
            let outside = hypervisor.run(|| Tap::new(GUEST_DEVICE, Offloads::All))?;
            let inside = ns.run(|| Tap::new(NIC, Offloads::All))?;
            // A thread inherits its maker's CPU and priority.
            let start = || own_last_cpu().and_then(|()| Ok(Relay::start(outside, inside)?));
            Some(ns.run(start)?)
        }
        Port::Veth => {
            hypervisor.run(|| Link::veth(GUEST_DEVICE, NIC, &ns)?.up())?;
            // What XDP redirects is received only by a driver that polls.
            ns.run(|| Link::named(NIC).offload("rx-gro", true))?;
            None
        }
    };
    let guest = KernelGuest::new(ns, GUEST, None, relay)?;
    guest.ns().run(|| Link::named(NIC).neighbour(REMOTE.ip, REMOTE.mac))?;
    Ok(guest)
}

/// A host's uplink, its other end in the wire: sums are done, nothing larger than the MTU is sent, and its driver polls.
fn host_end(other_end: &str, wire: &NetNs) -> Result<Link> {
    let link = Link::veth(UPLINK, other_end, wire)?;
    link.mtu(MTU)?;
    let segmentation = ["tx-tcp-segmentation", "tx-udp_tnl-segmentation", "tx-generic-segmentation"];
    for feature in segmentation.into_iter().chain(["tx-checksum-ip-generic"]) {
        link.offload(feature, false)?;
    }
    link.offload("rx-gro", true)?;
    link.up()?;
    Ok(link)
}

impl Wire {
    /// Redirects what one port receives to the other.
    fn new(ns: NetNs, floor: &Path) -> Result<Self> {
        let mut programs = Vec::new();
        for (from, to) in [("port1", "port2"), ("port2", "port1")] {
            let target = ns.run(|| -> Result<u32> {
                let link = Link::named(from);
                link.mtu(MTU)?;
                link.up()?;
                Link::named(to).index()
            })?;
            let redirect = Floor::load(floor, &[("TARGET", target)], &[])?;
            redirect.xdp("redirect_xdp", &ns, &[from])?;
            programs.push(redirect);
        }
        Ok(Self { _ns: ns, _programs: programs })
    }
}
