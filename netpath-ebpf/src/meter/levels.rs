//! The levels that may refuse a frame, asked in their order: one word each, moved on by what a frame costs.

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    maps::{CONNECTION_WORDS, Limit, Meter, MeterEvents, PortMeters, connection_row, meter_row},
    stage::meter::{self as stage, Judgement, Members, Past, Share, TICKS},
};

use super::{How, NONE, of_port};
use crate::{atomic::Word, maps};

/// Who has a say, in the order in which they are asked.
pub struct Level;

impl Level {
    pub const PASS: u32 = 0;
    pub const PORT: u32 = 1;
    pub const NETWORK: u32 = 2;
    pub const ACCOUNT: u32 = 3;
    const ADDRESS: u32 = 4;
    /// It may pass, and is to be marked or to wait.
    pub const TELLS: u32 = 5;
    const ALL: [u32; 4] = [Self::PORT, Self::NETWORK, Self::ACCOUNT, Self::ADDRESS];

    /// Whether several ports share its meters.
    #[inline(always)]
    fn is_shared(level: u32) -> bool {
        level == Self::NETWORK || level == Self::ACCOUNT
    }

    #[inline(always)]
    fn meter(level: u32, meters: &PortMeters, how: How) -> u32 {
        match level {
            Self::PORT => meters.port,
            Self::NETWORK => meters.network,
            Self::ACCOUNT => meters.account,
            _ => how.address(),
        }
    }

    /// What the port has had of an aggregate.
    #[inline(always)]
    fn share(level: u32, slot: u32, direction: u32) -> Option<Word<u64>> {
        let shares = maps::SHARES.get_ptr_mut(slot)?;
        let direction = direction as usize & 1;
        // SAFETY: in a map's value.
        unsafe {
            match level {
                Self::NETWORK => Some(Word::at(&raw mut (*shares).network[direction])),
                Self::ACCOUNT => Some(Word::at(&raw mut (*shares).account[direction])),
                _ => None,
            }
        }
    }
}

/// A frame while it is judged, in the memory of its processor: what the verifier knows of words on the stack would have it
/// follow every outcome of one level through all of the others.
#[repr(C)]
pub struct Charge {
    meters: PortMeters,
    /// The time in ticks.
    pub now: u64,
    /// Bytes on the wire.
    pub len: u64,
    /// The longest that a level has it wait, in ticks.
    pub wait: u64,
    /// The row of that level.
    pub waits: u32,
    /// The row of a level that marks it; 0 for none.
    pub marks: u32,
    /// Row of COUNTERS of its port.
    slot: u32,
    /// [`How`].
    how: u32,
    /// Whether `now` is precise, and not the coarse clock: that is a few milliseconds behind at most, and never ahead.
    is_precise: u32,
    /// The levels, as bits, that had something saved up for TCP.
    pub saved: u32,
}

/// What a processor keeps.
#[repr(C)]
pub struct Scratch {
    /// The frame that is judged.
    pub charge: Charge,
    clock: Clock,
}

impl Scratch {
    /// This processor's one. Programs do not preempt each other on a processor.
    #[inline(always)]
    pub fn here() -> Option<&'static mut Self> {
        const { assert!(size_of::<Self>() <= CONNECTION_WORDS * 8 && align_of::<Self>() <= 8) };
        let row = maps::CONNECTION.get_ptr_mut(connection_row::CHARGE)?;
        // SAFETY: the row is large enough and aligned, and any bytes are a value of integers.
        Some(unsafe { &mut *row.cast() })
    }
}

/// The coarse clock as it was last read. It moves with the kernel's count of jiffies, which is one load (the verifier puts that in
/// the call's place), while the clock is a call.
#[repr(C)]
struct Clock {
    jiffies: u64,
    now: u64,
}

impl Clock {
    /// The time in ticks, a few milliseconds behind at most.
    #[inline(always)]
    fn coarse(&mut self) -> u64 {
        // SAFETY: no arguments, no side effects.
        let jiffies = unsafe { helper::bpf_jiffies64() };
        if jiffies != self.jiffies {
            self.jiffies = jiffies;
            // SAFETY: as above.
            self.now = unsafe { helper::bpf_ktime_get_coarse_ns() } * TICKS;
        }
        self.now
    }
}

impl Charge {
    #[inline(always)]
    fn has_meter(&self, level: u32) -> bool {
        Level::meter(level, &self.meters, How(self.how)) != 0
    }

    #[inline(always)]
    fn row(&self, level: u32) -> u32 {
        meter_row(Level::meter(level, &self.meters, How(self.how)), How(self.how).direction())
    }

