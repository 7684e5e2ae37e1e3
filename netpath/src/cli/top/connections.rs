//! Rates of connections, from walks over a flow table that may have a million rows.
//!
//! A walk goes on where the last reading has stopped, so that one of them looks at a bounded number of rows. When it has come
//! to the end, what it has not met is gone, and the next walk begins.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
    net::Ipv4Addr,
    sync::Arc,
};

use netpath_common::{
    maps::{Flow, FlowKey, Gateway, flow_flags},
    stage::tcp,
};
use serde::Serialize;

use super::{
    rates::Rate,
    rows::{Cell, Column, Key, Row},
};
use crate::cli::{applied::Names, terms};

const SECOND: u64 = 1_000_000_000;
/// Connections that are kept at most.
const KEPT: usize = 1 << 17;
/// Where there may be more than that, only those are kept that had a packet within so many seconds.
const ACTIVE: u32 = 60;

/// Which connections are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Scope {
    #[default]
    All,
    /// Of the network with this index, or into it.
    Network(u32),
    /// From or to these addresses in a network.
    Nic(u32, Vec<[u8; 4]>),
}

impl Scope {
    fn has(&self, key: &FlowKey, flow: &Flow) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => [flow.network, key.side, flow.out].contains(network),
            Self::Nic(network, addresses) => {
                key.side == *network && addresses.contains(&key.source)
                    || flow.out == *network && addresses.contains(&flow.destination)
            }
        }
    }
}

/// One direction as it was last met.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    /// Monotonic clock; 0: never.
    at_ns: u64,
    /// The number of the walk.
    walk: u64,
    bytes: u64,
    packets: u32,
    created: u32,
    last_seen: u32,
    rate: Rate,
}

#[derive(Debug)]
struct Connection {
    network: u32,
    flags: u8,
    state: u8,
    /// Its first packet as it left.
    translated: FlowKey,
    /// The direction of its first packet, and the other one.
    sides: [Side; 2],
}

/// What the walks have met.
#[derive(Debug)]
pub(super) struct Connections {
    scope: Scope,
    known: HashMap<FlowKey, Connection>,
    /// The number of the walk under way, from 1.
    walk: u64,
    /// When the last walks ended, the latest first; 0: never.
    ended_ns: [u64; 2],
    /// Rows of the table, as the data path counts them.
    rows: u64,
}

