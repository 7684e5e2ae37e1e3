//! `netpath show flows`: connections, both directions in one, printed as they are read.

use std::net::Ipv4Addr;

use netpath_common::{
    maps::{Flow, FlowKey, Gateway, flow_flags},
    stage::tcp,
};
use serde::Serialize;

use super::{Only, Which};
use crate::{
    cli::{
        Global,
        applied::{Applied, Names},
        stream::List,
        terms,
    },
    error::Error,
};

/// A connection.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Connection {
    /// The network that it belongs to.
    network: String,
    /// `tcp`, `udp`, `icmp`, or a number.
    protocol: String,
    /// What it has come to.
    state: &'static str,
    /// Where it was begun: `inside` or `outside`.
    begun: &'static str,
    /// Its first packet as it came.
    original: Tuple,
    /// Its first packet as it left.
    translated: Tuple,
    /// How packets of the original direction leave: `local`, `tunnel`, `uplink`, `upstream`, `on_link`, `again`.
    hop: &'static str,
    /// What `hop` leads to: a device, a tunnel, a public link.
    target: String,
    /// Seconds since it was first seen.
    age_seconds: u32,
    /// Seconds since a packet kept it alive.
    idle_seconds: u32,
    /// Seconds that it may idle.
    timeout_seconds: u32,
    /// It has been idle for longer, and counts as absent.
    expired: bool,
    /// The policy has changed since, and the next packet is judged by the new one.
    outdated: bool,
    /// Packets of the original direction.
    original_packets: u32,
    /// Their bytes, with Ethernet headers.
    original_bytes: u64,
    /// Packets of the reply direction.
    reply_packets: u32,
    /// Their bytes.
    reply_bytes: u64,
}

/// Where a packet is from and for.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Tuple {
    /// A network, or `public:` and a public link.
    side: String,
    source: Ipv4Addr,
    /// The port, or an ICMP query's identifier; 0 where there is none.
    source_port: u16,
    destination: Ipv4Addr,
    destination_port: u16,
}

impl Tuple {
    fn text(&self) -> String {
        let from = terms::endpoint(self.source.octets(), self.source_port);
        format!("{from} > {}", terms::endpoint(self.destination.octets(), self.destination_port))
    }
}

pub(super) fn show(applied: &Applied, only: Only<'_>, which: &Which, global: &Global) -> Result<(), Error> {
    let gateways = applied.tables.gateways.rows()?;
    let heading = format!(
        "{:<18} {:<5} {:<12} {:>7} {:>7} {:>10} {:>11} {:>10} {:>11}\n",
        "NETWORK", "PROTO", "STATE", "AGE", "IDLE", "PACKETS", "BYTES", "REPLIES", "BYTES"
    );
    let mut list = List::begin(global.output, &heading)?;
    let now = terms::now_seconds();
    let flows = &applied.tables.flows;
    flows.visit::<Error>(|key, flow| {
        let network = applied.names.network(flow.network);
        if !only.wants(&network) || !which.has_flow(key, flow) {
            return list.pass();
        }
        let other = match flow.flags & flow_flags::TRANSIT {
            0 => flows.get(&key.opposite(flow))?,
            _ => None,
        };
        // A connection is shown where its first direction is met; the second one alone, only where it is left alone.
        if flow.flags & flow_flags::REPLY != 0 && other.is_some() {
            return list.pass();
        }
        let gateway = gateways.get(flow.network as usize).copied().unwrap_or_default();
        let connection = Connection::of(&applied.names, key, flow, other.as_ref(), &gateway, now);
        if connection.expired && !which.all {
            return list.pass();
        }
        list.item(&connection, Connection::text)
    })?;
    list.end()
}

