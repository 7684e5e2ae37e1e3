//! What an apply leaves alone: indices, positions, and everything that did not change.

use netpath::{
    compile::{Row, Rows},
    reconcile::{group, reconcile, render},
};
use netpath_common::maps::{NameKey, UplinkKey, name_kind, uplink_flags};

use crate::host::{TWO_TENANTS, compiled, devices, zone};

fn after(text: &str, existing: &Rows) -> Rows {
    compiled(&zone(text), "kvm1", &devices(), existing).rows
}

fn first() -> Rows {
    after(TWO_TENANTS, &Rows::default())
}

/// The edits of a second document, as lines.
fn edits(text: &str) -> Vec<String> {
    let rows = first();
    let desired = after(text, &rows);
    let edits = reconcile(&rows, &desired);
    let devices = devices().iter().map(|device| (device.index, device.name.clone())).collect();
    render(&group(&edits, &rows, &desired, &devices), true).lines().map(str::to_owned).collect()
}

#[test]
fn applying_twice_makes_no_edits() {
    assert_eq!(reconcile(&first(), &after(TWO_TENANTS, &first())), []);
}

#[test]
fn the_order_of_the_document_does_not_matter_to_what_is_there() {
    let (head, networks) = TWO_TENANTS.split_once("networks:\n  # Every").unwrap();
    let networks = format!("  # Every{networks}");
    let blocks: Vec<&str> = networks.split("\n\n").collect();
    let turned = blocks.iter().rev().map(|block| block.trim_end()).collect::<Vec<_>>().join("\n\n");
    assert_eq!(reconcile(&first(), &after(&format!("{head}networks:\n{turned}\n"), &first())), []);
}

#[test]
fn one_more_nic_takes_exactly_its_rows() {
    let nic = "      - {instance: web-4, mac: 02:00:0a:01:01:0e, ip: 10.1.1.14, host: kvm2, device: vnet9}\n";
    let text = TWO_TENANTS.replacen("    nics:\n", &format!("    nics:\n{nic}"), 1);
    assert_eq!(
        edits(&text),
        [
            "~ network acme-web",
            "    ~ GATEWAYS   gateway of 10.1.1.0/24: NAT nowhere, 0 addresses, 0 rules, epoch 2 (was: gateway of \
             10.1.1.0/24: NAT nowhere, 0 addresses, 0 rules, epoch 1)",
            "+ station acme-web 02:00:0a:01:01:0e",
            "    + NEIGHBOURS 10.1.1.14 is at 02:00:0a:01:01:0e",
            "    + FDB        02:00:0a:01:01:0e is behind tunnel guest/kvm2",
        ]
    );
}

#[test]
fn a_nic_that_leaves_takes_its_rows_along_and_moves_nobody() {
    let line = TWO_TENANTS.lines().find(|line| line.contains("web-1")).unwrap();
    let text = TWO_TENANTS.replacen(&format!("{line}\n"), "", 1);
    assert_eq!(
        edits(&text),
        [
            "~ network acme-web",
            "    ~ GATEWAYS   gateway of 10.1.1.0/24: NAT nowhere, 0 addresses, 0 rules, epoch 2 (was: gateway of \
             10.1.1.0/24: NAT nowhere, 0 addresses, 0 rules, epoch 1)",
            "- nic acme-web/web-1 02:00:0a:01:01:0b",
            "    - PORTS      device vnet0 is 02:00:0a:01:01:0b 10.1.1.11 2001:db8:1::11",
            "    - FLOODS     member 0 is device vnet0",
            "    - FDB        02:00:0a:01:01:0b is behind device vnet0",
            "    - NEIGHBOURS 2001:db8:1::11 is at 02:00:0a:01:01:0b",
            "    - NEIGHBOURS 10.1.1.11 is at 02:00:0a:01:01:0b",
            "    - PORT_METERS is under the limits of nic acme-web/web-1",
            "    - NAMES      acme-web/web-1/02:00:0a:01:01:0b has index 0",
            "- limit nic acme-web/web-1 200Mbps",
            "    - LIMITS     to the guest: 200Mbps",
            "    - LIMITS     from the guest: 200Mbps",
            "    - NAMES      nic acme-web/web-1/02:00:0a:01:01:0b has index 1",
        ]
    );
}

#[test]
fn an_index_is_given_again_only_after_its_name_is_gone() {
    let without: String =
        TWO_TENANTS.split("\n\n").filter(|block| !block.contains("globex-web\n")).collect::<Vec<_>>().join("\n\n");
    let renamed = TWO_TENANTS.replacen("name: globex-web", "name: initech-web", 1);
    let network = |rows: &Rows, name: &str| {
        let mut rows = rows.names.iter().filter(|(key, _)| key.kind == name_kind::NETWORK);
        rows.find(|(_, known)| *known == name).map(|(key, _)| key.index)
    };
    let rows = first();
    assert_eq!(network(&rows, "globex-web"), Some(2));
    assert_eq!(network(&after(&renamed, &rows), "initech-web"), Some(4), "2 is still globex-web's");
    let gone = after(&without, &rows);
    assert!(!gone.names.contains_key(&NameKey { kind: name_kind::NETWORK, index: 2 }));
    assert_eq!(network(&after(&renamed, &gone), "initech-web"), Some(2));
}

#[test]
fn what_only_the_row_knows_is_kept() {
    let mut rows = first();
    let key = UplinkKey { ifindex: 2, udp_port: 0 };
    rows.uplinks.get_mut(&key).unwrap().flags |= uplink_flags::RESTORE_RXVLAN;
    assert_eq!(reconcile(&rows, &after(TWO_TENANTS, &rows)), []);
}

#[test]
fn rows_are_added_after_what_they_point_at_and_removed_before_it() {
    let desired = first();
    let tables = |from: &Rows, to: &Rows| -> Vec<_> {
        reconcile(from, to).iter().map(|edit| edit.after.as_ref().or(edit.before.as_ref()).map(Row::table)).collect()
    };
    let up = tables(&Rows::default(), &desired);
    assert!(up.is_sorted(), "{up:?}");
    let mut down = tables(&desired, &Rows::default());
    down.reverse();
    assert!(down.is_sorted(), "{down:?}");
}
