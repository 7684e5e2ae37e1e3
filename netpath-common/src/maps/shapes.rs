//! What each map looks like to the kernel: names, kinds, sizes, capacities.

use super::*;

/// The kind of a map, as the kernel numbers it (`enum bpf_map_type`).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    ProgramArray = 3,
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_RINGBUF`.
    Ring = 27,
}

/// What a map looks like; [`ALL`] has one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// The name in the object, the kernel and the pin path: 15 characters at most.
    pub name: &'static str,
    /// The kernel's map type.
    pub kind: MapKind,
    /// Size of the key in bytes.
    pub key_size: u32,
    /// Size of the value (of one CPU) in bytes.
    pub value_size: u32,
    /// Kernel map flags.
    pub flags: u32,
    /// Rows when the definitions do not say otherwise.
    pub capacity: u32,
    /// The field of a host's `capacities` that sets the number of rows.
    pub capacity_field: &'static str,
    /// What becomes of its rows where a build of another ABI made the map.
    pub role: Role,
    /// The oldest version that this one begins with: every version since only has words appended to the value.
    pub since: u32,
    /// Counts up with every change of key or value, in size or in meaning.
    pub version: u32,
}

/// What becomes of a map's rows where a build of another ABI made the map, and this one's is another shape or version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// They follow from the definitions, and are made anew from them.
    Derived,
    /// Only the loader writes them, and they do not follow from the definitions: carried over once.
    Kept,
    /// The data path writes them: carried over, and what is missing once more when its programs have changed.
    State,
    /// The data path adds to them: carried over, and what was added meanwhile is added when its programs have changed.
    Counts,
    /// Words whose bits the data path claims: in two maps at a time, a bit could be claimed twice.
    Claims,
    /// Caches, and what is told while somebody watches: begins empty.
    Passing,
    /// What programs of one ABI tell each other: never another's, whatever its shape.
    Contract,
}

/// `BPF_F_NO_PREALLOC`: rows take memory only when they exist.
pub const NO_PREALLOC: u32 = 1;

/// The version of rows that the feature `abi-next` has one word more in.
const GROWN: u32 = 1 + cfg!(feature = "abi-next") as u32;

/// A key of a trie as the kernel has it: the prefix's length in bits, and the data.
type TrieKey<K> = (u32, K);

/// Rows of each map unless a host's `capacities` say otherwise.
pub mod capacity {
    /// Guest ports on this host.
    pub const PORTS: usize = 4096;
    /// Secondary addresses of guest ports on this host.
    pub const ADDRESSES: usize = 16384;
    /// Networks of the zone.
    pub const NETWORKS: usize = 4096;
    /// Uplinks, bond slaves and tunnel devices.
    pub const UPLINKS: usize = 256;
    /// Segments times the uplinks that carry them.
    pub const SEGMENTS: usize = 16384;
    /// Remote hosts times physical networks.
    pub const ENDPOINTS: usize = 4096;
    /// MAC addresses of the zone.
    pub const FDB: usize = 65536;
    /// Learned MAC addresses.
    pub const LEARNED: usize = 16384;
    /// IP addresses of the zone.
    pub const NEIGHBOURS: usize = 65536;
    /// Tunnel headers: remote hosts times physical networks, and multicast groups.
    pub const TUNNELS: usize = 4096;
    /// Members of all networks, as far as frames are flooded to them.
    pub const FLOODS: usize = 65536;
    /// Names of networks, ports, tunnels and hosts.
    pub const NAMES: usize = 32768;
    /// Pairs of network and drop reason that have occurred.
    pub const DROPS: usize = 65536;
    /// Directions of connections on this host: two rows each.
    pub const FLOWS: usize = 131_072;
    /// Bindings on this host: a row each, and two where filtering is endpoint independent.
    pub const BINDINGS: usize = 131_072;
    /// Fragmented packets on their way at a time.
    pub const FRAGMENTS: usize = 8192;
    /// Words of 64 ports: 3072 for each public address of this host that source NAT gives ports out of.
    pub const PORT_BLOCKS: usize = 64 * (super::POOL_PROTOCOLS * super::BLOCKS) as usize;
    /// Rules of all networks of this host, one for each prefix that a rule names.
    pub const RULES: usize = 65536;
    /// Routes between networks and static routes.
    pub const ROUTES: usize = 16384;
    /// Public addresses of this host.
    pub const PUBLIC_ADDRESSES: usize = 4096;
    /// Forwarded ports; a range takes up to 30 rows.
    pub const FORWARDS: usize = 16384;
    /// Rows of meters: two for each NIC, network, account and public address with a limit.
    pub const METERS: usize = 16384;
    /// Accounts with networks on this host.
    pub const ACCOUNTS: usize = 4096;
    /// Public links of this host.
    pub const UPSTREAMS: usize = 64;
    /// Stations on public links.
    pub const ON_LINK: usize = 4096;
    /// Bytes of the ring, not rows: a power of two.
    pub const EVENTS: usize = 1 << 20;
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident: $kind:ident<$key:ty, $value:ty>, $flags:expr, $capacity:expr, $field:literal,
        $role:ident $since:literal..=$version:expr;)+) => {
        /// Every map's shape; the names stand here and nowhere else.
        pub mod shape {
            use super::*;
            $($(#[$doc])* pub const $name: MapShape = MapShape {
                name: stringify!($name),
                kind: MapKind::$kind,
                key_size: size_of::<$key>() as u32,
                value_size: size_of::<$value>() as u32,
                flags: $flags,
                capacity: $capacity as u32,
                capacity_field: $field,
                role: Role::$role,
                since: $since,
                version: $version,
            };)+
        }
        /// Every map.
        pub const ALL: &[MapShape] = &[$(shape::$name,)+];
    };
}

shapes! {
    /// Guest ports of this host. Written by the loader, read by `from_guest`.
    PORTS: Hash<u32, Port>, 0, capacity::PORTS, "ports", Derived 1..=1;
    /// Secondary addresses of guest ports. Written by the loader, read by `from_guest`.
    ADDRESSES: Hash<AddressKey, u32>, 0, capacity::ADDRESSES, "addresses", Derived 1..=1;
    /// Networks, by network index. Written by the loader, read by every program.
    NETWORKS: Array<u32, Network>, 0, capacity::NETWORKS, "networks", Derived 1..=1;
    /// Devices that frames of tenants arrive on. Written by the loader, read by `from_uplink` where no segment matched.
    UPLINKS: Hash<UplinkKey, Uplink>, 0, capacity::UPLINKS, "uplinks", Kept 1..=1;
    /// Which network a VNI or VLAN id on an uplink is. Written by the loader, read by `from_uplink`.
    SEGMENTS: Hash<SegmentKey, Segment>, 0, capacity::SEGMENTS, "segments", Derived 1..=1;
    /// Hosts from which tunnel packets are accepted. Written by the loader, read by `from_uplink`.
    ENDPOINTS: Hash<EndpointKey, Endpoint>, 0, capacity::ENDPOINTS, "endpoints", Derived 1..=1;
    /// Where a defined MAC address lives. Written by the loader, read by every program.
    FDB: Hash<FdbKey, Destination>, 0, capacity::FDB, "fdb", Derived 1..=1;
    /// Where an undefined MAC address was last seen. Written by the data path, read after FDB.
    LEARNED: LruHash<FdbKey, Learned>, 0, capacity::LEARNED, "learned", State 1..=1;
    /// The MAC address of a defined IP address. Written by the loader, read by ARP suppression.
    NEIGHBOURS: Hash<NeighbourKey, Neighbour>, 0, capacity::NEIGHBOURS, "neighbours", Derived 1..=1;
    /// Tunnel headers, by tunnel index. Written by the loader, read by `from_guest`.
    TUNNELS: Array<u32, Tunnel>, 0, capacity::TUNNELS, "tunnels", Derived 1..=1;
    /// The underlay next hop of a tunnel, as the kernel's routes last said. Written and read by `from_guest`.
    NEXT_HOPS: PerCpuArray<u32, NextHop>, 0, capacity::TUNNELS, "tunnels", Passing 1..=1;
    /// Members of a network to which broadcast, multicast and unknown unicast go. Written by the loader, read by every TC program.
    FLOODS: Hash<FloodKey, Destination>, 0, capacity::FLOODS, "floods", Derived 1..=1;
    /// What things are called. Written and read by the loader.
    NAMES: Hash<NameKey, Name>, 0, capacity::NAMES, "names", Kept 1..=1;
    /// Packets and bytes of a guest port, by slot. Written by every program.
    COUNTERS: PerCpuArray<u32, Counters>, 0, capacity::PORTS, "ports", Counts 1..=GROWN;
    /// Packets and bytes of a network's ports that are no more, by network index. Written and read by the loader.
    RETIRED: Array<u32, Counters>, 0, capacity::NETWORKS, "networks", Kept 1..=GROWN;
    /// The same of an account's networks that are no more, by account index. Written and read by the loader.
    RETIRED_ACCOUNT: Array<u32, Counters>, 0, capacity::ACCOUNTS, "accounts", Kept 1..=GROWN;
    /// Packets and bytes of a public address, by its index. Written by the gateway's programs.
    PUBLIC_COUNTERS: PerCpuArray<u32, Counters>, 0, capacity::PUBLIC_ADDRESSES, "public_addresses", Counts 1..=GROWN;
    /// The meter of a public address, by its index. Written by the loader.
    PUBLIC_METERS: Array<u32, u32>, 0, capacity::PUBLIC_ADDRESSES, "public_addresses", Derived 1..=1;
    /// The meters of a port, by slot. Written by the loader, read for every frame of a guest.
    PORT_METERS: Array<u32, PortMeters>, 0, capacity::PORTS, "ports", Derived 1..=1;
    /// Limits, by meter and direction. Written by the loader.
    LIMITS: Array<u32, Limit>, 0, capacity::METERS, "meters", Derived 1..=1;
    /// What the limits have let pass, by meter and direction. Written by the data path.
    METERS: Array<u32, Meter>, 0, capacity::METERS, "meters", State 1..=1;
    /// What became of packets because of limits, by meter and direction. Written by the data path.
    METER_EVENTS: Array<u32, MeterEvents>, 0, capacity::METERS, "meters", Counts 1..=1;
    /// What a port has had of its aggregates of late, by slot. Written by the data path.
    SHARES: Array<u32, Shares>, 0, capacity::PORTS, "ports", State 1..=1;
    /// Refused packets. Written by every program.
    DROPS: PerCpuHash<DropKey, u64>, NO_PREALLOC, capacity::DROPS, "drops", Counts 1..=1;
    /// Gateways, by network index. Written by the loader, read for every routed packet.
    GATEWAYS: Array<u32, Gateway>, 0, capacity::NETWORKS, "networks", Kept 1..=1;
    /// What the data path counts for a gateway, by network index.
    GATEWAY_STATE: Array<u32, GatewayState>, 0, capacity::NETWORKS, "networks", State 1..=1;
    /// Connections, by direction. Written by the data path.
    FLOWS: Hash<FlowKey, Flow>, 0, capacity::FLOWS, "flows", State 1..=GROWN;
    /// What is known of a packet while a program runs, by `connection_row`. Written and read by the data path, within one packet.
    CONNECTION: PerCpuArray<u32, [u64; CONNECTION_WORDS]>, 0, connection_row::COUNT, "", Contract 1..=1;
    /// Endpoint-independent mappings, by their inside ends, and by their outside ends where strangers come in. Written by the data path.
    BINDINGS: Hash<BindingKey, Binding>, 0, capacity::BINDINGS, "bindings", State 1..=1;
    /// Ports given out: a bit each, by pool, protocol and block. Claimed by the data path.
    PORT_BLOCKS: Array<u32, u64>, 0, capacity::PORT_BLOCKS, "port_blocks", Claims 1..=1;
    /// First fragments of packets on their way. Written by the data path.
    FRAGMENTS: LruHash<FragmentKey, Fragment>, 0, capacity::FRAGMENTS, "fragments", State 1..=1;
    /// Rules of firewalls and ACLs. Written by the loader, read for the first packet of a connection.
    RULES: Array<u32, Rule>, 0, capacity::RULES, "rules", Derived 1..=1;
    /// Prefixes beyond a network. Written by the loader, read for the first packet of a connection.
    ROUTES: LpmTrie<TrieKey<RouteKey>, Route>, NO_PREALLOC, capacity::ROUTES, "routes", Derived 1..=1;
    /// Public addresses that live on this host. Written by the loader.
    PUBLIC_ADDRESS: Hash<PublicKey, PublicAddress>, 0, capacity::PUBLIC_ADDRESSES, "public_addresses", Derived 1..=1;
    /// Guests with a public address of their own. Written by the loader, read for the first packet of a connection.
    STATIC_NAT: Hash<StaticKey, StaticNat>, 0, capacity::PUBLIC_ADDRESSES, "public_addresses", Derived 1..=1;
    /// Public ports that lead to a guest, or are the host's. Written by the loader, read for the first packet of a connection.
    FORWARDS: LpmTrie<TrieKey<ForwardKey>, Forward>, NO_PREALLOC, capacity::FORWARDS, "forwards", Derived 1..=1;
    /// Public links, by index. Written by the loader.
    UPSTREAMS: Array<u32, Upstream>, 0, capacity::UPSTREAMS, "upstreams", Derived 1..=1;
    /// The MAC addresses of upstream routers, by public link. Written by the data path.
    UPSTREAM_MACS: Array<u32, Resolved>, 0, capacity::UPSTREAMS, "upstreams", State 1..=1;
    /// The MAC addresses of stations on public links. Written by the data path.
    ON_LINK: LruHash<PublicKey, Resolved>, 0, capacity::ON_LINK, "on_link", State 1..=1;
    /// The programs that a TC program hands packets on to, by `stage`. Written by the loader.
    STAGES: ProgramArray<u32, u32>, 0, stage::COUNT, "", Contract 1..=1;
    /// The programs that the XDP program hands packets on to, by `stage`. Written by the loader.
    STAGES_XDP: ProgramArray<u32, u32>, 0, stage::XDP_PROGRAMS.len(), "", Contract 1..=1;
    /// What of a packet the stack has no room for, while a program runs. Written and read by the programs for ICMP.
    SCRATCH: PerCpuArray<u32, [u64; super::SCRATCH_WORDS]>, 0, 1, "", Contract 1..=1;
    /// What happens, while somebody watches: an [`Event`] and a packet's first bytes. Written by the data path.
    EVENTS: Ring<(), ()>, 0, capacity::EVENTS, "", Passing 1..=1;
    /// Whether somebody watches, and what. Written by the watcher, read where something happens.
    WATCH: Array<u32, Watch>, 0, 1, "", Passing 1..=1;
    /// How much a watcher was told, and how much was kept from it. Written by the data path.
    WATCHED: PerCpuArray<u32, Watched>, 0, 1, "", Passing 1..=1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_names_fit_what_the_kernel_keeps() {
        for shape in ALL {
            assert!(shape.name.len() <= 15, "{}", shape.name);
        }
    }

    #[test]
    fn rows_that_are_added_to_are_words() {
        for shape in ALL.iter().filter(|shape| shape.role == Role::Counts) {
            assert_eq!(shape.value_size % 8, 0, "{}", shape.name);
        }
    }
}
