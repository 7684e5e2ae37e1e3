//! Who has an address on a public link: how long an answer counts, when it is asked for again, when it is given up.
//!
//! ```text
//!   asked ──answer──► known ──FRESH s──► asked again ──no answer──► everybody is asked, still used ──PATIENCE_KNOWN s──► forgotten
//!     └──PATIENCE s──► unreachable ──PATIENCE s──► asked
//! ```

use crate::{clock::since, maps::Resolved};

/// An answer is taken for true for this many seconds, and then asked for again while it is used: Linux has 30 too
/// (`base_reachable_time_ms`).
pub const FRESH: u32 = 30;
/// Whoever is asked every second and does not answer for this many seconds is unreachable (RFC 1812 §5.2.7.1).
pub const PATIENCE: u32 = 3;
/// A known address is still used while it is asked for in vain for this many seconds.
pub const PATIENCE_KNOWN: u32 = 30;

/// What becomes of a packet for the station.
pub mod state {
    /// It is sent.
    pub const READY: u8 = 1;
    /// It is sent, and the station is asked whether it is there still.
    pub const REFRESH: u8 = 2;
    /// It is lost, and the station is asked for.
    pub const ASK: u8 = 3;
    /// It is lost; the station was asked for less than a second ago.
    pub const WAIT: u8 = 4;
    /// It is lost, and its sender is told.
    pub const UNREACHABLE: u8 = 5;
    /// It is sent, and everybody is asked who the station is: it may have another MAC address now, and did not answer by this one.
    pub const SEEK: u8 = 6;
}

/// Whether the row may be used as it is.
#[inline(always)]
pub fn is_fresh(row: &Resolved, now: u32) -> bool {
    row.mac & Resolved::KNOWN != 0 && since(now, row.confirmed) < FRESH
}

/// Whether an answer is one that was asked for.
#[inline(always)]
pub fn is_awaited(row: &Resolved, now: u32) -> bool {
    row.asked != 0 && since(now, row.asked) <= PATIENCE
}

/// Notes an answer; `mac` as [`Resolved::word`] has it.
#[inline(always)]
pub fn confirm(row: &mut Resolved, mac: u64, now: u32) {
    row.mac = mac;
    row.confirmed = now;
    row.waiting_since = 0;
}

/// What becomes of a packet for a station whose row is not fresh; notes in the row what is done. Answers [`state`].
#[inline(always)]
pub fn advance(row: &mut Resolved, now: u32) -> u8 {
    let is_known = row.mac & Resolved::KNOWN != 0;
    let was_heard = row.waiting_since == 0;
    // Packets of one who is asked for may be seconds apart.
    let nobody_asks = since(now, row.asked) > if is_known { PATIENCE_KNOWN } else { PATIENCE };
    if was_heard || nobody_asks {
        row.waiting_since = now;
    }
    let asked_already = row.asked == now;
    if is_known && since(now, row.waiting_since) > PATIENCE_KNOWN {
        row.mac = 0;
        row.waiting_since = now;
    } else if is_known {
        row.asked = now;
        return match (asked_already, was_heard) {
            (true, _) => state::READY,
            (false, true) => state::REFRESH,
            (false, false) => state::SEEK,
        };
    }
    if since(now, row.waiting_since) > PATIENCE {
        return state::UNREACHABLE;
    }
    row.asked = now;
    if asked_already { state::WAIT } else { state::ASK }
}
