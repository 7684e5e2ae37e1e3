//! What carries networks between hosts: uplinks, the hosts at the other ends, tunnels to them.

use bytemuck::{Pod, Zeroable};

use crate::Mac;

/// Key of UPLINKS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct UplinkKey {
    /// The device: an uplink, a bond's slave, or netpath's own tunnel device.
    pub ifindex: u32,
    /// The UDP port of VXLAN; 0 for VLAN and untagged networks.
    pub udp_port: u32,
}

/// What a device is to netpath.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Uplink {
    /// This host's tunnel address there; zero for VLAN.
    pub local: [u8; 4],
    /// [`uplink_flags`].
    pub flags: u32,
}

/// Bits of [`Uplink::flags`].
pub mod uplink_flags {
    /// netpath owns the UDP port: unknown VNIs are dropped, and its own tunnel device takes what XDP hands on.
    pub const OWNS_PORT: u32 = 1;
    /// netpath turned the device's `rxvlan` offload off, and turns it on again on detach.
    pub const RESTORE_RXVLAN: u32 = 2;
    /// The device is netpath's own tunnel device, made by it and deleted on detach.
    pub const TUNNEL_DEVICE: u32 = 4;
    /// netpath gave the device its queueing discipline, and takes it off on detach.
    pub const RESTORE_QDISC: u32 = 8;
    /// netpath made the device promiscuous, and takes that back on detach.
    pub const RESTORE_PROMISCUITY: u32 = 16;
}

/// Key of ENDPOINTS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct EndpointKey {
    /// Physical network index.
    pub physical_network: u32,
    /// The remote host's tunnel address.
    pub remote: [u8; 4],
}

/// A host from which tunnel packets are accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// Row of TUNNELS that leads back there.
    pub tunnel: u32,
    /// This host's tunnel address, to which its packets must be addressed.
    pub local: [u8; 4],
}

/// A tunnel to another host, or to a multicast group. Key of TUNNELS: the tunnel index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tunnel {
    /// The remote tunnel address, or the group; zero for a free row.
    pub remote: [u8; 4],
    /// This host's tunnel address.
    pub local: [u8; 4],
    /// Destination UDP port.
    pub udp_port: u16,
    /// Outer TTL.
    pub ttl: u8,
    /// [`tunnel_flags`].
    pub flags: u8,
    /// netpath's own tunnel device, which resolves what the data path cannot; 0 for none.
    pub device: u32,
    /// The device from which the kernel's routes are asked: one with forwarding on.
    pub lookup: u32,
    /// The device of a multicast group. The device of a remote host the kernel's routes tell; where it is this one, XDP may
    /// send through it.
    pub egress: u32,
    /// The MAC address of `egress`, for a multicast group.
    pub source_mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}

/// Bits of [`Tunnel::flags`].
pub mod tunnel_flags {
    /// `remote` is a multicast group.
    pub const GROUP: u8 = 1;
    /// The device that leads there keeps packets until their time of departure: its queueing discipline is fq.
    pub const PACED: u8 = 2;
}

/// The underlay next hop of a tunnel, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NextHop {
    /// Coarse monotonic clock in nanoseconds after which the kernel is asked again.
    pub expires_ns: u64,
    /// The kernel's tick (`jiffies`) in which this was last found to be fresh: within one tick the clock need not be read again.
    pub fresh_tick: u64,
    /// The tunnel's remote address when this was resolved; another one makes the row stale.
    pub remote: [u8; 4],
    /// The device that leads there.
    pub ifindex: u32,
    /// MTU of the path in bytes, outer headers included.
    pub mtu: u32,
    /// Outer destination MAC address.
    pub destination_mac: Mac,
    /// Outer source MAC address.
    pub source_mac: Mac,
}
