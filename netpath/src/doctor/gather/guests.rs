//! Guests' devices, and what others have put on them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::Command,
};

use netpath_common::maps::network_flags;

use crate::{
    compile::Rows,
    datapath::{self, Attachment, Hook},
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
    let attached: HashSet<&str> = actual.iter().map(|attachment| attachment.device.as_str()).collect();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    if look == Look::All {
        traffic_control(&guests, &own, &mut found)?;
        named_in_rules(&guests, &mut found);
    }
    let mut rivals = Vec::new();
    for device in guests.values().filter(|device| !attached.contains(device.name.as_str())) {
        for program in datapath::foreign_tcx(device, &own)? {
            match program == Hook::FromGuest.name() {
                true => rivals.push(device.name.clone()),
                false => found.entry(&device.name).or_default().push(format!("tcx program {program}")),
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
    let named = bridge_rules();
    for device in guests.values() {
        let tools: Vec<_> = named.iter().filter(|(_, words)| words.contains(&device.name)).map(|(t, _)| *t).collect();
        if !tools.is_empty() {
            found.entry(&device.name).or_default().push(format!("{} rules", tools.join(" and ")));
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

/// The names that bridge-level rules speak of (nwfilter writes such), by the tool that lists them, where it is installed.
fn bridge_rules() -> Vec<(&'static str, HashSet<String>)> {
    let tools: [(&str, &str, &[&[&str]]); 2] = [
        ("nftables", "nft", &[&["list", "ruleset", "bridge"]]),
        ("ebtables", "ebtables-legacy", &[&["-t", "nat", "-L"], &["-t", "filter", "-L"], &["-t", "broute", "-L"]]),
    ];
    let listed = tools.into_iter().map(|(name, tool, listings)| {
        let texts = listings.iter().filter_map(|arguments| Command::new(tool).args(*arguments).output().ok());
        let words =
            texts.filter(|out| out.status.success()).flat_map(|out| words(&String::from_utf8_lossy(&out.stdout)));
        (name, words.collect())
    });
    listed.filter(|(_, words): &(_, HashSet<String>)| !words.is_empty()).collect()
}

/// What stands between blanks and quotes.
fn words(text: &str) -> HashSet<String> {
    let split = text.split(|c: char| c.is_whitespace() || "\"',{};".contains(c));
    split.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_found_in_bridge_rules() {
        let listing = "chain x { iifname \"vnet0\" drop; }\n-i vnet1 -j I-vnet1-mac";
        let words = words(listing);
        assert!(words.contains("vnet0") && words.contains("vnet1") && !words.contains("vnet"));
    }
}
