//! Any zone after any other: the edits lead from one to the other, and nothing has two meanings on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use netpath::{
    compile::{Row, Rows},
    netlink::Device,
    reconcile::reconcile,
};
use netpath_common::maps::{
    NameKey, PUBLIC_SIDE, PoolAddress, RuleList, destination_kind, forward_flags, name_kind, nat_place, segment_flags,
};
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
    /// What each network has of a gateway, eight bits for each.
    gateways: u64,
    multicast: bool,
    foreign: bool,
}

fn random() -> impl Strategy<Value = Random> {
    let place = (0u8..4, any::<bool>()).prop_map(|(host, secondary)| Place { host, secondary });
    let nics = prop::collection::btree_map(1u8..7, place, 0..6);
    let networks = prop::collection::btree_map(0u8..8, nics, 0..7);
    (networks, any::<u32>(), any::<u64>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        |(networks, devices, gateways, multicast, foreign)| Random { networks, devices, gateways, multicast, foreign },
    )
}

impl Random {
    /// Networks below 4 are VXLAN, the others VLAN; each NIC has a device named after both.
    fn document(&self) -> String {
        let replication = if self.multicast { "multicast" } else { "head_end" };
        let mut text = format!(
            "zone: z\nphysical_networks:\n  - {{name: v, isolation: vxlan, vnis: 1-99, replication: {replication}}}\n  \
             - {{name: t, isolation: vlan, vlans: 1-99}}\n  - {{name: p, isolation: vlan, vlans: 900, traffic: [public]}}\n\
             public_ranges: [{{physical_network: p, vlan: 900, cidr: 203.0.113.0/24, gateway: 203.0.113.1}}]\nhosts:\n"
        );
        for host in 1..4 {
            let _ = writeln!(
                text,
                "  - {{name: kvm{host}, tunnel_address: 192.0.2.{host}, uplinks: {{v: eth0, t: eth1{}}}}}",
                if host < 3 { ", p: eth2" } else { "" }
            );
        }
        if self.is_owned() {
            let _ = writeln!(text, "accounts: [{{name: a, aggregate_rate: {}}}]", self.devices % 7);
        }
        text.push_str("networks:\n");
        for (n, nics) in &self.networks {
            let physical = if *n < 4 { "v" } else { "t" };
            let _ = writeln!(text, "  - name: n{n}\n    physical_network: {physical}\n    segment: {}", n + 1);
            let prefix = self.gateway(*n, nics, &mut text);
            text.push_str("    nics:\n");
            for (mac, Place { host, secondary }) in nics {
                let _ = write!(
                    text,
                    "      - {{instance: i{mac}, mac: \"02:00:00:00:00:{mac:02}\", ip: {prefix}.{}",
                    mac + 10
                );
                if *host < 3 {
                    let _ = write!(text, ", host: kvm{}, device: d{n}-{mac}", host + 1);
                }
                if *secondary {
                    let _ = write!(text, ", secondary_ips: [{prefix}.{}]", mac + 100);
                }
                text.push_str("}\n");
            }
        }
        text
    }

    /// Whether all networks are an account's: the tiers of a router are of one.
    fn is_owned(&self) -> bool {
        self.devices & 1 != 0
    }

    /// What a network has of a gateway; returns the first three octets of its prefix, which tenants have in common.
    fn gateway(&self, n: u8, nics: &Nics, text: &mut String) -> String {
        let has = |bit: u32| self.gateways.rotate_right(u32::from(n) * 8) & (1 << bit) != 0;
        let prefix = if has(0) { format!("10.{}.0", n + 1) } else { "10.0.0".to_owned() };
        let _ = writeln!(text, "    cidr: {prefix}.0/24\n    gateway: {prefix}.1");
        if has(0) {
            let _ = writeln!(text, "    router: r");
            if let Some(mac) = nics.keys().next().filter(|_| has(1)) {
                let _ = writeln!(text, "    static_routes: [{{cidr: 172.{n}.0.0/16, via: {prefix}.{}}}]", mac + 10);
            }
        }
        if has(2) {
            let _ = writeln!(text, "    source_nat: [203.0.113.{}, 203.0.113.{}]", n + 10, n + 20);
            let _ = writeln!(text, "    public_rates: [{{public: 203.0.113.{}, rate: {}}}]", n + 10, self.devices % 3);
        }
        let mut guests = nics.keys();
        if let Some(mac) = guests.next().filter(|_| has(3)) {
            let _ = writeln!(text, "    static_nat: [{{public: 203.0.113.{}, nic: i{mac}}}]", n + 30);
        }
        if let Some(mac) = guests.next().filter(|_| has(4)) {
            let first = u32::from(n) + 1;
            let _ = writeln!(
                text,
                "    port_forwarding: [{{public: 203.0.113.{}, protocol: tcp, ports: {first}-90, to: i{mac}, cidrs: [192.0.2.0/24]}}]",
                n + 40
            );
        }
        if has(5) {
            let ports = self.gateways % 7;
            let rules: Vec<String> = (0..ports).map(|port| format!("{{protocol: tcp, ports: {}}}", port + 1)).collect();
            let ingress = format!("{{public: 203.0.113.{}, protocol: udp}}", n + 40);
            let _ = writeln!(text, "    firewall: {{ingress: [{ingress}], egress: [{}]}}", rules.join(", "));
        }
        if has(7) {
            let _ = writeln!(text, "    network_rate: {}\n    aggregate_rate: {}", self.devices % 5, self.devices % 4);
        }
        if self.is_owned() {
            text.push_str("    account: a\n");
        }
        if has(6) {
            let port = u32::from(n % 2) + self.devices % 5;
            let _ = writeln!(
                text,
                "    acl: [{{number: 1, direction: ingress, action: allow, protocol: tcp, ports: {port}}}]"
            );
        }
        prefix
    }

