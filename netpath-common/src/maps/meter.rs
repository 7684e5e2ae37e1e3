//! Limits, what they have let pass, and what is counted for public addresses.
//!
//! ```text
//!   slot of a port ─► PORT_METERS ─► meter of the NIC ┐
//!                                    of its network   ├─► rows 2 m (from the guest) and 2 m + 1 (to the guest) of
//!                                    of its account   ┘   LIMITS (the loader's) and METERS, METER_EVENTS (the data path's)
//!   Flow::address ──► PUBLIC_METERS ─► meter of the public address (from the guest: out; to the guest: in)
//! ```
//!
//! Meter 0 stands for "no limit". Times are in ticks of a sixteenth of a nanosecond of the monotonic clock.

use bytemuck::{Pod, Zeroable};

/// The row of a meter for one direction: 0 from the guest, 1 to the guest.
#[inline(always)]
pub const fn meter_row(meter: u32, direction: u32) -> u32 {
    meter * 2 + (direction & 1)
}

/// What frames from a guest are charged to: the first row of a meter.
pub const FROM_GUEST: u32 = 0;
/// What frames to a guest are charged to: the second row of a meter.
pub const TO_GUEST: u32 = 1;

/// A limit in one direction. Row of LIMITS, by [`meter_row`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limit {
    /// What a byte takes at this rate, in ticks times 2¹⁶; 0: no limit. See [`crate::stage::meter::limit`].
    pub byte_time: u64,
    /// How long credit adds up, in ticks: the burst in bytes times the time of a byte.
    pub burst: u64,
    /// How long it adds up after a refusal, in ticks; never less than `burst`.
    pub reserve: u64,
    /// How long a packet may wait for its departure, and how far what cannot wait may run ahead, in ticks; 0 where nothing is
    /// paced.
    pub horizon: u64,
}

/// What a limit has let pass in one direction. Row of METERS, by [`meter_row`]: one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Meter {
    /// When everything that has passed is paid for, in ticks. Earlier than now: there is credit.
    pub time: u64,
    /// Bytes that have passed.
    pub passed: u64,
    /// When the second began that is being measured, in ticks.
    pub window_start: u64,
    /// [`Self::passed`] at that time.
    pub window_passed: u64,
    /// Bytes that passed in the second before that; a second of the time since then, where it ended earlier.
    pub rate: u64,
    /// The most bytes that passed in a measured second.
    pub peak: u64,
    /// Who shares an aggregate: see [`crate::stage::meter::Members`].
    pub members: u64,
    /// When it has last refused a packet, in ticks.
    pub refused: u64,
}

/// What became of packets because of a limit, in one direction. Row of METER_EVENTS, by [`meter_row`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MeterEvents {
    /// Packets dropped by this limit.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// ECN-capable packets marked as having met congestion.
    pub marked_packets: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Packets given a later time of departure.
    pub delayed_packets: u64,
    /// Their bytes.
    pub delayed_bytes: u64,
}

/// The meters of a port. Row of PORT_METERS, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortMeters {
    /// The NIC's own meter.
    pub port: u32,
    /// The meter of its network's aggregate.
    pub network: u32,
    /// The meter of its account's aggregate.
    pub account: u32,
    /// Zero.
    pub pad: u32,
}

/// What a port has had of its aggregates of late, by direction. Row of SHARES, by slot; see [`crate::stage::meter::Share`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Shares {
    /// Of its network's.
    pub network: [u64; 2],
    /// Of its account's.
    pub account: [u64; 2],
}
