//! What is told while somebody watches.

use netpath_common::{
    DropReason,
    maps::{Event, PUBLIC_SIDE, Watch, event_action, event_hook, event_kind, hop},
};
use netpath_tests::packet::{Outer, guest};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, C, DNS, GREEN, HERE, LINK, REDIRECT, Rig, SHOT, STRANGER, THERE, THERE_MAC, WATCHER, only,
};

/// A frame from a MAC address that is not A's.
fn spoofed() -> Vec<u8> {
    guest(STRANGER).to(B).udp(1, 2).build()
}

fn a_thousand_refusals(rig: &mut Rig) {
    rig.load("from_guest");
    let (port, frame) = (rig.ports[&(BLUE, 11)], spoofed());
    rig.ns.run(|| (0..1000).for_each(|_| rig.tc_only("from_guest", port, &frame)));
}

#[test]
fn a_refusal_is_told_with_its_reason_and_the_packet_as_it_came() {
    let mut rig = Rig::new();
    rig.watch(only(&[event_kind::DROP]));
    let frame = spoofed();
    assert_eq!(rig.from_a(BLUE, &frame).action, SHOT);
    let events = rig.told();
    let [(event, bytes)] = &events[..] else { panic!("{events:?}") };
    let expected = Event {
        time_ns: event.time_ns,
        kind: event_kind::DROP,
        hook: event_hook::FROM_GUEST,
        network: BLUE,
        ifindex: rig.ports[&(BLUE, 11)],
        reason: DropReason::SpoofedMac as u32,
        len: frame.len() as u32,
        kept: frame.len().min(128) as u32,
        cpu: event.cpu,
        ..Event::default()
    };
    assert_eq!((event, bytes), (&expected, &frame));
    assert_ne!(event.time_ns, 0);
}

#[test]
fn a_refusal_in_xdp_is_told_too() {
    let mut rig = Rig::new();
    rig.watch(only(&[event_kind::DROP]));
    let outer = Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE));
    let frame = outer.wrap(&guest(C).to(C).udp(1, 2).build());
    rig.xdp(&frame).assert_dropped(BLUE, DropReason::NotOnThisHost);
    let told: Vec<_> = rig.told().into_iter().map(|(event, bytes)| (event.hook, event.reason, bytes)).collect();
    assert_eq!(
        told,
        [(event_hook::FROM_UPLINK_XDP, DropReason::NotOnThisHost as u32, frame[..frame.len().min(128)].to_vec())]
    );
}

#[test]
fn nothing_is_told_where_nobody_watches_or_the_watcher_has_ended() {
    let mut rig = Rig::new();
    for watch in [Watch::default(), Watch { until_ns: 1, ..WATCHER }, Watch { kinds: 0, ..WATCHER }] {
        rig.watch(watch);
        rig.from_a(BLUE, &spoofed());
        assert_eq!((rig.told(), rig.untold()), (vec![], (0, 0)), "{watch:?}");
    }
}

#[test]
fn a_watcher_of_a_network_a_reason_or_a_device_is_told_of_nothing_else() {
    let mut rig = Rig::new();
    let drops = only(&[event_kind::DROP]);
    let (a, b) = (rig.ports[&(BLUE, 11)], rig.ports[&(BLUE, 13)]);
    for (watch, told) in [
        (Watch { network: BLUE, ..drops }, 1),
        (Watch { network: GREEN, ..drops }, 0),
        (Watch { reason: DropReason::SpoofedMac as u32, ..drops }, 1),
        (Watch { reason: DropReason::SpoofedArp as u32, ..drops }, 0),
        (Watch { ifindex: a, ..drops }, 1),
        (Watch { ifindex: b, ..drops }, 0),
        (only(&[event_kind::CONNECTION]), 0),
    ] {
        rig.watch(watch);
        rig.from_a(BLUE, &spoofed());
        assert_eq!(rig.told().len(), told, "{watch:?}");
    }
}

#[test]
fn a_watcher_of_a_device_is_told_what_is_sent_out_of_it_too() {
    let mut rig = Rig::new();
    let (a, b) = (rig.ports[&(BLUE, 11)], rig.ports[&(BLUE, 13)]);
    let frame = guest(A).to(B).udp(1, 2).build();
    for (ifindex, told) in [(a, vec![event_kind::ENTRY, event_kind::EXIT]), (b, vec![event_kind::EXIT]), (1, vec![])] {
        rig.watch(Watch { ifindex, ..only(&[event_kind::ENTRY, event_kind::EXIT]) });
        rig.from_a(BLUE, &frame);
        assert_eq!(rig.told().iter().map(|(event, _)| event.kind).collect::<Vec<_>>(), told);
    }
}

