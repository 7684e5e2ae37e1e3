//! Any zone after any other: the edits lead from one to the other, and nothing has two meanings on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use netpath::{
    compile::{Row, Rows},
    netlink::Device,
    reconcile::reconcile,
};
use netpath_common::maps::{NameKey, destination_kind, forward_flags, name_kind, segment_flags};
use proptest::prelude::*;

use crate::host::{compiled, device, zone};

/// A network as the generator thinks of it: where each of its NICs is, by MAC address.
type Nics = BTreeMap<u8, Place>;

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Host 0 is kvm1, for which is compiled; 3 is nowhere.
    host: u8,
    secondary: bool,
}

#[derive(Debug, Clone)]
struct Random {
    networks: BTreeMap<u8, Nics>,
    /// Which of kvm1's devices exist.
    devices: u32,
    multicast: bool,
    foreign: bool,
}

fn random() -> impl Strategy<Value = Random> {
    let place = (0u8..4, any::<bool>()).prop_map(|(host, secondary)| Place { host, secondary });
    let nics = prop::collection::btree_map(1u8..7, place, 0..6);
    let networks = prop::collection::btree_map(0u8..8, nics, 0..7);
    (networks, any::<u32>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(networks, devices, multicast, foreign)| Random { networks, devices, multicast, foreign })
}

impl Random {
    /// Networks below 4 are VXLAN, the others VLAN; each NIC has a device named after both.
    fn document(&self) -> String {
        let replication = if self.multicast { "multicast" } else { "head_end" };
        let mut text = format!(
            "zone: z\nphysical_networks:\n  - {{name: v, isolation: vxlan, vnis: 1-99, replication: {replication}}}\n  \
             - {{name: t, isolation: vlan, vlans: 1-99}}\nhosts:\n"
        );
        for host in 1..4 {
            let _ = writeln!(
                text,
                "  - {{name: kvm{host}, tunnel_address: 192.0.2.{host}, uplinks: {{v: eth0, t: eth1}}}}"
            );
        }
        text.push_str("networks:\n");
        for (n, nics) in &self.networks {
            let physical = if *n < 4 { "v" } else { "t" };
            let _ = writeln!(text, "  - name: n{n}\n    physical_network: {physical}\n    segment: {}", n + 1);
            let _ = writeln!(text, "    cidr: 10.0.0.0/24\n    gateway: 10.0.0.1\n    nics:");
            for (mac, Place { host, secondary }) in nics {
                let _ = write!(
                    text,
                    "      - {{instance: i{mac}, mac: \"02:00:00:00:00:{mac:02}\", ip: 10.0.0.{}",
                    mac + 10
                );
                if *host < 3 {
                    let _ = write!(text, ", host: kvm{}, device: d{n}-{mac}", host + 1);
                }
                if *secondary {
                    let _ = write!(text, ", secondary_ips: [10.0.0.{}]", mac + 100);
                }
                text.push_str("}\n");
            }
        }
        text
    }

    fn devices(&self) -> Vec<Device> {
        let mut devices = vec![device(1, "eth0", None), device(2, "eth1", None)];
        devices.push(crate::host::vxlan(3, if self.foreign { "vxlan0" } else { "np4789" }, 4789));
        for n in 0..8u32 {
            for mac in (1..7u32).filter(|mac| self.devices.rotate_left(n) & (1 << mac) != 0) {
                devices.push(device(10 + n * 8 + mac, &format!("d{n}-{mac}"), Some("tun")));
            }
        }
        devices
    }

    fn rows(&self, existing: &Rows) -> Rows {
        compiled(&zone(&self.document()), "kvm1", &self.devices(), existing).rows
    }
}

