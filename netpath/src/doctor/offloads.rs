//! Offloads of uplinks.

use super::{
    Fault, Host,
    host::{Link, Pins},
};
use crate::netlink::ethtool::Offload;

/// XDP sees no tag that the NIC has taken out.
pub(super) fn rxvlan_on(host: &Host) -> Vec<Fault> {
    let has_vlans = |link: &Link| {
        let device = host.named(&link.device);
        host.segments.iter().any(|own| own.udp_port == 0 && device.is_some_and(|device| device.index == own.device))
    };
    let hidden = host.links.iter().filter(|link| link.takes_xdp && is_on(link.rx_vlan) && has_vlans(link));
    let fault = |link: &Link| {
        Fault::error(format!("uplink {}", link.device), "XDP is on it, and the NIC takes VLAN tags out (rxvlan is on)")
            .because("XDP does not see which VLAN a frame is of, and takes it for one without a tag")
            .mend(format!("`ethtool -K {} rxvlan off`", link.device))
    };
    hidden.map(fault).collect()
}

/// TCP for local guests goes the GRO way (docs/performance.md), whether it comes in a tunnel, in a VLAN or from a public link.
pub(super) fn gro_off(host: &Host) -> Vec<Fault> {
    let off = host.links.iter().filter(|link| link.gro.is_some_and(|gro| !gro.is_on));
    let fault = |link: &Link| {
        Fault::warning(format!("uplink {}", link.device), "GRO is off")
            .because("TCP for guests is not merged: each segment costs what a super-packet of forty would")
            .mend(format!("`ethtool -K {} gro on`", link.device))
    };
    off.map(fault).collect()
}

/// Only where a tunnel device of netpath's own makes the kernel tell the NIC its port.
pub(super) fn tunnel_offload_off(host: &Host) -> Vec<Fault> {
    let is_applied = matches!(host.pins, Pins::Applied { .. });
    let can = |link: &Link| link.tunnel_port.is_some_and(|offload| offload.is_switchable && !offload.is_on);
    let off = host.links.iter().filter(|link| is_applied && link.has_tunnels && can(link));
    let fault = |link: &Link| {
        Fault::note(
            format!("uplink {}", link.device),
            "the NIC is not told of tunnels (rx-udp_tunnel-port-offload is off)",
        )
        .because("it spreads tunnelled packets by their outer header only, and sums inner ones in software")
        .mend(format!("`ethtool -K {} rx-udp_tunnel-port-offload on`", link.device))
    };
    off.map(fault).collect()
}

fn is_on(offload: Option<Offload>) -> bool {
    offload.is_some_and(|offload| offload.is_on)
}