    /// The time, read precisely: only where it matters.
    #[inline(always)]
    fn precise_now(&mut self) -> u64 {
        if self.is_precise == 0 {
            // SAFETY: no arguments, no side effects.
            self.now = unsafe { helper::bpf_ktime_get_ns() } * TICKS;
            self.is_precise = 1;
        }
        self.now
    }
}

/// Asks all levels, and charges all if none refuses. Answers [`Level::PASS`] or [`Level::TELLS`], or who refused. The port is only
/// asked for where it `has_meters`.
///
/// A [global](crate::global) function: the states in which it is called are more than Linux 6.1 has patience for.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_admit(slot: u32, how: u32, len: u32, has_meters: u32) -> u32 {
    let Some(Scratch { charge, clock }) = Scratch::here() else { return Level::PASS };
    let meters = if has_meters != 0 { *of_port(slot) } else { NONE };
    let (now, len) = (clock.coarse(), u64::from(len));
    *charge = Charge { meters, now, len, wait: 0, waits: 0, marks: 0, slot, how, is_precise: 0, saved: 0 };
    // A call takes as long as what it does: levels without a meter are not asked.
    for level in Level::ALL {
        if charge.has_meter(level) && ask(charge, level) != 0 {
            return level;
        }
    }
    for level in Level::ALL {
        if charge.has_meter(level) {
            take(charge, level);
        }
    }
    if charge.marks | charge.waits | charge.saved != 0 { Level::TELLS } else { Level::PASS }
}

/// The frame that was admitted last has used what was saved up for TCP: a [`stage::saver`] that it was not saved for. A
/// [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_use_up(by: u32) -> u32 {
    let Some(Scratch { charge, .. }) = Scratch::here() else { return 0 };
    for level in Level::ALL {
        if charge.saved & 1 << level != 0 {
            use_up(charge, level, by);
        }
    }
    0
}

#[inline(never)]
fn use_up(charge: &Charge, level: u32, by: u32) {
    let Some((limit, meter)) = limit(charge.row(level)) else { return };
    // SAFETY: in a map's value.
    let clock = unsafe { Word::at(&raw mut (*meter).time) };
    let time = clock.load();
    if stage::is_saved(limit, time, charge.now) {
        // Where another processor has moved it meanwhile, its own packet says what is left.
        clock.replace(time, stage::used_up(limit, time, charge.now, charge.len, by));
    }
}

/// Charges a meter where it is far from its limit; 0 where it has to be asked. A [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_pay(row: u32, len: u32) -> u32 {
    let (Some((limit, meter)), Some(Scratch { clock, .. })) = (limit(row), Scratch::here()) else { return 1 };
    // SAFETY: in a map's value.
    let stands = unsafe { Word::at(&raw mut (*meter).time) }.load();
    let now = clock.coarse();
    if stage::is_scarce(limit, stands, now) || has_saved(limit, meter, stands, now) {
        return 0;
    }
    pay(limit, meter, stands, now, len.into());
    1
}

/// Whether a meter that stands at a time has something saved up for TCP.
#[inline(always)]
fn has_saved(limit: &Limit, meter: *const Meter, stands: u64, now: u64) -> bool {
    stage::is_saved(limit, stands, now) && stage::is_saved(limit, stage::earliest(limit, past(meter), now), now)
}

/// What is known of a meter's traffic.
#[inline(always)]
fn past(meter: *const Meter) -> Past {
    // SAFETY: in a map's value. Either of two processors' words will do.
    unsafe { Past { refused: (*meter).refused, measured: (*meter).window_start, rate: (*meter).rate } }
}

/// A limit and its meter, if the row is of one.
#[inline(always)]
fn limit(row: u32) -> Option<(&'static Limit, *mut Meter)> {
    if row < 2 {
        return None;
    }
    let limit = maps::LIMITS.get(row).filter(|limit| limit.byte_time != 0)?;
    Some((limit, maps::METERS.get_ptr_mut(row)?))
}

