//! UPSTREAMS, PUBLIC_ADDRESS and FORWARDS: the public links of the host, and the addresses that live there.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use netpath_common::maps::{
    Forward, ForwardKey, PUBLIC_SIDE, PublicAddress, PublicKey, Segment as SegmentRow, SegmentKey, Upstream,
    forward_flags, public_flags, segment_flags, upstream_flags,
};

use super::{
    Compiler, gateway::Routed, inventory::sends_for_xdp, port_prefixes::port_prefixes, presence::LocalAddress,
    rule_rows, underlay::Underlay,
};
use crate::definitions::{Isolation, Network, PortForward, Protocol, PublicRange, Segment, Zone};

/// The largest packet of a public link in bytes: Ethernet's, whatever more the uplink takes for tunnels.
const PUBLIC_MTU: u32 = 1500;
/// Bits of a [`ForwardKey`] before its port.
const FORWARD_BITS: u32 = 80;
/// TCP's protocol number.
const TCP: u8 = 6;
/// UDP's protocol number.
const UDP: u8 = 17;
/// A port that the host itself uses.
const RESERVED: Forward = Forward {
    sources_start: 0,
    sources_count: 0,
    network: 0,
    address: [0; 4],
    port: 0,
    flags: forward_flags::RESERVED,
};

/// The public links of the host: index by physical network and VLAN.
#[derive(Default)]
pub(super) struct Links<'z>(BTreeMap<(&'z str, Segment), u32>);

impl<'z> Links<'z> {
    /// The index of the link that an address is reached on.
    pub(super) fn of(&self, zone: &'z Zone, address: Ipv4Addr) -> Option<u32> {
        self.0.get(&place(zone.public_range(address)?)).copied()
    }
}

fn place(range: &PublicRange) -> (&str, Segment) {
    (range.physical_network.as_str(), *range.vlan)
}

