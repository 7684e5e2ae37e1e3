//! Rates: exact over time, whatever the packets.

use netpath_common::{
    maps::Limit,
    stage::meter::{self, INTERVAL, Judgement, Members, Past, SECOND, Share, saver},
};
use proptest::prelude::*;

const MBIT: u64 = 1_000_000;

/// The limit of a rate on a host that paces.
fn paced(rate: u64) -> Limit {
    Limit { horizon: meter::horizon(rate, u64::MAX), ..meter::limit(rate, 30_000) }
}

/// A meter as the data path keeps it.
struct Meter {
    limit: Limit,
    time: u64,
    passed: u64,
    past: Past,
}

impl Meter {
    fn of(rate: u64) -> Self {
        Self { limit: meter::limit(rate, meter::default_burst(rate)), time: 0, passed: 0, past: Past::default() }
    }

    /// A packet of a connection that goes on.
    fn offer(&mut self, now: u64, len: u64) -> Judgement {
        self.offer_by(saver::GOES_ON, now, len)
    }

    fn offer_by(&mut self, by: u32, now: u64, len: u64) -> Judgement {
        let judgement = meter::judge(&self.limit, self.time, now, false, false);
        if judgement.drops {
            self.past.refused = now;
            return judgement;
        }
        let stands = self.time.max(meter::earliest(&self.limit, self.past, now));
        let has_saved = meter::is_saved(&self.limit, stands, now);
        self.time = stands + meter::cost(&self.limit, len);
        if has_saved && by != saver::GOES_ON && meter::is_saved(&self.limit, self.time, now) {
            self.time = meter::used_up(&self.limit, self.time, now, len, by);
        }
        self.passed += len;
        judgement
    }

