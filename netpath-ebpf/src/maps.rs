//! The maps, declared once; their shapes and meaning stand in `netpath_common::maps`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf},
    macros::btf_map,
};
use netpath_common::maps::{
    AddressKey, Binding, BindingKey, CONNECTION_WORDS, Counters, Destination, DropKey, Endpoint, EndpointKey, FdbKey,
    FloodKey, Flow, FlowKey, Forward, ForwardKey, Fragment, FragmentKey, Gateway, GatewayState, Learned, Limit, Meter,
    MeterEvents, NO_PREALLOC, Name, NameKey, Neighbour, NeighbourKey, Network, NextHop, Port, PortMeters,
    PublicAddress, PublicKey, Resolved, Route, RouteKey, Rule, SCRATCH_WORDS, Segment, SegmentKey, Shares, StaticKey,
    StaticNat, Tunnel, Uplink, UplinkKey, Upstream, Watch, Watched, capacity, connection_row, stage,
};

/// See [`netpath_common::maps::shape::PORTS`].
#[btf_map]
pub static PORTS: HashMap<u32, Port, { capacity::PORTS }> = HashMap::new();

/// See [`netpath_common::maps::shape::ADDRESSES`].
#[btf_map]
pub static ADDRESSES: HashMap<AddressKey, u32, { capacity::ADDRESSES }> = HashMap::new();

/// See [`netpath_common::maps::shape::NETWORKS`].
#[btf_map]
pub static NETWORKS: Array<Network, { capacity::NETWORKS }> = Array::new();

/// See [`netpath_common::maps::shape::UPLINKS`].
#[btf_map]
pub static UPLINKS: HashMap<UplinkKey, Uplink, { capacity::UPLINKS }> = HashMap::new();

/// See [`netpath_common::maps::shape::SEGMENTS`].
#[btf_map]
pub static SEGMENTS: HashMap<SegmentKey, Segment, { capacity::SEGMENTS }> = HashMap::new();

/// See [`netpath_common::maps::shape::ENDPOINTS`].
#[btf_map]
pub static ENDPOINTS: HashMap<EndpointKey, Endpoint, { capacity::ENDPOINTS }> = HashMap::new();

/// See [`netpath_common::maps::shape::FDB`].
#[btf_map]
pub static FDB: HashMap<FdbKey, Destination, { capacity::FDB }> = HashMap::new();

/// See [`netpath_common::maps::shape::LEARNED`].
#[btf_map]
pub static LEARNED: LruHashMap<FdbKey, Learned, { capacity::LEARNED }> = LruHashMap::new();

/// See [`netpath_common::maps::shape::NEIGHBOURS`].
#[btf_map]
pub static NEIGHBOURS: HashMap<NeighbourKey, Neighbour, { capacity::NEIGHBOURS }> = HashMap::new();

/// See [`netpath_common::maps::shape::TUNNELS`].
#[btf_map]
pub static TUNNELS: Array<Tunnel, { capacity::TUNNELS }> = Array::new();

/// See [`netpath_common::maps::shape::NEXT_HOPS`].
#[btf_map]
pub static NEXT_HOPS: PerCpuArray<NextHop, { capacity::TUNNELS }> = PerCpuArray::new();

/// See [`netpath_common::maps::shape::FLOODS`].
#[btf_map]
pub static FLOODS: HashMap<FloodKey, Destination, { capacity::FLOODS }> = HashMap::new();

/// See [`netpath_common::maps::shape::NAMES`].
#[btf_map]
pub static NAMES: HashMap<NameKey, Name, { capacity::NAMES }> = HashMap::new();

/// See [`netpath_common::maps::shape::COUNTERS`].
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, { capacity::PORTS }> = PerCpuArray::new();

/// See [`netpath_common::maps::shape::RETIRED`].
#[btf_map]
pub static RETIRED: Array<Counters, { capacity::NETWORKS }> = Array::new();

/// See [`netpath_common::maps::shape::RETIRED_ACCOUNT`].
#[btf_map]
pub static RETIRED_ACCOUNT: Array<Counters, { capacity::ACCOUNTS }> = Array::new();

/// See [`netpath_common::maps::shape::PUBLIC_COUNTERS`].
#[btf_map]
pub static PUBLIC_COUNTERS: PerCpuArray<Counters, { capacity::PUBLIC_ADDRESSES }> = PerCpuArray::new();

/// See [`netpath_common::maps::shape::PUBLIC_METERS`].
#[btf_map]
pub static PUBLIC_METERS: Array<u32, { capacity::PUBLIC_ADDRESSES }> = Array::new();

/// See [`netpath_common::maps::shape::PORT_METERS`].
#[btf_map]
pub static PORT_METERS: Array<PortMeters, { capacity::PORTS }> = Array::new();

/// See [`netpath_common::maps::shape::LIMITS`].
#[btf_map]
pub static LIMITS: Array<Limit, { capacity::METERS }> = Array::new();

