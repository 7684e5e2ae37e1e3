//! The maps, declared once; their shapes and meaning stand in `netpath_common::maps`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap},
    macros::btf_map,
};
use netpath_common::maps::{
    AddressKey, Counters, Destination, DropKey, Endpoint, EndpointKey, FdbKey, FloodKey, Learned, NO_PREALLOC, Name,
    NameKey, Neighbour, NeighbourKey, Network, NextHop, Port, Segment, SegmentKey, Tunnel, Uplink, UplinkKey, capacity,
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

/// See [`netpath_common::maps::shape::DROPS`].
#[btf_map]
pub static DROPS: PerCpuHashMap<DropKey, u64, { capacity::DROPS }, { NO_PREALLOC as usize }> = PerCpuHashMap::new();
