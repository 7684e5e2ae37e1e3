//! Rates: exact over time, whatever the packets.

use netpath_common::{
    maps::Limit,
    stage::meter::{self, INTERVAL, Judgement, Members, SECOND, Share},
};
use proptest::prelude::*;

const MBIT: u64 = 1_000_000;

/// A meter as the data path keeps it.
struct Meter {
    limit: Limit,
    time: u64,
    passed: u64,
}

impl Meter {
    fn of(rate: u64) -> Self {
        Self { limit: meter::limit(rate, meter::default_burst(rate)), time: 0, passed: 0 }
    }

    fn offer(&mut self, now: u64, len: u64) -> Judgement {
        let judgement = meter::judge(&self.limit, self.time, now, false, false);
        if !judgement.drops {
            self.time = self.time.max(meter::earliest(&self.limit, self.time, now)) + meter::cost(&self.limit, len);
            self.passed += len;
        }
        judgement
    }
}

/// Offers frames of `len` bytes at twice the rate for `seconds`, after one second that uses the burst up.
fn bits_per_second(rate: u64, len: u64, seconds: u64) -> f64 {
    let mut meter = Meter::of(rate);
    let gap = meter::cost(&meter.limit, len) / 2;
    let (mut now, start, end) = (SECOND, 2 * SECOND, (2 + seconds) * SECOND);
    let mut before = None;
    while now < end {
        if now >= start {
            before.get_or_insert(meter.passed);
        }
        meter.offer(now, len);
        now += gap.max(1);
    }
    (meter.passed - before.unwrap()) as f64 * 8.0 / seconds as f64
}

#[test]
fn every_rate_is_exact_for_small_frames_and_for_super_packets() {
    for (rate, len, seconds) in [
        (MBIT, 60, 10),
        (MBIT, 1514, 10),
        (10 * MBIT, 1514, 10),
        (200 * MBIT, 60, 2),
        (200 * MBIT, 65_226, 10),
        (1000 * MBIT, 1514, 2),
        (5000 * MBIT, 1514, 1),
        (5000 * MBIT, 65_226, 10),
        (100_000 * MBIT, 1514, 1),
    ] {
        let seen = bits_per_second(rate, len, seconds);
        let off = seen / rate as f64 - 1.0;
        // One packet of debt at the edges is what a window may be off by.
        let edge = len as f64 * 8.0 / (rate * seconds) as f64;
        assert!(off.abs() < 0.001 + edge, "{rate} bit/s in frames of {len}: {seen:.0}");
    }
}

#[test]
fn rates_read_back_as_they_were_written() {
    for rate in [1000, 512_000, MBIT, 3 * MBIT, 200 * MBIT, 1000 * MBIT, 25_000 * MBIT, 100_000 * MBIT] {
        let limit = meter::limit(rate, 1 << 20);
        assert!(meter::bits_per_second(&limit).abs_diff(rate) <= rate / 1_000_000, "{rate}");
        assert!(meter::burst_bytes(&limit).abs_diff(1 << 20) <= 8, "{rate}: {}", meter::burst_bytes(&limit));
    }
    assert_eq!(meter::bits_per_second(&meter::limit(0, 5)), 0);
}

#[test]
fn a_super_packet_passes_a_low_rate_whole_and_the_next_waits_for_it_to_be_paid() {
    let mut meter = Meter::of(MBIT);
    assert!(!meter.offer(SECOND, 65_226).drops);
    let paid = meter.time;
    assert!(meter.offer(paid - 1, 60).drops);
    assert!(!meter.offer(paid, 60).drops);
}

#[test]
fn idle_time_is_worth_a_burst_and_no_more() {
    let mut meter = Meter::of(10 * MBIT);
    let now = 1000 * SECOND;
    while !meter.offer(now, 1514).drops {}
    let burst = meter::default_burst(10 * MBIT);
    assert!((burst..=burst + 1514).contains(&meter.passed), "{} of {burst}", meter.passed);
}

