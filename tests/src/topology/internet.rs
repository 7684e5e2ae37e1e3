//! The public side of the hypervisors: a link with a router on it, and a host behind the router.
//!
//! ```text
//!   hv1 eth3 ═ pub1 ┐                       ┌ router eth0 203.0.113.1 ─ eth1 198.51.100.1 ── eth0 198.51.100.7 internet
//!                   ├ [public: bridge] ─────┤
//!   hv2 eth3 ═ pub2 ┘                       └ station eth0 203.0.113.200
//! ```
//!
//! Router, internet and station have the kernel's own stack, and take untagged frames. Tags cross the bridge as they are: a
//! test that wants a tagged public VLAN plays the router itself, on [`Internet::raw_router`].

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use super::{
    Link, NetNs,
    netns::sysctl,
    two_hypervisors::{TENANTS, wire_end},
};
use crate::{
    guest::{KernelGuest, PacketSocket, RawGuest, kernel::NIC},
    packet::Endpoint,
};

/// The hypervisors' device on the public link.
pub const PUBLIC_UPLINK: &str = "eth3";
/// The upstream router on the public link.
pub const ROUTER: Endpoint = on_link(1);
/// A station on the public link.
pub const STATION: Endpoint = on_link(200);
/// The host behind the router.
pub const INTERNET: Endpoint =
    Endpoint { mac: [0x02, 0, 198, 51, 100, 7], ip: Ipv4Addr::new(198, 51, 100, 7), ..Endpoint::numbered(7) };
/// The router's address on its other side.
const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// MTU of the public link: Ethernet's, with room for a tag.
const MTU: u32 = 1504;

const fn on_link(last: u8) -> Endpoint {
    Endpoint { mac: [0x02, 0, 203, 0, 113, last], ip: Ipv4Addr::new(203, 0, 113, last), ..Endpoint::numbered(last) }
}

/// The public address that a tenant's guests share.
pub fn shared(tenant: &str) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, if tenant == TENANTS[0] { 10 } else { 20 })
}

/// The public address of a tenant's NIC 13.
pub fn own(tenant: &str) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, if tenant == TENANTS[0] { 11 } else { 21 })
}

/// The public link and what is on it.
#[derive(Debug)]
pub struct Internet {
    wire: NetNs,
    /// The router's namespace.
    pub router: NetNs,
    /// The host behind the router.
    pub host: KernelGuest,
    /// The station on the link.
    pub station: KernelGuest,
}

impl Internet {
    /// The link with its router, host and station; hypervisors are put on it by [`Internet::attach`].
    pub fn new() -> Result<Self> {
        let (wire, router) = (NetNs::new("public")?, NetNs::new("router")?);
        wire.run(|| Link::bridge("public")?.up())?;
        let station = NetNs::new("station")?;
        wire.run(|| port("router", &router, NIC))?;
        wire.run(|| port("station", &station, NIC))?;
        let host = NetNs::new("internet")?;
        router.run(|| -> Result<()> {
            let inside = Link::named(NIC);
            inside.mac(ROUTER.mac)?;
            wire_end(&inside, MTU)?;
            inside.address(ROUTER.ip, 24)?;
            let outside = Link::veth("eth1", NIC, &host)?;
            wire_end(&outside, 1500)?;
            outside.address(ROUTER_OUTSIDE, 24)?;
            sysctl("net/ipv4/ip_forward", "1")
        })?;
        host.run(|| wire_end(&Link::named(NIC), 1500))?;
        station.run(|| wire_end(&Link::named(NIC), 1500))?;
        Ok(Self {
            wire,
            router,
            host: KernelGuest::new(host, INTERNET, Some(IpAddr::V4(ROUTER_OUTSIDE)), None)?,
            station: KernelGuest::new(station, STATION, Some(IpAddr::V4(ROUTER.ip)), None)?,
        })
    }

    /// Gives a hypervisor, numbered from 0, its device on the link.
    pub fn attach(&self, hypervisor: &NetNs, index: usize) -> Result<()> {
        self.wire.run(|| port(&device(index), hypervisor, PUBLIC_UPLINK))?;
        hypervisor.run(|| wire_end(&Link::named(PUBLIC_UPLINK), MTU))
    }

    /// What a hypervisor sends on the public link, and the way to send to it alone.
    pub fn wire(&self, host: usize) -> RawGuest {
        self.socket(&self.wire, &device(host), &format!("public wire of hv{}", host + 1))
    }

    /// The router's place on the link, for a test that is the router.
    pub fn raw_router(&self) -> RawGuest {
        self.socket(&self.router, NIC, "router")
    }

    fn socket(&self, ns: &NetNs, device: &str, name: &str) -> RawGuest {
        let socket = ns.run(|| PacketSocket::open(device)).expect("the device exists");
        RawGuest::on_socket(name, socket)
    }
}

/// The wire's device that leads to a hypervisor.
fn device(host: usize) -> String {
    format!("pub{}", host + 1)
}

/// A port of the bridge whose other end is `peer` in a namespace.
fn port(name: &str, ns: &NetNs, peer: &str) -> Result<()> {
    let end = Link::veth(name, peer, ns)?;
    wire_end(&end, MTU)?;
    end.enslave_to(&Link::named("public"))
}
