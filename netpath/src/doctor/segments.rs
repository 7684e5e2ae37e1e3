//! Segments that a device of the kernel's claims as well.

use super::{Fault, Host, host::OwnSegment};

const WHY: &str =
    "netpath takes these frames first: the device receives none of them, and whoever relies on it is cut off";

pub(super) fn vni_conflict(host: &Host) -> Vec<Fault> {
    let mut faults = Vec::new();
    for device in &host.devices {
        let Some(vxlan) = device.vxlan.filter(|vxlan| !vxlan.external) else { continue };
        let claimed = exclusive(host).find(|own| own.udp_port == vxlan.port && own.id == vxlan.vni);
        if let Some(own) = claimed {
            let found = format!("it has VNI {} on UDP port {}, which is {}'s", vxlan.vni, vxlan.port, own.owner);
            faults.push(
                Fault::error(format!("device {}", device.name), found).because(WHY).mend(mend(host, &device.name)),
            );
        }
    }
    faults
}

pub(super) fn vlan_conflict(host: &Host) -> Vec<Fault> {
    let mut faults = Vec::new();
    for device in &host.vlan_devices {
        let below =
            |own: &u32| *own == device.parent || host.device(*own).is_some_and(|own| own.master == Some(device.parent));
        let claimed =
            exclusive(host).find(|own| own.udp_port == 0 && own.id == u32::from(device.id) && below(&own.device));
        if let Some(own) = claimed {
            let parent = host.device_name(device.parent);
            let found = format!("it has VLAN {} on {parent}, which is {}'s", device.id, own.owner);
            faults.push(
                Fault::error(format!("device {}", device.name), found).because(WHY).mend(mend(host, &device.name)),
            );
        }
    }
    faults
}

/// Segments of which no frame goes on.
fn exclusive(host: &Host) -> impl Iterator<Item = &OwnSegment> {
    host.segments.iter().filter(|own| !own.is_shared)
}

fn mend(host: &Host, device: &str) -> String {
    format!("`ip link delete {device}`, or give one of the two another id and `{}`", host.apply)
}