#[test]
fn a_flow_that_pauses_for_less_than_a_second_gets_the_time_back() {
    for rate in [MBIT, 10 * MBIT, 1000 * MBIT, 5000 * MBIT] {
        let mut meter = Meter::of(rate);
        let mut passed = |now| {
            let before = meter.passed;
            while !meter.offer(now, 1514).drops {}
            meter.passed - before
        };
        let start = 1000 * SECOND;
        passed(start);
        // Two packets, and what rounds to a tick for each of many.
        let edge = 3_100 + rate / 40_000;
        // As TCP does after a loss: nothing for 200 ms, for 400 ms, for 800 ms. Of 1.4 seconds, one.
        let mut now = start;
        for (pause, paid) in [(200, 200), (400, 400), (800, 800), (1400, 1000)] {
            now += SECOND / 1000 * pause;
            let seen = passed(now);
            assert!(seen.abs_diff(rate / 8000 * paid) < edge, "{rate}: {seen} after {pause} ms");
        }
        // After a long pause it is the burst.
        let idle = passed(start + 60 * SECOND);
        assert!(idle.abs_diff(meter::default_burst(rate)) < edge, "{rate}: {idle}");
    }
}

#[test]
fn a_paced_packet_waits_until_the_horizon_and_says_so_before() {
    let limit = meter::limit(10 * MBIT, 30_000);
    let now = 10 * SECOND;
    let judge = |ahead: u64, is_greedy| meter::judge(&limit, now + ahead, now, true, is_greedy);
    assert_eq!(judge(10, false), Judgement { drops: false, marks: false, wait: 10 });
    assert_eq!(judge(limit.horizon, false), Judgement { drops: false, marks: true, wait: limit.horizon });
    assert!(judge(limit.horizon + 1, false).drops);
    assert!(judge(limit.horizon / 2 + 1, true).drops);
    assert!(!judge(limit.horizon / 2, true).drops);
}

#[test]
fn a_policed_packet_is_marked_before_others_are_dropped() {
    let limit = meter::limit(10 * MBIT, 30_000);
    let now = 10 * SECOND;
    let judge = |time: u64, is_greedy| meter::judge(&limit, time, now, false, is_greedy);
    assert_eq!(judge(now - limit.burst, false), Judgement::CLEAR);
    assert_eq!(judge(now, false), Judgement { drops: false, marks: true, wait: 0 });
    assert!(judge(now + 1, false).drops);
    // Who has had its share is dropped while there is still credit for the others.
    assert!(judge(now - 1, true).drops);
    assert_eq!(judge(now - limit.burst, true), Judgement::CLEAR);
}

#[test]
fn an_aggregates_senders_are_counted_by_interval() {
    let members = Members(0).joined(7).joined(7).joined(7);
    assert_eq!(members.count(7), 3);
    // Until all have come again it is as many as there were.
    let next = members.joined(8);
    assert_eq!((next.count(8), next.joined(8).count(8)), (3, 3));
    assert_eq!(next.count(9), 1);
    assert_eq!(next.joined(12).count(12), 1);
}

#[test]
fn a_share_is_used_up_when_its_part_of_the_interval_is() {
    let mut share = Share::begun(3, 0);
    share.0 += Share::units(INTERVAL / 2);
    assert!(!share.is_used_up(3, 2));
    share.0 += Share::units(256);
    assert!(share.is_used_up(3, 2));
    assert!(!share.is_used_up(3, 1));
    assert!(!share.is_used_up(4, 2));
}

proptest! {
    #[test]
    fn what_passes_never_exceeds_the_rate_by_more_than_burst_and_one_packet(
        rate in 1_000u64..10_000_000_000,
        packets in proptest::collection::vec((1u64..65_535, 0u64..1_000_000_000), 1..200),
    ) {
        let mut meter = Meter::of(rate);
        let start = 100 * SECOND;
        let mut now = start;
        let mut largest = 0;
        for (len, gap) in packets {
            now += gap;
            if !meter.offer(now, len).drops {
                largest = largest.max(len);
            }
        }
        let allowed = u128::from(now - start) * u128::from(rate) / u128::from(8 * SECOND);
        let credit = u128::from(meter.limit.reserve) * u128::from(rate) / u128::from(8 * SECOND);
        let most = allowed + credit + u128::from(largest) + 2;
        prop_assert!(u128::from(meter.passed) <= most + most / 100_000, "{} of {most}", meter.passed);
    }
}
