//! What is looked at on a host before anything is touched: what stops an apply, and what its operator ought to know.
//!
//! One function gathers; those that judge are pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::Command,
};

use netpath_common::maps::network_flags;
use serde::Serialize;

use crate::{
    apply::{Fallback, Unpaced},
    compile::{Compiled, Role, TunnelDevice, UplinkUse},
    datapath::{self, Attachment, Hook},
    definitions::{Isolation, UplinkMode, Zone},
    error::Error,
    netlink::{Device, tc},
};

/// What VXLAN adds to a packet over IPv4: Ethernet 14, IPv4 20, UDP 8, VXLAN 8 (RFC 7348 section 5).
const VXLAN_OVERHEAD: u32 = 50;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// Nothing is applied while it lasts.
    Error,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a device, a network.
    pub object: String,
    /// What was found, and what to do.
    pub message: String,
}

/// What the host looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'o> {
    /// Its devices.
    pub(crate) devices: &'o [Device],
    /// What listens on the UDP ports in use.
    pub(crate) tunnels: &'o BTreeMap<u16, TunnelDevice>,
    /// What netpath has attached.
    pub(crate) actual: &'o [Attachment],
    /// Uplinks that do not take XDP though they could be asked to.
    pub(crate) fallbacks: &'o [(String, Fallback)],
    /// Uplinks on which packets above a rate are dropped though the definitions ask for fq.
    pub(crate) unpaced: &'o [(String, Unpaced)],
}

/// Everything found, errors last.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn check(zone: &Zone, host: &str, compiled: &Compiled, seen: &Observed<'_>) -> Result<Vec<Finding>, Error> {
    let by_index: HashMap<u32, &Device> = seen.devices.iter().map(|device| (device.index, device)).collect();
    let mut findings = Vec::new();
    for uplink in &compiled.uplinks {
        findings.extend(uplink_findings(uplink, host, &by_index));
    }
    let forced = |device: &str| {
        zone.host(host).is_some_and(|host| {
            let modes = compiled.uplinks.iter().filter(|uplink| uplink.device.as_deref() == Some(device));
            modes.into_iter().any(|uplink| {
                host.uplink_mode.get(&uplink.physical_network).is_some_and(|mode| mode.value == UplinkMode::Xdp)
            })
        })
    };
    findings.extend(seen.fallbacks.iter().map(|(device, why)| fallback(device, *why, forced(device))));
    findings.extend(seen.unpaced.iter().map(|(device, why)| unpaced(device, why)));
    findings.extend(seen.tunnels.iter().filter_map(|(port, device)| foreign_tunnel(*port, device)));
    findings.extend(bridgeless(compiled, &by_index));
    findings.extend(bypassed(compiled, seen, &by_index)?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn warning(object: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, object: object.into(), message: message.into() }
}

fn error(object: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Error, object: object.into(), message: message.into() }
}

/// Is the uplink there, and does what its networks send fit through it?
fn uplink_findings(uplink: &UplinkUse, host: &str, devices: &HashMap<u32, &Device>) -> Option<Finding> {
    let name = uplink.device.as_deref()?;
    let object = format!("uplink {name}");
    let Some(device) = uplink.ifindex.and_then(|index| devices.get(&index)) else {
        let physical = &uplink.physical_network;
        let message =
            format!("host {host} has no device {name}, which its uplinks give for {physical}; name one it has");
        return Some(error(object, message));
    };
    let (network, mtu) = (&uplink.largest.0, uplink.largest.1);
    let (overhead, what) = match uplink.isolation {
        Isolation::Vxlan => (VXLAN_OVERHEAD, format!(" and {VXLAN_OVERHEAD} for VXLAN")),
        Isolation::Vlan => (0, String::new()),
    };
    let needed = mtu + overhead;
    if device.mtu >= needed {
        return None;
    }
    let fits = device.mtu.saturating_sub(overhead);
    Some(error(
        object,
        format!(
            "its MTU is {}, network {network} needs {needed} ({mtu}{what}); either `ip link set {name} mtu {needed}`, with \
             the switches between, or `mtu: {fits}` for the network in the definitions",
            device.mtu
        ),
    ))
}

fn fallback(device: &str, why: Fallback, is_forced: bool) -> Finding {
    let why = match why {
        Fallback::NoDriver => "its driver has no XDP",
        Fallback::TagsHidden => "the NIC takes VLAN tags out and cannot be told not to (rxvlan is fixed)",
        Fallback::Taken => "somebody else's XDP program is on it",
        Fallback::Copies => {
            let message = "a veth copies every frame for XDP: its frames are taken in TC; `uplink_mode: xdp` overrides";
            return warning(format!("uplink {device}"), message);
        }
    };
    let asked = if is_forced { ", though uplink_mode asks for XDP" } else { "" };
    warning(format!("uplink {device}"), format!("{why}: its frames are taken in TC, which is slower{asked}"))
}

fn unpaced(device: &str, why: &Unpaced) -> Finding {
    let why = match why {
        Unpaced::NoFq => "this kernel has no fq (module sch_fq)".to_owned(),
        Unpaced::Foreign(kind) => {
            format!(
                "its queueing discipline is its operator's, {kind}, and stays (`tc qdisc del dev {device} root` takes it off)"
            )
        }
    };
    let message = format!("{why}: packets above a rate are dropped instead of delayed, though `pacing` asks for fq");
    warning(format!("uplink {device}"), message)
}

fn foreign_tunnel(port: u16, device: &TunnelDevice) -> Option<Finding> {
    let TunnelDevice::Foreign(name) = device else { return None };
    Some(warning(
        format!("UDP port {port}"),
        format!(
            "device {name} holds it: netpath makes no tunnel device of its own there, takes the VNIs it has definitions for and \
             leaves the others to {name}"
        ),
    ))
}

