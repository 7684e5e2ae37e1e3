//! Broadcast, multicast and unknown unicast reach every member once, and never go back to where they came from.

use netpath_tests::{
    guest::{
        RawGuest,
        raw::{contains, marker},
    },
    packet::{BROADCAST, Outer, Packet, dissect, guest},
    topology::{TwoHypervisors, two_hypervisors::Attachment},
};

use crate::scene::{A, B, STRANGER, UPLINK_MODES, in_mode, moves_drops, raw_guests_in, refuses};

fn three_hosts(mode: &str) -> TwoHypervisors {
    let topology = TwoHypervisors::builder().hosts(3).nic("blue", 14, 2, Attachment::RawTap).build().unwrap();
    topology.apply(&in_mode(topology.vxlan_definitions(), mode));
    topology
}

/// Exactly one copy of `frame` comes before a marker that `from` sends to all.
#[track_caller]
fn arrives_once(from: &RawGuest, sender: Packet, frame: &[u8], at: &[&RawGuest]) {
    let end = marker();
    from.send(sender.to_mac(BROADCAST).payload(&end).build());
    for guest in at {
        let copies = std::cell::Cell::new(0);
        guest.expect("the marker", |f| {
            copies.set(copies.get() + u32::from(f == frame));
            contains(f, &end)
        });
        assert_eq!(copies.get(), 1, "{frame:02x?}");
    }
}

#[test]
fn v13_broadcast_multicast_and_unknown_unicast_reach_every_member_once() {
    for mode in UPLINK_MODES {
        let topology = three_hosts(mode);
        let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
        let others = [b, topology.raw("blue", 13), topology.raw("blue", 14)];
        for to in [BROADCAST, [1, 0, 0x5e, 0, 0, 5], STRANGER.mac] {
            let frame = guest(A).to_mac(to).payload(marker()).build();
            a.send(&frame);
            arrives_once(a, guest(A), &frame, &others);
        }
        let frame = guest(B).to_mac(BROADCAST).payload(marker()).build();
        b.send(&frame);
        arrives_once(b, guest(B), &frame, &[a, topology.raw("blue", 13), topology.raw("blue", 14)]);
    }
}

#[test]
fn v13_a_flooded_frame_from_the_wire_never_returns_to_it() {
    for mode in UPLINK_MODES {
        let topology = three_hosts(mode);
        let (a, wire) = (topology.raw("blue", 11), topology.wire(0));
        let secret = marker();
        let frame = guest(B).to_mac(BROADCAST).payload(&secret).build();
        wire.send(Outer::new(5001, topology.endpoint(1), topology.endpoint(0)).wrap(&frame));
        a.expect_frame(&frame);
        topology.raw("blue", 13).expect_frame(&frame);
        let end = marker();
        a.send(guest(A).payload(&end).build());
        wire.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
    }
}

#[test]
fn a_guest_does_not_hear_its_own_broadcast() {
    let topology = raw_guests_in("xdp");
    let a = topology.raw("blue", 11);
    let frame = guest(A).payload(marker()).build();
    a.send(&frame);
    topology.raw("blue", 12).expect_frame(&frame);
    let end = marker();
    topology.raw("blue", 12).send(guest(B).payload(&end).build());
    a.expect_none_before(|f| f == frame, |f| contains(f, &end));
}

#[test]
fn head_end_replication_sends_one_copy_to_each_host_with_members() {
    let topology = three_hosts("xdp");
    let wire = topology.wire(0);
    // Learn every next hop first, so that the copies below leave at once.
    for number in [12, 14] {
        let hello = guest(A).to(netpath_tests::packet::Endpoint::numbered(number)).payload(marker()).build();
        topology.raw("blue", 11).send(&hello);
        topology.raw("blue", number).expect_frame(&hello);
    }
    wire.drain();
    let (secret, end) = (marker(), marker());
    topology.raw("blue", 11).send(guest(A).payload(&secret).build());
    topology.raw("blue", 11).send(guest(A).to(B).payload(&end).build());
    let targets = std::cell::RefCell::new(Vec::new());
    wire.expect("the marker", |f| {
        if contains(f, &secret) {
            targets.borrow_mut().push(dissect(f).unwrap().ip.unwrap().dst.to_string());
        }
        contains(f, &end)
    });
    targets.borrow_mut().sort();
    assert_eq!(*targets.borrow(), ["192.0.2.12", "192.0.2.13"]);
}

#[test]
fn q9_link_local_groups_never_cross_between_ports() {
    let topology = raw_guests_in("xdp");
    let frames: Vec<_> =
        [0x00, 0x02, 0x0e].iter().map(|last| guest(A).to_mac([1, 0x80, 0xc2, 0, 0, *last]).build()).collect();
    moves_drops(&topology.hosts[0].netpath, &[("blue-web", "link_local_group", 3)], || {
        refuses(topology.raw("blue", 11), topology.raw("blue", 12), &frames, &guest(A).to(B));
    });
}