impl<'z> Compiler<'z, '_> {
    /// UPSTREAMS and SEGMENTS of the links that the host's public addresses are reached on.
    pub(super) fn links(&mut self, underlays: &HashMap<&'z str, Underlay<'z>>) -> Links<'z> {
        let zone = self.zone;
        let needed = self.presence.addresses().filter_map(|local| zone.public_range(local.address));
        let needed: BTreeMap<_, _> = needed.map(|range| (place(range), range)).collect();
        let mut links = Links::default();
        for at in needed.into_keys() {
            // Ranges of one VLAN are one link, and the first of them says its router.
            let first = zone.public_ranges.iter().find(|range| place(range) == at);
            let Some((range, underlay)) = first.zip(underlays.get(at.0)) else { continue };
            let Some(device) = self.inventory.uplink(self.host, at.0) else { continue };
            let name = format!("{}/{}", at.0, at.1);
            let index = self.indices.public_links.index(&name, &mut self.compiled.rows);
            let vlan = match at.1 {
                Segment::Id(id) => id,
                Segment::Untagged => 0,
            };
            let row = Upstream {
                ifindex: device.index,
                prefix: range.cidr.network().octets(),
                mask: range.cidr.netmask().octets(),
                gateway: range.gateway.octets(),
                vlan: u16::try_from(vlan).unwrap_or_default(),
                mtu: u16::try_from(device.mtu.min(PUBLIC_MTU)).unwrap_or(u16::MAX),
                mac: device.mac.unwrap_or_default(),
                flags: if sends_for_xdp(device) { 0 } else { upstream_flags::NOT_FROM_XDP }
                    | if underlay.is_paced { upstream_flags::PACED } else { 0 },
            };
            self.compiled.rows.upstreams.insert(index, row);
            for (ifindex, udp_port) in &underlay.receivers {
                let key = SegmentKey { ifindex: *ifindex, udp_port: (*udp_port).into(), id: vlan };
                let (physical_network, flags) = (underlay.index, segment_flags::PUBLIC);
                let row = SegmentRow { ifindex: *ifindex, network: index, physical_network, flags };
                self.compiled.rows.segments.insert(key, row);
            }
            links.0.insert(at, index);
        }
        links
    }

    /// PUBLIC_ADDRESS and FORWARDS of the addresses that live on the host.
    pub(super) fn public_addresses(&mut self, routed: &Routed<'_, 'z>) {
        for local in self.presence.addresses().collect::<Vec<_>>() {
            let link = routed.links.of(self.zone, local.address);
            let network = routed.indices.get(local.network.name.as_str());
            let Some((side, network)) = link.map(|link| PUBLIC_SIDE | link).zip(network) else { continue };
            self.public_address(side, *network, &local);
            if self.surroundings.host_addresses.contains(&local.address) {
                self.reserve(side, local.address);
            }
            if local.inside.is_none() {
                self.forwards(side, &local, routed);
                self.keep_ephemeral(side, local.address);
            }
        }
    }

    fn public_address(&mut self, side: u32, network: u32, local: &LocalAddress<'z>) {
        let zone = self.zone;
        let mut users = users(zone, local).peekable();
        let has_acl = users.peek().is_some() && users.all(|user| user.acl.is_some());
        let mut rules = Vec::new();
        for tier in zone.tiers(local.network).filter(|_| !has_acl) {
            let ingress = tier.firewall.iter().flat_map(|firewall| (1..).zip(&firewall.ingress));
            rules.extend(rule_rows::ingress(ingress.filter(|(_, rule)| *rule.public == local.address)));
        }
        let flags = [
            (local.inside.is_some(), public_flags::STATIC),
            (self.surroundings.host_addresses.contains(&local.address), public_flags::HOST),
            (has_acl, public_flags::ACL),
        ];
        let index = self.counted(local.address).unwrap_or_default();
        let row = PublicAddress {
            // Beyond what the field holds, an address is not counted.
            index: u16::try_from(index).unwrap_or_default(),
            ingress: self.lists.list(&rules, &mut self.compiled.rows),
            side,
            network,
            inside: local.inside.map_or([0; 4], |inside| inside.octets()),
            flags: flags.into_iter().fold(0, |flags, (is_set, flag)| if is_set { flags | flag } else { flags }),
            ..PublicAddress::default()
        };
        self.compiled.rows.public_address.insert(PublicKey { side, address: local.address.octets() }, row);
    }

    /// The rows of ports that lead to guests of any network that has the address.
    fn forwards(&mut self, side: u32, local: &LocalAddress<'z>, routed: &Routed<'_, 'z>) {
        for tier in self.zone.tiers(local.network) {
            let Some(network) = routed.indices.get(tier.name.as_str()) else { continue };
            for forward in tier.port_forwarding.iter().filter(|forward| *forward.public == local.address) {
                self.forward(side, *network, tier, forward);
            }
        }
    }

    fn forward(&mut self, side: u32, network: u32, tier: &Network, forward: &PortForward) {
        let nic = tier.nics.iter().find(|nic| nic.instance.value == forward.to.value);
        let protocol = match *forward.protocol {
            Protocol::Tcp => TCP,
            _ => UDP,
        };
        let Some(ip) = nic.and_then(|nic| nic.ip) else { return };
        let sources = self.lists.list(&rule_rows::sources(&forward.cidrs), &mut self.compiled.rows);
        // A range keeps its ports, and so does a port that leads to itself.
        let to = forward.to_ports.filter(|to| to.is_single() && to.value != *forward.ports);
        let row = Forward {
            sources_start: sources.start,
            sources_count: sources.count,
            network,
            address: ip.octets(),
            port: to.map_or(0, |to| to.first),
            flags: 0,
        };
        for (port, bits) in port_prefixes(forward.ports.first, forward.ports.last) {
            let key = forward_key(side, *forward.public, protocol, port);
            // What the host itself uses stays the host's.
            self.compiled.rows.forwards.entry((FORWARD_BITS + bits, key)).or_insert(row);
        }
    }

    /// The ports that the host itself uses on a public address.
    fn reserve(&mut self, side: u32, address: Ipv4Addr) {
        let vxlan = self.zone.physical_networks.iter().filter(|physical| *physical.isolation == Isolation::Vxlan);
        let tunnels = vxlan.map(|physical| (UDP, self.zone.udp_port(physical)));
        for (protocol, port) in tunnels.chain(self.surroundings.reserved.iter().copied()) {
            let key = forward_key(side, address, protocol, port);
            self.compiled.rows.forwards.insert((FORWARD_BITS + 16, key), RESERVED);
        }
    }

    /// The ports that the host's own connections begin from, on a public address of its own: given to a guest, he would get their
    /// answers. Where a definition has some of them lead to a guest, it holds.
    fn keep_ephemeral(&mut self, side: u32, address: Ipv4Addr) {
        let own = self.surroundings.host_addresses.contains(&address);
        let Some(ports) = self.surroundings.ephemeral.filter(|_| own) else { return };
        for (port, bits) in port_prefixes(ports.first, ports.last) {
            for protocol in [TCP, UDP] {
                let key = forward_key(side, address, protocol, port);
                self.compiled.rows.forwards.entry((FORWARD_BITS + bits, key)).or_insert(RESERVED);
            }
        }
    }

    /// Whether what comes from one of a network's public addresses would pass for a host's tunnel packets. Where it does, FORWARDS
    /// says which ports of the hosts are tunnels': those are nobody's to send to.
    pub(super) fn has_tunnel_address(&mut self, network: &Network) -> bool {
        let zone = self.zone;
        let own = network.source_nat.iter().map(|address| address.value);
        let mut own = own.chain(network.static_nat.iter().map(|nat| *nat.public));
        let tunnels = || zone.hosts.iter().flat_map(|host| host.tunnel_address.values().map(|address| address.value));
        if !own.any(|address| tunnels().any(|tunnel| tunnel == address)) {
            return false;
        }
        let vxlan = zone.physical_networks.iter().filter(|physical| *physical.isolation == Isolation::Vxlan);
        for port in vxlan.map(|physical| zone.udp_port(physical)) {
            let keys = tunnels().map(|address| (FORWARD_BITS + 16, forward_key(0, address, UDP, port)));
            self.compiled.rows.forwards.extend(keys.map(|key| (key, RESERVED)));
        }
        true
    }
}

/// The networks whose guests the address leads to or stands for.
fn users<'z>(zone: &'z Zone, local: &LocalAddress<'z>) -> impl Iterator<Item = &'z Network> {
    let address = local.address;
    zone.tiers(local.network).filter(move |tier| {
        tier.source_nat.iter().any(|public| public.value == address)
            || tier.port_forwarding.iter().any(|forward| *forward.public == address)
            || tier.static_nat.iter().any(|nat| *nat.public == address)
    })
}

fn forward_key(side: u32, address: Ipv4Addr, protocol: u8, port: u16) -> ForwardKey {
    ForwardKey {
        side: side.to_be_bytes(),
        address: address.octets(),
        protocol: [protocol, 0],
        port: port.to_be_bytes(),
    }
}
