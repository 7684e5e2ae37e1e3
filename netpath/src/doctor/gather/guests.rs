//! Guests' devices, and what others have put on them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use netpath_common::maps::network_flags;

use crate::{
    compile::Rows,
    datapath::{self, Attachment, Hook, Root},
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

/// Where the tools that list others' rules are looked for, whatever PATH says.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// For so long each of them may take.
const PATIENCE: Duration = Duration::from_secs(3);

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
    let attached: HashSet<&str> = actual.iter().map(|attachment| attachment.device.as_str()).collect();
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
        let program = FOLDERS.iter().map(|folder| Path::new(folder).join(tool)).find(|program| program.exists());
        let texts =
            program.iter().flat_map(|program| listings.iter().filter_map(move |listing| output(program, listing)));
        (name, texts.flat_map(|text| words(&text)).collect())
    });
    listed.filter(|(_, words): &(_, HashSet<String>)| !words.is_empty()).collect()
}

/// What a program prints, where it succeeds and does so in time: an apply, which holds the root's lock, waits for it.
fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let read = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break Some(status),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            None => break None,
        }
    };
    if status.is_none() {
        tracing::warn!(
            "{} did not end within {PATIENCE:?}: what rules say of guests' devices is not known",
            program.display()
        );
        let _ = child.kill();
        let _ = child.wait();
        // What it has begun may hold its output open for longer.
        return None;
    }
    let text = read.join().ok()?.ok()?;
    status.filter(ExitStatus::success).map(|_| String::from_utf8_lossy(&text).into_owned())
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
    fn a_tool_that_hangs_is_given_up_and_one_that_fails_says_nothing() {
        let shell = Path::new("/bin/sh");
        assert_eq!(output(shell, &["-c", "echo vnet0; echo $PATH$HOME >&2"]).as_deref(), Some("vnet0\n"));
        assert_eq!(output(shell, &["-c", "echo vnet0; exit 1"]), None);
        assert_eq!(output(shell, &["-c", "echo vnet0; exec sleep 60"]), None);
    }

    #[test]
    fn device_names_are_found_in_bridge_rules() {
        let listing = "chain x { iifname \"vnet0\" drop; }\n-i vnet1 -j I-vnet1-mac";
        let words = words(listing);
        assert!(words.contains("vnet0") && words.contains("vnet1") && !words.contains("vnet"));
    }
}