impl Connections {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, known: HashMap::new(), walk: 1, ended_ns: [0; 2], rows: 0 }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How many rows the table has.
    pub(super) fn set_rows(&mut self, rows: u64) {
        self.rows = rows;
    }

    /// A row that the walk meets.
    pub(super) fn meet(&mut self, key: &FlowKey, flow: &Flow, now_ns: u64) {
        let is_silent = || (now_ns / SECOND) as u32 > flow.last_seen.saturating_add(ACTIVE);
        if !self.scope.has(key, flow) || self.rows > KEPT as u64 && is_silent() {
            return;
        }
        let side = usize::from(flow.flags & flow_flags::REPLY != 0);
        let other = key.opposite(flow);
        let (original, reply) = if side == 0 { (*key, other) } else { (other, *key) };
        let is_full = self.known.len() >= KEPT;
        let connection = match self.known.entry(original) {
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(entry) => entry.insert(Connection {
                network: flow.network,
                flags: 0,
                state: flow.state,
                translated: FlowKey {
                    source: reply.destination,
                    destination: reply.source,
                    source_port: reply.destination_port,
                    destination_port: reply.source_port,
                    ..reply
                },
                sides: [Side::default(); 2],
            }),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        (connection.network, connection.state) = (flow.network, flow.state);
        connection.flags = (connection.flags | flow.flags) & !flow_flags::REPLY;
        let last = connection.sides[side];
        let rate = match last.at_ns {
            at if at != 0 && last.created == flow.created => {
                let packets = flow.packets.wrapping_sub(last.packets);
                let elapsed = now_ns.saturating_sub(at);
                flow.bytes.checked_sub(last.bytes).map(|bytes| Rate::of(bytes, packets.into(), elapsed))
            }
            // All that it has counted has come since the end of a walk.
            _ => {
                let is_before = |ended: &u64| *ended != 0 && u64::from(flow.created) > ended / SECOND;
                let ended = self.ended_ns.into_iter().find(is_before);
                ended.map(|ended| Rate::of(flow.bytes, flow.packets.into(), now_ns.saturating_sub(ended)))
            }
        };
        let Flow { bytes, packets, created, last_seen, .. } = *flow;
        let rate = rate.unwrap_or_default();
        connection.sides[side] = Side { at_ns: now_ns, walk: self.walk, bytes, packets, created, last_seen, rate };
    }

    /// The walk has come to the end of the table, and another one begins.
    pub(super) fn end_walk(&mut self, now_ns: u64) {
        let walk = self.walk;
        self.known.retain(|_, connection| {
            for side in connection.sides.iter_mut().filter(|side| side.walk != walk) {
                *side = Side::default();
            }
            connection.sides.iter().any(|side| side.walk == walk)
        });
        self.walk += 1;
        self.ended_ns = [now_ns, self.ended_ns[0]];
    }

    /// What has not expired, with its rates. `gateways` by network index.
    pub(super) fn rows(&self, names: &Names, gateways: &[Gateway], now: u32) -> Vec<FlowRow> {
        // Of many connections few differ in these.
        let (mut networks, mut protocols) = (HashMap::<u32, Arc<str>>::new(), HashMap::<u8, Arc<str>>::new());
        let rows = self.known.iter().filter_map(|(original, connection)| {
            let Connection { network, flags, state, translated, sides: [sent, reply] } = connection;
            let timeouts = gateways.get(*network as usize).map(|gateway| gateway.timeouts).unwrap_or_default();
            let idle = now.saturating_sub(sent.last_seen.max(reply.last_seen));
            let is_answered = flags & flow_flags::ANSWERED != 0;
            if idle > tcp::timeout(original.protocol, *state, is_answered, &timeouts) {
                return None;
            }
            let flow = Flow { flags: *flags, state: *state, ..Flow::default() };
            Some(FlowRow {
                network: networks.entry(*network).or_insert_with(|| names.network(*network).into()).clone(),
                protocol: protocols
                    .entry(original.protocol)
                    .or_insert_with(|| terms::protocol(original.protocol.into()).into())
                    .clone(),
                state: terms::state(original, &flow),
                age_seconds: now.saturating_sub(sent.created.max(reply.created)),
                idle_seconds: idle,
                bits_per_second: sent.rate.bits.saturating_add(reply.rate.bits),
                original_bits_per_second: sent.rate.bits,
                original_packets_per_second: sent.rate.packets,
                reply_bits_per_second: reply.rate.bits,
                reply_packets_per_second: reply.rate.packets,
                original: Tuple::of(original),
                translated: Tuple::of(translated),
                key: *original,
            })
        });
        rows.collect()
    }
}

/// Where a packet is from and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Tuple {
    source: Ipv4Addr,
    source_port: u16,
    destination: Ipv4Addr,
    destination_port: u16,
}

impl Tuple {
    fn of(key: &FlowKey) -> Self {
        Self {
            source: key.source.into(),
            source_port: key.source_port,
            destination: key.destination.into(),
            destination_port: key.destination_port,
        }
    }

    fn text(&self) -> String {
        let from = terms::endpoint(self.source.octets(), self.source_port);
        format!("{from} > {}", terms::endpoint(self.destination.octets(), self.destination_port))
    }
}

/// A connection's rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FlowRow {
    network: Arc<str>,
    protocol: Arc<str>,
    state: &'static str,
    /// Its first packet as it came, and as it left.
    original: Tuple,
    translated: Tuple,
    age_seconds: u32,
    idle_seconds: u32,
    bits_per_second: u64,
    original_bits_per_second: u64,
    original_packets_per_second: u64,
    reply_bits_per_second: u64,
    reply_packets_per_second: u64,
    #[serde(skip)]
    key: FlowKey,
}

