//! Rates: may a packet pass, when, and what does it cost.
//!
//! A limit is a clock that says when all that has passed is paid for. It never stands further back than the burst, or after a
//! refusal than what TCP needs to get over it, and each packet moves it on by what its bytes take at the rate. While it is behind the present there is credit, and a packet passes
//! whole, also where that makes a debt: so a super-packet of 64 KiB passes a limit of 1 Mbit/s, and the next one waits.
//!
//! ```text
//!            now - burst      now - burst / 2         now              now + horizon
//!   ─────────────┼──────────────────┼──────────────────┼─────────────────────┼──────►  time of the meter
//!    moved up to it     passes         passes, marked          waits              dropped
//!                                  where it is policed     where it is paced
//! ```
//!
//! A limit without pacing has a horizon of 0. Where packets are paced they keep the clock ahead of the present: what cannot wait
//! then passes as far ahead as they do, and is a debt that they wait for. It would never pass beside a sender that always has more.
//!
//! Times are in [`TICKS`] of a nanosecond, so that a byte at 100 Gbit/s is not rounded away.

use crate::maps::Limit;

/// Ticks in a nanosecond.
pub const TICKS: u64 = 16;
/// Bits behind the point of [`Limit::byte_time`].
const FRACTION: u32 = 16;
/// Ticks in a second.
pub const SECOND: u64 = 1_000_000_000 * TICKS;

/// The least burst in bytes: twenty packets of Ethernet's MTU, which is what TCP needs to find its rate by losing some.
pub const LEAST_BURST: u64 = 30_000;

/// The largest burst of a limit that names none, in bytes.
const MOST_BURST: u64 = 16_000_000;

/// The burst of a limit that names none, in bytes: what passes in 100 ms, from [`LEAST_BURST`] to 16 MB.
#[must_use]
pub const fn default_burst(bits_per_second: u64) -> u64 {
    match bits_per_second / 80 {
        ..LEAST_BURST => LEAST_BURST,
        MOST_BURST.. => MOST_BURST,
        bytes => bytes,
    }
}

/// How long credit adds up after a refusal, at any rate: longer than TCP waits before it sends again what was lost, 200 ms at
/// least (RFC 6298 with Linux's bound), and twice and four times that where more is lost. A policed flow whose round trips are
/// short knows no other way to slow down, and would never get the time back.
const RESERVE: u64 = SECOND;
/// How long after the last refusal. Later, and before the first one, there is the burst and no more: whoever only talks a little
/// saves nothing up.
const PATIENCE: u64 = SECOND * 2;
/// The same while there is more traffic than [`is_busy`] asks for: TCP that has become slow takes some time to become fast again.
const LONG_PATIENCE: u64 = SECOND * 10;

/// So much of that is anybody's, where the burst is not more. The rest is for connections of TCP that go on: nobody else pauses
/// because something was lost, and what begins after a pause would have a whole second's worth above the rate.
const COMMON: u64 = SECOND * 7 / 20;

/// Whose packet it is that may use what has been saved up after a refusal.
pub mod saver {
    /// A connection of TCP that goes on: for it, credit is saved up.
    pub const GOES_ON: u32 = 0;
    /// Whoever does not wait because something was lost.
    pub const OTHER: u32 = 1;
    /// A new connection of TCP.
    pub const BEGINS: u32 = 2;
}

/// The longest that a packet waits for its departure, in ticks, at rates at which that is a queue of a sensible length.
const HORIZON: u64 = SECOND / 20;
/// The longest that one waits at any rate, in ticks.
const LONGEST_HORIZON: u64 = SECOND;
/// The most bytes of a limit that wait: in the smallest frames the hundred thousand that netpath's fq keeps.
const MOST_WAITING: u64 = 6_000_000;

/// The longest that a packet waits for its departure, in ticks, where there is room for so many bytes that wait: 50 ms. At low
/// rates it is longer, so that [`LEAST_BURST`] fits in. Where there is less room than that it is shorter: what has been charged and
/// has no room is lost. 0 without room.
#[must_use]
pub const fn horizon(bits_per_second: u64, room: u64) -> u64 {
    if bits_per_second == 0 || room == 0 {
        return 0;
    }
    let room = if room < MOST_WAITING { room } else { MOST_WAITING };
    let second = 8 * SECOND as u128;
    let least = (LEAST_BURST as u128 * second / bits_per_second as u128) as u64;
    let most = (room as u128 * second / bits_per_second as u128) as u64;
    let wanted = match least {
        LONGEST_HORIZON.. => LONGEST_HORIZON,
        ..HORIZON => HORIZON,
        _ => least,
    };
    if most < wanted { most } else { wanted }
}

