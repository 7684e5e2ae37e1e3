//! What the kernel and the driver say of the devices that tenants' frames arrive on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    datapath::Hook,
    definitions::Isolation,
    doctor::host::{Host, Link, VlanDevice},
    netlink::{Device, driver, ethtool, link},
};

/// Uplinks and the slaves of those that are bonds, with the first look at what they count. What cannot be read is absent.
pub(super) fn links(host: &Host) -> Vec<Link> {
    let uplinks: BTreeSet<u32> = host.present_uplinks().map(|(_, device)| device.index).collect();
    let of_bond = |device: &Device| {
        let above = device.master.filter(|master| uplinks.contains(master)).and_then(|master| host.device(master));
        above.is_some_and(|above| above.kind.as_deref() == Some("bond"))
    };
    let receivers = host.devices.iter().filter(|device| uplinks.contains(&device.index) || of_bond(device));
    receivers.map(|device| one(host, device)).collect()
}

fn one(host: &Host, device: &Device) -> Link {
    let takes_xdp = host.attachments.iter().any(|a| a.device == device.name && a.hook == Hook::FromUplinkXdp);
    let has_tunnels = host.present_uplinks().any(|(used, uplink)| {
        used.isolation == Isolation::Vxlan && [Some(device.index), device.master].contains(&Some(uplink.index))
    });
    // The kernel merges where a device is polled: of a bond in its slaves, of a VLAN device below it.
    let is_own = !matches!(device.kind.as_deref(), Some("bond" | "team" | "vlan"));
    let offload = |name| ethtool::offload(device.index, name).ok();
    let (received, lost) = (received(device.index), lost(&device.name));
    Link {
        index: device.index,
        device: device.name.clone(),
        driver: driver::driver(&device.name).unwrap_or_default(),
        is_hardware: device.kind.is_none(),
        has_tunnels,
        takes_xdp,
        xdp_is_generic: device.xdp_is_generic,
        rx_vlan: offload(ethtool::RX_VLAN),
        gro: if is_own { offload(ethtool::RX_GRO) } else { None },
        tunnel_port: offload(ethtool::RX_TUNNEL_PORT),
        queues: ethtool::receive_queues(device.index).ok().flatten(),
        received: (received, received),
        lost: (lost.clone(), lost),
        begun: Some(Instant::now()),
        seconds: 0.0,
    }
}

/// The second look; a device that is gone by then keeps the first.
pub(super) fn look_again(links: &mut [Link]) {
    for link in links {
        if let Ok(details) = link::details(link.index) {
            link.received.1 = details.received;
            link.lost.1 = lost(&link.device);
            link.seconds = link.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        }
    }
}

/// The kernel's VLAN devices.
pub(super) fn vlan_devices(devices: &[Device]) -> Vec<VlanDevice> {
    let vlans = devices.iter().filter(|device| device.kind.as_deref() == Some("vlan"));
    let vlan = vlans.filter_map(|device| {
        let id = link::details(device.index).ok()?.vlan?;
        Some(VlanDevice { name: device.name.clone(), parent: device.parent?, id })
    });
    vlan.collect()
}

/// The driver's counters that tell of frames which nobody got. What XDP programs drop is their own decision.
fn lost(device: &str) -> BTreeMap<String, u64> {
    const WORDS: [&str; 8] = ["drop", "discard", "missed", "no_buf", "out_of_buffer", "no_dma", "alloc_fail", "fifo"];
    let is_of_loss =
        |name: &str| name.starts_with("rx") && !name.contains("xdp") && WORDS.iter().any(|word| name.contains(word));
    let counters = driver::counters(device).unwrap_or_default();
    counters.into_iter().filter(|(name, _)| is_of_loss(name)).collect()
}

fn received(index: u32) -> link::Received {
    link::details(index).map(|details| details.received).unwrap_or_default()
}
