//! Guests' devices, and what stands beside netpath on them.

use super::{Fault, Guest, Host};

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
        let found = format!("has {}, which frames that netpath forwards pass by", what.join(", "));
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
    let on_bridges = host.guests.iter().filter(|guest| guest.is_bridge_port).count();
    if on_bridges == 0 || host.system.bridge_calls_iptables.unwrap_or(0) == 0 {
        return Vec::new();
    }
    let fault = Fault::note(
        "bridges",
        format!("bridge-nf-call-iptables is 1, and {on_bridges} guest devices are ports of a bridge"),
    )
    .because("what goes over the bridge is walked through iptables and its connection tracking; netpath's own frames are not")
    .mend("`sysctl -w net.bridge.bridge-nf-call-iptables=0`, unless security groups by iptables are in use");
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
