//! Numbers of the connection tables in words.

use std::net::Ipv4Addr;

use netpath_common::maps::{Flow, FlowKey, ForwardKey, PUBLIC_SIDE, flow_flags, flow_state, hop};
use rustix::time::{ClockId, clock_gettime};

use super::applied::Names;

const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// The clock of the data path's timestamps (`bpf_ktime_get_coarse_ns` is CLOCK_MONOTONIC, too), in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The same in seconds, as connections have it.
pub(super) fn now_seconds() -> u32 {
    (now_ns() / 1_000_000_000) as u32
}

/// A protocol's name, or its number.
pub(super) fn protocol(number: u16) -> String {
    match u8::try_from(number) {
        Ok(ICMP) => "icmp".to_owned(),
        Ok(TCP) => "tcp".to_owned(),
        Ok(UDP) => "udp".to_owned(),
        _ => number.to_string(),
    }
}

/// A prefix and its mask as one: `10.0.0.0/8`; `any` where the mask is zero.
pub(super) fn prefix(address: [u8; 4], mask: [u8; 4]) -> String {
    match u32::from_be_bytes(mask).count_ones() {
        0 => "any".to_owned(),
        length => format!("{}/{length}", Ipv4Addr::from(address)),
    }
}

/// An address with a port, or an ICMP query's identifier; without where there is none.
pub(super) fn endpoint(address: [u8; 4], port: u16) -> String {
    match port {
        0 => Ipv4Addr::from(address).to_string(),
        port => format!("{}:{port}", Ipv4Addr::from(address)),
    }
}

/// Ports from the first to the last.
pub(super) fn range(first: u16, last: u16) -> String {
    match (first, last) {
        (0, u16::MAX) => "any".to_owned(),
        _ if first == last => first.to_string(),
        _ => format!("{first}-{last}"),
    }
}

/// The ports that a key of FORWARDS covers when so many bits of it count.
pub(super) fn port_range(bits: u32, key: &ForwardKey) -> (u16, u16) {
    let before_port = 8 * (size_of::<ForwardKey>() - size_of_val(&key.port)) as u32;
    let free = u16::MAX.checked_shr(bits.saturating_sub(before_port)).unwrap_or(0);
    let first = u16::from_be_bytes(key.port) & !free;
    (first, first | free)
}

/// A side: a network's name, or a public link's with `public:` before it.
pub(super) fn side(side: u32, names: &Names) -> String {
    match side & PUBLIC_SIDE {
        0 => names.network(side),
        _ => format!("public:{}", names.public_link(side & !PUBLIC_SIDE)),
    }
}

/// What a connection has come to, in a word.
pub(super) fn state(key: &FlowKey, flow: &Flow) -> &'static str {
    if flow.flags & flow_flags::TRANSIT != 0 {
        return "transit";
    }
    match flow.flags & flow_flags::ANSWERED {
        _ if key.protocol == TCP => tcp_state(flow.state),
        0 => "one_way",
        _ => "answered",
    }
}

/// A state of TCP in a word.
pub(super) fn tcp_state(state: u8) -> &'static str {
    match state {
        flow_state::NONE => "none",
        flow_state::OPENING => "opening",
        flow_state::ESTABLISHED => "established",
        flow_state::ORIGINATOR_FIN => "fin_sent",
        flow_state::RESPONDER_FIN => "fin_received",
        flow_state::CLOSING => "closing",
        flow_state::TRANSITORY => "reset",
        flow_state::MIDSTREAM => "midstream",
        _ => "unknown",
    }
}

/// Where a connection's packets go, and the name of what the target is.
pub(super) fn next_hop(flow: &Flow, names: &Names) -> (&'static str, String) {
    let link = || names.public_link(flow.target);
    match flow.hop {
        hop::LOCAL => ("local", names.device(flow.target)),
        hop::TUNNEL => ("tunnel", names.tunnel(flow.target)),
        hop::UPLINK => ("uplink", names.device(flow.target)),
        hop::UPSTREAM => ("upstream", link()),
        hop::ON_LINK => ("on_link", link()),
        hop::AGAIN => ("again", "-".to_owned()),
        _ => ("unknown", flow.target.to_string()),
    }
}

/// A duration in two units at most: `7s`, `2m05s`, `3h10m`, `4d2h`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most() {
        let words = [0, 59, 60, 125, 3600, 11_400, 86_400, 356_400].map(duration);
        assert_eq!(words, ["0s", "59s", "1m00s", "2m05s", "1h00m", "3h10m", "1d0h", "4d3h"]);
    }

    #[test]
    fn tcp_has_the_states_of_a_connection_and_the_others_two() {
        let word = |protocol, state_, flags| {
            let key = FlowKey { protocol, ..FlowKey::default() };
            state(&key, &Flow { state: state_, flags, ..Flow::default() })
        };
        assert_eq!(word(TCP, flow_state::ESTABLISHED, flow_flags::ANSWERED), "established");
        assert_eq!(word(TCP, flow_state::TRANSITORY, 0), "reset");
        assert_eq!(word(UDP, flow_state::NONE, flow_flags::ANSWERED), "answered");
        assert_eq!(word(ICMP, flow_state::NONE, flow_flags::REPLY), "one_way");
        assert_eq!(word(TCP, flow_state::NONE, flow_flags::TRANSIT), "transit");
    }

    #[test]
    fn a_prefix_of_a_forwarded_port_is_a_range() {
        let key = |port: u16| ForwardKey { port: port.to_be_bytes(), ..ForwardKey::default() };
        assert_eq!(port_range(96, &key(8080)), (8080, 8080));
        assert_eq!(port_range(93, &key(8080)), (8080, 8087));
        assert_eq!(port_range(80, &key(0)), (0, u16::MAX));
        assert_eq!(port_range(64, &key(0)), (0, u16::MAX));
        assert_eq!(
            ["80".to_owned(), "80-81".to_owned(), "any".to_owned()],
            [range(80, 80), range(80, 81), range(0, u16::MAX)]
        );
    }

    #[test]
    fn what_has_no_port_is_an_address() {
        assert_eq!(endpoint([10, 0, 0, 1], 0), "10.0.0.1");
        assert_eq!(endpoint([10, 0, 0, 1], 80), "10.0.0.1:80");
        assert_eq!(prefix([10, 0, 0, 0], [255, 0, 0, 0]), "10.0.0.0/8");
        assert_eq!(prefix([0; 4], [0; 4]), "any");
    }
}
