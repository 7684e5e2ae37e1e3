//! The world outside: an upstream router on the public link, and a host behind it.
//!
//! ```text
//!   [wire of the public range's physical network] ═ eth0 [router] eth1 ═ eth0 [internet] 198.51.100.7
//! ```

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result};
use netpath::definitions::{PublicRange, Segment, Zone};

use super::Place;
use crate::{
    guest::{KernelGuest, kernel::NIC},
    packet::Endpoint,
    topology::{Link, NetNs, netns::sysctl, two_hypervisors::wire_end},
};

/// The host behind the router.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The router's address on its side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const MTU: u32 = 1500;

/// What stands outside.
#[derive(Debug)]
pub(in crate::demo) struct Outside {
    /// A host of the Internet.
    pub(in crate::demo) host: KernelGuest,
    /// The router between it and the public link.
    pub(in crate::demo) router: NetNs,
}

/// The public range that the demo plays the outside of: without a tag, since not every kernel has VLAN devices.
fn range(zone: &Zone) -> Option<&PublicRange> {
    zone.public_ranges.iter().find(|range| *range.vlan == Segment::Untagged && !range.cidr.contains(&HOST))
}

impl Outside {
    /// Puts router and host behind a wire; `None` where the zone has no public link for them.
    pub(super) fn build(place: &Place, zone: &Zone, wires: &BTreeMap<String, NetNs>) -> Result<Option<Self>> {
        let Some(range) = range(zone) else { return Ok(None) };
        let wire = wires.get(range.physical_network.as_str()).context("a known physical network")?;
        let router = NetNs::named(&place.namespace("router"))?;
        let host = NetNs::named(&place.namespace("internet"))?;
        wire.run(|| -> Result<()> {
            let port = Link::veth("router", NIC, &router)?;
            wire_end(&port, MTU)?;
            port.enslave_to(&Link::named("lan"))
        })?;
        router.run(|| -> Result<()> {
            let inside = Link::named(NIC);
            wire_end(&inside, MTU)?;
            inside.address(*range.gateway, range.cidr.prefix_len())?;
            let outside = Link::veth("eth1", NIC, &host)?;
            wire_end(&outside, MTU)?;
            outside.address(ROUTER, 24)?;
            sysctl("net/ipv4/ip_forward", "1")
        })?;
        host.run(|| wire_end(&Link::named(NIC), MTU))?;
        let station = Endpoint { mac: [0x02, 0, 198, 51, 100, 7], ip: HOST, ..Endpoint::numbered(7) };
        let host = KernelGuest::new(host, station, Some(IpAddr::V4(ROUTER)), None)?;
        Ok(Some(Self { host, router }))
    }
}
