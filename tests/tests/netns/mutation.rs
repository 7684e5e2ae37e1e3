//! Random and mutated frames through both programs: nothing crashes, and nothing reaches another network's port.

use netpath_tests::{
    guest::raw::marker,
    packet::{BROADCAST, Outer, Packet, dissect, guest},
    topology::TwoHypervisors,
};

use crate::scene::{A, B, C, UPLINK_MODES, in_mode, raw_guests, raw_guests_in};

const FRAMES: usize = 20_000;
const VNI_OFFSET: usize = 14 + 20 + 8 + 4;

/// A small generator with a printed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("NETPATH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 | 1
        });
        println!("NETPATH_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Turns bits, cuts, extends or replaces bytes of a frame, never beyond `limit` bytes.
    fn mutate(&mut self, frame: &mut Vec<u8>, limit: usize) {
        for _ in 0..=self.below(4) {
            let at = self.below(frame.len());
            match self.below(6) {
                0 => frame[at] ^= 1 << self.below(8),
                1 => frame[at] = self.below(256) as u8,
                2 => frame[at] = 0xff,
                3 => frame.truncate(at.max(14)),
                4 => frame.extend(std::iter::repeat_n(self.0 as u8, self.below(200))),
                _ => {
                    let byte = self.0 as u8;
                    frame.insert(at, byte);
                }
            }
        }
        frame.truncate(limit);
    }
}

fn seeds() -> Vec<Packet> {
    let arp = guest(A).arp_request(B.ip);
    vec![
        guest(A).to(B),
        guest(A).to(C).tcp(1, 2, 2),
        guest(A).to(B).echo_request(1, 1),
        guest(A).to_mac(BROADCAST),
        guest(A).over_ipv6(A, B).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]),
        guest(A).neighbour_solicitation(A.ip6, B.ip6),
        guest(A).to(C).neighbour_advertisement(A.ip6, C.ip6, A.ip6, 0x60),
        guest(A).vlan(0).to(B),
        guest(A).to(B).options(&[7, 7, 4, 0, 0, 0, 0]),
        guest(A).to(B).fragment(8, true),
        arp,
        guest(A).rarp(),
    ]
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
    let (mut random, seeds) = (Random::new(), seeds());
    let a = topology.raw("blue", 11);
    for _ in 0..FRAMES {
        let mut frame = random.pick(&seeds).build();
        random.mutate(&mut frame, 2000);
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
        let (mut random, seeds) = (Random::new(), seeds());
        let wire = topology.wire(0);
        let outer = Outer::new(5001, topology.endpoint(1), topology.endpoint(0));
        for _ in 0..FRAMES {
            let mut frame = outer.wrap(&random.pick(&seeds).clone().build());
            random.mutate(&mut frame, 1600);
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
        let (mut random, seeds) = (Random::new(), seeds());
        let wire = topology.wire(0);
        for _ in 0..FRAMES {
            let mut frame = random.pick(&seeds).clone().build();
            frame.splice(12..12, [0x81, 0, 0, 101]);
            random.mutate(&mut frame, 1600);
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
