//! Random and mutated frames through both programs: nothing crashes, and nothing reaches another network's port.

use netpath_tests::{
    guest::raw::marker,
    pace::paced,
    packet::{
        Outer, Packet, dissect, guest,
        mutate::{Random, of_every_kind},
    },
    topology::TwoHypervisors,
};

use crate::scene::{A, B, C, UPLINK_MODES, in_mode, raw_guests, raw_guests_in};

const FRAMES: usize = 10_000;
const VNI_OFFSET: usize = 14 + 20 + 8 + 4;

fn seeds() -> Vec<Packet> {
    [of_every_kind(A, B), of_every_kind(A, C)].concat()
}

/// The network is untouched: its guests have received nothing, and still talk.
#[track_caller]
fn is_untouched(topology: &TwoHypervisors, tenant: &str) {
    for (from, to, packet) in [(11, 12, guest(A).to(B)), (12, 11, guest(B).to(A)), (11, 13, guest(A).to(C))] {
        let frame = packet.payload(marker()).build();
        topology.raw(tenant, from).send(&frame);
        topology.raw(tenant, to).expect_none_before(|f| f != frame, |f| f == frame);
    }
}

#[test]
fn mutated_frames_from_a_guest_never_reach_another_network() {
    let topology = raw_guests();
    let (mut random, seeds) = (Random::seeded(), seeds());
    let a = topology.raw("blue", 11);
    for _ in 0..paced(FRAMES) {
        let mut frame = random.pick(&seeds).build();
        random.damage(&mut frame, 2000);
        // A tap refuses what is shorter than an Ethernet header.
        let _ = a.try_send(&frame);
        drain(&topology);
    }
    is_untouched(&topology, "green");
    let last = guest(A).to(B).payload(marker()).build();
    a.send(&last);
    topology.raw("blue", 12).discard_until(|f| f == last);
}

#[test]
fn mutated_tunnel_packets_never_reach_another_network() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let (mut random, seeds) = (Random::seeded(), seeds());
        let wire = topology.wire(0);
        let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
        for _ in 0..paced(FRAMES) {
            let mut frame = outer.wrap(&random.pick(&seeds).clone().build());
            random.damage(&mut frame, 1600);
            // The VNI says whose the packet is: it stays blue's, or is nobody's.
            if frame.get(VNI_OFFSET..VNI_OFFSET + 3).is_some_and(|vni| vni == [0, 0x13, 0x8a]) {
                continue;
            }
            let _ = wire.try_send(&frame);
            drain(&topology);
        }
        is_untouched(&topology, "green");
        wire.send(outer.wrap(&guest(B).to(A).payload(b"alive").build()));
        topology.raw("blue", 11).discard_until(|f| f.ends_with(b"alive"));
    }
}

#[test]
fn mutated_tagged_frames_never_reach_another_network() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        topology.apply(&in_mode(topology.vlan_definitions(), mode));
        let (mut random, seeds) = (Random::seeded(), seeds());
        let wire = topology.wire(0);
        for _ in 0..paced(FRAMES) {
            let mut frame = random.pick(&seeds).clone().build();
            frame.splice(12..12, [0x81, 0, 0, 101]);
            random.damage(&mut frame, 1600);
            if dissect(&frame).is_some_and(|d| d.tags.first().is_some_and(|(_, tci)| tci & 0xfff == 102)) {
                continue;
            }
            let _ = wire.try_send(&frame);
            drain(&topology);
        }
        is_untouched(&topology, "green");
    }
}

/// Empties blue's taps, whose mutated frames have whatever checksums the mutation left.
fn drain(topology: &TwoHypervisors) {
    for number in [11, 12, 13] {
        topology.raw("blue", number).drain();
    }
}
