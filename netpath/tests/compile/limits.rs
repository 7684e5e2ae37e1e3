//! Meters: who is under which limit, and what a change of a rate touches.

use netpath::{
    compile::{CompileError, FairQueues, Row, Rows, Table},
    definitions::RateLimit,
    netlink::Device,
    reconcile::{Edit, group, reconcile, render},
};
use netpath_common::maps::{
    FROM_GUEST, NameKey, PortMeters, TO_GUEST, meter_row, name_kind, network_flags, segment_kind, tunnel_flags,
    uplink_flags, upstream_flags,
};

use crate::host::{compile_with, compiled, devices, index, try_compile, zone};

const LIMITS: &str = include_str!("../../../examples/limits.yaml");

fn after(text: &str, existing: &Rows) -> Rows {
    compiled(&zone(text), "kvm1", &devices(), existing).rows
}

fn first() -> Rows {
    after(LIMITS, &Rows::default())
}

/// What a second document changes, and as a plan says it.
fn changed(from: &str, to: &str) -> (Vec<Edit>, String) {
    assert!(LIMITS.contains(from), "the document has no {from:?}");
    let rows = first();
    let desired = after(&LIMITS.replacen(from, to, 1), &rows);
    let edits = reconcile(&rows, &desired);
    let devices = devices().iter().map(|device| (device.index, device.name.clone())).collect();
    let text = render(&group(&edits, &rows, &desired, &devices), false);
    (edits, text)
}

fn meter(rows: &Rows, name: &str) -> u32 {
    index(rows, name_kind::METER, name)
}

/// The limit of a meter, the same in both directions.
fn limit(rows: &Rows, name: &str) -> Option<RateLimit> {
    let meter = meter(rows, name);
    let [from, to] = [FROM_GUEST, TO_GUEST].map(|direction| rows.limits[&meter_row(meter, direction)]);
    assert_eq!(from, to, "{name}");
    RateLimit::of_row(&from)
}

fn rate(rows: &Rows, name: &str) -> u64 {
    limit(rows, name).unwrap().bits_per_second
}

const WEB_1: &str = "nic acme-web/web-1/02:00:0a:01:01:0b";
const WEB_3: &str = "nic acme-web/web-3/02:00:0a:01:01:0d";

#[test]
fn a_nic_is_under_its_own_limit_its_networks_and_its_accounts() {
    let rows = first();
    assert_eq!(rate(&rows, WEB_1), 200_000_000);
    assert_eq!(rate(&rows, "network acme-web"), 300_000_000);
    assert_eq!(rate(&rows, "account acme"), 500_000_000);
    assert_eq!(rate(&rows, "address public/untagged/203.0.113.10"), 100_000_000);
    let slot = index(&rows, name_kind::PORT, "acme-web/web-1/02:00:0a:01:01:0b");
    let (network, account) = (meter(&rows, "network acme-web"), meter(&rows, "account acme"));
    assert_eq!(rows.port_meters[&slot], PortMeters { port: meter(&rows, WEB_1), network, account, pad: 0 });
    let slot = index(&rows, name_kind::PORT, "acme-web/web-3/02:00:0a:01:01:0d");
    assert_eq!(rows.port_meters[&slot], PortMeters { port: meter(&rows, WEB_3), network, account, pad: 0 });
    let unlimited = index(&rows, name_kind::PORT, "globex-web/web-1/02:00:0a:01:01:0b");
    assert!(!rows.port_meters.contains_key(&unlimited), "rate 0 is no limit");
    assert_eq!(rows.limits.len(), 2 * 5, "two NICs, a network, an account, an address");
    assert!(!rows.limits.contains_key(&0) && !rows.limits.contains_key(&1), "meter 0 is nobody's");
}

#[test]
fn every_public_address_of_the_host_is_counted_and_only_some_are_limited() {
    let text = LIMITS.replacen("source_nat: 203.0.113.10", "source_nat: [203.0.113.10, 203.0.113.12]", 1);
    let rows = after(&text, &Rows::default());
    let of = |address: [u8; 4]| {
        let (_, row) = rows.public_address.iter().find(|(key, _)| key.address == address).unwrap();
        u32::from(row.index)
    };
    let (limited, free) = (of([203, 0, 113, 10]), of([203, 0, 113, 12]));
    assert_eq!(limited, index(&rows, name_kind::PUBLIC_ADDRESS, "public/untagged/203.0.113.10"));
    assert_eq!(free, index(&rows, name_kind::PUBLIC_ADDRESS, "public/untagged/203.0.113.12"));
    assert!(limited != free && limited > 0 && free > 0);
    let meter = meter(&rows, "address public/untagged/203.0.113.10");
    assert_eq!(rows.public_meters, [(limited, meter)].into());
    let elsewhere = compiled(&zone(&text), "kvm2", &devices(), &Rows::default()).rows;
    assert!(elsewhere.public_meters.is_empty(), "the addresses live on kvm1");
}