/// Asks one level; 1 where it refuses.
#[inline(never)]
fn ask(charge: &mut Charge, level: u32) -> u32 {
    let (row, how) = (charge.row(level), How(charge.how));
    let Some((limit, meter)) = limit(row) else { return 0 };
    // SAFETY: in a map's value.
    let clock = unsafe { Word::at(&raw mut (*meter).time) };
    let mut time = clock.load();
    if !stage::is_scarce(limit, time, charge.now) {
        return 0;
    }
    let now = charge.precise_now();
    let latest = stage::latest(limit, now);
    if time > latest {
        clock.replace(time, latest);
        time = latest;
    }
    let is_greedy = Level::is_shared(level) && {
        let interval = stage::interval(now);
        // SAFETY: in a map's value.
        let members = Members(unsafe { Word::at(&raw mut (*meter).members) }.load());
        Level::share(level, charge.slot, how.direction())
            .is_some_and(|word| Share(word.load()).is_used_up(interval, members.count(interval)))
    };
    let Judgement { drops, marks, wait } = stage::judge(limit, time, now, how.is_paced(), is_greedy);
    if drops {
        // SAFETY: in a map's value; of two processors' times either will do.
        unsafe { (*meter).refused = now };
        note(row, charge.len, |events| (&raw mut events.dropped_packets, &raw mut events.dropped_bytes));
        return 1;
    }
    if wait > charge.wait {
        (charge.wait, charge.waits) = (wait, row);
    }
    if marks {
        charge.marks = row;
    }
    0
}

/// Charges one level.
#[inline(never)]
fn take(charge: &mut Charge, level: u32) {
    let (row, len, now) = (charge.row(level), charge.len, charge.now);
    let Some((limit, meter)) = limit(row) else { return };
    // SAFETY: in a map's value.
    let stands = unsafe { Word::at(&raw mut (*meter).time) }.load();
    if has_saved(limit, meter, stands, now) {
        charge.saved |= 1 << level;
    }
    let cost = pay(limit, meter, stands, now, len);
    if Level::is_shared(level)
        && let Some(share) = Level::share(level, charge.slot, row & 1)
    {
        note_share(meter, &share, stage::interval(now), cost);
    }
}

/// Moves a meter that stands at a time on by what a frame costs, and answers that.
#[inline(always)]
fn pay(limit: &Limit, meter: *mut Meter, stands: u64, now: u64, len: u64) -> u64 {
    let cost = stage::cost(limit, len);
    // SAFETY: in a map's value.
    let (time, passed) = unsafe { (Word::at(&raw mut (*meter).time), Word::at(&raw mut (*meter).passed)) };
    let mut earliest = now.saturating_sub(limit.burst);
    if stands < earliest {
        earliest = stage::earliest(limit, past(meter), now);
    }
    // Whoever else has just moved it up did so for all.
    if stands >= earliest || time.replace(stands, earliest + cost) != stands {
        time.add(cost);
    }
    // SAFETY: in a map's value.
    let begun = unsafe { Word::at(&raw mut (*meter).window_start) }.load();
    if now.saturating_sub(begun) >= stage::SECOND {
        measure(meter, begun, now);
    }
    passed.add(len);
    cost
}

/// Ends a second of measuring, before the first packet after it is counted: all that was counted since it began passed within it,
/// however long ago it ended. One processor does.
#[inline(always)]
fn measure(meter: *mut Meter, begun: u64, now: u64) {
    // SAFETY: in a map's value; whoever moves `window_start` on has the other words to itself for a second.
    unsafe {
        if Word::at(&raw mut (*meter).window_start).replace(begun, now) != begun {
            return;
        }
        let passed = Word::at(&raw mut (*meter).passed).load();
        if begun != 0 {
            let bytes = passed.saturating_sub((*meter).window_passed);
            (*meter).rate = stage::rate(bytes, now - begun);
            if bytes > (*meter).peak {
                (*meter).peak = bytes;
            }
        }
        (*meter).window_passed = passed;
    }
}

/// Notes what a port has had of an aggregate, and with its first frame in an interval, that it is one of those who share it.
#[inline(always)]
fn note_share(meter: *mut Meter, share: &Word<u64>, interval: u32, cost: u64) {
    let before = share.load();
    if Share(before).is_of(interval) {
        share.add(Share::units(cost));
        return;
    }
    if share.replace(before, Share::begun(interval, cost).0) != before {
        return;
    }
    // SAFETY: in a map's value.
    let members = unsafe { Word::at(&raw mut (*meter).members) };
    let before = members.load();
    let found = members.replace(before, Members(before).joined(interval).0);
    if found != before {
        // Another one has joined in the same moment. Lost a second time, the number is one short until the next interval.
        members.replace(found, Members(found).joined(interval).0);
    }
}

/// Counts a frame in two words of a meter's events.
#[inline(always)]
pub fn note(row: u32, len: u64, which: impl Fn(&mut MeterEvents) -> (*mut u64, *mut u64)) {
    if let Some(events) = maps::METER_EVENTS.get_ptr_mut(row) {
        // SAFETY: in a map's value.
        unsafe {
            let (packets, bytes) = which(&mut *events);
            Word::at(packets).add(1);
            Word::at(bytes).add(len);
        }
    }
}
