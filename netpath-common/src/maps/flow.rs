//! What the data path remembers of connections: flows, bindings, fragments, claimed ports.
//!
//! Times are in seconds of the monotonic clock, ports and ICMP identifiers in host order, addresses in wire order.

use bytemuck::{Pod, Zeroable};

use crate::Mac;

/// The side of a public link in [`FlowKey::side`] and [`BindingKey::side`]: this bit and the link's index. Without the
/// bit a side is a network index.
pub const PUBLIC_SIDE: u32 = 1 << 31;

/// Key of FLOWS: one direction of a connection, as its packets arrive.
///
/// The ports of an ICMP query are its identifier and zero (RFC 5508 §3.1): the querier's port is the identifier. Protocols
/// without ports have zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FlowKey {
    /// Where the packet came from: a network index, or [`PUBLIC_SIDE`] and the index of a public link.
    pub side: u32,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// One direction of a connection: what becomes of its packets. 72 bytes, so that a hash entry takes 160 with its key,
/// the kernel's header and its bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// Bytes of this direction's packets, with their Ethernet headers.
    pub bytes: u64,
    /// [`FlowKey::tag`] of the key: a reader tells by it that the row is still the one that it looked up.
    pub tag: u32,
    /// The network that the connection belongs to: whose policy admitted it, and whose epoch counts.
    pub network: u32,
    /// [`super::Gateway::epoch`] of that network when the connection was last judged.
    pub epoch: u32,
    /// Packets of this direction; wraps.
    pub packets: u32,
    /// When the connection was first seen.
    pub created: u32,
    /// When a packet of this direction was last seen.
    pub last_seen: u32,
    /// The new source address.
    pub source: [u8; 4],
    /// The new destination address.
    pub destination: [u8; 4],
    /// The new source port.
    pub source_port: u16,
    /// The new destination port.
    pub destination_port: u16,
    /// The side that packets leave on, as in [`FlowKey::side`].
    pub out: u32,
    /// By [`hop`]: an ifindex, a row of TUNNELS, or a row of UPSTREAMS.
    pub target: u32,
    /// Row of COUNTERS of the guest that packets go to, for [`hop::LOCAL`].
    pub slot: u32,
    /// TCP: the acknowledgement number of this direction's last segment; what a reset of the other direction has to match.
    pub acknowledged: u32,
    /// Destination MAC address for [`hop::LOCAL`], [`hop::TUNNEL`] and [`hop::UPLINK`].
    pub mac: Mac,
    /// [`hop`].
    pub hop: u8,
    /// [`flow_flags`].
    pub flags: u8,
    /// [`flow_state`]; the same in both directions.
    pub state: u8,
    /// The ICMP query that the connection began with: [`crate::icmp::query`].
    pub icmp_type: u8,
    /// [`super::PublicAddress::index`] of the public address that the connection goes through; 0: none that is counted.
    pub address: u16,
    /// What a later version may note.
    #[cfg(feature = "abi-next")]
    pub next: u64,
}

/// Where packets of a flow go: [`Flow::hop`]. The first ones are [`super::destination_kind`]'s.
pub mod hop {
    /// A guest port of this host; the target is its ifindex.
    pub const LOCAL: u8 = 1;
    /// Another host; the target is a row of TUNNELS.
    pub const TUNNEL: u8 = 2;
    /// Another station of a VLAN or untagged network; the target is the uplink's ifindex.
    pub const UPLINK: u8 = 3;
    /// The upstream router of a public link; the target is a row of UPSTREAMS.
    pub const UPSTREAM: u8 = 5;
    /// A station on a public link itself; the target is a row of UPSTREAMS.
    pub const ON_LINK: u8 = 6;
    /// A public address of this host: the packet is looked up again on the side that it leaves on.
    pub const AGAIN: u8 = 7;
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// The direction opposite to the connection's first packet.
    pub const REPLY: u8 = 1;
    /// The connection was begun on the public side.
    pub const INWARD: u8 = 2;
    /// The frame goes to the network's NAT host as it is: nothing is rewritten, no hop is counted, there is no other direction.
    pub const TRANSIT: u8 = 4;
    /// The inside address and port have a row in BINDINGS, which is to be kept alive.
    pub const BOUND: u8 = 8;
    /// Set on both directions once a packet of the reply direction has been seen.
    pub const ANSWERED: u8 = 16;
    /// Packets of this direction come to a public link from a public address of this host, and never by the wire.
    pub const HAIRPIN: u8 = 32;
}