    fn devices(&self) -> Vec<Device> {
        let mut devices = vec![device(1, "eth0", None), device(2, "eth1", None)];
        if !self.gateways.is_multiple_of(5) {
            devices.push(device(4, "eth2", None));
        }
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
    let listed = |list: RuleList| (list.start..list.start + list.count).all(|place| rows.rules.contains_key(&place));
    let destination = |row: &netpath_common::maps::Destination| match row.kind {
        destination_kind::TUNNEL => rows.tunnels.contains_key(&row.target),
        destination_kind::LOCAL => named(name_kind::PORT, row.slot),
        _ => true,
    };
    let holds = match row {
        Row::Names(..) => true,
        Row::Limits(row, _) => named(name_kind::METER, row / 2),
        Row::PortMeters(slot, row) => {
            let limited = |meter: u32| meter == 0 || rows.limits.contains_key(&(meter * 2));
            named(name_kind::PORT, *slot) && [row.port, row.network, row.account].into_iter().all(limited)
        }
        Row::PublicMeters(index, meter) => {
            named(name_kind::PUBLIC_ADDRESS, *index) && rows.limits.contains_key(&(meter * 2))
        }
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
        Row::StaticNat(key, row) => {
            let is_placed = match row.place {
                nat_place::HERE => rows.upstreams.contains_key(&(row.side & !PUBLIC_SIDE)),
                nat_place::TUNNEL => rows.tunnels.contains_key(&row.target),
                _ => true,
            };
            rows.networks.contains_key(&key.network) && key.network == row.network && is_placed
        }
        Row::Forwards(_, row) => row.flags & forward_flags::RESERVED != 0 || rows.networks.contains_key(&row.network),
        Row::Routes(_, row) => rows.networks.contains_key(&row.network),
        Row::PublicAddress(key, row) => {
            let is_linked = rows.upstreams.contains_key(&(key.side & !PUBLIC_SIDE)) && key.side == row.side;
            let is_counted = named(name_kind::PUBLIC_ADDRESS, row.index.into());
            rows.networks.contains_key(&row.network) && is_linked && is_counted && listed(row.ingress)
        }
        Row::Gateways(index, row) => {
            let pool = &row.pool[..row.pool_count as usize];
            let linked = |place: &PoolAddress| rows.upstreams.contains_key(&(place.side & !PUBLIC_SIDE));
            let is_reached = row.nat_place != nat_place::TUNNEL || rows.tunnels.contains_key(&row.nat_target);
            let lists = [row.egress, row.acl_ingress, row.acl_egress];
            let named = pool.iter().all(|place| linked(place) && named(name_kind::PORT_POOL, place.pool));
            rows.networks.contains_key(index) && is_reached && named && lists.into_iter().all(listed)
        }
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
                for (index, row) in &rows.gateways {
                    is_closed(&rows, &Row::Gateways(*index, row.clone()))?;
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
    fn an_epoch_counts_up_by_one_or_not_at_all(first in random(), second in random()) {
        let before = first.rows(&Rows::default());
        let after = second.rows(&before);
        for (index, row) in &before.gateways {
            let Some(now) = after.gateways.get(index).map(|row| row.epoch) else { continue };
            prop_assert!(now == row.epoch || now == row.epoch + 1);
            // Where the epoch is as it was, what its flows were judged by is.
            if now == row.epoch {
                prop_assert_eq!(&after.gateways[index], row);
                let stations = |rows: &Rows| rows.fdb.iter().filter(|(key, _)| key.network == *index).map(|(key, row)| (*key, *row)).collect::<Vec<_>>();
                prop_assert_eq!(stations(&before), stations(&after));
                let list = |rows: &Rows| (row.egress.start..row.egress.start + row.egress.count).map(|place| rows.rules[&place]).collect::<Vec<_>>();
                prop_assert_eq!(list(&before), list(&after));
            }
        }
    }

    #[test]
    fn a_name_keeps_its_index_and_a_member_its_position(first in random(), second in random()) {
        let before = first.rows(&Rows::default());
        let after = second.rows(&before);
        // An owner is called as its account, for each of its networks.
        for (key, name) in before.names.iter().filter(|(key, _)| key.kind != name_kind::OWNER) {
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