/// `on_miss: pass` hands frames to the bridge that the port belongs to; without one they would reach the host itself.
fn bridgeless(compiled: &Compiled, devices: &HashMap<u32, &Device>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (ifindex, port) in &compiled.rows.ports {
        let passes =
            compiled.rows.networks.get(&port.network).is_some_and(|n| n.flags & network_flags::ON_MISS_PASS != 0);
        let Some(device) = devices.get(ifindex).filter(|_| passes) else { continue };
        let kind = device.master.and_then(|master| devices.get(&master)).and_then(|master| master.kind.as_deref());
        if !matches!(kind, Some("bridge" | "openvswitch")) {
            findings.push(error(
                format!("device {}", device.name),
                "its network has on_miss: pass, but it is no port of a bridge, so the guest would talk to this host itself; \
                 put it into its bridge, or set on_miss: drop",
            ));
        }
    }
    findings
}

/// What others have put on guest devices, and what a redirect passes by.
fn bypassed(compiled: &Compiled, seen: &Observed<'_>, devices: &HashMap<u32, &Device>) -> Result<Vec<Finding>, Error> {
    let guests = compiled.attachments.iter().filter(|attachment| attachment.role == Role::GuestPort);
    let guests: HashMap<u32, &Device> =
        guests.filter_map(|guest| Some((guest.ifindex, *devices.get(&guest.ifindex)?))).collect();
    if guests.is_empty() {
        return Ok(Vec::new());
    }
    let own: Vec<u32> = seen.actual.iter().map(|attachment| attachment.program).collect();
    let attached: HashSet<&str> = seen.actual.iter().map(|attachment| attachment.device.as_str()).collect();
    let mut findings = Vec::new();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
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
    for device in guests.values().filter(|device| !attached.contains(device.name.as_str())) {
        for program in datapath::foreign_tcx(device, &own)? {
            if program == Hook::FromGuest.name() {
                let message = "netpath has it under another root, and two would judge its guest; detach there first";
                findings.push(error(format!("device {}", device.name), message));
                continue;
            }
            found.entry(&device.name).or_default().push(format!("tcx program {program}"));
        }
    }
    let named = bridge_rules();
    for device in guests.values() {
        if named.iter().any(|(_, words)| words.contains(&device.name)) {
            let tools: Vec<_> =
                named.iter().filter(|(_, words)| words.contains(&device.name)).map(|(t, _)| *t).collect();
            found.entry(&device.name).or_default().push(format!("{} rules", tools.join(" and ")));
        }
    }
    findings.extend(found.into_iter().map(|(device, what)| bypass(device, &what)));
    Ok(findings)
}

fn bypass(device: &str, what: &[String]) -> Finding {
    let mut what = what.to_vec();
    what.sort();
    what.dedup();
    let message = format!("has {}, which frames that netpath forwards pass by", what.join(", "));
    warning(format!("device {device}"), message)
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
    use crate::netlink::XdpSupport;

    fn device(index: u32, name: &str, mtu: u32) -> Device {
        Device {
            name: name.into(),
            index,
            kind: None,
            mac: None,
            mtu,
            master: None,
            parent: None,
            is_up: true,
            is_running: true,
            xdp_program: None,
            xdp_is_generic: false,
            vxlan: None,
            xdp: XdpSupport::Absent,
        }
    }

    fn uplink(ifindex: Option<u32>, isolation: Isolation) -> UplinkUse {
        UplinkUse {
            physical_network: "guest".into(),
            isolation,
            device: Some("eth1".into()),
            ifindex,
            mode: UplinkMode::Auto,
            udp_port: Some(4789),
            local: None,
            largest: ("web".into(), 1500),
        }
    }

    #[test]
    fn an_underlay_that_is_too_small_is_an_error_with_both_numbers_and_both_ways_out() {
        let small = device(2, "eth1", 1500);
        let devices = HashMap::from([(2, &small)]);
        let finding = uplink_findings(&uplink(Some(2), Isolation::Vxlan), "kvm1", &devices).unwrap();
        assert_eq!(finding.severity, Severity::Error);
        for part in ["its MTU is 1500", "needs 1550", "ip link set eth1 mtu 1550", "`mtu: 1450`"] {
            assert!(finding.message.contains(part), "{part}: {}", finding.message);
        }
        assert_eq!(uplink_findings(&uplink(Some(2), Isolation::Vlan), "kvm1", &devices), None);
    }

    #[test]
    fn an_uplink_that_is_missing_is_an_error() {
        let finding = uplink_findings(&uplink(None, Isolation::Vxlan), "kvm1", &HashMap::new()).unwrap();
        assert_eq!((finding.severity, finding.object.as_str()), (Severity::Error, "uplink eth1"));
    }

    #[test]
    fn a_foreign_holder_of_the_port_is_a_warning_that_names_it() {
        let finding = foreign_tunnel(8472, &TunnelDevice::Foreign("vxlan5".into())).unwrap();
        assert_eq!((finding.severity, finding.object.as_str()), (Severity::Warning, "UDP port 8472"));
        assert!(finding.message.contains("vxlan5"));
        assert_eq!(foreign_tunnel(8472, &TunnelDevice::Own(7)), None);
    }

    #[test]
    fn device_names_are_found_in_bridge_rules() {
        let listing = "chain x { iifname \"vnet0\" drop; }\n-i vnet1 -j I-vnet1-mac";
        let words = words(listing);
        assert!(words.contains("vnet0") && words.contains("vnet1") && !words.contains("vnet"));
    }
}
