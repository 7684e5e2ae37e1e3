//! Ports given out: of the right kind, once, and in no order.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use netpath_common::{maps::BLOCKS, stage::ports};
use proptest::prelude::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A fixed sequence of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) >> 32) as u32
    }
}

/// A port for `wanted` out of `claimed` blocks of one protocol, looking at every block of its kind.
fn give_out(claimed: &mut [u64; 1024], wanted: u16, protocol: u8, random: &mut Random) -> Option<u16> {
    let own = usize::from(wanted / 64);
    if ports::candidates(claimed[own], own as u16, wanted, protocol) & ports::bit_of(wanted) != 0 {
        claimed[own] |= ports::bit_of(wanted);
        return Some(wanted);
    }
    let random = random.next();
    let first = ports::first_block(wanted, protocol, random);
    let mut block = first;
    loop {
        let mask = ports::candidates(claimed[usize::from(block)], block, wanted, protocol);
        if mask != 0 {
            let port = ports::port_of(block, ports::pick(mask, random));
            assert_eq!(claimed[usize::from(block)] & ports::bit_of(port), 0, "port {port} is given out twice");
            claimed[usize::from(block)] |= ports::bit_of(port);
            return Some(port);
        }
        block = ports::next_block(block, wanted, protocol);
        if block == first {
            return None;
        }
    }
}

/// Pearson's statistic of counts that should be equal.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// What the statistic stays below with a probability of 99.9 % (Wilson and Hilferty's approximation).
fn critical(cells: usize) -> f64 {
    let degrees = (cells - 1) as f64;
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + 3.09 * spread.sqrt()).powi(3)
}

#[test]
fn u3a_u4_every_port_of_a_kind_is_given_out_once_and_then_none() {
    for (wanted, protocol, expected) in [
        (500, TCP, 1023),
        (500, UDP, 511),
        (501, UDP, 512),
        (5000, TCP, 64512),
        (5000, UDP, 32256),
        (5001, UDP, 32256),
        (0, ICMP, 65536),
        (5001, ICMP, 65536),
    ] {
        let (mut claimed, mut random) = ([0; 1024], Random(7));
        let given = std::iter::from_fn(|| give_out(&mut claimed, wanted, protocol, &mut random)).count();
        assert_eq!(given, expected, "wanted {wanted}, protocol {protocol}");
    }
}

#[test]
fn n8_ten_thousand_ports_are_neither_in_order_nor_clustered() {
    let (mut claimed, mut random) = ([0; 1024], Random(8));
    let mut given: Vec<u16> = (0..10_000).filter_map(|_| give_out(&mut claimed, 5000, TCP, &mut random)).collect();
    assert_eq!(given.len(), 10_000);
    // The first one is the wanted one.
    given.remove(0);
    let mut cells = [0; 63];
    given.iter().for_each(|port| cells[usize::from(port - 1024) / 1024] += 1);
    assert!(chi_square(&cells) < critical(63), "{}", chi_square(&cells));
    let mut steps = [0; 64];
    given.windows(2).for_each(|pair| steps[usize::from(pair[1].wrapping_sub(pair[0]) >> 10)] += 1);
    let sequential = given.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) <= 2).count();
    assert!(sequential < 10, "{sequential}");
    assert!(steps.iter().all(|count| *count < 1000), "{steps:?}");
}

#[test]
fn n8_a_bit_of_an_empty_block_is_picked_uniformly() {
    for (wanted, protocol, cells) in [(5000, TCP, 64), (5000, UDP, 32), (5001, UDP, 32)] {
        let (mut counts, mut random) = ([0; 64], Random(9));
        let mask = ports::candidates(0, 100, wanted, protocol);
        (0..10_000).for_each(|_| counts[ports::pick(mask, random.next()) as usize] += 1);
        let counts: Vec<u32> = (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| counts[bit]).collect();
        assert_eq!(counts.len(), cells);
        assert!(chi_square(&counts) < critical(cells), "{}", chi_square(&counts));
    }
}

#[test]
fn n8_a_first_block_is_picked_uniformly() {
    for (wanted, protocol, blocks) in [(500, TCP, 0..16), (5000, UDP, 16..1024), (5000, ICMP, 0..1024)] {
        let (mut counts, mut random) = ([0; 1024], Random(10));
        (0..100_000).for_each(|_| counts[usize::from(ports::first_block(wanted, protocol, random.next()))] += 1);
        assert!(counts.iter().enumerate().all(|(block, count)| blocks.contains(&block) == (*count != 0)));
        let counts = &counts[blocks];
        assert!(chi_square(counts) < critical(counts.len()), "{}", chi_square(counts));
    }
}

