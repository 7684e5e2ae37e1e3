//! What rows tell of a host, whether they are in force or a document wants them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use netpath_common::maps::{
    Gateway, NameKey, Network, PUBLIC_SIDE, Port, StaticKey, Uplink, UplinkKey, gateway_flags, name_kind, nat_place,
    segment_flags, tunnel_flags, uplink_flags,
};

use crate::{
    compile::{self, Rows, TunnelDevice, UplinkUse},
    definitions::{Isolation, UplinkMode},
    doctor::{
        VXLAN_OVERHEAD,
        host::{Echo, Egress, OwnSegment, Peer, PublicLink},
    },
    netlink::{Device, address::Membership},
};

/// The uplinks in use whose device is there.
pub(super) fn uplinks(rows: &Rows, devices: &[Device]) -> Vec<UplinkUse> {
    let mut uses = BTreeMap::new();
    for (key, segment) in &rows.segments {
        let Some(device) = devices.iter().find(|device| device.index == key.ifindex) else { continue };
        let is_slave = device.master.is_some_and(|master| rows.segments.keys().any(|other| other.ifindex == master));
        if is_tunnel_device(rows, key.ifindex) || is_slave {
            continue;
        }
        let physical = segment.physical_network;
        uses.entry((physical, key.ifindex)).or_insert_with(|| UplinkUse {
            physical_network: name(rows, name_kind::PHYSICAL_NETWORK, physical),
            isolation: if key.udp_port == 0 { Isolation::Vlan } else { Isolation::Vxlan },
            device: Some(device.name.clone()),
            ifindex: Some(device.index),
            mode: UplinkMode::Auto,
            udp_port: u16::try_from(key.udp_port).ok().filter(|port| *port != 0),
            local: local(rows, UplinkKey { ifindex: key.ifindex, udp_port: key.udp_port }),
            largest: largest(rows, physical),
        });
    }
    uses.into_values().collect()
}

/// What listens on the UDP ports of uplinks.
pub(super) fn tunnels(rows: &Rows, devices: &[Device]) -> BTreeMap<u16, TunnelDevice> {
    let ports = rows.uplinks.keys().filter_map(|key| u16::try_from(key.udp_port).ok().filter(|port| *port != 0));
    let ports: BTreeSet<u16> = ports.collect();
    let holder = |port: u16| {
        let own = rows.uplinks.iter().find(|(key, row)| key.udp_port == u32::from(port) && is_own(row));
        let mut holders = devices.iter().filter(|device| device.vxlan.is_some_and(|vxlan| vxlan.port == port));
        match own {
            Some((key, _)) if devices.iter().any(|device| device.index == key.ifindex) => {
                TunnelDevice::Own(key.ifindex)
            }
            own => match (holders.next(), own) {
                (Some(foreign), _) => TunnelDevice::Foreign(foreign.name.clone()),
                (None, _) => TunnelDevice::Planned,
            },
        }
    };
    ports.into_iter().map(|port| (port, holder(port))).collect()
}

/// Segments by the devices that they arrive on, tunnel devices aside.
pub(super) fn segments(rows: &Rows) -> Vec<OwnSegment> {
    const SHARED: u32 = segment_flags::PUBLIC | segment_flags::ON_MISS_PASS;
    let own = rows.segments.iter().filter(|(key, _)| !is_tunnel_device(rows, key.ifindex));
    let segment = own.map(|(key, row)| OwnSegment {
        device: key.ifindex,
        udp_port: u16::try_from(key.udp_port).unwrap_or_default(),
        id: key.id,
        owner: match row.flags & segment_flags::PUBLIC {
            0 => format!("network {}", name(rows, name_kind::NETWORK, row.network)),
            _ => format!("public link {}", name(rows, name_kind::PUBLIC_LINK, row.network)),
        },
        is_shared: row.flags & SHARED != 0,
    });
    segment.collect()
}

/// The other hosts, each with what its tunnel has to carry.
pub(super) fn peers(rows: &Rows, uplinks: &[UplinkUse]) -> Vec<Peer> {
    let mut peers = Vec::new();
    for (index, tunnel) in rows.tunnels.iter().filter(|(_, tunnel)| tunnel.flags & tunnel_flags::GROUP == 0) {
        let title = name(rows, name_kind::TUNNEL, *index);
        let of =
            |used: &&UplinkUse| title.strip_prefix(&used.physical_network).is_some_and(|rest| rest.starts_with('/'));
        let Some(used) = uplinks.iter().find(of).filter(|used| used.largest.1 != 0) else { continue };
        peers.push(Peer {
            local: tunnel.local.into(),
            remote: tunnel.remote.into(),
            uplink: used.ifindex,
            route: None,
            needed: used.largest.1 + VXLAN_OVERHEAD,
            network: used.largest.0.clone(),
            echo: Echo::Unasked,
            name: title,
        });
    }
    peers
}

