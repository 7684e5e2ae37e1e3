//! The rows of one network: itself, its stations, their addresses, its flood members, its segment.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use netpath_common::{
    Address,
    maps::{
        self, AddressKey, Destination, FdbKey, FloodKey, Neighbour, NeighbourKey, Port, SegmentKey, destination_flags,
        destination_kind, network_flags, port_flags, segment_flags, segment_kind,
    },
};

use super::{Compiler, NicId, inventory::takes_redirects, presence::Reason, rows::Rows, underlay::Underlay};
use crate::{
    definitions::{GatewayMode, Isolation, Network, Nic, OnMiss, Segment},
    netlink::Device,
};

/// A local NIC's device and slot.
pub(super) struct PortPlace {
    ifindex: u32,
    slot: u32,
    flags: u8,
}

impl PortPlace {
    pub(super) fn new(device: &Device, slot: u32) -> Self {
        let flags = if takes_redirects(device) { destination_flags::XDP_TARGET } else { 0 };
        Self { ifindex: device.index, slot, flags }
    }

    fn destination(&self, network: u32) -> Destination {
        let Self { ifindex, slot, flags } = *self;
        Destination { network, kind: destination_kind::LOCAL, flags, target: ifindex, slot, ..Destination::default() }
    }
}

impl<'z> Compiler<'z, '_> {
    /// Adds a network that the host has; `position` is its own in the zone. Returns its index.
    pub(super) fn network(
        &mut self,
        position: usize,
        network: &'z Network,
        underlay: &Underlay<'z>,
        places: &HashMap<NicId, PortPlace>,
    ) -> u32 {
        let index = self.indices.networks.index(&network.name, &mut self.compiled.rows);
        let mut members = BTreeSet::new();
        for (i, nic) in network.nics.iter().enumerate() {
            let place = places.get(&(position, i));
            if let Some(place) = place {
                members.insert(place.destination(index));
                self.port(index, network, nic, place);
            }
            if nic.host.is_some() {
                self.station(index, nic, place, underlay);
            }
        }
        self.gateway(index, network);
        // Into a network that is only routed to, frames go to known stations.
        if self.presence.reason(position) != Some(Reason::Router) {
            self.remote_floods(index, network, underlay, &mut members);
        }
        let flood_count = self.floods(index, members);
        let row = self.network_row(network, underlay, flood_count);
        self.compiled.rows.networks.insert(index, row);
        self.segments(index, network, underlay);
        index
    }

    /// PORTS and ADDRESSES of a local NIC whose device exists.
    fn port(&mut self, index: u32, network: &Network, nic: &Nic, place: &PortPlace) {
        let mut flags = 0;
        if *nic.trusted {
            flags |= port_flags::TRUSTED;
        }
        if network.cidr.is_none() && network.cidr6.is_none() {
            flags |= port_flags::ANY_IP;
        }
        if !nic.secondary_ips.is_empty() {
            flags |= port_flags::MORE_ADDRESSES;
        }
        let row = Port {
            ifindex: place.ifindex,
            network: index,
            slot: place.slot,
            flags,
            mac: *nic.mac,
            ip4: nic.ip.map_or([0; 4], |ip| ip.octets()),
            ip6: nic.ip6.map_or(Address::NONE, |ip| IpAddr::V6(*ip).into()),
            link_local: nic.mac.link_local(),
            ..Port::default()
        };
        self.compiled.rows.ports.insert(place.ifindex, row);
        for ip in &nic.secondary_ips {
            let key = AddressKey { ifindex: place.ifindex, address: ip.value.into() };
            self.compiled.rows.addresses.insert(key, 1);
        }
    }

    /// FDB and NEIGHBOURS of a NIC, wherever its guest runs.
    fn station(&mut self, index: u32, nic: &Nic, place: Option<&PortPlace>, underlay: &Underlay<'z>) {
        let towards = |kind, target| Destination { network: index, kind, target, ..Destination::default() };
        let destination = match (place, &nic.host) {
            (Some(place), _) => Some(place.destination(index)),
            (None, Some(host)) if **host != *self.host.name => match &underlay.vxlan {
                Some(vxlan) => {
                    vxlan.tunnels.get(host.as_str()).map(|tunnel| towards(destination_kind::TUNNEL, *tunnel))
                }
                None => (underlay.uplink != 0).then(|| towards(destination_kind::UPLINK, underlay.uplink)),
            },
            // It waits for its device, or runs nowhere.
            (None, _) => None,
        };
        if let Some(destination) = destination {
            self.compiled.rows.fdb.insert(FdbKey::new(index, *nic.mac), destination);
        }
        for ip in nic.addresses() {
            self.neighbour(index, ip.value, *nic.mac);
        }
    }

    fn neighbour(&mut self, network: u32, ip: IpAddr, mac: netpath_common::Mac) {
        let key = NeighbourKey { network, address: ip.into() };
        self.compiled.rows.neighbours.insert(key, Neighbour { network, mac, pad: [0; 2] });
    }

    /// The gateway's addresses are known where its MAC address is; frames to it are netpath's when it is the gateway.
    fn gateway(&mut self, index: u32, network: &Network) {
        let Some(mac) = network.gateway_station() else { return };
        if *network.gateway_mode == GatewayMode::Netpath {
            let gateway = Destination { network: index, kind: destination_kind::GATEWAY, ..Destination::default() };
            self.compiled.rows.fdb.insert(FdbKey::new(index, mac), gateway);
        }
        if let Some(ip) = &network.gateway {
            self.neighbour(index, IpAddr::V4(**ip), mac);
        }
        if let Some(ip) = &network.gateway6 {
            self.neighbour(index, IpAddr::V6(**ip), mac);
        }
    }

    /// What of a network is not on this host, as far as frames are flooded to it.
    fn remote_floods(
        &mut self,
        index: u32,
        network: &'z Network,
        underlay: &Underlay<'z>,
        members: &mut BTreeSet<Destination>,
    ) {
        let towards = |kind, target| Destination { network: index, kind, target, ..Destination::default() };
        match &underlay.vxlan {
            None if underlay.uplink == 0 || *underlay.physical.isolation == Isolation::Vxlan => {}
            None => drop(members.insert(towards(destination_kind::UPLINK, underlay.uplink))),
            Some(vxlan) => {
                let tunnels = match self.group(network, underlay) {
                    Some(group) => BTreeSet::from([group]),
                    None => self.remote_members(network, vxlan),
                };
                members.extend(tunnels.into_iter().map(|tunnel| towards(destination_kind::TUNNEL, tunnel)));
            }
        }
    }

    /// FLOODS: a member keeps its position, a new one takes the lowest that is free. Returns the positions in use.
    fn floods(&mut self, network: u32, members: BTreeSet<Destination>) -> u32 {
        let positions = flood_positions(network, members, self.surroundings.existing);
        let count = positions.last().map_or(0, |(position, _)| position + 1);
        let rows = positions.into_iter().map(|(position, member)| (FloodKey { network, position }, member));
        self.compiled.rows.floods.extend(rows);
        count
    }

    fn network_row(&self, network: &Network, underlay: &Underlay<'z>, flood_count: u32) -> maps::Network {
        let (kind, segment) = match (*underlay.physical.isolation, *network.segment) {
            (Isolation::Vxlan, Segment::Id(vni)) => (segment_kind::VXLAN, vni),
            (Isolation::Vlan, Segment::Id(vlan)) => (segment_kind::VLAN, vlan),
            (_, Segment::Untagged) => (segment_kind::UNTAGGED, 0),
        };
        let on_miss = if *network.on_miss == OnMiss::Pass { network_flags::ON_MISS_PASS } else { 0 };
        let is_vlan = *underlay.physical.isolation == Isolation::Vlan;
        let paced = if is_vlan && underlay.is_paced { network_flags::PACED } else { 0 };
        maps::Network {
            kind,
            flags: on_miss | paced | if underlay.sends_for_xdp { 0 } else { network_flags::NOT_FROM_XDP },
            mtu: network.mtu.get_u16(),
            segment,
            uplink: if is_vlan { underlay.uplink } else { 0 },
            flood_count,
            physical_network: underlay.index,
            gateway_mac: network.gateway_station().unwrap_or_default(),
            gateway_ip4: network.gateway.map_or([0; 4], |ip| ip.octets()),
            gateway_ip6: network.gateway6.map_or(Address::NONE, |ip| IpAddr::V6(*ip).into()),
            ..maps::Network::default()
        }
    }

    /// SEGMENTS of a network, on every device that its frames may arrive on.
    fn segments(&mut self, index: u32, network: &Network, underlay: &Underlay<'z>) {
        let id = match *network.segment {
            Segment::Id(id) => id,
            Segment::Untagged => 0,
        };
        let strips = underlay.vxlan.as_ref().is_some_and(|vxlan| !vxlan.owns_port());
        let passes = *network.on_miss == OnMiss::Pass;
        let tier = super::gateway::has_acls(self.zone, network);
        let flags =
            [(strips, segment_flags::STRIP), (passes, segment_flags::ON_MISS_PASS), (tier, segment_flags::TIER)]
                .into_iter()
                .fold(0, |flags, (is_set, flag)| if is_set { flags | flag } else { flags });
        for (ifindex, udp_port) in &underlay.receivers {
            let key = SegmentKey { ifindex: *ifindex, udp_port: (*udp_port).into(), id };
            let row = maps::Segment { ifindex: *ifindex, network: index, physical_network: underlay.index, flags };
            self.compiled.rows.segments.insert(key, row);
        }
    }
}

/// The members of a network with their positions, ascending.
fn flood_positions(network: u32, members: BTreeSet<Destination>, existing: &Rows) -> Vec<(u32, Destination)> {
    // The same device or tunnel is the same member, even where its slot or flags have changed.
    let identity = |member: &Destination| (member.kind, member.target);
    let mut new: BTreeMap<_, _> = members.into_iter().map(|member| (identity(&member), member)).collect();
    let range = FloodKey { network, position: 0 }..=FloodKey { network, position: u32::MAX };
    let existing = existing.floods.range(range);
    let mut positions: BTreeMap<u32, Destination> =
        existing.filter_map(|(key, old)| Some((key.position, new.remove(&identity(old))?))).collect();
    let mut free = 0;
    for member in new.into_values() {
        while positions.contains_key(&free) {
            free += 1;
        }
        positions.insert(free, member);
    }
    positions.into_iter().collect()
}