#[test]
fn a_changed_offering_is_its_rows_of_limits_and_nothing_else() {
    let (edits, text) = changed("network_rate: 200Mbps", "network_rate: 500Mbps");
    assert_eq!(edits.len(), 2 * 2, "two directions of the two NICs that have the offering's rate");
    for edit in &edits {
        assert!(matches!((&edit.before, &edit.after), (Some(Row::Limits(..)), Some(Row::Limits(..)))), "{edit:?}");
    }
    assert_eq!(text, "~ limit nic acme-web/web-1 200Mbps → 500Mbps\n~ limit nic acme-web/web-3 200Mbps → 500Mbps\n");
}

#[test]
fn a_changed_aggregate_or_address_rate_is_two_rows() {
    for (from, to, says) in [
        ("aggregate_rate: 300Mbps", "aggregate_rate: 64kbps", "~ limit network acme-web 300Mbps → 64kbps\n"),
        ("aggregate_rate: 500Mbps", "aggregate_rate: 1Gbps", "~ limit account acme 500Mbps → 1Gbps\n"),
        (
            "rate: 100Mbps}\n",
            "rate: 100Mbps, burst: 1MiB}\n",
            "~ limit address public/untagged/203.0.113.10 100Mbps → 100Mbps, burst 1MiB\n",
        ),
    ] {
        let (edits, text) = changed(from, to);
        assert_eq!(edits.iter().filter(|edit| matches!(edit.after, Some(Row::Limits(..)))).count(), 2, "{edits:?}");
        assert_eq!((edits.len(), text.as_str()), (2, says));
    }
}

#[test]
fn a_limit_that_ends_frees_its_meter_after_nobody_is_under_it() {
    let (edits, text) = changed("aggregate_rate: 300Mbps, ", "");
    assert!(text.ends_with("- limit network acme-web 300Mbps\n"), "{text}");
    let places: Vec<_> =
        edits.iter().map(|edit| (edit.sign(), edit.after.as_ref().or(edit.before.as_ref()).unwrap().table())).collect();
    assert_eq!(
        places,
        [
            ('~', Table::PortMeters),
            ('~', Table::PortMeters),
            ('-', Table::Limits),
            ('-', Table::Limits),
            ('-', Table::Names)
        ]
    );
}

/// What a plan says of a change from one document to another, with these devices.
fn says(before: &str, now: &str, devices: &[Device]) -> String {
    let of = |text: &str, existing: &Rows| compiled(&zone(text), "kvm1", devices, existing).rows;
    let rows = of(before, &Rows::default());
    let desired = of(now, &rows);
    let names = devices.iter().map(|device| (device.index, device.name.clone())).collect();
    render(&group(&reconcile(&rows, &desired), &rows, &desired, &names), false)
}

#[test]
fn a_nic_that_stays_is_changed_when_its_limits_come_or_go() {
    let free = LIMITS.replacen("network_rate: 200Mbps, aggregate_rate: 300Mbps", "network_rate: 0", 1);
    let free = free.replacen("  - {name: acme, aggregate_rate: 500Mbps} ", "  - {name: acme}", 1);
    let limited = free.replacen("host: kvm1, device: vnet0}", "host: kvm1, device: vnet0, network_rate: 50Mbps}", 1);
    let nic = "nic acme-web/web-1 02:00:0a:01:01:0b";
    let mut there = devices();
    let comes = format!("~ {nic}\n+ limit nic acme-web/web-1 50Mbps\n");
    let goes = format!("~ {nic}\n- limit nic acme-web/web-1 50Mbps\n");
    assert_eq!([says(&free, &limited, &there), says(&limited, &free, &there)], [comes.clone(), goes.clone()]);
    there.retain(|device| device.name != "vnet0");
    assert_eq!(
        [says(&free, &limited, &there), says(&limited, &free, &there)],
        [comes, goes],
        "it waits for its device"
    );
}