impl Row for FlowRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("network", "NETWORK", 10),
        Column::new("protocol", "PROTO", 5),
        Column::new("connection", "CONNECTION", 33).growing(),
        Column::new("translated", "AS", 33).growing().on_wide(140),
        Column::new("state", "STATE", 11).on_wide(100),
        Column::new("age", ">AGE", 6).on_wide(120),
        Column::new("idle", ">IDLE", 6).on_wide(120),
        Column::new("bits", ">BIT/S", 6),
        Column::new("original_bits", ">SENT", 6),
        Column::new("original_packets", ">PKT/S", 6).on_wide(100),
        Column::new("reply_bits", ">REPLY", 6),
        Column::new("reply_packets", ">PKT/S", 6).on_wide(100),
    ];

    fn cell(&self, column: usize) -> Cell {
        match column {
            0 => Cell::Text(self.network.to_string()),
            1 => Cell::Text(self.protocol.to_string()),
            2 => Cell::Text(self.original.text()),
            3 => Cell::Text(self.translated.text()),
            4 => Cell::Text(self.state.to_owned()),
            5 => Cell::Seconds(self.age_seconds),
            6 => Cell::Seconds(self.idle_seconds),
            7 => Cell::Rate(self.bits_per_second),
            8 => Cell::Rate(self.original_bits_per_second),
            9 => Cell::Rate(self.original_packets_per_second),
            10 => Cell::Rate(self.reply_bits_per_second),
            _ => Cell::Rate(self.reply_packets_per_second),
        }
    }

    fn key(&self) -> Key {
        Key::Flow(self.key)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{PUBLIC_SIDE, Timeouts, flow_state};

    use super::*;

    const INSIDE: [u8; 4] = [10, 1, 1, 11];
    const PUBLIC: [u8; 4] = [203, 0, 113, 10];
    const OUTSIDE: [u8; 4] = [192, 0, 2, 99];

    /// The two rows of a connection out of network 1, port-translated, with so many bytes and tenths of them packets.
    fn rows(port: u16, sent: u64, got: u64, created: u32, seen: u32) -> [(FlowKey, Flow); 2] {
        let key = FlowKey {
            side: 1,
            source: INSIDE,
            destination: OUTSIDE,
            source_port: port,
            destination_port: 443,
            protocol: 6,
            pad: [0; 3],
        };
        let flow = Flow {
            network: 1,
            bytes: sent,
            packets: (sent / 10) as u32,
            created,
            last_seen: seen,
            source: PUBLIC,
            destination: OUTSIDE,
            source_port: port + 1,
            destination_port: 443,
            out: PUBLIC_SIDE | 3,
            state: flow_state::ESTABLISHED,
            ..Flow::default()
        };
        let back = Flow {
            bytes: got,
            packets: (got / 10) as u32,
            source: OUTSIDE,
            destination: INSIDE,
            source_port: 443,
            destination_port: port,
            out: 1,
            flags: flow_flags::REPLY,
            ..flow
        };
        [(key, flow), (key.opposite(&flow), back)]
    }

    fn walk(connections: &mut Connections, seconds: u64, met: &[(FlowKey, Flow)], table: u64) {
        let now = seconds * SECOND;
        connections.set_rows(table);
        met.iter().for_each(|(key, flow)| connections.meet(key, flow, now));
        connections.end_walk(now);
    }

    fn shown(connections: &Connections, now: u32) -> Vec<FlowRow> {
        let timeouts = Timeouts { tcp_established: 7440, ..Timeouts::default() };
        connections.rows(&Names::default(), &[Gateway::default(), Gateway { timeouts, ..Gateway::default() }], now)
    }

    #[test]
    fn both_directions_are_one_connection_whichever_is_met_first() {
        for order in [[0, 1], [1, 0]] {
            let mut connections = Connections::new(Scope::All);
            let pick = |rows: [(FlowKey, Flow); 2]| order.map(|side| rows[side]);
            walk(&mut connections, 100, &pick(rows(40000, 1000, 100, 90, 99)), 2);
            assert_eq!(shown(&connections, 100)[0].bits_per_second, 0, "nothing is known of before");
            walk(&mut connections, 102, &pick(rows(40000, 3000, 500, 90, 101)), 2);
            let [row] = &shown(&connections, 102)[..] else { panic!("not one connection") };
            assert_eq!(row.original.text(), "10.1.1.11:40000 > 192.0.2.99:443");
            assert_eq!(row.translated.text(), "203.0.113.10:40001 > 192.0.2.99:443");
            assert_eq!((row.original_bits_per_second, row.original_packets_per_second), (8000, 100));
            assert_eq!((row.reply_bits_per_second, row.bits_per_second), (1600, 9600));
            assert_eq!((row.state, row.age_seconds, row.idle_seconds), ("established", 12, 1));
        }
    }

    #[test]
    fn a_new_connection_has_all_that_it_counted_and_one_that_ended_is_gone() {
        let mut connections = Connections::new(Scope::All);
        walk(&mut connections, 100, &rows(1, 1000, 0, 50, 99), 2);
        walk(&mut connections, 101, &[], 2);
        assert!(shown(&connections, 101).is_empty());
        walk(&mut connections, 103, &rows(2, 500, 0, 102, 103), 2);
        assert_eq!(
            shown(&connections, 103)[0].original_bits_per_second,
            2000,
            "of the two seconds since the last walk"
        );
        // The same addresses and ports again.
        walk(&mut connections, 105, &rows(2, 100, 0, 105, 105), 2);
        assert_eq!(shown(&connections, 105)[0].original_bits_per_second, 400);
    }

    #[test]
    fn packets_may_wrap() {
        let mut connections = Connections::new(Scope::All);
        let mut met = rows(1, 1000, 0, 50, 99);
        met[0].1.packets = u32::MAX;
        walk(&mut connections, 100, &met, 2);
        (met[0].1.packets, met[0].1.bytes) = (9, 2000);
        walk(&mut connections, 101, &met, 2);
        assert_eq!(shown(&connections, 101)[0].original_packets_per_second, 10);
    }

    #[test]
    fn of_a_large_table_only_what_is_active_is_kept_and_not_more_than_there_is_room_for() {
        let mut connections = Connections::new(Scope::All);
        walk(&mut connections, 1000, &[rows(1, 1, 1, 1, 900), rows(2, 1, 1, 1, 990)].concat(), 1 << 20);
        assert_eq!(connections.known.len(), 1);
        walk(&mut connections, 1001, &rows(1, 1, 1, 1, 900), 2);
        assert_eq!(connections.known.len(), 1, "a small table is kept whole");
        let many: Vec<_> = (0..KEPT as u32 + 10)
            .map(|number| {
                let (key, flow) = rows(1, 1, 1, 1, 1001)[0];
                (FlowKey { source: number.to_be_bytes(), ..key }, flow)
            })
            .collect();
        let mut connections = Connections::new(Scope::All);
        walk(&mut connections, 1002, &many, 1 << 20);
        assert_eq!(connections.known.len(), KEPT);
    }

    #[test]
    fn a_scope_takes_what_has_an_end_there() {
        let all = rows(1, 1, 1, 1, 100);
        for (scope, wanted) in [
            (Scope::Network(1), 1),
            (Scope::Network(2), 0),
            (Scope::Nic(1, vec![INSIDE]), 1),
            (Scope::Nic(2, vec![INSIDE]), 0),
            (Scope::Nic(1, vec![OUTSIDE]), 0),
        ] {
            let mut connections = Connections::new(scope.clone());
            walk(&mut connections, 100, &all, 2);
            let found = connections.known.values().filter(|c| c.sides.iter().all(|side| side.at_ns != 0)).count();
            assert_eq!(found, wanted, "{scope:?}");
        }
    }

    #[test]
    fn what_has_idled_for_too_long_is_not_shown() {
        let mut connections = Connections::new(Scope::All);
        walk(&mut connections, 8000, &rows(1, 1, 1, 1, 500), 2);
        assert_eq!((shown(&connections, 7940).len(), shown(&connections, 7941).len()), (1, 0));
    }
}
