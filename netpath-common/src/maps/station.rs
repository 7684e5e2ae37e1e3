//! Where stations are, and who has an address.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac};

/// Key of FDB and LEARNED.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FdbKey {
    /// Network index.
    pub network: u32,
    /// The station.
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}

impl FdbKey {
    /// The key of a station in a network.
    #[inline(always)]
    pub const fn new(network: u32, mac: Mac) -> Self {
        Self { network, mac, pad: [0; 2] }
    }
}

/// Where a frame goes: [`Destination::kind`].
pub mod destination_kind {
    /// A guest port of this host, [`super::Destination::target`] is its ifindex.
    pub const LOCAL: u8 = 1;
    /// Another host, [`super::Destination::target`] is a row of TUNNELS.
    pub const TUNNEL: u8 = 2;
    /// The network's uplink, [`super::Destination::target`] is its ifindex.
    pub const UPLINK: u8 = 3;
    /// The network's gateway, [`super::Destination::target`] is 0.
    pub const GATEWAY: u8 = 4;
}

/// Bits of [`Destination::flags`].
pub mod destination_flags {
    /// The local device takes frames that XDP redirects: a tap, or a veth whose peer has XDP or GRO on.
    pub const XDP_TARGET: u8 = 1;
}

/// Where a frame goes. Value of FDB and FLOODS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Destination {
    /// The key's network again.
    pub network: u32,
    /// [`destination_kind`].
    pub kind: u8,
    /// [`destination_flags`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// An ifindex or a row of TUNNELS, by kind.
    pub target: u32,
    /// Row of COUNTERS, for a local port.
    pub slot: u32,
}

/// Where an undefined station was last seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Learned {
    /// The way back to it.
    pub destination: Destination,
    /// Coarse monotonic clock, in nanoseconds.
    pub last_seen_ns: u64,
}

/// A learned station counts as absent this long after it was last seen (IEEE 802.1D §7.9.2's 300 s).
pub const LEARNED_IDLE_NS: u64 = 300_000_000_000;

/// Key of NEIGHBOURS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct NeighbourKey {
    /// Network index.
    pub network: u32,
    /// The address asked for.
    pub address: Address,
}

/// Who has an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Neighbour {
    /// The key's network again.
    pub network: u32,
    /// The station.
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}

/// Key of FLOODS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FloodKey {
    /// Network index.
    pub network: u32,
    /// From 0; stable for as long as the member is defined.
    pub position: u32,
}
