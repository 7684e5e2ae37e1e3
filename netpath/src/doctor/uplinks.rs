//! The devices that lead to other hosts: there, up, in their right place, and how their frames are taken.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{Fault, Host};
use crate::{
    apply::{Fallback, Unpaced},
    compile::UplinkUse,
    definitions::UplinkMode,
    netlink::{Device, fq},
};

pub(super) fn uplink_missing(host: &Host) -> Vec<Fault> {
    const WHY: &str = "the networks on it reach no other host";
    let named = host.uplinks.iter().filter(|uplink| uplink.ifindex.is_none()).filter_map(|uplink| {
        let (name, physical) = (uplink.device.as_deref()?, &uplink.physical_network);
        let found = format!("host {} has no device {name}, which its uplinks give for {physical}", host.name);
        Some((name, found))
    });
    let named: Vec<_> = named.collect();
    let known: BTreeSet<&str> = named.iter().map(|(name, _)| *name).collect();
    let lost = host.lost_uplinks.iter().filter(|name| !known.contains(name.as_str())).map(|name| {
        (name.as_str(), format!("device {name} is gone, which programs of netpath were attached to as an uplink"))
    });
    let fault = |(name, found)| {
        let mend = format!(
            "name one it has (`ip link` lists them), or bring {name} back; then `{}`",
            if host.apply.is_empty() { "netpath apply" } else { &host.apply }
        );
        Fault::error(format!("uplink {name}"), found).because(WHY).mend(mend)
    };
    lost.chain(named.iter().map(|(name, found)| (*name, found.clone()))).map(fault).collect()
}

/// Links and rows go by the device's index: its frames go on as if nothing were.
pub(super) fn device_renamed(host: &Host) -> Vec<Fault> {
    let fault = |(old, new): (&String, &String)| {
        let found = format!("it is called {new} now, and netpath's programs are on it as on {old}");
        Fault::warning(format!("device {new}"), found)
            .because("its frames go on, but definitions that name it as before do not find it, and the next apply is refused or takes the programs off")
            .mend(format!("`ip link set {new} name {old}`, or name {new} in the definitions, then `{}`", host.apply))
    };
    host.renamed.iter().map(fault).collect()
}

pub(super) fn uplink_down(host: &Host) -> Vec<Fault> {
    const WHY: &str = "nothing is received or sent through it";
    let mut faults = Vec::new();
    for device in devices(host) {
        let object = format!("uplink {}", device.name);
        if !device.is_up {
            let mend = format!("`ip link set {} up`", device.name);
            faults.push(Fault::error(object, "it is down").because(WHY).mend(mend));
        } else if !device.is_running {
            let mend =
                format!("look at the cable and the switch's port; `ethtool {}` says what the NIC sees", device.name);
            faults.push(Fault::error(object, "it is up, but has no carrier").because(WHY).mend(mend));
        }
        if let Some(above) = host.master(device).filter(|above| !above.is_up) {
            let (object, found) =
                (format!("bridge {}", above.name), format!("it is down, and uplink {} is a port of it", device.name));
            let mend = format!("`ip link set {} up`", above.name);
            faults.push(Fault::error(object, found).because("the host's addresses on it do not work").mend(mend));
        }
    }
    faults
}

/// A slave of a bond hands its frames to the bond; the address of a bridge's port does not work on the port.
pub(super) fn uplink_enslaved(host: &Host) -> Vec<Fault> {
    let fault = |(uplink, device): (&UplinkUse, &Device)| {
        let above = host.master(device)?;
        let (name, above_name) = (&device.name, &above.name);
        let object = format!("uplink {name}");
        let address = |device: &Device| {
            let is_it = |(index, net): &&(u32, Ipv4Net)| *index == device.index && Some(net.addr()) == uplink.local;
            host.addresses.iter().find(is_it).map(|(_, net)| net)
        };
        match above.kind.as_deref() {
            Some("bond" | "team") => Some(
                Fault::error(object, format!("it is a slave of {above_name}"))
                    .because("frames that the other slaves receive are not taken, and what is sent leaves past the bond")
                    .mend(format!("name {above_name} as the uplink in the definitions, then `{}`", host.apply)),
            ),
            _ => address(device).filter(|_| address(above).is_none()).map(|net| {
                Fault::error(object, format!("it is a port of {above_name}, but the tunnel address is still on {name} itself"))
                    .because("a port's own address answers nobody: no tunnel of this host works")
                    .mend(format!(
                        "`ip link set {name} nomaster`, or move the address: `ip address del {net} dev {name} && ip address add \
                         {net} dev {above_name}`"
                    ))
            }),
        }
    };
    let mut faults: Vec<Fault> = host.present_uplinks().filter_map(fault).collect();
    faults.dedup();
    faults
}