#[test]
fn a_nic_that_moves_to_another_host_goes_and_one_that_comes_from_there_comes() {
    let away = LIMITS.replacen("host: kvm1, device: vnet0}", "host: kvm2, device: vnet7}", 1);
    let nic = "nic acme-web/web-1 02:00:0a:01:01:0b";
    let (goes, comes) = (says(LIMITS, &away, &devices()), says(&away, LIMITS, &devices()));
    assert!(goes.contains(&format!("- {nic}\n")) && !goes.contains("~ station"), "{goes}");
    assert!(comes.contains(&format!("+ {nic}\n")) && !comes.contains("~ station"), "{comes}");
}

#[test]
fn a_nic_whose_device_comes_or_goes_comes_or_goes() {
    let (there, mut gone) = (devices(), devices());
    gone.retain(|device| device.name != "vnet0");
    let of = |devices: &[Device], existing: &Rows| compiled(&zone(LIMITS), "kvm1", devices, existing).rows;
    let names = there.iter().map(|device| (device.index, device.name.clone())).collect();
    let line = |before: &[Device], now: &[Device]| {
        let rows = of(before, &Rows::default());
        let desired = of(now, &rows);
        let groups = group(&reconcile(&rows, &desired), &rows, &desired, &names);
        groups.into_iter().find(|group| group.object.starts_with("nic ")).map(|group| (group.sign, group.object))
    };
    let nic = "nic acme-web/web-1 02:00:0a:01:01:0b".to_owned();
    assert_eq!([line(&gone, &there), line(&there, &gone)], [Some(('+', nic.clone())), Some(('-', nic))]);
}

#[test]
fn meters_keep_their_numbers_through_applies_and_free_ones_are_given_again_later() {
    let rows = first();
    let without: String =
        LIMITS.lines().filter(|line| !line.contains("web-1")).map(|line| format!("{line}\n")).collect();
    let fewer = after(&without, &rows);
    for name in [WEB_3, "network acme-web", "account acme", "address public/untagged/203.0.113.10"] {
        assert_eq!(meter(&fewer, name), meter(&rows, name), "{name}");
    }
    let free = meter(&rows, WEB_1);
    assert!(!fewer.names.contains_key(&NameKey { kind: name_kind::METER, index: free }));
    // Another NIC that comes while web-1 goes does not get its meter yet.
    let other = LIMITS.replacen("web-1, mac: 02:00:0a:01:01:0b", "web-9, mac: 02:00:0a:01:01:0e", 1);
    let web_9 = "nic acme-web/web-9/02:00:0a:01:01:0e";
    assert_ne!(meter(&after(&other, &rows), web_9), free);
    assert_eq!(meter(&after(&other, &fewer), web_9), free);
}

#[test]
fn a_nic_that_waits_for_its_device_is_under_its_limits_already() {
    let mut devices = devices();
    devices.retain(|device| device.name != "vnet0");
    let rows = compiled(&zone(LIMITS), "kvm1", &devices, &Rows::default()).rows;
    let slot = index(&rows, name_kind::PORT, "acme-web/web-1/02:00:0a:01:01:0b");
    assert_eq!(rows.port_meters[&slot].port, meter(&rows, WEB_1));
}

#[test]
fn networks_have_owners_and_an_account_that_was_here_keeps_its_index_while_the_zone_has_it() {
    let rows = first();
    let network = index(&rows, name_kind::NETWORK, "acme-web");
    assert_eq!(rows.names[&NameKey { kind: name_kind::OWNER, index: network }], "acme");
    let acme = index(&rows, name_kind::ACCOUNT, "acme");
    // All NICs of acme move to kvm2, and its NAT.
    let (acme_web, globex) = LIMITS.split_once("  - name: globex-web").unwrap();
    let elsewhere = format!(
        "{}  - name: globex-web{globex}",
        acme_web.replace("host: kvm1", "host: kvm2").replace("nat_host: kvm1", "nat_host: kvm2")
    );
    let elsewhere = elsewhere.replace(
        "web-1, mac: 02:00:0a:01:01:0b, ip: 10.1.1.11, host: kvm2, device: vnet0",
        "web-1, mac: 02:00:0a:01:01:0b, ip: 10.1.1.11, host: kvm2, device: vnet5",
    );
    let moved = after(&elsewhere, &rows);
    assert!(!moved.names.values().any(|name| name == "acme-web"));
    assert_eq!(index(&moved, name_kind::ACCOUNT, "acme"), acme);
    let (head, _) = elsewhere.split_once("  - name: acme-web").unwrap();
    let gone = format!(
        "{}  - name: globex-web{globex}",
        head.replace("- {name: acme, aggregate_rate: 500Mbps}", "- {name: initech}")
    );
    assert!(!after(&gone, &moved).names.values().any(|name| name == "acme"));
}

