//! Random and mutated frames: whatever they do, they do it in the network that they came from.

use netpath_common::maps::Counters;
use netpath_tests::packet::{Endpoint, Outer, Packet, guest};

use crate::rig::{A, B, BLUE, C, GATEWAY, GREEN, HERE, PLAIN, RED, Rig, STRANGER, THERE, THERE_MAC, slot};

/// A generator that is the same in every run (xorshift64*): a failure can be run again.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// Changes a few bytes behind `keep`, or cuts the frame, or lets it grow.
    pub(super) fn mutate(&mut self, frame: &mut Vec<u8>, keep: usize) {
        for _ in 0..=self.below(4) {
            if frame.len() > keep {
                let at = keep + self.below(frame.len() - keep);
                frame[at] = if self.below(2) == 0 { self.next() as u8 } else { frame[at] ^ 1 << self.below(8) };
            }
        }
        match self.below(8) {
            0 => frame.truncate(frame.len().min(14.max(keep) + self.below(60))),
            1 => frame.extend((0..self.below(200)).map(|n| n as u8)),
            _ => {}
        }
    }
}

/// One of each kind of packet that the stages tell apart.
fn seeds(from: Endpoint, to: Endpoint) -> Vec<Packet> {
    vec![
        guest(from).to(to).udp(1, 2),
        guest(from).to(to).tcp(1, 2, 2),
        guest(from).to(to).echo_request(1, 1),
        guest(from).to(STRANGER).udp(68, 67),
        guest(from).udp(1, 2),
        guest(from).arp_request(to.ip),
        guest(from).arp_reply(to),
        guest(from).rarp(),
        guest(from).to(to).over_ipv6(from, to).udp(1, 2),
        guest(from).to(to).over_ipv6(from, to).extension(0, &[0; 8]).fragment(0, true).udp(1, 2),
        guest(from).neighbour_solicitation(from.link_local(), to.ip6),
        guest(from).to(to).neighbour_advertisement(from.ip6, to.ip6, from.ip6, 0x60),
        guest(from).to(to).vlan(7).udp(1, 2),
        guest(from).to(to).fragment(0, true).options(&[1; 12]).udp(1, 2),
        guest(from).to_mac(GATEWAY.0).to_ip(STRANGER.ip).tcp(1, 443, 2),
        guest(from).to(to).udp(1, 2).payload(vec![5; 1490]),
    ]
}

/// Asserts that only stations of `network` have been counted at.
fn assert_only(rig: &Rig, network: u32) {
    let counters = rig.counters();
    for other in [BLUE, GREEN, RED, PLAIN].into_iter().filter(|other| *other != network) {
        for station in [A, B] {
            assert_eq!(counters[&slot(other, station)], Counters::default(), "network {other}");
        }
    }
    assert_ne!(counters[&slot(network, B)], Counters::default(), "nothing arrived at all: the test tests nothing");
}

#[test]
fn no_frame_of_a_guest_leaves_its_network() {
    let mut rig = Rig::new();
    rig.load("from_guest");
    let mut random = Random(0x6e65_7470_6174_6831);
    let seeds = seeds(A, B);
    rig.ns.run(|| {
        for round in 0..20_000 {
            let mut frame = seeds[round % seeds.len()].build();
            random.mutate(&mut frame, 0);
            rig.tc_only("from_guest", rig.ports[&(BLUE, 11)], &frame);
        }
    });
    assert_only(&rig, BLUE);
}

#[test]
fn v17_no_frame_from_the_wire_reaches_another_network() {
    let mut rig = Rig::new();
    rig.load("from_uplink_xdp");
    rig.load("from_uplink");
    let mut random = Random(0x6e65_7470_6174_6832);
    let seeds = seeds(C, B);
    let outer = Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE));
    rig.ns.run(|| {
        for round in 0..20_000 {
            let mut frame = outer.wrap(&seeds[round % seeds.len()].build());
            // Behind the VXLAN header: the VNI itself says blue. Everything, where chance would have to write a VNI.
            random.mutate(&mut frame, 50);
            rig.xdp_only(&frame);
            rig.tc_only("from_uplink", rig.uplink, &frame);
        }
    });
    assert_only(&rig, BLUE);
}

#[test]
fn no_bytes_crash_a_program() {
    let mut rig = Rig::new();
    rig.load("from_uplink_xdp");
    rig.load("from_uplink");
    let mut random = Random(0x6e65_7470_6174_6833);
    let outer = Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE));
    let mut seeds: Vec<Vec<u8>> = seeds(C, A).iter().map(|seed| outer.wrap(&seed.build())).collect();
    seeds.extend(self::seeds(C, A).iter().map(|seed| seed.clone().vlan(100).build()));
    rig.ns.run(|| {
        for round in 0..20_000 {
            let mut frame = seeds[round % seeds.len()].clone();
            random.mutate(&mut frame, 0);
            rig.xdp_only(&frame);
            rig.tc_only("from_uplink", rig.uplink, &frame);
        }
    });
    let alive = rig.xdp(&outer.wrap(&guest(C).to(A).udp(1, 2).build()));
    assert_eq!(alive.bytes, guest(C).to(A).udp(1, 2).build());
}