/// What a connection has come to: [`Flow::state`]. For TCP the states of RFC 6146 §3.5.2.2, with "V6" read as the side
/// that began the connection.
pub mod flow_state {
    /// Not TCP.
    pub const NONE: u8 = 0;
    /// The originator's SYN was seen.
    pub const OPENING: u8 = 1;
    /// SYNs were seen both ways.
    pub const ESTABLISHED: u8 = 2;
    /// The originator has sent a FIN.
    pub const ORIGINATOR_FIN: u8 = 3;
    /// The responder has sent a FIN.
    pub const RESPONDER_FIN: u8 = 4;
    /// FINs were seen both ways.
    pub const CLOSING: u8 = 5;
    /// A reset was seen; data that follows it makes the connection established again.
    pub const TRANSITORY: u8 = 6;
    /// The connection was first seen in its middle: after a migration, a purge, or a reload.
    pub const MIDSTREAM: u8 = 7;
}

impl FlowKey {
    /// A hash of the key that a row carries along: equal keys have equal tags, and a recycled row's tag differs but once in
    /// four thousand million.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
        let ports = u32::from(self.source_port) << 16 | u32::from(self.destination_port);
        let state = crate::frame::mix(u32::from(self.protocol), self.side);
        let state = crate::frame::mix(crate::frame::mix(state, word(self.source)), word(self.destination));
        crate::frame::mix(state, ports)
    }

    /// The key of packets in the other direction of a connection whose packets in this one become `flow`.
    #[inline(always)]
    pub fn opposite(&self, flow: &Flow) -> Self {
        Self {
            side: flow.out,
            source: flow.destination,
            destination: flow.source,
            source_port: flow.destination_port,
            destination_port: flow.source_port,
            protocol: self.protocol,
            pad: [0; 3],
        }
    }
}

/// Key of BINDINGS: an address and port inside, or a public address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct BindingKey {
    /// A network index, or [`PUBLIC_SIDE`] and the index of a public link.
    pub side: u32,
    /// The address.
    pub address: [u8; 4],
    /// The port, or the identifier of an ICMP query.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// The other end of a binding: of an inside address the public one, of a public address the inside one. A binding is the first of
/// these rows (RFC 4787 §4.1: endpoint-independent); where filtering is endpoint independent, too, it has the second one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Binding {
    /// The other end's side.
    pub side: u32,
    /// The other end's address.
    pub address: [u8; 4],
    /// The other end's port.
    pub port: u16,
    /// One more than the public address's index in PORT_BLOCKS, which its port is given back to; 0 in rows of builds that did
    /// not say it, and then the network's pool tells.
    pub pool: u16,
    /// When the binding ends, unless a flow of it renews it. The row of the outside end is not renewed.
    pub expires: u32,
}

/// A public port is not given to another inside address for this long after its binding has ended, in seconds
/// (RFC 6888 §2, REQ-8).
pub const HOLD_DOWN: u32 = 120;

/// Ports of one word of PORT_BLOCKS.
pub const BLOCK_PORTS: u32 = 64;
/// Words of PORT_BLOCKS for one public address and protocol.
pub const BLOCKS: u32 = 65536 / BLOCK_PORTS;
/// Protocols that ports are given out for: TCP, UDP, ICMP queries, in this order.
pub const POOL_PROTOCOLS: u32 = 3;

/// Key of FRAGMENTS (RFC 791 §3.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// As in [`FlowKey::side`].
    pub side: u32,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Identification, in host order.
    pub id: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// What the first fragment of a packet told of the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragment {
    /// Side of the key again.
    pub side: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The identification that the fragments leave with, in host order.
    pub id: u16,
    /// Zero.
    pub pad: [u8; 2],
    /// When the first fragment was seen.
    pub seen: u32,
}

/// Later fragments are matched for this long after the first, in seconds (RFC 1122 §3.3.2 has 60 to 120 for reassembly).
pub const FRAGMENT_LIFETIME: u32 = 60;

/// Words of a row of CONNECTION: where a packet's headers are noted, and a connection is put together while it is judged.
/// A stack has no room for them, and what the verifier knows of each word on it would keep it busy for long.
pub const CONNECTION_WORDS: usize = 32;

/// Rows of CONNECTION.
pub mod connection_row {
    /// A packet's headers, or what XDP plans for it.
    pub const PACKET: u32 = 0;
    /// A connection while it is judged.
    pub const JUDGED: u32 = 1;
    /// A frame while it is charged to meters.
    pub const CHARGE: u32 = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// What the data path counts for a network's gateway. Row of GATEWAY_STATE, by network index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct GatewayState {
    /// Rows of FLOWS.
    pub flows: u64,
    /// Bindings.
    pub bindings: u64,
    /// ICMP errors in a second: the second in the high half, their number in the low one.
    pub errors: u64,
    /// Row 0, which is no network's: when room was last made in the tables, in seconds of the monotonic clock. 0 elsewhere.
    pub swept: u64,
    /// The identification of the next packet that leaves by a public address of the network and gets one (RFC 6864 §5.2).
    pub identification: u64,
}