/// Multicast groups that are to be joined and are not: network, group, and the device. One that is gone is another check's.
pub(super) fn unjoined(rows: &Rows, devices: &[Device], joined: &[Membership]) -> Vec<(String, Ipv4Addr, String)> {
    let groups = rows.tunnels.iter().filter(|(_, tunnel)| tunnel.flags & tunnel_flags::GROUP != 0);
    let missing = groups.filter_map(|(index, tunnel)| {
        let find = |index| devices.iter().find(|device| device.index == index);
        let device = find(compile::member_device(find(tunnel.egress)?, devices))?;
        let wanted = Membership { device: device.index, group: tunnel.remote.into() };
        let title = name(rows, name_kind::TUNNEL, *index);
        let network = title.strip_suffix("/group").unwrap_or(&title).to_owned();
        (!joined.contains(&wanted)).then(|| (network, wanted.group, device.name.clone()))
    });
    missing.collect()
}

/// Public links, in the order of UPSTREAMS.
pub(super) fn public_links(rows: &Rows, devices: &[Device]) -> Vec<PublicLink> {
    let device = |index| devices.iter().find(|device| device.index == index).map(|device| device.name.clone());
    let links = rows.upstreams.iter().map(|(index, row)| PublicLink {
        name: name(rows, name_kind::PUBLIC_LINK, *index),
        device: device(row.ifindex).unwrap_or_else(|| format!("#{}", row.ifindex)),
        vlan: row.vlan,
        router: row.gateway.into(),
        heard: None,
        answers: false,
    });
    links.collect()
}

/// What leaves the networks of this host's guests, and those that it does NAT for.
pub(super) fn gateways(rows: &Rows) -> Vec<Egress> {
    let with_static: BTreeSet<u32> = rows.static_nat.keys().map(|key| key.network).collect();
    let guests = |network: u32| rows.ports.values().filter(move |port| port.network == network && port.ip4 != [0; 4]);
    let has_own = |port: &Port| rows.static_nat.contains_key(&StaticKey { network: port.network, address: port.ip4 });
    let has_address = |index: u32, row: &Gateway| match row.nat_place {
        _ if guests(index).next().is_some() && guests(index).all(has_own) => true,
        nat_place::HERE if guests(index).next().is_none() => row.pool_count > 0 || with_static.contains(&index),
        nat_place::HERE => row.pool_count > 0,
        place => place != nat_place::NONE,
    };
    let concerns = |index: u32, row: &Gateway| row.nat_place == nat_place::HERE || guests(index).next().is_some();
    let egress = rows.gateways.iter().filter(|(index, row)| concerns(**index, row)).map(|(index, row)| Egress {
        network: name(rows, name_kind::NETWORK, *index),
        has_rules: row.egress.count > 0 && row.flags & gateway_flags::ACL == 0,
        allows: row.flags & gateway_flags::EGRESS_ALLOW != 0,
        has_address: has_address(*index, row),
        is_tier: row.flags & gateway_flags::ACL != 0,
    });
    egress.collect()
}

/// The network of a physical network that has the largest MTU, and that.
fn largest(rows: &Rows, physical_network: u32) -> (String, u32) {
    let networks = rows.networks.iter().filter(|(_, network)| network.physical_network == physical_network);
    let largest = networks.rev().max_by_key(|(_, network): &(&u32, &Network)| network.mtu);
    largest
        .map_or_else(Default::default, |(index, network)| (name(rows, name_kind::NETWORK, *index), network.mtu.into()))
}

fn local(rows: &Rows, key: UplinkKey) -> Option<Ipv4Addr> {
    rows.uplinks.get(&key).map(|row| row.local).filter(|local| *local != [0; 4]).map(Into::into)
}

fn is_tunnel_device(rows: &Rows, ifindex: u32) -> bool {
    rows.uplinks.iter().any(|(key, row)| key.ifindex == ifindex && is_own(row))
}

fn is_own(row: &Uplink) -> bool {
    row.flags & uplink_flags::TUNNEL_DEVICE != 0
}

fn name(rows: &Rows, kind: u32, index: u32) -> String {
    let index = if kind == name_kind::PUBLIC_LINK { index & !PUBLIC_SIDE } else { index };
    rows.names.get(&NameKey { kind, index }).cloned().unwrap_or_else(|| format!("#{index}"))
}
