//! What most tests here begin with.

use std::collections::BTreeMap;

use netpath_tests::{
    guest::{
        RawGuest,
        raw::{contains, marker},
    },
    packet::{Endpoint, Packet},
    runner::Netpath,
    topology::{TwoHypervisors, two_hypervisors::Attachment},
};
use serde_json::Value;

/// NIC 11, on hv1.
pub(crate) const A: Endpoint = Endpoint::numbered(11);
/// NIC 12, on hv2.
pub(crate) const B: Endpoint = Endpoint::numbered(12);
/// NIC 13, on hv1.
pub(crate) const C: Endpoint = Endpoint::numbered(13);
/// Nobody of the definitions.
pub(crate) const STRANGER: Endpoint = Endpoint::numbered(99);

/// The ways a frame can be taken from an uplink.
pub(crate) const UPLINK_MODES: [&str; 2] = ["xdp", "tc"];

/// Raw guests on VXLAN networks that are in force on both hypervisors.
pub(crate) fn raw_guests() -> TwoHypervisors {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&topology.vxlan_definitions());
    topology
}

/// The same with the uplinks in a mode of their own.
pub(crate) fn raw_guests_in(mode: &str) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&in_mode(topology.vxlan_definitions(), mode));
    topology
}

/// Kernel guests behind veths, but for NIC 11, which is behind a tap.
pub(crate) fn kernel_guests_in(mode: &str) -> TwoHypervisors {
    let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
    let topology = builder.build().unwrap();
    topology.apply(&in_mode(topology.vxlan_definitions(), mode));
    topology
}

/// The definitions with every host's uplinks in a mode.
pub(crate) fn in_mode(mut definitions: Value, mode: &str) -> Value {
    for host in definitions["hosts"].as_array_mut().unwrap() {
        host["uplink_mode"] = mode.into();
    }
    definitions
}

/// Sends a packet with a payload of its own; its very bytes must arrive.
#[track_caller]
pub(crate) fn delivers(from: &RawGuest, to: &RawGuest, packet: &Packet) {
    let frame = packet.clone().payload(marker()).build();
    from.send(&frame);
    to.expect_frame(&frame);
}

/// Sends frames, then a packet on the same way: the packet must arrive, and none of the frames before it.
#[track_caller]
pub(crate) fn refuses(from: &RawGuest, to: &RawGuest, frames: &[Vec<u8>], then: &Packet) {
    let last = marker();
    frames.iter().for_each(|frame| from.send(frame));
    from.send(then.clone().payload(&last).build());
    to.expect_none_before(|frame| frames.iter().any(|bad| bad == frame), |frame| contains(frame, &last));
}

/// What a view prints for people, which has to fit their terminals.
#[track_caller]
pub(crate) fn shown(netpath: &Netpath, args: &[&str]) -> String {
    let table = netpath.succeed(args).stdout;
    let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(widest <= 100, "{args:?}: {widest} columns\n{table}");
    table
}

/// The row of a list in which `key` is `value`.
#[track_caller]
pub(crate) fn row<'v>(rows: &'v Value, key: &str, value: &str) -> &'v Value {
    let found = rows.as_array().unwrap().iter().find(|row| row[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {rows}"))
}

/// Asserts which counters `act` moves on this hypervisor, and that no others do.
#[track_caller]
pub(crate) fn moves_drops(netpath: &Netpath, wanted: &[(&str, &str, u64)], act: impl FnOnce()) {
    let before = netpath.drops();
    act();
    let mut moved = netpath.drops();
    for (key, packets) in &before {
        if let Some(now) = moved.get_mut(key) {
            *now -= packets;
        }
    }
    moved.retain(|_, packets| *packets != 0);
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(n, r, c)| (((*n).to_owned(), (*r).to_owned()), *c)).collect();
    assert_eq!(moved, wanted, "on {}", netpath.host());
}
