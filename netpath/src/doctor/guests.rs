//! Guests' devices, and what stands beside netpath on them.

use std::collections::BTreeSet;

use super::{
    Fault, Guest, Host,
    finding::{counted, listed},
};
use crate::netlink::Device;

/// `on_miss: pass` hands frames to the bridge that the port belongs to; without one they would reach the host itself.
pub(super) fn guest_bridgeless(host: &Host) -> Vec<Fault> {
    let bridgeless = host.guests.iter().filter(|guest| guest.passes && !guest.is_bridge_port);
    let fault = |guest: &Guest| {
        Fault::error(
            format!("device {}", guest.device),
            "its network has on_miss: pass, but it is no port of a bridge, so the guest would talk to this host itself",
        )
        .because("a tenant reaches the hypervisor's own services")
        .mend(format!("put it into its bridge (`ip link set {} master BRIDGE`), or set on_miss: drop", guest.device))
    };
    bridgeless.map(fault).collect()
}

/// What others have put on guest devices, and what a redirect passes by.
pub(super) fn guest_bypass(host: &Host) -> Vec<Fault> {
    let fault = |(device, what): &(String, Vec<String>)| {
        let found = format!("has {}, which frames that netpath forwards pass by, all or some", listed(what));
        Fault::warning(format!("device {device}"), found)
            .because("a rate or a rule that is believed to hold does not")
            .mend("say it in the definitions instead, and take it off there (libvirt: `<bandwidth>`, `<filterref>`)")
    };
    host.bypasses.iter().map(fault).collect()
}

pub(super) fn guest_of_other_root(host: &Host) -> Vec<Fault> {
    let fault = |device: &String| {
        Fault::error(format!("device {device}"), "netpath has it under another root, and two would judge its guest")
            .because("a frame that the one lets pass is dropped by the other")
            .mend("detach there first: `netpath --root OTHER detach`")
    };
    host.rivals.iter().map(fault).collect()
}

pub(super) fn bridge_netfilter(host: &Host) -> Vec<Fault> {
    let is_bridged = |device: &Device| host.master(device).is_some_and(|above| above.kind.as_deref() == Some("bridge"));
    let uplinks: BTreeSet<&str> =
        host.present_uplinks().filter(|(_, device)| is_bridged(device)).map(|(_, device)| &*device.name).collect();
    let guests = host.guests.iter().filter(|guest| guest.is_bridge_port).count();
    let calls = &host.system.bridge_calls;
    if guests + uplinks.len() == 0 || calls.is_empty() {
        return Vec::new();
    }
    let mut ports = uplinks.iter().map(|name| format!("uplink {name}")).collect::<Vec<_>>();
    ports.extend((guests > 0).then(|| counted(guests, "guest device")));
    let settings = calls.iter().map(|name| format!(" net.bridge.{name}=0")).collect::<String>();
    let are = if calls.len() == 1 { "is" } else { "are" };
    let belong = if guests + uplinks.len() == 1 { "is a port of a bridge" } else { "are ports of bridges" };
    let fault = Fault::warning("bridges", format!("{} {are} on, and {} {belong}", listed(calls), listed(&ports)))
    .because("what goes over the bridge is walked through iptables and its connection tracking; netpath's own frames are not")
    .mend(format!("`sysctl -w{settings}`, unless security groups by iptables are in use"));
    vec![fault]
}

pub(super) fn vhost_net_missing(host: &Host) -> Vec<Fault> {
    let taps = host.guests.iter().filter(|guest| guest.is_tap).count();
    if taps == 0 || host.system.has_vhost_net {
        return Vec::new();
    }
    let fault = Fault::warning("host", format!("there is no /dev/vhost-net, and taps of guests: {taps}"))
        .because("QEMU carries each packet through user space, which halves what a guest can do, or worse")
        .mend("`modprobe vhost_net`, and start the guests again with `<driver name='vhost'/>`");
    vec![fault]
}
