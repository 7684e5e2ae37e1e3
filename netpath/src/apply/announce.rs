//! Public addresses that have come to this host are announced, so that what others remember of them is replaced at once
//! (RFC 5227 §3), and their upstream router is asked for, so that the first connection finds it known.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use netpath_common::{
    Mac,
    maps::{PUBLIC_SIDE, PublicAddress, PublicKey, Resolved, Upstream, public_flags},
    stage::{arp, neighbour},
};

use super::{Plan, steps::Step};
use crate::{
    compile::Row,
    datapath::{DatapathError, Hook, Root, Tables},
    error::Error,
    netlink::frame::Sender,
};

/// The shortest frame, without the frame check sequence (IEEE 802.3 §4A.4.2).
const SHORTEST: usize = 60;
const VLAN: u16 = 0x8100;

/// Announces what is new of a plan that was made. That nobody hears it is no failure of the apply: who asks is answered.
pub(super) fn announce(tables: &mut Tables, plan: &Plan) {
    let addresses = fresh(plan);
    if addresses.is_empty() {
        return;
    }
    if let Err(error) = send(tables, plan.upstreams(), &addresses) {
        tracing::warn!("public addresses could not be announced: {error}");
    }
}

/// Announces the public addresses behind an uplink once more; gives how many they are.
///
/// # Errors
/// When the maps cannot be read, or the uplink takes no frames.
pub fn announce_again(root: &Path, uplink: u32) -> Result<usize, Error> {
    let mut tables = match Root::open(root).and_then(|root| Tables::open(&root)) {
        Err(DatapathError::NothingApplied { .. }) => return Ok(0),
        tables => tables?,
    };
    let links = (0..).zip(tables.upstreams.rows()?).filter(|(_, link)| link.ifindex == uplink);
    let links: BTreeMap<u32, Upstream> = links.collect();
    let rows = tables.public_address.rows()?;
    let ours = rows.iter().filter(|(key, row)| links.contains_key(&link_of(key)) && is_ours(row));
    let addresses: BTreeSet<_> = ours.map(|(key, _)| (link_of(key), key.address)).collect();
    if !addresses.is_empty() {
        send(&mut tables, &links, &addresses)?;
    }
    Ok(addresses.len())
}

fn link_of(key: &PublicKey) -> u32 {
    key.side & !PUBLIC_SIDE
}

/// Those that the host has itself, its kernel announces.
fn is_ours(row: &PublicAddress) -> bool {
    row.flags & public_flags::HOST == 0
}

/// Addresses that are new, or whose link or its program is.
fn fresh(plan: &Plan) -> BTreeSet<(u32, [u8; 4])> {
    let mut links = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for edit in &plan.edits {
        match (&edit.before, &edit.after) {
            (None, Some(Row::PublicAddress(key, _))) => drop(addresses.insert(*key)),
            (_, Some(Row::Upstreams(index, _))) => drop(links.insert(*index)),
            _ => {}
        }
    }
    let attached: Vec<&str> = plan
        .on
        .iter()
        .filter_map(|step| match step {
            Step::Attach { device, hook: Hook::FromUplink } => Some(device.as_str()),
            _ => None,
        })
        .collect();
    for (index, link) in plan.upstreams() {
        let device = plan.devices.iter().find(|device| device.index == link.ifindex);
        if device.is_some_and(|device| attached.contains(&device.name.as_str())) {
            links.insert(*index);
        }
    }
    let is_fresh = |key: &PublicKey| addresses.contains(key) || links.contains(&link_of(key));
    let all = plan.public_addresses().iter();
    all.filter(|(key, row)| is_fresh(key) && is_ours(row)).map(|(key, _)| (link_of(key), key.address)).collect()
}

fn send(
    tables: &mut Tables,
    links: &BTreeMap<u32, Upstream>,
    addresses: &BTreeSet<(u32, [u8; 4])>,
) -> Result<(), Error> {
    let sender = Sender::open()?;
    let mut asked = BTreeSet::new();
    for (index, address) in addresses {
        let Some(link) = links.get(index) else { continue };
        for frame in announcements(link, *address) {
            sender.send(link.ifindex, &frame)?;
        }
        if asked.insert(*index) && await_router(tables, *index)? {
            sender.send(link.ifindex, &question(link, *address))?;
        }
    }
    Ok(())
}

/// Notes that the router of a link is asked for, without which its answer would not count. `false`: it is known.
fn await_router(tables: &mut Tables, index: u32) -> Result<bool, Error> {
    let now = now();
    let row = tables.upstream_macs.get(index)?.unwrap_or_default();
    if neighbour::is_fresh(&row, now) {
        return Ok(false);
    }
    let waiting_since = if row.waiting_since == 0 { now } else { row.waiting_since };
    tables.upstream_macs.put(index, &Resolved { asked: now, waiting_since, ..row })?;
    Ok(true)
}

/// The data path's clock, in seconds.
fn now() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32
}

/// That an address is at the link's MAC address, as a request and as a reply: some believe the one, some the other.
fn announcements(link: &Upstream, address: [u8; 4]) -> [Vec<u8>; 2] {
    let frame = |operation, target: Mac| frame(link, operation, address, (target, address));
    [frame(arp::REQUEST, Mac::ZERO), frame(arp::REPLY, Mac::BROADCAST)]
}

/// Who has the router's address? From nobody's, it is a probe.
pub(crate) fn question(link: &Upstream, address: [u8; 4]) -> Vec<u8> {
    frame(link, arp::REQUEST, address, (Mac::ZERO, link.gateway))
}

/// An ARP packet to everybody, from the link's MAC address, in the link's tag.
fn frame(link: &Upstream, operation: u16, sender: [u8; 4], target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut frame = [Mac::BROADCAST.0, link.mac.0].concat();
    if link.vlan != 0 {
        frame.extend([VLAN.to_be_bytes(), link.vlan.to_be_bytes()].concat());
    }
    // Its type, and then Ethernet and IPv4 with the lengths of their addresses.
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [(link.mac, sender), target] {
        frame.extend(mac.0);
        frame.extend(address);
    }
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [u8; 4] = [203, 0, 113, 10];
    const LINK: Upstream = Upstream {
        ifindex: 3,
        prefix: [203, 0, 113, 0],
        mask: [255, 255, 255, 0],
        gateway: [203, 0, 113, 1],
        vlan: 900,
        mtu: 1500,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        flags: 0,
    };

    #[test]
    fn an_address_is_announced_in_its_tag_as_a_request_and_as_a_reply() {
        let [request, reply] = announcements(&LINK, X);
        let ethernet = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x81, 0, 0x03, 0x84, 0x08, 0x06];
        for (frame, operation, target) in [(request, 1, [0; 6]), (reply, 2, [0xff; 6])] {
            assert_eq!(frame[..18], ethernet);
            assert_eq!(frame[18..26], [0, 1, 8, 0, 6, 4, 0, operation]);
            assert_eq!(frame[26..32], LINK.mac.0);
            assert_eq!(frame[32..36], X);
            assert_eq!(frame[36..42], target);
            assert_eq!(frame[42..46], X);
            assert_eq!(frame[46..], [0; 14]);
        }
    }

    #[test]
    fn the_router_is_asked_for_without_a_tag_where_the_link_has_none() {
        let frame = question(&Upstream { vlan: 0, ..LINK }, X);
        assert_eq!(frame[12..22], [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[28..32], X);
        assert_eq!(frame[32..38], [0; 6]);
        assert_eq!(frame[38..42], LINK.gateway);
        assert_eq!(frame.len(), 60);
    }
}
