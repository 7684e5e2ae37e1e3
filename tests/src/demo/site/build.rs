//! From a zone to namespaces.
//!
//! ```text
//!   guest [eth0] ═ vnetN [host] eth1 ═ eth1-kvm1 [wire of a physical network: bridge] eth1-kvm2 ═ eth1 [host] vnetN ═ …
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result, bail};
use netpath::definitions::{Host as HostDefinition, Isolation, Network, Nic, Zone};
use netpath_common::vxlan::MTU_OVERHEAD;

use super::{Host, Outside, Place, Site};
use crate::{
    guest::{KernelGuest, kernel::NIC},
    packet::{Endpoint, Mac},
    runner::Netpath,
    topology::{Link, NetNs, two_hypervisors::wire_end},
};

/// Ethernet's MTU, which every wire has at least.
const LEAST_MTU: u32 = 1500;

/// A guest: a namespace with one NIC.
#[derive(Debug)]
pub(in crate::demo) struct Guest {
    /// Its network.
    pub(in crate::demo) network: String,
    /// Its name.
    pub(in crate::demo) instance: String,
    /// The position of its host in the site.
    pub(in crate::demo) host: usize,
    /// The host's device of it.
    pub(in crate::demo) device: String,
    /// Whether its network has IPv6.
    pub(in crate::demo) has_ipv6: bool,
    /// Its stack.
    pub(in crate::demo) kernel: KernelGuest,
}

impl Guest {
    /// `network/instance`.
    pub(in crate::demo) fn title(&self) -> String {
        format!("{}/{}", self.network, self.instance)
    }
}

impl Site {
    /// Builds what the zone speaks of.
    ///
    /// # Errors
    /// When a demo is up already, a NIC has no `device` or no `ip`, or the kernel refuses.
    pub(in crate::demo) fn build(zone: &Zone) -> Result<Self> {
        let place = Place::claim()?;
        let mut site = Self { hosts: Vec::new(), guests: Vec::new(), outside: None, wires: Vec::new(), place };
        let wires = site.wires(zone)?;
        site.outside = Outside::build(&site.place, zone, &wires).context("the world outside")?;
        for definition in &zone.hosts {
            let host = site.host(zone, definition, &wires).with_context(|| format!("host {}", *definition.name))?;
            site.hosts.push(host);
        }
        for network in &zone.networks {
            for nic in &network.nics {
                let Some(host) = &nic.host else { continue };
                let at = site.hosts.iter().position(|known| known.name == host.as_str()).context("a known host")?;
                let guest = site.guest(network, nic, at);
                site.guests.push(guest.with_context(|| format!("guest {}/{}", *network.name, *nic.instance))?);
            }
        }
        for host in &mut site.hosts {
            host.devices_before = host.devices()?;
        }
        Ok(site)
    }

    /// A namespace with a bridge for each physical network.
    fn wires(&mut self, zone: &Zone) -> Result<BTreeMap<String, NetNs>> {
        let mut wires = BTreeMap::new();
        for physical in &zone.physical_networks {
            let ns = NetNs::named(&self.place.namespace(&format!("wire-{}", *physical.name)))?;
            ns.run(|| Link::bridge("lan")?.up())?;
            self.wires.push(ns.clone());
            wires.insert(physical.name.to_string(), ns);
        }
        Ok(wires)
    }

    fn host(&self, zone: &Zone, definition: &HostDefinition, wires: &BTreeMap<String, NetNs>) -> Result<Host> {
        let name = definition.name.to_string();
        let ns = NetNs::named(&self.place.namespace(&name))?;
        let mut uplinks = BTreeSet::new();
        for (physical, device) in definition.uplinks.iter() {
            let wire = wires.get(physical.as_str()).context("a known physical network")?;
            // Physical networks may share a NIC; it is on the wire of the first of them.
            if uplinks.insert(device.to_string()) {
                uplink(&ns, wire, device.as_str(), &format!("{}-{name}", **device), mtu(zone))?;
            }
            if let Some(address) = definition.tunnel_address.get(physical.as_str()) {
                let is_vxlan = zone.physical_network(physical.as_str());
                if is_vxlan.is_some_and(|physical| *physical.isolation == Isolation::Vxlan) {
                    ns.run(|| Link::named(device.as_str()).address(**address, 24))?;
                }
            }
        }
        let state = self.place.state(&name);
        fs::create_dir_all(&state)?;
        let netpath = Netpath::new(&ns, self.place.bpffs().join(&name), state, &name);
        Ok(Host { name, ns, netpath, devices_before: Vec::new(), uplinks: uplinks.into_iter().collect() })
    }

    fn guest(&self, network: &Network, nic: &Nic, host: usize) -> Result<Guest> {
        let (Some(device), Some(ip)) = (&nic.device, &nic.ip) else {
            bail!("the demo builds guests with a `device` and an `ip`");
        };
        let ns = NetNs::named(&self.place.namespace(&format!("{}-{}", *network.name, *nic.instance)))?;
        self.hosts[host].ns.run(|| Link::veth(device.as_str(), NIC, &ns)?.up())?;
        // With GRO on, a veth takes frames that XDP redirects to its peer.
        ns.run(|| Link::named(NIC).offload("rx-gro", true))?;
        let mac: Mac = nic.mac.0;
        let ip6 = nic.ip6.map_or_else(|| link_local(mac), |ip6| *ip6);
        let gateway = network.gateway.map(|gateway| IpAddr::V4(*gateway));
        let kernel = KernelGuest::new(ns, Endpoint { mac, ip: **ip, ip6 }, gateway, None)?;
        kernel.ns().run(|| Link::named(NIC).mtu(network.mtu.get()))?;
        Ok(Guest {
            network: network.name.to_string(),
            instance: nic.instance.to_string(),
            host,
            device: device.to_string(),
            has_ipv6: nic.ip6.is_some(),
            kernel,
        })
    }
}

/// The IPv6 address that the kernel makes of the MAC, where the definitions give none.
fn link_local(mac: Mac) -> std::net::Ipv6Addr {
    Endpoint { mac, ip: Ipv4Addr::UNSPECIFIED, ip6: std::net::Ipv6Addr::UNSPECIFIED }.link_local()
}

/// A host's device on a wire.
fn uplink(host: &NetNs, wire: &NetNs, device: &str, port: &str, mtu: u32) -> Result<()> {
    host.run(|| wire_end(&Link::veth(device, port, wire)?, mtu)).with_context(|| format!("uplink {device}"))?;
    wire.run(|| -> Result<()> {
        let end = Link::named(port);
        wire_end(&end, mtu)?;
        // It takes frames that XDP redirects to the host's end, as a real wire takes all.
        end.offload("rx-gro", true)?;
        end.enslave_to(&Link::named("lan"))
    })
}

/// What the underlay has to carry: the largest network with the tunnel's headers around it.
fn mtu(zone: &Zone) -> u32 {
    let needed = zone.networks.iter().map(|network| {
        let physical = zone.physical_network(network.physical_network.as_str());
        let is_vxlan = physical.is_some_and(|physical| *physical.isolation == Isolation::Vxlan);
        network.mtu.get() + if is_vxlan { MTU_OVERHEAD as u32 } else { 0 }
    });
    needed.max().unwrap_or(0).max(LEAST_MTU)
}
