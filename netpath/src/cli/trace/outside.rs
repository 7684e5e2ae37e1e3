//! A packet as it comes by an uplink: from the upstream router of a public link, or from another host's guest.

use std::net::IpAddr;

use netpath_common::{
    Address, Mac,
    maps::{
        Destination, FdbKey, NeighbourKey, NextHop, PUBLIC_SIDE, SegmentKey, Tunnel, Upstream, destination_kind,
        nat_place, segment_flags,
    },
    vxlan::Outer,
};

use super::packet::Spec;
use crate::{applied::Applied, cli::watch, error::Error};

/// Who sends it, where nobody is known by address.
const SOMEBODY: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// The frame as it is on the wire of the uplink; `network` names one where several have the packet's addresses.
pub(super) fn frame(applied: &Applied, ifindex: u32, spec: &Spec, network: Option<&str>) -> Result<Vec<u8>, Error> {
    let wanted = network.map(|name| watch::network(applied, name)).transpose()?;
    let mut found = Vec::new();
    for (key, row) in applied.tables.segments.rows()? {
        let is_here = key.ifindex == ifindex && row.flags & segment_flags::PUBLIC == 0;
        if is_here && wanted.is_none_or(|wanted| wanted == row.network) {
            found.extend(from_guest(applied, &key, row.network, spec)?.map(|frame| (row.network, frame)));
        }
    }
    let Spec { source, destination, .. } = spec;
    // The router of the public link knows no guests.
    if found.is_empty()
        && network.is_none()
        && let Some(frame) = from_router(applied, ifindex, spec)?
    {
        return Ok(frame);
    }
    match found.len() {
        1 => Ok(found.remove(0).1),
        0 => Err(Error::Packet {
            why: format!(
                "{destination} is no public address of this host on that uplink, and {source} no station of a network that is reached \
                 by it; for another frame, trace a captured one with --pcap"
            ),
        }),
        _ => {
            let mut names: Vec<_> = found.iter().map(|(network, _)| applied.names.network(*network)).collect();
            names.sort();
            let why =
                format!("{source} is a station of several networks; name one with --network: {}", names.join(", "));
            Err(Error::Packet { why })
        }
    }
}

/// From the router of the public link that has the destination's address.
fn from_router(applied: &Applied, ifindex: u32, spec: &Spec) -> Result<Option<Vec<u8>>, Error> {
    let IpAddr::V4(destination) = spec.destination else { return Ok(None) };
    let links = applied.tables.upstreams.rows()?;
    for (key, _) in applied.tables.public_address.rows()? {
        let index = key.side & !PUBLIC_SIDE;
        let here = |link: &&Upstream| link.ifindex == ifindex;
        let Some(link) = links.get(index as usize).filter(here).filter(|_| key.address == destination.octets()) else {
            continue;
        };
        let known = applied.tables.upstream_macs.get(index)?.map_or(0, |row| row.mac);
        let [a, b, c, d, e, f, ..] = known.to_le_bytes();
        let router = if known == 0 { SOMEBODY } else { Mac([a, b, c, d, e, f]) };
        return Ok(Some(spec.frame(router, spec.group().unwrap_or(link.mac), link.vlan)));
    }
    Ok(None)
}

/// From a guest of another host, in the segment of a network that the two have in common.
fn from_guest(applied: &Applied, key: &SegmentKey, network: u32, spec: &Spec) -> Result<Option<Vec<u8>>, Error> {
    let tables = &applied.tables;
    let station = |address: IpAddr| -> Result<Option<(Mac, Option<Destination>)>, Error> {
        let Some(row) = tables.neighbours.get(&NeighbourKey { network, address: address.into() })? else {
            return Ok(None);
        };
        Ok(Some((row.mac, tables.fdb.get(&FdbKey::new(network, row.mac))?)))
    };
    let is_remote = |place: &Destination| matches!(place.kind, destination_kind::TUNNEL | destination_kind::UPLINK);
    let Some((from, Some(place))) = station(spec.source)? else { return Ok(None) };
    if !is_remote(&place) {
        return Ok(None);
    }
    let to = match spec.group() {
        Some(group) => group,
        None => match station(spec.destination)? {
            Some((mac, _)) => mac,
            None => match nat_host(applied, key, network, spec.destination)? {
                Some(mac) => mac,
                None => return Ok(None),
            },
        },
    };
    if key.udp_port == 0 {
        return Ok(Some(spec.frame(from, to, key.id as u16)));
    }
    let Some(tunnel) = tables.tunnels.get(place.target)? else { return Ok(None) };
    let device = applied.devices.iter().find(|device| device.index == key.ifindex);
    let inner = spec.frame(from, to, 0);
    // As its own host sends it.
    let there = Tunnel { local: tunnel.remote, remote: tunnel.local, ..tunnel };
    let destination_mac = device.and_then(|device| device.mac).unwrap_or(SOMEBODY);
    let hop = NextHop { destination_mac, source_mac: SOMEBODY, ..NextHop::default() };
    Ok(Some([&Outer::of(&there, &hop, key.id, 0, 0, inner.len()).as_bytes()[..], &inner].concat()))
}

/// By which address the other hosts of a network send to this one what it does NAT for; `None` where it does none, and for what is a station
/// of another network: its sender's host routes that itself.
fn nat_host(applied: &Applied, key: &SegmentKey, network: u32, to: IpAddr) -> Result<Option<Mac>, Error> {
    let tables = &applied.tables;
    let Some(gateway) = tables.gateways.get(network)?.filter(|row| row.nat_place == nat_place::HERE) else {
        return Ok(None);
    };
    let address = Address::from(to);
    let is_station = tables.neighbours.rows()?.iter().any(|(key, _)| key.address == address);
    let row = tables.networks.get(network)?.filter(|_| !is_station);
    Ok(row.map(|row| if key.udp_port == 0 { gateway.wire_mac } else { row.gateway_mac }))
}
