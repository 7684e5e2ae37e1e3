//! What a connection has come to, by the segments that were seen of it (RFC 6146 §3.5.2), and how long it may idle.
//!
//! ```text
//!                SYN                 reply SYN                  FIN           other FIN
//!   NONE ─────────────► OPENING ─────────────► ESTABLISHED ───────────► *_FIN ─────────► CLOSING
//!     │ anything else               reply ▲     │ ▲                       │                 │
//!     └────────────────► MIDSTREAM ───────┘ RST ▼ │ not RST           RST │                 │
//!                                           TRANSITORY ◄──────────────────┘                 │
//!   a new SYN of the originator begins again at OPENING ◄── TRANSITORY, MIDSTREAM, CLOSING ◄┘
//! ```
//!
//! The RFC knows no MIDSTREAM: there a session table outlives its host, here it may not. It leaves a session whose FIN is
//! followed by a reset as it is for hours; here that is TRANSITORY too (RFC 7857 §2.2). A reset before the connection is
//! established, or after both FINs, changes nothing, as in the RFC: what is left of it is short anyway.

use crate::{
    frame::Protocol,
    maps::{Timeouts, flow_state},
};

/// The flag of a segment that ends its direction.
pub const FIN: u8 = 1;
/// The flag of a segment that opens its direction.
pub const SYN: u8 = 2;
/// The flag of a segment that resets the connection.
pub const RST: u8 = 4;
/// The flag of a segment that acknowledges.
pub const ACK: u8 = 16;

/// The [`flow_state`] after a segment with these flags, in the reply direction or the originator's.
///
/// Flags that must not count, such as RST where [`may_reset`] says no, are taken out by the caller.
#[inline(always)]
pub const fn next(state: u8, flags: u8, reply: bool) -> u8 {
    let (syn, fin, reset) = (flags & SYN != 0, flags & FIN != 0, flags & RST != 0);
    let begins = flags & (SYN | ACK | RST) == SYN && !reply;
    match state {
        flow_state::NONE => first(flags),
        flow_state::MIDSTREAM if begins => flow_state::OPENING,
        flow_state::MIDSTREAM if !reply || reset => flow_state::MIDSTREAM,
        flow_state::MIDSTREAM if fin => flow_state::RESPONDER_FIN,
        flow_state::MIDSTREAM => flow_state::ESTABLISHED,
        flow_state::OPENING if reply && syn && !reset => flow_state::ESTABLISHED,
        flow_state::OPENING => flow_state::OPENING,
        flow_state::ESTABLISHED | flow_state::ORIGINATOR_FIN | flow_state::RESPONDER_FIN if reset => {
            flow_state::TRANSITORY
        }
        flow_state::ESTABLISHED if fin && reply => flow_state::RESPONDER_FIN,
        flow_state::ESTABLISHED if fin => flow_state::ORIGINATOR_FIN,
        flow_state::ORIGINATOR_FIN if fin && reply => flow_state::CLOSING,
        flow_state::RESPONDER_FIN if fin && !reply => flow_state::CLOSING,
        flow_state::CLOSING | flow_state::TRANSITORY if begins => flow_state::OPENING,
        // Only who was sent a SYN answers so: the responder has opened the connection again.
        flow_state::CLOSING if !reply && flags & (SYN | ACK | RST) == SYN | ACK => flow_state::ESTABLISHED,
        flow_state::TRANSITORY if !reset => flow_state::ESTABLISHED,
        _ => state,
    }
}

/// The state of a connection whose first segment has these flags.
#[inline(always)]
const fn first(flags: u8) -> u8 {
    if flags & (SYN | ACK | RST) == SYN { flow_state::OPENING } else { flow_state::MIDSTREAM }
}

/// Entries of [`table`].
pub const TABLE_LEN: usize = 256;

/// Where [`table`] has the [`next`] of a segment.
#[inline(always)]
pub const fn table_index(state: u8, flags: u8, reply: bool) -> usize {
    let events = flags & (FIN | SYN | RST) | (flags & ACK) >> 1;
    (state as usize & 7) << 5 | (reply as usize) << 4 | events as usize
}

/// [`next`] for every state, flags and direction.
pub const fn table() -> [u8; TABLE_LEN] {
    let mut table = [0; TABLE_LEN];
    let mut index = 0;
    while index < TABLE_LEN {
        let events = index as u8 & 15;
        let flags = events & (FIN | SYN | RST) | (events & 8) << 1;
        table[index] = next((index >> 5) as u8, flags, index & 16 != 0);
        index += 1;
    }
    table
}

/// Seconds that a connection may idle. `answered`: a packet of the reply direction has been seen.
#[inline(always)]
pub fn timeout(protocol: u8, state: u8, answered: bool, timeouts: &Timeouts) -> u32 {
    match Protocol(protocol) {
        Protocol::TCP => match state {
            flow_state::ESTABLISHED | flow_state::ORIGINATOR_FIN | flow_state::RESPONDER_FIN => {
                timeouts.tcp_established
            }
            flow_state::CLOSING | flow_state::TRANSITORY => timeouts.tcp_closing,
            _ => timeouts.tcp_opening,
        },
        Protocol::ICMP => timeouts.icmp,
        _ if answered => timeouts.udp,
        _ => timeouts.udp_one_way,
    }
}

/// How far ahead of what was acknowledged a segment may lie: more than receivers' windows are, though not all that RFC 7323
/// §2.2 lets them be (16 bits, scaled by up to 14), which is a quarter of all numbers. What lies further ends nothing, and the
/// connection idles for its own time.
const AHEAD: u32 = 1 << 24;
/// How far a segment may lie behind what was acknowledged: an unscaled window.
const BEHIND: u32 = 65535;

/// Whether a RST or FIN with this sequence number may be believed, where the other end last acknowledged `acknowledged`
/// (RFC 7857 §2.2, RFC 5961 §3.2: within the window). 0: nothing is known, and it may.
#[inline(always)]
pub fn may_reset(sequence: u32, acknowledged: u32) -> bool {
    acknowledged == 0 || sequence.wrapping_sub(acknowledged.wrapping_sub(BEHIND)) < BEHIND + AHEAD
}