/// Everything that a row refers to is there: no frame goes to a tunnel, slot or network that does not exist.
fn is_closed(rows: &Rows, row: &Row) -> Result<(), TestCaseError> {
    let named = |kind, index| rows.names.contains_key(&NameKey { kind, index });
    let destination = |row: &netpath_common::maps::Destination| match row.kind {
        destination_kind::TUNNEL => rows.tunnels.contains_key(&row.target),
        destination_kind::LOCAL => named(name_kind::PORT, row.slot),
        _ => true,
    };
    let holds = match row {
        Row::Names(..) => true,
        Row::Tunnels(index, _) => named(name_kind::TUNNEL, *index),
        Row::Endpoints(_, row) => rows.tunnels.contains_key(&row.tunnel),
        Row::Networks(index, row) => {
            named(name_kind::NETWORK, *index) && named(name_kind::PHYSICAL_NETWORK, row.physical_network)
        }
        Row::Neighbours(key, row) => rows.networks.contains_key(&key.network) && key.network == row.network,
        Row::Fdb(key, row) => {
            rows.networks.contains_key(&key.network) && key.network == row.network && destination(row)
        }
        Row::Floods(key, row) => rows.networks.contains_key(&key.network) && destination(row),
        Row::Addresses(..) | Row::Uplinks(..) => true,
        Row::Ports(_, row) => rows.networks.contains_key(&row.network) && named(name_kind::PORT, row.slot),
        Row::Segments(_, row) if row.flags & segment_flags::PUBLIC != 0 => rows.upstreams.contains_key(&row.network),
        Row::Upstreams(index, _) => named(name_kind::PUBLIC_LINK, *index),
        Row::Rules(..) => true,
        Row::StaticNat(key, row) => rows.networks.contains_key(&key.network) && key.network == row.network,
        Row::Forwards(_, row) => row.flags & forward_flags::RESERVED != 0 || rows.networks.contains_key(&row.network),
        Row::Routes(_, row) => rows.networks.contains_key(&row.network),
        Row::PublicAddress(_, row) => row.network == 0 || rows.networks.contains_key(&row.network),
        Row::Gateways(index, row) => row.flags == 0 || rows.networks.contains_key(index),
        Row::Segments(_, row) => rows.networks.contains_key(&row.network),
    };
    prop_assert!(holds, "{row:?}");
    Ok(())
}

/// Every row of the tables.
fn all(rows: &Rows) -> Vec<Row> {
    reconcile(&Rows::default(), rows).into_iter().filter_map(|edit| edit.after).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_edits_lead_to_what_is_desired_and_back(zones in prop::collection::vec(random(), 1..5)) {
        let mut rows = Rows::default();
        for zone in &zones {
            let desired = zone.rows(&rows);
            let before = rows.clone();
            let edits = reconcile(&rows, &desired);
            for edit in &edits {
                edit.apply(&mut rows);
                if let Some(row) = &edit.after {
                    is_closed(&rows, row)?;
                }
            }
            prop_assert_eq!(&rows, &desired);
            for row in all(&rows) {
                is_closed(&rows, &row)?;
            }
            prop_assert_eq!(reconcile(&rows, &zone.rows(&rows)), vec![]);
            let mut undone = rows.clone();
            edits.iter().rev().for_each(|edit| edit.inverse().apply(&mut undone));
            prop_assert_eq!(undone, before);
        }
    }

    #[test]
    fn a_name_keeps_its_index_and_a_member_its_position(first in random(), second in random()) {
        let before = first.rows(&Rows::default());
        let after = second.rows(&before);
        for (key, name) in &before.names {
            let now = after.names.iter().find(|(other, known)| other.kind == key.kind && *known == name);
            prop_assert!(now.is_none_or(|(now, _)| now == key), "{name}");
            prop_assert!(after.names.get(key).is_none_or(|now| now == name), "index {key:?} changed hands");
        }
        for (key, member) in &before.floods {
            let same = |row: &&netpath_common::maps::Destination| (row.kind, row.target) == (member.kind, member.target);
            let now = after.floods.iter().find(|(other, row)| other.network == key.network && same(row));
            prop_assert!(now.is_none_or(|(now, _)| now.position == key.position), "{member:?}");
        }
        for (network, row) in &after.networks {
            let highest = after.floods.keys().filter(|key| key.network == *network).map(|key| key.position + 1).max();
            prop_assert_eq!(row.flood_count, highest.unwrap_or(0));
        }
    }
}