/// See [`netpath_common::maps::shape::METERS`].
#[btf_map]
pub static METERS: Array<Meter, { capacity::METERS }> = Array::new();

/// See [`netpath_common::maps::shape::METER_EVENTS`].
#[btf_map]
pub static METER_EVENTS: Array<MeterEvents, { capacity::METERS }> = Array::new();

/// See [`netpath_common::maps::shape::SHARES`].
#[btf_map]
pub static SHARES: Array<Shares, { capacity::PORTS }> = Array::new();

/// See [`netpath_common::maps::shape::DROPS`].
#[btf_map]
pub static DROPS: PerCpuHashMap<DropKey, u64, { capacity::DROPS }, { NO_PREALLOC as usize }> = PerCpuHashMap::new();

/// See [`netpath_common::maps::shape::GATEWAYS`].
#[btf_map]
pub static GATEWAYS: Array<Gateway, { capacity::NETWORKS }> = Array::new();

/// See [`netpath_common::maps::shape::GATEWAY_STATE`].
#[btf_map]
pub static GATEWAY_STATE: Array<GatewayState, { capacity::NETWORKS }> = Array::new();

/// See [`netpath_common::maps::shape::FLOWS`].
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Flow, { capacity::FLOWS }> = HashMap::new();

/// See [`netpath_common::maps::shape::BINDINGS`].
#[btf_map]
pub static BINDINGS: HashMap<BindingKey, Binding, { capacity::BINDINGS }> = HashMap::new();

/// See [`netpath_common::maps::shape::PORT_BLOCKS`].
#[btf_map]
pub static PORT_BLOCKS: Array<u64, { capacity::PORT_BLOCKS }> = Array::new();

/// See [`netpath_common::maps::shape::FRAGMENTS`].
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Fragment, { capacity::FRAGMENTS }> = LruHashMap::new();

/// See [`netpath_common::maps::shape::RULES`].
#[btf_map]
pub static RULES: Array<Rule, { capacity::RULES }> = Array::new();

/// See [`netpath_common::maps::shape::ROUTES`].
#[btf_map]
pub static ROUTES: LpmTrie<RouteKey, Route, { capacity::ROUTES }> = LpmTrie::new();

/// See [`netpath_common::maps::shape::PUBLIC_ADDRESS`].
#[btf_map]
pub static PUBLIC_ADDRESS: HashMap<PublicKey, PublicAddress, { capacity::PUBLIC_ADDRESSES }> = HashMap::new();

/// See [`netpath_common::maps::shape::STATIC_NAT`].
#[btf_map]
pub static STATIC_NAT: HashMap<StaticKey, StaticNat, { capacity::PUBLIC_ADDRESSES }> = HashMap::new();

/// See [`netpath_common::maps::shape::FORWARDS`].
#[btf_map]
pub static FORWARDS: LpmTrie<ForwardKey, Forward, { capacity::FORWARDS }> = LpmTrie::new();

/// See [`netpath_common::maps::shape::UPSTREAMS`].
#[btf_map]
pub static UPSTREAMS: Array<Upstream, { capacity::UPSTREAMS }> = Array::new();

/// See [`netpath_common::maps::shape::UPSTREAM_MACS`].
#[btf_map]
pub static UPSTREAM_MACS: Array<Resolved, { capacity::UPSTREAMS }> = Array::new();

/// See [`netpath_common::maps::shape::ON_LINK`].
#[btf_map]
pub static ON_LINK: LruHashMap<PublicKey, Resolved, { capacity::ON_LINK }> = LruHashMap::new();

/// See [`netpath_common::maps::shape::STAGES`].
#[btf_map]
pub static STAGES: ProgramArray<{ stage::COUNT }> = ProgramArray::new();

/// See [`netpath_common::maps::shape::STAGES_XDP`].
#[btf_map]
pub static STAGES_XDP: ProgramArray<{ stage::XDP_PROGRAMS.len() }> = ProgramArray::new();

/// See [`netpath_common::maps::shape::CONNECTION`].
#[btf_map]
pub static CONNECTION: PerCpuArray<[u64; CONNECTION_WORDS], { connection_row::COUNT }> = PerCpuArray::new();

/// See [`netpath_common::maps::shape::SCRATCH`].
#[btf_map]
pub static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], 1> = PerCpuArray::new();

/// See [`netpath_common::maps::shape::EVENTS`].
#[btf_map]
pub static EVENTS: RingBuf<(), { capacity::EVENTS }> = RingBuf::new();

/// See [`netpath_common::maps::shape::WATCH`].
#[btf_map]
pub static WATCH: Array<Watch, 1> = Array::new();

/// See [`netpath_common::maps::shape::WATCHED`].
#[btf_map]
pub static WATCHED: PerCpuArray<Watched, 1> = PerCpuArray::new();
