//! The maps: names, shapes, keys, values.
//!
//! Every key begins with the tenant (the network index) or with a device of this host, so two tenants with the
//! same addresses never meet. Values read by the data path from a hash repeat the tenant or the device of their
//! key: a preallocated hash may hand a deleted row's memory to a new row while a reader still holds it, and the
//! reader notices by comparing.
//!
//! Numbers are in host order unless the type says otherwise; addresses are in wire order.

mod event;
mod flow;
mod gateway;
mod meter;
mod shapes;

use bytemuck::{Pod, Zeroable};

pub use self::{
    event::*,
    flow::*,
    gateway::*,
    meter::*,
    shapes::{ALL, MapKind, MapShape, NO_PREALLOC, Role, capacity, shape},
};

use crate::{Address, Mac};

/// Version of every layout in this file and of the programs' contract; part of every pin path. A build of another one takes
/// over what is in force: see `netpath::datapath::takeover`.
pub const ABI_VERSION: u32 = if cfg!(feature = "abi-next") { 1003 } else { 3 };

/// A guest port. Key of PORTS: its ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// The key again.
    pub ifindex: u32,
    /// Network index.
    pub network: u32,
    /// Row of COUNTERS; stable for as long as the NIC is defined.
    pub slot: u32,
    /// [`port_flags`].
    pub flags: u32,
    /// The NIC's MAC address.
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
    /// The NIC's first IPv4 address; zero for none.
    pub ip4: [u8; 4],
    /// Zero.
    pub pad2: [u8; 4],
    /// The NIC's first IPv6 address; zero for none.
    pub ip6: Address,
    /// The link-local address that the MAC makes.
    pub link_local: Address,
}

/// Bits of [`Port::flags`].
pub mod port_flags {
    /// No source is checked: a virtual router, keepalived.
    pub const TRUSTED: u32 = 1;
    /// IP sources are not checked, MAC addresses are: a network without `cidr` and `cidr6`.
    pub const ANY_IP: u32 = 2;
    /// ADDRESSES has further addresses of this port.
    pub const MORE_ADDRESSES: u32 = 4;
}

/// Key of ADDRESSES; the value is 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct AddressKey {
    /// The port.
    pub ifindex: u32,
    /// A further address of it.
    pub address: Address,
}

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
    /// The network's gateway has [`super::gateway_flags::TIER`].
    pub const TIER: u32 = 8;
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

/// Key of FLOODS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FloodKey {
    /// Network index.
    pub network: u32,
    /// From 0; stable for as long as the member is defined.
    pub position: u32,
}

/// What a name is of: [`NameKey::kind`].
pub mod name_kind {
    /// This host, index 0.
    pub const HOST: u32 = 1;
    /// A network, by network index.
    pub const NETWORK: u32 = 2;
    /// A guest port, by slot: `network/instance/mac`.
    pub const PORT: u32 = 3;
    /// A tunnel, by tunnel index: `physical network/host`, or `network/group`.
    pub const TUNNEL: u32 = 4;
    /// A physical network, by physical network index.
    pub const PHYSICAL_NETWORK: u32 = 5;
    /// A public link, by its index: `physical network/VLAN id`, or `physical network/untagged`.
    pub const PUBLIC_LINK: u32 = 6;
    /// A public address that ports are given out of, by its index in PORT_BLOCKS: `address`.
    pub const PORT_POOL: u32 = 7;
    /// A meter, by its number: `nic network/instance/mac`, `network name`, `account name`, `address link/address`.
    pub const METER: u32 = 8;
    /// An account with networks on this host, by its index in RETIRED_ACCOUNT.
    pub const ACCOUNT: u32 = 9;
    /// The account that a network belongs to, by network index.
    pub const OWNER: u32 = 10;
    /// A public address that is counted, by its index: `link/address`.
    pub const PUBLIC_ADDRESS: u32 = 11;
}

/// Key of NAMES.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct NameKey {
    /// [`name_kind`].
    pub kind: u32,
    /// The index, by kind.
    pub index: u32,
}

/// A name: UTF-8, filled up with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Name(pub [u8; 128]);

/// What passed a guest port, on one CPU; frames without the frame check sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames that the guest sent and netpath accepted.
    pub from_guest_packets: u64,
    /// Their bytes.
    pub from_guest_bytes: u64,
    /// Frames delivered to the guest.
    pub to_guest_packets: u64,
    /// Their bytes.
    pub to_guest_bytes: u64,
    /// What a later version may count.
    #[cfg(feature = "abi-next")]
    pub next: u64,
}

/// Key of DROPS; the value counts packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct DropKey {
    /// Network index; 0 where the packet was refused before its network was known.
    pub network: u32,
    /// Code of the [`crate::DropReason`].
    pub reason: u32,
}

/// `Pod` in aya's sense, for the map types of the loader.
#[cfg(feature = "user")]
mod user {
    use super::*;

    macro_rules! pod {
        ($($type:ty),+ $(,)?) => {
            // SAFETY: each is `repr(C)` and `bytemuck::Pod`: no padding, no pointers, any bytes are a value.
            $(unsafe impl aya::Pod for $type {})+
        };
    }

    pod!(
        Port,
        AddressKey,
        Network,
        UplinkKey,
        Uplink,
        SegmentKey,
        Segment,
        EndpointKey,
        Endpoint,
        FdbKey,
        Destination,
        Learned,
        NeighbourKey,
        Neighbour,
        Tunnel,
        NextHop,
        FloodKey,
        NameKey,
        Name,
        Counters,
        DropKey,
        FlowKey,
        Flow,
        BindingKey,
        Binding,
        FragmentKey,
        Fragment,
        GatewayState,
        Gateway,
        Rule,
        RouteKey,
        Route,
        PublicKey,
        PublicAddress,
        StaticKey,
        StaticNat,
        ForwardKey,
        Forward,
        Upstream,
        Resolved,
        Limit,
        Meter,
        MeterEvents,
        PortMeters,
        Shares,
        Event,
        Watch,
        Watched,
    );
}
