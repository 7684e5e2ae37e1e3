//! A network, and the segment of the wire that is its own.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac};

/// How a network's frames travel between hosts: [`Network::kind`].
pub mod segment_kind {
    /// The row is free.
    pub const NONE: u8 = 0;
    /// In VXLAN, [`super::Network::segment`] is the VNI.
    pub const VXLAN: u8 = 1;
    /// With an 802.1Q tag, [`super::Network::segment`] is the VLAN id.
    pub const VLAN: u8 = 2;
    /// Without a tag, [`super::Network::segment`] is 0.
    pub const UNTAGGED: u8 = 3;
}

/// Bits of [`Network::flags`].
pub mod network_flags {
    /// `on_miss: pass`: what netpath has no definition for goes on to the bridge that the port belongs to.
    pub const ON_MISS_PASS: u8 = 1;
    /// The uplink's device sends nothing that XDP hands it.
    pub const NOT_FROM_XDP: u8 = 2;
    /// The uplink's device keeps packets until their time of departure: its queueing discipline is fq.
    pub const PACED: u8 = 4;
}

/// A network. Key of NETWORKS: the network index; row 0 is never used and stands for "no network" in DROPS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Network {
    /// [`segment_kind`].
    pub kind: u8,
    /// [`network_flags`].
    pub flags: u8,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// VNI or VLAN id.
    pub segment: u32,
    /// The uplink's ifindex, for VLAN and untagged networks; 0 where this host has none.
    pub uplink: u32,
    /// Positions of FLOODS in use are below this; a position may be empty.
    pub flood_count: u32,
    /// Physical network index.
    pub physical_network: u32,
    /// The gateway's MAC address; zero for none.
    pub gateway_mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
    /// The gateway's IPv4 address; zero for none.
    pub gateway_ip4: [u8; 4],
    /// The gateway's IPv6 address; zero for none.
    pub gateway_ip6: Address,
}

/// Key of SEGMENTS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SegmentKey {
    /// The device that the frame arrives on.
    pub ifindex: u32,
    /// The UDP port of VXLAN; 0 for VLAN and untagged networks, and for netpath's own tunnel device.
    pub udp_port: u32,
    /// VNI or VLAN id; 0 for untagged.
    pub id: u32,
}

/// The network of a segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    /// The key's device again.
    pub ifindex: u32,
    /// Network index.
    pub network: u32,
    /// Physical network index.
    pub physical_network: u32,
    /// [`segment_flags`].
    pub flags: u32,
}

/// Bits of [`Segment::flags`].
pub mod segment_flags {
    /// VXLAN whose UDP port netpath does not own: no tunnel device of its own takes what XDP hands on, so XDP
    /// strips the outer headers and passes.
    pub const STRIP: u32 = 1;
    /// The network's `on_miss: pass`: frames for no defined port of this host are a bridge's.
    pub const ON_MISS_PASS: u32 = 2;
    /// A public link: [`super::Segment::network`] is its index in UPSTREAMS.
    pub const PUBLIC: u32 = 4;
    /// The network's gateway has [`crate::maps::gateway_flags::TIER`].
    pub const TIER: u32 = 8;
}
