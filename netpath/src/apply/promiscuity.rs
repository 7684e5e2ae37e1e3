//! Which uplinks have to take frames for stations that are not their own. On VLAN and untagged networks guests and gateways are
//! stations of the wire themselves, and a NIC that is no bridge's port passes only what is for its own address. (Tunnels and public
//! addresses have the uplink's.) UPLINKS remembers where netpath has seen to it. What a bridge holds its port to goes on for as long as
//! the port is one; what somebody who listens does (tcpdump) ends with him, and is not relied on.

use std::collections::BTreeSet;

use netpath_common::maps::{UplinkKey, segment_flags, uplink_flags::RESTORE_PROMISCUITY};

use super::steps::Step;
use crate::{
    compile::{Compiled, Rows},
    definitions::Isolation,
    netlink::Device,
};

/// What is turned on, and off; rows that remember it are changed.
pub(super) fn steps(existing: &Rows, compiled: &mut Compiled, devices: &[Device]) -> (Vec<Step>, Vec<Step>) {
    let rows = &compiled.rows;
    let has_stations = |ifindex: &u32| {
        rows.segments
            .iter()
            .any(|(key, row)| key.ifindex == *ifindex && key.udp_port == 0 && row.flags & segment_flags::PUBLIC == 0)
    };
    let vlan = compiled.uplinks.iter().filter(|uplink| uplink.isolation == Isolation::Vlan);
    let wanted: BTreeSet<u32> = vlan.filter_map(|uplink| uplink.ifindex).filter(has_stations).collect();
    let key = |ifindex: u32| UplinkKey { ifindex, udp_port: 0 };
    let is_own = |device: &Device| {
        let row = existing.uplinks.get(&key(device.index));
        device.is_promiscuous && row.is_some_and(|row| row.flags & RESTORE_PROMISCUITY != 0)
    };
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for device in devices {
        let (is_wanted, is_own) = (wanted.contains(&device.index), is_own(device));
        let step = |on| Step::Promiscuity { device: device.name.clone(), ifindex: device.index, on };
        let is_held = device.promiscuity > 0 && is_bridge_port(device, devices);
        let is_missing = is_wanted && !device.is_promiscuous && !is_held;
        if (is_missing || is_wanted && is_own)
            && let Some(row) = compiled.rows.uplinks.get_mut(&key(device.index))
        {
            row.flags |= RESTORE_PROMISCUITY;
        }
        match (is_missing, is_wanted, is_own) {
            (true, ..) => on.push(step(true)),
            (_, false, true) => off.push(step(false)),
            _ => {}
        }
    }
    (on, off)
}

/// Whether the device is a port of a bridge, which wants all frames of it.
fn is_bridge_port(device: &Device, devices: &[Device]) -> bool {
    let is_bridge = |above: &Device| matches!(above.kind.as_deref(), Some("bridge" | "openvswitch"));
    devices.iter().any(|above| device.master == Some(above.index) && is_bridge(above))
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{Segment, SegmentKey, Uplink};

    use super::*;
    use crate::{compile::UplinkUse, definitions::UplinkMode};

    fn device(index: u32, promiscuity: u32, is_promiscuous: bool) -> Device {
        Device { promiscuity, is_promiscuous, ..Device::hardware(index, &format!("eth{index}")) }
    }

    fn compiled(uplinks: &[(u32, u32)]) -> Compiled {
        let mut compiled = Compiled::default();
        for (ifindex, flags) in uplinks {
            compiled.rows.uplinks.insert(UplinkKey { ifindex: *ifindex, udp_port: 0 }, Uplink::default());
            let key = SegmentKey { ifindex: *ifindex, udp_port: 0, id: 7 };
            compiled.rows.segments.insert(key, Segment { flags: *flags, ..Segment::default() });
            compiled.uplinks.push(UplinkUse {
                physical_network: "guest".into(),
                isolation: Isolation::Vlan,
                device: None,
                ifindex: Some(*ifindex),
                mode: UplinkMode::Auto,
                udp_port: None,
                local: None,
                largest: (String::new(), 0),
            });
        }
        compiled
    }

    fn marked(compiled: &Compiled) -> Vec<u32> {
        let rows = compiled.rows.uplinks.iter().filter(|(_, row)| row.flags & RESTORE_PROMISCUITY != 0);
        rows.map(|(key, _)| key.ifindex).collect()
    }

    #[test]
    fn uplinks_of_guests_stations_are_promiscuous_and_are_so_no_longer_than_that() {
        // A bridge's port, or its operator's, is so already; public addresses have the uplink's own.
        let port = || Device { master: Some(9), ..device(2, 1, false) };
        let bridge = || Device { kind: Some("bridge".into()), ..device(9, 0, false) };
        let devices = [device(1, 0, false), port(), device(3, 1, true), device(4, 0, false), bridge()];
        let mut first = compiled(&[(1, 0), (2, 0), (3, 0), (4, segment_flags::PUBLIC)]);
        let (on, off) = steps(&Rows::default(), &mut first, &devices);
        let step = |on| Step::Promiscuity { device: "eth1".into(), ifindex: 1, on };
        assert_eq!((on, off, marked(&first)), (vec![step(true)], vec![], vec![1]));
        let listened_to = [device(1, 1, false)];
        assert_eq!(steps(&Rows::default(), &mut compiled(&[(1, 0)]), &listened_to), (vec![step(true)], vec![]));

        let devices = [device(1, 1, true), port(), device(3, 1, true), bridge()];
        let mut again = compiled(&[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(steps(&first.rows, &mut again, &devices), (vec![], vec![]));
        assert_eq!(marked(&again), [1]);

        let mut gone = compiled(&[(2, 0)]);
        assert_eq!(steps(&again.rows, &mut gone, &devices), (vec![], vec![step(false)]));
    }
}
