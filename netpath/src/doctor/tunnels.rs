//! The devices that listen on VXLAN's UDP ports: netpath's own, and others'.

use super::{Fault, Host, host::Pins};
use crate::compile::{TunnelDevice, tunnel_device_name};

/// netpath's own device: there, up, and with forwarding on, which `bpf_fib_lookup` asks for.
pub(super) fn tunnel_device(host: &Host) -> Vec<Fault> {
    let is_applied = matches!(host.pins, Pins::Applied { .. });
    let fault = |(port, device): (&u16, &TunnelDevice)| {
        let name = tunnel_device_name(*port);
        let object = format!("tunnel device {name}");
        let again = format!("`{}`", host.apply);
        let broken =
            |found: &str| Fault::error(object.clone(), found).because("TCP of guests that comes by VXLAN is lost");
        match device {
            TunnelDevice::Foreign(_) => None,
            TunnelDevice::Planned => Some(broken("it is gone").mend(again)),
            TunnelDevice::Own(index) => {
                let device = host.device(*index)?;
                if !device.is_up {
                    return Some(broken("it is down").mend(format!("`ip link set {} up`", device.name)));
                }
                let forwards = host.system.forwarding.get(&device.name).is_none_or(|value| *value != 0);
                (!forwards).then(|| {
                    Fault::error(object, "IPv4 forwarding is off on it, as writing net.ipv4.ip_forward=0 makes it")
                        .because(
                            "the kernel's routes are asked from it, and it answers none: no tunnel finds its next hop",
                        )
                        .mend(format!("`sysctl -w net.ipv4.conf.{}.forwarding=1`", device.name))
                })
            }
        }
    };
    if is_applied { host.tunnels.iter().filter_map(fault).collect() } else { Vec::new() }
}

/// As flushing a device's addresses leaves it, for a group is joined by an address.
pub(super) fn group_not_joined(host: &Host) -> Vec<Fault> {
    let fault = |(network, group, device): &(String, std::net::Ipv4Addr, String)| {
        Fault::error(format!("network {network}"), format!("multicast group {group} is not joined on {device}"))
            .because("frames that other hosts send to all of the network do not arrive, ARP requests first of all")
            .mend(format!("`{}`", host.apply))
    };
    host.unjoined.iter().map(fault).collect()
}

pub(super) fn vxlan_port_shared(host: &Host) -> Vec<Fault> {
    let shared = host.tunnels.iter().filter_map(|(port, device)| match device {
        TunnelDevice::Foreign(name) => Some((port, name)),
        TunnelDevice::Own(_) | TunnelDevice::Planned => None,
    });
    let fault = |(port, name): (&u16, &String)| {
        Fault::warning(
            format!("UDP port {port}"),
            format!(
                "device {name} holds it: netpath makes no tunnel device of its own there, takes the VNIs it has definitions for and \
                 leaves the others to {name}"
            ),
        )
        .because("VNIs that nobody has a definition for reach the host's stack, and TCP of guests is slower")
        .mend(format!(
            "nothing while {name} is needed; afterwards `ip link delete {name}`, then `{}`",
            if host.apply.is_empty() { "netpath apply" } else { &host.apply }
        ))
    };
    shared.map(fault).collect()
}
