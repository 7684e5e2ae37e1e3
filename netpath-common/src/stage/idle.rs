//! What is over: a direction of a connection that was silent for too long, a binding that nobody may have back.
//!
//! Idle counts as absent wherever it is met, swept or not, so that the data path and whoever sweeps have to say the same.

use crate::{
    clock::since,
    frame::Protocol,
    maps::{Binding, Flow, FlowKey, HOLD_DOWN, PUBLIC_SIDE, Timeouts, flow_flags, flow_state},
    stage::tcp,
};

/// Whether this direction of a connection has been silent for longer than it may.
#[inline(always)]
pub fn is_idle(flow: &Flow, protocol: u8, timeouts: &Timeouts, now: u32) -> bool {
    let answered = flow.flags & flow_flags::ANSWERED != 0;
    since(now, flow.last_seen) > tcp::timeout(protocol, flow.state, answered, timeouts)
}

/// Whether a binding's port may be given to somebody else. The row of its inside end tells.
#[inline(always)]
pub fn is_released(inside: &Binding, now: u32) -> bool {
    now > inside.expires.saturating_add(HOLD_DOWN)
}

/// Seconds between two renewals of a binding by the packets of one of its flows.
pub const RENEWAL: u32 = 16;

/// A binding outlives its flows by this much, in seconds: they renew it now and then only.
pub const MARGIN: u32 = 2 * RENEWAL;

/// Silent for this long a connection is asked for its binding's sake, in seconds: well before a binding that ends with a connection
/// ([`ends_binding`]) has rested, counted from then. It is few that are asked, for it is two look-ups for each.
const SILENT: u32 = HOLD_DOWN;

/// Whether a connection that lives has to be asked for its binding's sake: it has been silent, so that it has not renewed it, and
/// another one of the same guest's port may have ended meanwhile and taken its own time for the binding's. One that opens is not asked
/// where it lives no longer than a binding that ends with another.
#[inline(always)]
pub fn keeps_binding(key: &FlowKey, flow: &Flow, timeouts: &Timeouts, now: u32) -> bool {
    let opens_shortly = timeouts.tcp_opening <= timeouts.tcp_closing + MARGIN + HOLD_DOWN;
    key.protocol == Protocol::TCP.0
        && key.side & PUBLIC_SIDE == 0
        && flow.flags & flow_flags::BOUND != 0
        && !(flow.state == flow_state::OPENING && opens_shortly)
        && !ends_binding(flow.state)
        && since(now, flow.last_seen) > SILENT
}

/// Whether a connection of TCP is over but for its last segments, so that its port is wanted for no longer than it.
#[inline(always)]
pub fn ends_binding(state: u8) -> bool {
    matches!(state, flow_state::CLOSING | flow_state::TRANSITORY)
}

/// How many bindings a network with so many rows of FLOWS may have: three for every two connections, and some more.
///
/// A binding outlives its connection by [`HOLD_DOWN`] and a margin, so that a network which keeps as many as it may, and
/// ends and begins them all the time, has more bindings than connections: of UDP's defaults half as many again.
#[inline(always)]
pub fn binding_limit(flow_limit: u32) -> u64 {
    const MORE: u64 = 1024;
    let limit = u64::from(flow_limit);
    limit - limit / 4 + MORE
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { udp: 300, udp_one_way: 120, tcp_established: 7440, tcp_opening: 240, tcp_closing: 240, icmp: 60 };

    #[test]
    fn a_direction_is_idle_the_second_after_its_time() {
        let flow = Flow { last_seen: 1000, ..Flow::default() };
        assert!(!is_idle(&flow, 17, &TIMEOUTS, 1120));
        assert!(is_idle(&flow, 17, &TIMEOUTS, 1121));
        let answered = Flow { flags: flow_flags::ANSWERED, ..flow };
        assert!(!is_idle(&answered, 17, &TIMEOUTS, 1300));
        assert!(!is_idle(&Flow { last_seen: 1001, ..flow }, 17, &TIMEOUTS, 1000), "seen a moment ahead of the clock");
    }

    #[test]
    fn a_silent_connection_that_lives_is_asked_for_its_binding() {
        let key = FlowKey { protocol: 6, side: 5, ..FlowKey::default() };
        let flow =
            Flow { last_seen: 1000, flags: flow_flags::BOUND, state: flow_state::ESTABLISHED, ..Flow::default() };
        assert!(keeps_binding(&key, &flow, &TIMEOUTS, 1121));
        assert!(!keeps_binding(&key, &flow, &TIMEOUTS, 1120), "its packets renew it");
        let opening = Flow { state: flow_state::OPENING, ..flow };
        assert!(!keeps_binding(&key, &opening, &TIMEOUTS, 2000));
        assert!(keeps_binding(&key, &opening, &Timeouts { tcp_closing: 5, ..TIMEOUTS }, 2000));
        assert!(!keeps_binding(&key, &Flow { state: flow_state::CLOSING, ..flow }, &TIMEOUTS, 2000));
        assert!(!keeps_binding(&key, &Flow { flags: 0, ..flow }, &TIMEOUTS, 2000), "it has none");
        assert!(
            !keeps_binding(&FlowKey { side: PUBLIC_SIDE | 5, ..key }, &flow, &TIMEOUTS, 2000),
            "the other direction is asked"
        );
        assert!(
            !keeps_binding(&FlowKey { protocol: 17, ..key }, &flow, &TIMEOUTS, 2000),
            "nothing ends it before its time"
        );
    }

    #[test]
    fn no_network_at_the_default_limit_has_all_bindings() {
        let default = crate::maps::capacity::FLOWS as u32 / 2;
        assert!(binding_limit(default) * 2 < crate::maps::capacity::BINDINGS as u64 * 4 / 5);
        assert!(binding_limit(default) >= u64::from(default / 2) * 3 / 2);
    }

    #[test]
    fn a_binding_rests_before_its_port_is_anybodys() {
        let binding = Binding { expires: 1000, ..Binding::default() };
        assert!(!is_released(&binding, 1000 + HOLD_DOWN));
        assert!(is_released(&binding, 1001 + HOLD_DOWN));
    }
}
