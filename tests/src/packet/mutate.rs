//! Frames with damage: a small generator whose seed is printed, so that a failure can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{BROADCAST, Endpoint, Packet, guest};

/// xorshift64, seeded from `NETPATH_SEED` or the clock.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; its seed is printed with the output of a failed test.
    pub fn seeded() -> Self {
        let given = std::env::var("NETPATH_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |elapsed| elapsed.as_nanos() as u64 | 1)
        });
        println!("NETPATH_SEED={seed}");
        Self(seed)
    }

    /// The generator of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Neighbouring seeds differ in few bits at first.
        (0..8).for_each(|_| _ = random.below(1));
        random
    }

    /// A number from 0 to `end`, which it does not reach.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Turns bits, cuts, extends or replaces bytes of a frame, never beyond `limit` bytes.
    pub fn damage(&mut self, frame: &mut Vec<u8>, limit: usize) {
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

/// Whole packets of every kind from one station to another, for damage to begin with.
pub fn of_every_kind(from: Endpoint, to: Endpoint) -> Vec<Packet> {
    vec![
        guest(from).to(to),
        guest(from).to(to).tcp(1, 2, 2),
        guest(from).to(to).echo_request(1, 1),
        guest(from).to_mac(BROADCAST),
        guest(from).over_ipv6(from, to).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]),
        guest(from).neighbour_solicitation(from.ip6, to.ip6),
        guest(from).to(to).neighbour_advertisement(from.ip6, to.ip6, from.ip6, 0x60),
        guest(from).vlan(0).to(to),
        guest(from).vlan(5).vlan(6).to(to),
        guest(from).to(to).options(&[7, 7, 4, 0, 0, 0, 0]),
        guest(from).to(to).fragment(8, true),
        guest(from).arp_request(to.ip),
        guest(from).arp_reply(to),
        guest(from).rarp(),
        guest(from).to(to).payload(vec![0; 1500]),
    ]
}
