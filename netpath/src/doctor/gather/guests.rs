//! Guests' devices, and what others have put on them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use netpath_common::maps::network_flags;

use super::rules;
use crate::{
    compile::Rows,
    datapath::{self, AttachState, Attachment, Hook, Root},
    doctor::Guest,
    error::Error,
    netlink::{Device, tc},
    preflight::Look,
};

/// The guest ports of rows that have their device.
pub(crate) fn guests(rows: &Rows, devices: &[Device]) -> Vec<Guest> {
    let devices: HashMap<u32, &Device> = devices.iter().map(|device| (device.index, device)).collect();
    let guest = |(ifindex, port): (&u32, &netpath_common::maps::Port)| {
        let device = devices.get(ifindex)?;
        let above = device.master.and_then(|master| devices.get(&master)).and_then(|above| above.kind.as_deref());
        Some(Guest {
            device: device.name.clone(),
            is_tap: device.kind.as_deref() == Some("tun"),
            is_bridge_port: matches!(above, Some("bridge" | "openvswitch")),
            passes: rows.networks.get(&port.network).is_some_and(|n| n.flags & network_flags::ON_MISS_PASS != 0),
        })
    };
    rows.ports.iter().filter_map(guest).collect()
}

/// What is on a device, in words.
type Bypasses = Vec<(String, Vec<String>)>;

/// What others have put on guests' devices, by device, as far as it is looked at; and devices that netpath has under another
/// root.
pub(crate) fn bypassed(
    root: &Path,
    guests: &[Guest],
    actual: &[Attachment],
    devices: &[Device],
    look: Look,
) -> Result<(Bypasses, Vec<String>), Error> {
    let names: HashSet<&str> = guests.iter().map(|guest| guest.device.as_str()).collect();
    let guests: HashMap<u32, &Device> =
        devices.iter().filter(|device| names.contains(&*device.name)).map(|device| (device.index, device)).collect();
    if guests.is_empty() {
        return Ok(Default::default());
    }
    let own: Vec<u32> = actual.iter().map(|attachment| attachment.program).collect();
    // Of a pin that is left of a device the new one of its name has nothing.
    let attached = actual.iter().filter(|attachment| attachment.state != AttachState::Broken);
    let attached: HashSet<&str> = attached.map(|attachment| attachment.device.as_str()).collect();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    if look == Look::All {
        traffic_control(&guests, &own, &mut found)?;
        named_in_rules(&guests, &mut found);
    }
    let (root, mut rivals) = (Root::at(root), Vec::new());
    for device in guests.values() {
        let is_attached = attached.contains(device.name.as_str());
        if is_attached && look != Look::All {
            continue;
        }
        if !is_attached && datapath::has_filter_of_other(&root, device)? {
            rivals.push(device.name.clone());
        }
        for program in datapath::foreign_tcx(device, &own)? {
            match (program == Hook::FromGuest.name(), is_attached) {
                (false, _) => found.entry(&device.name).or_default().push(format!("tcx program {program}")),
                (true, false) => rivals.push(device.name.clone()),
                // One of netpath's own that the pins do not name yet.
                (true, true) => {}
            }
        }
    }
    rivals.sort();
    Ok((found.into_iter().map(|(device, what)| (device.to_owned(), in_order(what))).collect(), rivals))
}

fn traffic_control<'d>(
    guests: &HashMap<u32, &'d Device>,
    own: &[u32],
    found: &mut BTreeMap<&'d str, Vec<String>>,
) -> Result<(), Error> {
    for qdisc in tc::qdiscs()?.iter().filter(|qdisc| !qdisc.is_default()) {
        let Some(device) = guests.get(&qdisc.device) else { continue };
        if !qdisc.is_ingress {
            found.entry(&device.name).or_default().push(format!("queueing discipline {}", qdisc.kind));
            continue;
        }
        for filter in tc::ingress_filters(device.index)? {
            if filter.program_id.is_none_or(|id| !own.contains(&id)) {
                found.entry(&device.name).or_default().push(filter_words(&filter));
            }
        }
    }
    Ok(())
}

fn named_in_rules<'d>(guests: &HashMap<u32, &'d Device>, found: &mut BTreeMap<&'d str, Vec<String>>) {
    let (named, chains) = (rules::of_bridges(), rules::netdev_chains());
    for device in guests.values() {
        let tools: Vec<_> = named.iter().filter(|(_, words)| words.contains(&device.name)).map(|(t, _)| *t).collect();
        let rules = (!tools.is_empty()).then(|| format!("{} rules", tools.join(" and ")));
        let hooked = chains.iter().filter(|chain| chain.devices.contains(&device.name)).map(ToString::to_string);
        let what: Vec<String> = rules.into_iter().chain(hooked).collect();
        if !what.is_empty() {
            found.entry(&device.name).or_default().extend(what);
        }
    }
}

fn in_order(mut what: Vec<String>) -> Vec<String> {
    what.sort();
    what.dedup();
    what
}

fn filter_words(filter: &tc::Filter) -> String {
    let program = filter.program.as_ref().map_or_else(String::new, |program| format!(" {program}"));
    format!("tc filter {}{program} of priority {}", filter.kind, filter.priority)
}