/// Claims a port as the data path does: a bit that looks free, if it is still free when it is set.
fn claim(claimed: &[AtomicU64], wanted: u16, random: u32) -> Option<u16> {
    let first = ports::first_block(wanted, UDP, random);
    let mut block = first;
    loop {
        let word = &claimed[usize::from(block)];
        let mask = ports::candidates(word.load(SeqCst), block, wanted, UDP);
        if mask != 0 {
            let port = ports::port_of(block, ports::pick(mask, random));
            if word.fetch_or(ports::bit_of(port), SeqCst) & ports::bit_of(port) == 0 {
                return Some(port);
            }
            continue;
        }
        block = ports::next_block(block, wanted, UDP);
        if block == first {
            return None;
        }
    }
}

#[test]
fn x2_processors_that_claim_a_million_ports_at_once_never_share_one() {
    const PROCESSORS: u32 = 4;
    const CLAIMS: u32 = 250_000;
    let claimed: Vec<AtomicU64> = (0..1024).map(|_| AtomicU64::new(0)).collect();
    let owners: Vec<AtomicU32> = (0..65536).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for processor in 1..=PROCESSORS {
            let (claimed, owners) = (&claimed, &owners);
            scope.spawn(move || {
                // Few ports for all of them, of which most are taken at any time.
                let (mut random, mut held) = (Random(processor.into()), std::collections::VecDeque::new());
                for _ in 0..CLAIMS {
                    if held.len() >= 120 {
                        let port: u16 = held.pop_front().unwrap();
                        assert_eq!(owners[usize::from(port)].swap(0, SeqCst), processor);
                        claimed[usize::from(port / 64)].fetch_and(!ports::bit_of(port), SeqCst);
                    }
                    let port = claim(claimed, 500, random.next()).unwrap();
                    assert_eq!(owners[usize::from(port)].swap(processor, SeqCst), 0, "port {port} has two owners");
                    held.push_back(port);
                }
            });
        }
    });
}

#[test]
fn every_port_of_every_protocol_has_a_bit_of_its_own() {
    let mut seen = std::collections::HashSet::new();
    for pool in [0, 1, 7] {
        for protocol in [TCP, UDP, ICMP] {
            for port in 0..=u16::MAX {
                let row = ports::block_of(pool, protocol, port).unwrap();
                assert!(row >= pool * 3 * BLOCKS && row < (pool + 1) * 3 * BLOCKS);
                assert!(seen.insert((row, ports::bit_of(port))));
                assert_eq!(ports::port_of((row % BLOCKS) as u16, ports::bit_of(port).trailing_zeros()), port);
            }
        }
    }
    assert_eq!(ports::block_of(0, 47, 0), None);
}

proptest! {
    #[test]
    fn u3a_u4_candidates_are_free_and_keep_class_and_parity(
        word: u64, block in 0u16..1024, low: bool, wanted: u16, udp: bool,
    ) {
        let (block, wanted) = if low { (block % 16, wanted % 1024) } else { (block, wanted) };
        let mask = ports::candidates(word, block, wanted, if udp { UDP } else { TCP });
        for bit in 0..64 {
            let port = ports::port_of(block, bit);
            let suits = (port < 1024) == (wanted < 1024) && port != 0 && !(udp && port % 2 != wanted % 2);
            prop_assert_eq!(mask >> bit & 1 == 1, suits && word >> bit & 1 == 0, "port {}", port);
        }
    }

    #[test]
    fn an_identifier_may_be_any_that_is_free(word: u64, block in 0u16..1024, wanted: u16) {
        prop_assert_eq!(ports::candidates(word, block, wanted, ICMP), !word);
    }

    #[test]
    fn a_picked_bit_is_the_next_set_one(mask in 1u64.., random: u32) {
        let bit = ports::pick(mask, random);
        let expected = (0..64).map(|step| (random + step) % 64).find(|bit| mask >> bit & 1 == 1);
        prop_assert_eq!(Some(bit), expected);
    }

    #[test]
    fn the_next_blocks_go_through_all_of_a_kind(wanted: u16, protocol in prop::sample::select(vec![TCP, UDP, ICMP]), random: u32) {
        let first = ports::first_block(wanted, protocol, random);
        let mut block = ports::next_block(first, wanted, protocol);
        let mut count = 1;
        while block != first {
            prop_assert!(block < 1024 && (protocol == ICMP || (block < 16) == (wanted < 1024)));
            block = ports::next_block(block, wanted, protocol);
            count += 1;
        }
        prop_assert_eq!(count, if protocol == ICMP { 1024 } else if wanted < 1024 { 16 } else { 1008 });
    }
}
