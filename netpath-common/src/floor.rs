//! What the benchmark and its own programs (`netpath-ebpf/src/floor.rs`) have in common.

use bytemuck::{Pod, Zeroable};

use crate::{
    frame::mix,
    maps::{Flow, FlowKey},
};

/// Length in bytes of a small frame, without the frame check sequence.
pub const SHORT: usize = 60;
/// Length in bytes of the same frame behind the outer headers of VXLAN over IPv4.
pub const LONG: usize = SHORT + 50;
/// Odd: times a position, below a power of two, it is another order of the same numbers.
pub const SCATTER: u32 = 0x9e37_79b1;
/// Rows of an array that are looked at for a key, from the one that its hash names.
pub const PROBES: u32 = 16;

/// Which connections packets are generated of. The only row of TRAFFIC.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Packets generated so far.
    pub next: u32,
    /// One less than the number of connections, a power of two; of NICs, any number.
    pub mask: u32,
    /// The sum of the template's IP header.
    pub ip_sum: u32,
    /// The sum that the template's UDP checksum is of.
    pub udp_sum: u32,
    /// Whether sinks note what they see in PUBLIC.
    pub note: u32,
    /// Length in bytes of the frames that sinks count.
    pub counted: u32,
}

/// What is looked up. The only row of WALK.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Walk {
    /// Look-ups so far.
    pub next: u32,
    /// One less than the number of connections, a power of two.
    pub mask: u32,
    /// One less than the number of rows of the array, a power of two.
    pub slots: u32,
    /// Look-ups that have found their row.
    pub found: u32,
}

/// A row of ROWS. One whose key has side 0 is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Row {
    /// Whose row it is.
    pub key: FlowKey,
    /// Zero.
    pub pad: u32,
    /// What is known of the connection.
    pub flow: Flow,
}

/// The key of a connection, by its number.
#[inline(always)]
#[must_use]
pub const fn key(connection: u32) -> FlowKey {
    FlowKey {
        side: 1,
        source: connection.to_ne_bytes(),
        destination: [198, 51, 100, 1],
        source_port: connection as u16,
        destination_port: 443,
        protocol: 6,
        pad: [0; 3],
    }
}

/// The row of ROWS that a key would have, of as many as a number has.
#[inline(always)]
#[must_use]
pub fn hash(key: &FlowKey) -> u32 {
    let ports = u32::from(key.source_port) << 16 | u32::from(key.destination_port);
    let addresses = mix(mix(key.side, u32::from_ne_bytes(key.source)), u32::from_ne_bytes(key.destination));
    mix(addresses, ports)
}