/// The limit of a rate in bits per second and a burst in bytes, where nothing is paced; a rate of 0 is no limit.
#[must_use]
pub const fn limit(bits_per_second: u64, burst: u64) -> Limit {
    if bits_per_second == 0 {
        return Limit { byte_time: 0, burst: 0, reserve: 0, horizon: 0 };
    }
    let second = (8 * SECOND as u128) << FRACTION;
    let byte_time = (second + bits_per_second as u128 / 2) / bits_per_second as u128;
    // A rate of a bit per second still fits.
    let burst = (burst as u128 * byte_time) >> FRACTION;
    let reserve = if (RESERVE as u128) < burst { burst } else { RESERVE as u128 };
    Limit { byte_time: byte_time as u64, burst: burst as u64, reserve: reserve as u64, horizon: 0 }
}

/// The rate of a limit in bits per second, as [`limit`] was asked for it; 0 for no limit.
#[must_use]
pub const fn bits_per_second(limit: &Limit) -> u64 {
    if limit.byte_time == 0 {
        return 0;
    }
    let second = (8 * SECOND as u128) << FRACTION;
    ((second + limit.byte_time as u128 / 2) / limit.byte_time as u128) as u64
}

/// The burst of a limit in bytes.
#[must_use]
pub const fn burst_bytes(limit: &Limit) -> u64 {
    if limit.byte_time == 0 {
        return 0;
    }
    (((limit.burst as u128) << FRACTION) / limit.byte_time as u128) as u64
}

/// What a packet of `len` bytes costs, in ticks.
#[inline(always)]
#[must_use]
pub const fn cost(limit: &Limit, len: u64) -> u64 {
    (len * limit.byte_time) >> FRACTION
}

/// Bytes per second, where all of `bytes` passed in the first of the `elapsed` ticks' seconds: of that second, or if another one went by
/// without a packet, of all the time.
#[inline(always)]
#[must_use]
pub const fn rate(bytes: u64, elapsed: u64) -> u64 {
    const MILLISECOND: u64 = SECOND / 1000;
    if elapsed < 2 * SECOND { bytes } else { bytes * 1000 / (elapsed / MILLISECOND) }
}

/// What is known of a limit's traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// When it has last refused a packet, in ticks.
    pub refused: u64,
    /// When the last measured second ended, in ticks.
    pub measured: u64,
    /// Bytes per second in it.
    pub rate: u64,
}

/// How far back the clock of a limit may stand: what is further back is credit that has lapsed.
#[inline(always)]
#[must_use]
pub const fn earliest(limit: &Limit, past: Past, now: u64) -> u64 {
    let since = now.saturating_sub(past.refused);
    let is_patient = since < PATIENCE || since < LONG_PATIENCE && is_busy(limit, past, now);
    now.saturating_sub(if is_patient { limit.reserve } else { limit.burst })
}

/// Where the clock of a limit stands that has nothing saved up for TCP.
#[inline(always)]
const fn common(limit: &Limit, now: u64) -> u64 {
    now.saturating_sub(if limit.burst > COMMON { limit.burst } else { COMMON })
}

/// Whether a clock that stands at `time` has credit saved up for TCP.
#[inline(always)]
#[must_use]
pub const fn is_saved(limit: &Limit, time: u64, now: u64) -> bool {
    time < common(limit, now)
}

/// Where a clock that stands at `time` and [has something saved up](is_saved) goes when a packet of `len` bytes uses it that it is not
/// saved for, by [`saver`]. A new connection ends it: otherwise a test of the rate that follows on another one would have more.
/// Others pay eight times as much while it lasts, so that a flood uses it up at once, and an echo request beside TCP hardly any.
#[inline(always)]
#[must_use]
pub const fn used_up(limit: &Limit, time: u64, now: u64, len: u64, by: u32) -> u64 {
    let (paid, common) = (time + 7 * cost(limit, len), common(limit, now));
    if by == saver::BEGINS || paid > common { common } else { paid }
}

/// Whether an eighth of the rate was in use a moment ago.
#[inline(always)]
const fn is_busy(limit: &Limit, past: Past, now: u64) -> bool {
    now.saturating_sub(past.measured) < PATIENCE && cost(limit, past.rate) > SECOND / 8
}