    /// Offers frames of one for `length`, at `times` the rate; bytes that pass.
    fn flood(&mut self, by: u32, from: u64, length: u64, times: u64) -> u64 {
        let (gap, before) = (meter::cost(&self.limit, 1514) / times, self.passed);
        let mut now = from;
        while now < from + length {
            self.offer_by(by, now, 1514);
            now += gap;
        }
        self.passed - before
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
fn what_only_talks_a_little_saves_no_more_than_a_burst_up() {
    for rate in [MBIT, 10 * MBIT, 200 * MBIT] {
        let mut meter = Meter::of(rate);
        let start = 1000 * SECOND;
        for ping in 0..50 {
            assert!(!meter.offer(start + SECOND / 5 * ping, 98).drops);
        }
        let (start, before) = (start + 10 * SECOND, meter.passed);
        let gap = meter::cost(&meter.limit, 1514) / 2;
        let mut now = start;
        while now < start + 10 * SECOND {
            meter.offer(now, 1514);
            now += gap;
        }
        let most = rate / 8 * 10 + meter::default_burst(rate) + 1514;
        let passed = meter.passed - before;
        assert!((rate / 8 * 10..=most + most / 100_000).contains(&passed), "{passed} of {most} at {rate}");
    }
}

#[test]
fn a_flow_that_has_become_slow_keeps_its_credit_for_a_while() {
    let limit = meter::limit(10 * MBIT, 30_000);
    let refused = 1000 * SECOND;
    let credit = |seconds: u64, rate: u64| {
        let now = refused + seconds * SECOND;
        now - meter::earliest(&limit, Past { refused, measured: now - SECOND, rate: rate / 8 }, now)
    };
    let (slow, chat) = (2 * MBIT, MBIT);
    assert_eq!([1, 9, 11].map(|seconds| credit(seconds, slow)), [limit.reserve, limit.reserve, limit.burst]);
    assert_eq!([1, 3].map(|seconds| credit(seconds, chat)), [limit.reserve, limit.burst]);
    // What was measured long ago tells nothing.
    let now = refused + 5 * SECOND;
    let past = Past { refused, measured: refused, rate: slow / 8 };
    assert_eq!(now - meter::earliest(&limit, past, now), limit.burst);
}

#[test]
fn ten_seconds_after_a_pause_are_within_five_per_cent_for_all_but_a_connection_that_goes_on() {
    for rate in [10 * MBIT, 200 * MBIT] {
        for pause in [SECOND / 10, SECOND / 2, SECOND * 4 / 5, SECOND * 19 / 10, SECOND * 5] {
            for by in [saver::OTHER, saver::BEGINS] {
                let mut meter = Meter::of(rate);
                let start = 1000 * SECOND;
                meter.flood(saver::GOES_ON, start, 2 * SECOND, 3);
                let start = start + 2 * SECOND + pause;
                // The first packet is of whom it is; what follows on a new connection goes on.
                meter.offer_by(by, start, 74);
                let then = if by == saver::BEGINS { saver::GOES_ON } else { by };
                let seen = meter.flood(then, start, 10 * SECOND, 2) as f64 * 8.0 / (10 * rate) as f64;
                assert!((0.999..1.045).contains(&seen), "{seen} at {rate}, {pause} ticks later, by {by}");
            }
        }
    }
}

#[test]
fn a_connection_that_goes_on_gets_its_pause_back_beside_echo_requests() {
    let mut meter = Meter::of(10 * MBIT);
    let start = 1000 * SECOND;
    meter.flood(saver::GOES_ON, start, 2 * SECOND, 3);
    let start = start + 2 * SECOND;
    (1..8).for_each(|tenth| assert!(!meter.offer_by(saver::OTHER, start + tenth * SECOND / 10, 98).drops));
    let seen = meter.flood(saver::GOES_ON, start + SECOND * 8 / 10, 2 * SECOND, 3) as f64 * 8.0 / (10 * MBIT) as f64;
    assert!((2.75..2.81).contains(&seen), "{seen} s worth in the 2.8 s");
}

#[test]
fn a_debt_is_no_longer_than_many_super_packets_at_the_rate_in_force() {
    let (low, high) = (meter::limit(64_000, 30_000), meter::limit(200 * MBIT, 30_000));
    let now = 1000 * SECOND;
    let debt = meter::cost(&low, 65_226);
    assert!(debt > 8 * SECOND && now + debt < meter::latest(&low, now));
    assert!(meter::latest(&high, now) - now < SECOND / 5);
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
    let limit = paced(10 * MBIT);
    let now = 10 * SECOND;
    let judge = |ahead: u64, is_greedy| meter::judge(&limit, now + ahead, now, true, is_greedy);
    assert_eq!(judge(10, false), Judgement { drops: false, marks: false, wait: 10 });
    assert_eq!(judge(limit.horizon, false), Judgement { drops: false, marks: true, wait: limit.horizon });
    assert!(judge(limit.horizon + 1, false).drops);
    assert!(judge(limit.horizon / 2 + 1, true).drops);
    assert!(!judge(limit.horizon / 2, true).drops);
}

#[test]
fn what_cannot_wait_passes_as_far_ahead_as_what_does() {
    let limit = paced(10 * MBIT);
    let now = 10 * SECOND;
    let judge = |ahead: u64, is_greedy| meter::judge(&limit, now + ahead, now, false, is_greedy);
    assert_eq!(judge(limit.horizon, false), Judgement { drops: false, marks: true, wait: 0 });
    assert!(judge(limit.horizon + 1, false).drops);
    assert!(judge(limit.horizon / 2 + 1, true).drops);
    assert!(!judge(limit.horizon / 2, true).drops);
}

#[test]
fn what_waits_is_a_burst_at_the_least_and_finds_room_in_the_queue() {
    let bytes = |rate: u64| u128::from(meter::horizon(rate, u64::MAX)) * u128::from(rate) / u128::from(8 * SECOND);
    for rate in [MBIT, 2 * MBIT, 10 * MBIT, 200 * MBIT, 1000 * MBIT, 10_000 * MBIT, 100_000 * MBIT] {
        assert!((u128::from(meter::LEAST_BURST) - 1..=6_000_000).contains(&bytes(rate)), "{rate}: {}", bytes(rate));
    }
    assert_eq!([10, 200].map(|rate| meter::horizon(rate * MBIT, u64::MAX)), [SECOND / 20; 2]);
    assert_eq!([10, 200].map(|rate| meter::horizon(rate * MBIT, 125_000)), [SECOND / 20, SECOND / 200]);
    assert_eq!(meter::horizon(MBIT, 7_500), SECOND * 6 / 100, "half of ten packets, and not of a burst");
    assert_eq!([64_000, 1, 0].map(|rate| meter::horizon(rate, u64::MAX)), [SECOND, SECOND, 0]);
    assert_eq!(meter::horizon(10 * MBIT, 0), 0);
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