impl Connection {
    fn of(names: &Names, key: &FlowKey, flow: &Flow, other: Option<&Flow>, gateway: &Gateway, now: u32) -> Self {
        let reply = other.copied().unwrap_or_default();
        let back = key.opposite(flow);
        let (hop, target) = terms::next_hop(flow, names);
        let is_answered = (flow.flags | reply.flags) & flow_flags::ANSWERED != 0;
        let timeout = tcp::timeout(key.protocol, flow.state, is_answered, &gateway.timeouts);
        // What does not keep a connection alive is not written there.
        let idle = now.saturating_sub(flow.last_seen.max(reply.last_seen));
        Self {
            network: names.network(flow.network),
            protocol: terms::protocol(key.protocol.into()),
            state: terms::state(key, &Flow { flags: flow.flags | reply.flags & flow_flags::ANSWERED, ..*flow }),
            begun: if flow.flags & flow_flags::INWARD != 0 { "outside" } else { "inside" },
            original: Tuple {
                side: terms::side(key.side, names),
                source: key.source.into(),
                source_port: key.source_port,
                destination: key.destination.into(),
                destination_port: key.destination_port,
            },
            translated: Tuple {
                side: terms::side(back.side, names),
                source: back.destination.into(),
                source_port: back.destination_port,
                destination: back.source.into(),
                destination_port: back.source_port,
            },
            hop,
            target,
            age_seconds: now.saturating_sub(flow.created),
            idle_seconds: idle,
            timeout_seconds: timeout,
            expired: idle > timeout,
            outdated: flow.epoch != gateway.epoch,
            original_packets: flow.packets,
            original_bytes: flow.bytes,
            reply_packets: reply.packets,
            reply_bytes: reply.bytes,
        }
    }

    /// Two lines: what it is, and its addresses.
    fn text(&self) -> String {
        let network: String = self.network.chars().take(18).collect();
        let state = if self.expired { "expired" } else { self.state };
        let time = |seconds: u32| terms::duration(seconds.into());
        let tuples = match self.original.text() == self.translated.text() {
            true => self.original.text(),
            false => format!("{}  as  {}", self.original.text(), self.translated.text()),
        };
        format!(
            "{network:<18} {:<5} {state:<12} {:>7} {:>7} {:>10} {:>11} {:>10} {:>11}\n    {tuples}\n",
            self.protocol,
            time(self.age_seconds),
            time(self.idle_seconds),
            self.original_packets,
            self.original_bytes,
            self.reply_packets,
            self.reply_bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{PUBLIC_SIDE, Timeouts, flow_state, hop};

    use super::*;

    const INSIDE: [u8; 4] = [10, 1, 1, 11];
    const PUBLIC: [u8; 4] = [203, 0, 113, 10];
    const OUTSIDE: [u8; 4] = [192, 0, 2, 99];

    fn gateway() -> Gateway {
        let timeouts = Timeouts { tcp_established: 7440, ..Timeouts::default() };
        Gateway { epoch: 2, timeouts, ..Gateway::default() }
    }

    /// A connection out of network 1 through public link 3, with a translated port.
    fn connection(last_seen: u32, reply_seen: u32, now: u32) -> Connection {
        let key = FlowKey {
            side: 1,
            source: INSIDE,
            destination: OUTSIDE,
            source_port: 40000,
            destination_port: 443,
            protocol: 6,
            pad: [0; 3],
        };
        let flow = Flow {
            network: 1,
            epoch: 2,
            packets: 5,
            bytes: 500,
            created: 100,
            last_seen,
            source: PUBLIC,
            destination: OUTSIDE,
            source_port: 50000,
            destination_port: 443,
            out: PUBLIC_SIDE | 3,
            target: 3,
            hop: hop::UPSTREAM,
            state: flow_state::ESTABLISHED,
            ..Flow::default()
        };
        let reply = Flow { packets: 7, bytes: 700, last_seen: reply_seen, flags: flow_flags::REPLY, ..flow };
        Connection::of(&Names::default(), &key, &flow, Some(&reply), &gateway(), now)
    }

    #[test]
    fn both_directions_are_one_connection_with_the_first_packet_as_it_came_and_left() {
        let shown = connection(190, 195, 200);
        assert_eq!(shown.original.text(), "10.1.1.11:40000 > 192.0.2.99:443");
        assert_eq!(shown.translated.text(), "203.0.113.10:50000 > 192.0.2.99:443");
        assert_eq!((shown.original_packets, shown.original_bytes), (5, 500));
        assert_eq!((shown.reply_packets, shown.reply_bytes), (7, 700));
        assert_eq!((shown.begun, shown.hop, shown.target.as_str()), ("inside", "upstream", "#3"));
        assert!(shown.text().lines().all(|line| line.len() <= 100), "{}", shown.text());
    }

    #[test]
    fn either_direction_keeps_a_connection_until_both_are_silent_for_too_long() {
        let shown = connection(190, 195, 200);
        assert_eq!((shown.age_seconds, shown.idle_seconds, shown.timeout_seconds), (100, 5, 7440));
        assert!(!connection(190, 7640, 190 + 7441).expired);
        assert!(!connection(190, 190, 190 + 7440).expired);
        assert!(connection(190, 190, 190 + 7441).expired);
    }
}