pub(super) fn xdp_fallback(host: &Host) -> Vec<Fault> {
    let fault = |(device, why): &(String, Fallback)| {
        let is_forced =
            host.uplinks.iter().any(|uplink| uplink.device.as_ref() == Some(device) && uplink.mode == UplinkMode::Xdp);
        let (why, mend) = match why {
            Fallback::NoDriver => ("its driver has no XDP", "no command does: it takes a NIC whose driver has XDP"),
            Fallback::TagsHidden => (
                "the NIC takes VLAN tags out and cannot be told not to (rxvlan is fixed)",
                "no command does: `ethtool -k DEV` says `rx-vlan-offload: on [fixed]`",
            ),
            Fallback::Taken => (
                "somebody else's XDP program is on it",
                "`ip link show` names the program; `ip link set DEV xdp off` takes it off",
            ),
            Fallback::Copies => {
                ("a veth copies every frame for XDP", "`uplink_mode: xdp` in the definitions overrides")
            }
        };
        let driver = host.links.iter().find(|link| link.device == *device && !link.driver.is_empty());
        let driver = driver.map_or_else(String::new, |link| format!(" (driver {})", link.driver));
        let asked = if is_forced { ", though uplink_mode asks for XDP" } else { "" };
        let (object, found) = (format!("uplink {device}"), format!("{why}{driver}: its frames are taken in TC{asked}"));
        let fault = if is_forced { Fault::warning(object, found) } else { Fault::note(object, found) };
        fault.because("TC is slower for all but TCP").mend(mend.replace("DEV", device))
    };
    host.fallbacks.iter().map(fault).collect()
}

pub(super) fn xdp_generic(host: &Host) -> Vec<Fault> {
    let generic = host.links.iter().filter(|link| link.takes_xdp && link.xdp_is_generic);
    let fault = |link: &super::host::Link| {
        Fault::warning(format!("uplink {}", link.device), "XDP is attached in generic mode")
            .because("the kernel has made a packet of each frame by then: it costs more than TC alone")
            .mend(format!("set uplink_mode: tc for {} in the definitions, then `{}`", link.device, host.apply))
    };
    generic.map(fault).collect()
}

pub(super) fn uplink_unpaced(host: &Host) -> Vec<Fault> {
    let fault = |(device, why): &(String, Unpaced)| {
        let (found, mend) = match why {
            Unpaced::NoFq => (
                "this kernel has no fq, though `pacing` asks for it".to_owned(),
                "`modprobe sch_fq`, or a kernel that has it".to_owned(),
            ),
            Unpaced::Foreign(kind) => (
                format!("its queueing discipline is its operator's, {kind}, and stays, though `pacing` asks for fq"),
                format!("`tc qdisc del dev {device} root` takes it off; then apply"),
            ),
            Unpaced::Narrow(room) => (
                format!("its fq keeps few packets: {room}"),
                format!(
                    "`tc qdisc replace dev {device} root fq {}` (below mq: for each queue), or no fq of its operator's and \
                     `pacing: fq`; then apply",
                    fq::wanted()
                ),
            ),
        };
        let uplink = format!("uplink {device}");
        let fault = match why {
            Unpaced::NoFq | Unpaced::Foreign(_) => {
                Fault::warning(uplink, found).because("packets above a rate are dropped instead of delayed")
            }
            Unpaced::Narrow(_) => Fault::note(uplink, found).because(
                "packets above a rate are dropped sooner, and small ones that it has no room for are lost in it uncounted",
            ),
        };
        fault.mend(mend)
    };
    host.unpaced.iter().map(fault).collect()
}

/// The uplinks that exist, each once.
fn devices(host: &Host) -> impl Iterator<Item = &Device> {
    let used: BTreeSet<u32> = host.present_uplinks().map(|(_, device)| device.index).collect();
    used.into_iter().filter_map(|index| host.device(index))
}