#[test]
fn more_meters_than_there_is_room_for_are_refused() {
    let text = LIMITS.replacen(
        "uplinks: {guest: eth1, public: eth2}}",
        "uplinks: {guest: eth1, public: eth2}, capacities: {meters: 11}}",
        1,
    );
    match try_compile(&zone(&text), "kvm1", &devices(), &Rows::default()) {
        Err(CompileError::Capacity { name: "LIMITS", needed: 12, capacity: 11, field: "meters", .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// kvm1's rows where its uplinks can keep packets until their time of departure.
fn paced(text: &str, present: &[u32], possible: &[u32]) -> netpath::compile::Compiled {
    let present = present.iter().map(|index| (*index, 6_000_000)).collect();
    let fair_queues = FairQueues { present, possible: possible.iter().copied().collect() };
    compile_with(&zone(text), "kvm1", &devices(), &Rows::default(), &fair_queues).unwrap()
}

#[test]
fn rows_say_where_packets_are_paced() {
    let flags = |compiled: &netpath::compile::Compiled| {
        let rows = &compiled.rows;
        let tunnels: Vec<u8> = rows.tunnels.values().map(|row| row.flags & tunnel_flags::PACED).collect();
        let upstreams: Vec<u16> = rows.upstreams.values().map(|row| row.flags & upstream_flags::PACED).collect();
        let restored: Vec<u32> = rows
            .uplinks
            .iter()
            .filter(|(_, row)| row.flags & uplink_flags::RESTORE_QDISC != 0)
            .map(|(key, _)| key.ifindex)
            .collect();
        (tunnels, upstreams, restored)
    };
    let (tunnel, upstream) = (tunnel_flags::PACED, upstream_flags::PACED);
    // eth1 (1) carries the tunnels, eth2 (2) is the public link.
    assert_eq!(flags(&paced(LIMITS, &[], &[])), (vec![0], vec![0], vec![]));
    assert_eq!(flags(&paced(LIMITS, &[1], &[])), (vec![tunnel], vec![0], vec![]));
    let compiled = paced(LIMITS, &[1], &[2]);
    assert_eq!(flags(&compiled), (vec![tunnel], vec![upstream], vec![2]));
    assert_eq!(compiled.fair_queues, [2].into());
    // What may wait does so towards a wire.
    let horizons = |compiled: &netpath::compile::Compiled, direction: u32| {
        let limits = compiled.rows.limits.iter().filter(|(row, _)| *row % 2 == direction);
        limits.map(|(_, limit)| limit.horizon != 0).collect::<std::collections::BTreeSet<bool>>()
    };
    assert_eq!([FROM_GUEST, TO_GUEST].map(|direction| horizons(&compiled, direction)), [[true].into(), [false].into()]);
    assert_eq!(horizons(&paced(LIMITS, &[], &[]), FROM_GUEST), [false].into());
    // A network on VLAN says it itself.
    let vlan = crate::host::GATEWAY;
    let networks = paced(vlan, &[1, 2, 3], &[]).rows.networks;
    for network in networks.values() {
        let is_vlan = network.kind != segment_kind::VXLAN;
        assert_eq!(network.flags & network_flags::PACED != 0, is_vlan, "{network:?}");
    }
    assert!(networks.values().any(|network| network.kind == segment_kind::VLAN));
}

#[test]
fn fq_is_wanted_also_where_nothing_is_limited() {
    let head =
        LIMITS.replace("default_rate: 1Gbps", "").replace("network_rate: 200Mbps, aggregate_rate: 300Mbps, ", "");
    let text = head
        .replace("aggregate_rate: 500Mbps", "aggregate_rate: 0")
        .replace(", network_burst: 256KiB", "")
        .replace("rate: 100Mbps", "rate: 0");
    let compiled = paced(&text, &[], &[1, 2]);
    assert_eq!(compiled.rows.limits, [].into());
    assert_eq!(compiled.fair_queues, [1, 2].into());
}