/// How far ahead the clock of a limit may stand: further ahead is the debt of another rate, before the limit was raised. As
/// much as sixteen processors admit in one moment, in super-packets.
#[inline(always)]
#[must_use]
pub const fn latest(limit: &Limit, now: u64) -> u64 {
    now + limit.horizon + cost(limit, 1 << 20)
}

/// What a limit says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// It may not pass.
    pub drops: bool,
    /// It passes; if it can say so, it says that there is congestion.
    pub marks: bool,
    /// It passes, this many ticks from now.
    pub wait: u64,
}

impl Judgement {
    /// It passes, and more could.
    pub const CLEAR: Self = Self { drops: false, marks: false, wait: 0 };
}

/// Whether less than half of the credit is left: then whoever has had more than a fair share of an aggregate has to wait.
#[inline(always)]
#[must_use]
pub const fn is_scarce(limit: &Limit, time: u64, now: u64) -> bool {
    time + limit.burst / 2 > now
}

/// What a limit whose clock stands at `time` says. `is_greedy`: the sender has had its share of an aggregate.
#[inline(always)]
#[must_use]
pub const fn judge(limit: &Limit, time: u64, now: u64, is_paced: bool, is_greedy: bool) -> Judgement {
    if !is_scarce(limit, time, now) {
        return Judgement::CLEAR;
    }
    let wait = time.saturating_sub(now);
    let most = if is_greedy { limit.horizon / 2 } else { limit.horizon };
    if is_paced {
        return Judgement { drops: wait > most, marks: wait > limit.horizon / 8, wait };
    }
    Judgement { drops: wait > most || is_greedy && most == 0, marks: true, wait: 0 }
}

/// How long shares of an aggregate are counted, in ticks: 2³¹ of them are 134 ms.
pub const INTERVAL: u64 = 1 << 31;

/// The number of the interval of a time.
#[inline(always)]
#[must_use]
pub const fn interval(now: u64) -> u32 {
    (now / INTERVAL) as u32
}

/// How many senders an aggregate has: the number of the interval (32 bits), how many there were in the one before (16), and
/// how many have come in this one (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members(pub u64);

impl Members {
    /// With one more, who has not sent in this interval before.
    #[inline(always)]
    #[must_use]
    pub const fn joined(self, interval: u32) -> Self {
        let here = (self.0 >> 32) as u32;
        let current = self.0 & 0xffff;
        if here == interval {
            let more = if current < 0xffff { 1 } else { 0 };
            return Self(self.0 + more);
        }
        let last = if here.wrapping_add(1) == interval { current } else { 0 };
        Self((interval as u64) << 32 | last << 16 | 1)
    }

    /// How many share the aggregate: as many as in the last interval, or as many as have come already.
    #[inline(always)]
    #[must_use]
    pub const fn count(self, interval: u32) -> u64 {
        let (here, last, current) = ((self.0 >> 32) as u32, self.0 >> 16 & 0xffff, self.0 & 0xffff);
        let most = match interval.wrapping_sub(here) {
            0 if last > current => last,
            0 | 1 => current,
            _ => 0,
        };
        if most == 0 { 1 } else { most }
    }
}

/// What a sender has had of an aggregate: the number of the interval (32 bits), and what it cost in it, in units of 256 ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u64);

impl Share {
    const UNIT: u64 = 256;

    /// The word of a sender whose first packet in an interval costs `cost` ticks.
    #[inline(always)]
    #[must_use]
    pub const fn begun(interval: u32, cost: u64) -> Self {
        Self((interval as u64) << 32 | Self::units(cost))
    }

    /// Whether it is about this interval.
    #[inline(always)]
    #[must_use]
    pub const fn is_of(self, interval: u32) -> bool {
        (self.0 >> 32) as u32 == interval
    }

    /// `cost` in what is added to the word.
    #[inline(always)]
    #[must_use]
    pub const fn units(cost: u64) -> u64 {
        let units = cost / Self::UNIT;
        if units > 0x00ff_ffff { 0x00ff_ffff } else { units }
    }

    /// Whether the sender has had its part of an aggregate that `members` share.
    #[inline(always)]
    #[must_use]
    pub const fn is_used_up(self, interval: u32, members: u64) -> bool {
        self.is_of(interval) && (self.0 & 0xffff_ffff) * members > INTERVAL / Self::UNIT
    }
}