#[test]
fn a_guests_frame_that_comes_in_is_told_to_a_watcher_of_its_network_and_costs_no_other_one_anything() {
    for (network, wanted) in [(BLUE, 1), (GREEN, 0)] {
        let mut rig = Rig::new();
        rig.watch(Watch { network, rate: 1, ..only(&[event_kind::ENTRY]) });
        rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).build());
        assert_eq!(rig.told().len(), wanted);
        rig.from_a(GREEN, &guest(A).to(C).udp(1, 2).build());
        assert_eq!(rig.told().len(), 1 - wanted);
    }
}

#[test]
fn above_the_rate_events_are_counted_and_not_told() {
    let mut rig = Rig::new();
    rig.watch(Watch { rate: 3, ..only(&[event_kind::DROP]) });
    // Every run may be on another processor, and each has its own share of each second.
    let before = rig.drops().values().sum::<u64>();
    a_thousand_refusals(&mut rig);
    let dropped = rig.drops().values().sum::<u64>() - before;
    let (suppressed, lost) = rig.untold();
    let told = rig.told().len() as u64;
    assert_eq!((dropped, told + suppressed, lost), (1000, 1000, 0));
    assert!(told < 200, "{told}");
}

#[test]
fn every_refusal_that_is_counted_is_told() {
    for (reason, refuse) in crate::drops_routed::ROUTED {
        let mut rig = Rig::routed();
        rig.watch(only(&[event_kind::DROP, event_kind::EXHAUSTION]));
        refuse(&mut rig);
        let told: Vec<_> = rig.told().into_iter().map(|(event, _)| DropReason::from_code(event.reason)).collect();
        assert_eq!(told, [Some(reason)]);
    }
}

#[test]
fn a_ring_that_nobody_empties_loses_events_and_counts_them() {
    let mut rig = Rig::new();
    rig.watch(Watch { rate: u32::MAX, bytes: 2048, ..only(&[event_kind::DROP]) });
    a_thousand_refusals(&mut rig);
    let (suppressed, lost) = rig.untold();
    let told = rig.told().len() as u64;
    assert_eq!((suppressed, told + lost), (0, 1000));
    assert!(told > 400 && lost > 400, "told {told}, lost {lost}");
}

#[test]
fn a_new_connection_is_told_once_with_its_translation() {
    let mut rig = Rig::routed();
    rig.watch(only(&[event_kind::CONNECTION]));
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    let events = rig.told();
    let [(event, bytes)] = &events[..] else { panic!("{events:?}") };
    let expected = Event {
        time_ns: event.time_ns,
        kind: event_kind::CONNECTION,
        hook: event_hook::CONNECT,
        hop: hop::UPSTREAM,
        network: BLUE,
        ifindex: rig.ports[&(BLUE, 11)],
        target: LINK,
        out: PUBLIC_SIDE | LINK,
        source: BLUE_PUBLIC.octets(),
        source_port: 5000,
        destination: DNS.0.octets(),
        destination_port: DNS.1,
        len: event.len,
        kept: bytes.len() as u32,
        cpu: event.cpu,
        ..Event::default()
    };
    assert_eq!(event, &expected);
    assert_eq!(bytes[26..30], A.ip.octets());
}

#[test]
fn a_connection_that_there_is_no_room_for_is_told_as_such() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 2);
    rig.watch(only(&[event_kind::EXHAUSTION, event_kind::DROP]));
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.udp_out(BLUE, A, 5001, DNS);
    let told: Vec<_> = rig.told().into_iter().map(|(event, _)| (event.kind, event.reason)).collect();
    assert_eq!(told, [(event_kind::EXHAUSTION, DropReason::ConnectionLimit as u32)]);
}

#[test]
fn a_frame_is_told_as_it_comes_and_as_it_goes() {
    let mut rig = Rig::routed();
    rig.watch(Watch { bytes: 2048, ..only(&[event_kind::ENTRY, event_kind::EXIT]) });
    let out = rig.udp_out(BLUE, A, 5000, DNS);
    assert_eq!(out.action, REDIRECT);
    let events = rig.told();
    let [(entry, came), (exit, went)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((entry.kind, entry.hook), (event_kind::ENTRY, event_hook::FROM_GUEST));
    assert_eq!(came[26..30], A.ip.octets());
    assert_eq!((exit.kind, exit.hook, exit.network), (event_kind::EXIT, event_hook::GATEWAY, BLUE));
    assert_eq!((exit.action, exit.target), (event_action::REDIRECT, rig.uplink));
    // Its tag is the device's to put on.
    let untagged = [&out.bytes[..12], &out.bytes[out.bytes.len() - went.len() + 12..]].concat();
    assert_eq!((exit.tag & 0xffff, went), (u32::from(crate::rig::PUBLIC_VLAN), &untagged));

    rig.from_a(BLUE, &spoofed());
    let told: Vec<_> = rig.told().into_iter().map(|(event, _)| (event.kind, event.action, event.reason)).collect();
    let refused = (event_kind::EXIT, event_action::REFUSED, DropReason::SpoofedMac as u32);
    assert_eq!(told, [(event_kind::ENTRY, 0, 0), refused]);
}
