//! The way between the hosts: addresses, sizes, routes.

use super::{
    Fault, Host, VXLAN_OVERHEAD,
    host::{Echo, Peer},
};
use crate::{compile::UplinkUse, definitions::Isolation, netlink::Device};

/// Does what the uplink's networks send fit through it?
pub(super) fn underlay_mtu(host: &Host) -> Vec<Fault> {
    let fault = |(uplink, device): (&UplinkUse, &Device)| {
        let (name, (network, mtu)) = (&device.name, (&uplink.largest.0, uplink.largest.1));
        let (overhead, what) = match uplink.isolation {
            Isolation::Vxlan => (VXLAN_OVERHEAD, format!(" and {VXLAN_OVERHEAD} for VXLAN")),
            Isolation::Vlan => (0, String::new()),
        };
        let needed = mtu + overhead;
        let fits = device.mtu.saturating_sub(overhead);
        (device.mtu < needed).then(|| {
            Fault::error(
                format!("uplink {name}"),
                format!("its MTU is {}, network {network} needs {needed} ({mtu}{what})", device.mtu),
            )
            .because("full-size packets of guests are lost, while small ones pass: connections open and then hang")
            .mend(format!(
                "either `ip link set {name} mtu {needed}`, with the switches between, or `mtu: {fits}` for the network in the \
                 definitions"
            ))
        })
    };
    host.present_uplinks().filter_map(fault).collect()
}

pub(super) fn tunnel_address_missing(host: &Host) -> Vec<Fault> {
    let missing = host.present_uplinks().filter_map(|(uplink, device)| {
        let local = uplink.local.filter(|local| !host.addresses.iter().any(|(_, address)| address.addr() == *local))?;
        let above = host.master(device).unwrap_or(device);
        let fault = Fault::error(host.object(), format!("no device has its tunnel address {local}"))
            .because("the other hosts send to an address that nobody answers for, and drop what comes from another one")
            .mend(format!("`ip address add {local}/PREFIX dev {}`", above.name));
        Some(fault)
    });
    let mut faults: Vec<Fault> = missing.collect();
    faults.dedup();
    faults
}

pub(super) fn peer_silent(host: &Host) -> Vec<Fault> {
    let silent = host.peers.iter().filter(|peer| peer.echo == Echo::Silent);
    let fault = |peer: &Peer| {
        let found = match peer.route {
            Some(_) => format!("{} does not answer echo requests from {}", peer.remote, peer.local),
            None => format!("this host has no route to {}", peer.remote),
        };
        Fault::warning(format!("tunnel {}", peer.name), found)
            .because("guests here do not reach those there, unless only echo requests are filtered; the path's MTU is not known")
            .mend(format!("`ip route get {}` and `ping -I {} {}` say more", peer.remote, peer.local, peer.remote))
    };
    silent.map(fault).collect()
}

pub(super) fn path_mtu(host: &Host) -> Vec<Fault> {
    let small = host.peers.iter().filter_map(|peer| match peer.echo {
        Echo::Answered(largest) if largest < peer.needed => Some((peer, largest)),
        _ => None,
    });
    let fault = |(peer, largest): (&Peer, u32)| {
        let Peer { name, needed, network, .. } = peer;
        Fault::error(
            format!("tunnel {name}"),
            format!("packets of {largest} bytes pass, of {needed} do not, which network {network} needs"),
        )
        .because("full-size packets between guests are lost on the way, while small ones pass: connections open and then hang")
        .mend(format!(
            "raise the MTU of every switch, router and NIC between to {needed} (`tracepath -n {}` shows where it ends), or set \
             `mtu: {}` for the network in the definitions",
            peer.remote,
            largest.saturating_sub(VXLAN_OVERHEAD)
        ))
    };
    small.map(fault).collect()
}

/// Strict reverse path filtering drops what comes in another way than answers would go out.
pub(super) fn rp_filter(host: &Host) -> Vec<Fault> {
    const STRICT: u32 = 1;
    let filter = |device: &str| {
        let value = |name: &str| host.system.rp_filter.get(name).copied().unwrap_or(0);
        value("all").max(value(device))
    };
    let mut faults = Vec::new();
    for peer in &host.peers {
        let Some(device) = peer.uplink.and_then(|index| host.device(index)) else { continue };
        let receiver = host.master(device).unwrap_or(device);
        let Some(route) = peer.route.filter(|route| *route != receiver.index) else { continue };
        if filter(&receiver.name) == STRICT {
            let (name, remote) = (&receiver.name, peer.remote);
            let found = format!(
                "rp_filter is 1, and the route to {remote} ({}) leaves by {}",
                peer.name,
                host.device_name(route)
            );
            let fault = Fault::error(format!("device {name}"), found)
                .because("tunnelled TCP from there goes through the host's stack, which drops it for coming in on the wrong device")
                .mend(format!("`sysctl -w net/ipv4/conf/{name}/rp_filter=2`, or route {remote} by {name}"));
            faults.push(fault);
        }
    }
    faults
}
