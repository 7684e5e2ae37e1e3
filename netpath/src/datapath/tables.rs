//! The pinned maps as typed tables.
//!
//! One pass over a map reads all of it; the loader is the only writer of the tables it
//! reconciles, and holds the root's lock while it does.

mod batch;

use std::ops::ControlFlow;

use aya::{
    Pod,
    maps::{self as aya_maps, Map, MapData, MapError, PerCpuValues, lpm_trie},
};
use netpath_common::maps::{
    self, AddressKey, Binding, BindingKey, Counters, Destination, DropKey, Endpoint, EndpointKey, FdbKey, FloodKey,
    Flow, FlowKey, Forward, ForwardKey, Fragment, FragmentKey, Gateway, GatewayState, Learned, Limit, MapShape, Meter,
    MeterEvents, Name, NameKey, Neighbour, NeighbourKey, Network, NextHop, Port, PortMeters, PublicAddress, PublicKey,
    Resolved, Route, RouteKey, Rule, Segment, SegmentKey, Shares, StaticKey, StaticNat, Tunnel, Uplink, UplinkKey,
    Upstream, Watch, Watched, shape,
};

pub use self::batch::Place;
use super::{DatapathError, Root, error::errno};

/// A hash of the loader's, or the data path's LRU hash.
pub struct HashTable<K: Pod, V: Pod> {
    shape: &'static MapShape,
    map: aya_maps::HashMap<MapData, K, V>,
}

/// An array.
pub struct ArrayTable<V: Pod> {
    shape: &'static MapShape,
    map: aya_maps::Array<MapData, V>,
}

/// How many bits of the key count, the key, the value.
pub type TrieRow<K, V> = ((u32, K), V);

/// A trie: the rows of the longest prefix that matches count.
pub struct TrieTable<K: Pod, V: Pod> {
    shape: &'static MapShape,
    map: aya_maps::LpmTrie<MapData, K, V>,
}

/// An array with a value per CPU.
pub struct PerCpuArrayTable<V: Pod> {
    shape: &'static MapShape,
    map: aya_maps::PerCpuArray<MapData, V>,
}

/// A hash with a value per CPU.
pub struct PerCpuHashTable<K: Pod, V: Pod> {
    shape: &'static MapShape,
    map: aya_maps::PerCpuHashMap<MapData, K, V>,
}

/// Where a map is to be had.
type Maps<'m> = &'m dyn Fn(&'static MapShape) -> Result<MapData, DatapathError>;

/// Every table, open.
#[expect(missing_docs, reason = "each is the map of its name, described in netpath_common::maps::shape")]
pub struct Tables {
    pub ports: HashTable<u32, Port>,
    pub addresses: HashTable<AddressKey, u32>,
    pub networks: ArrayTable<Network>,
    pub uplinks: HashTable<UplinkKey, Uplink>,
    pub segments: HashTable<SegmentKey, Segment>,
    pub endpoints: HashTable<EndpointKey, Endpoint>,
    pub fdb: HashTable<FdbKey, Destination>,
    pub learned: HashTable<FdbKey, Learned>,
    pub neighbours: HashTable<NeighbourKey, Neighbour>,
    pub tunnels: ArrayTable<Tunnel>,
    pub next_hops: PerCpuArrayTable<NextHop>,
    pub floods: HashTable<FloodKey, Destination>,
    pub names: HashTable<NameKey, Name>,
    pub counters: PerCpuArrayTable<Counters>,
    pub retired: ArrayTable<Counters>,
    pub retired_account: ArrayTable<Counters>,
    pub public_counters: PerCpuArrayTable<Counters>,
    pub public_meters: ArrayTable<u32>,
    pub port_meters: ArrayTable<PortMeters>,
    pub limits: ArrayTable<Limit>,
    pub meters: ArrayTable<Meter>,
    pub meter_events: ArrayTable<MeterEvents>,
    pub shares: ArrayTable<Shares>,
    pub drops: PerCpuHashTable<DropKey, u64>,
    pub gateways: ArrayTable<Gateway>,
    pub gateway_state: ArrayTable<GatewayState>,
    pub flows: HashTable<FlowKey, Flow>,
    pub bindings: HashTable<BindingKey, Binding>,
    pub port_blocks: ArrayTable<u64>,
    pub fragments: HashTable<FragmentKey, Fragment>,
    pub rules: ArrayTable<Rule>,
    pub routes: TrieTable<RouteKey, Route>,
    pub public_address: HashTable<PublicKey, PublicAddress>,
    pub static_nat: HashTable<StaticKey, StaticNat>,
    pub forwards: TrieTable<ForwardKey, Forward>,
    pub upstreams: ArrayTable<Upstream>,
    pub upstream_macs: ArrayTable<Resolved>,
    pub on_link: HashTable<PublicKey, Resolved>,
    pub watch: ArrayTable<Watch>,
    pub watched: PerCpuArrayTable<Watched>,
}

impl Tables {
    /// Opens every pinned map, after their layouts were compared.
    ///
    /// # Errors
    /// [`DatapathError::NothingApplied`] and [`DatapathError::MapLayout`] as [`super::check_layouts`].
    pub fn open(root: &Root) -> Result<Self, DatapathError> {
        super::check_layouts(root)?;
        Self::of(&|shape| MapData::from_pin(root.map(shape.name)).map_err(|e| failed("open", shape, e)))
    }

    /// Takes maps whose layouts were compared from wherever they are.
    pub(super) fn of(maps: Maps<'_>) -> Result<Self, DatapathError> {
        Ok(Self {
            ports: HashTable::open(maps, &shape::PORTS)?,
            addresses: HashTable::open(maps, &shape::ADDRESSES)?,
            networks: ArrayTable::open(maps, &shape::NETWORKS)?,
            uplinks: HashTable::open(maps, &shape::UPLINKS)?,
            segments: HashTable::open(maps, &shape::SEGMENTS)?,
            endpoints: HashTable::open(maps, &shape::ENDPOINTS)?,
            fdb: HashTable::open(maps, &shape::FDB)?,
            learned: HashTable::open(maps, &shape::LEARNED)?,
            neighbours: HashTable::open(maps, &shape::NEIGHBOURS)?,
            tunnels: ArrayTable::open(maps, &shape::TUNNELS)?,
            next_hops: PerCpuArrayTable::open(maps, &shape::NEXT_HOPS)?,
            floods: HashTable::open(maps, &shape::FLOODS)?,
            names: HashTable::open(maps, &shape::NAMES)?,
            counters: PerCpuArrayTable::open(maps, &shape::COUNTERS)?,
            retired: ArrayTable::open(maps, &shape::RETIRED)?,
            retired_account: ArrayTable::open(maps, &shape::RETIRED_ACCOUNT)?,
            public_counters: PerCpuArrayTable::open(maps, &shape::PUBLIC_COUNTERS)?,
            public_meters: ArrayTable::open(maps, &shape::PUBLIC_METERS)?,
            port_meters: ArrayTable::open(maps, &shape::PORT_METERS)?,
            limits: ArrayTable::open(maps, &shape::LIMITS)?,
            meters: ArrayTable::open(maps, &shape::METERS)?,
            meter_events: ArrayTable::open(maps, &shape::METER_EVENTS)?,
            shares: ArrayTable::open(maps, &shape::SHARES)?,
            drops: PerCpuHashTable::open(maps, &shape::DROPS)?,
            gateways: ArrayTable::open(maps, &shape::GATEWAYS)?,
            gateway_state: ArrayTable::open(maps, &shape::GATEWAY_STATE)?,
            flows: HashTable::open(maps, &shape::FLOWS)?,
            bindings: HashTable::open(maps, &shape::BINDINGS)?,
            port_blocks: ArrayTable::open(maps, &shape::PORT_BLOCKS)?,
            fragments: HashTable::open(maps, &shape::FRAGMENTS)?,
            rules: ArrayTable::open(maps, &shape::RULES)?,
            routes: TrieTable::open(maps, &shape::ROUTES)?,
            public_address: HashTable::open(maps, &shape::PUBLIC_ADDRESS)?,
            static_nat: HashTable::open(maps, &shape::STATIC_NAT)?,
            forwards: TrieTable::open(maps, &shape::FORWARDS)?,
            upstreams: ArrayTable::open(maps, &shape::UPSTREAMS)?,
            upstream_macs: ArrayTable::open(maps, &shape::UPSTREAM_MACS)?,
            on_link: HashTable::open(maps, &shape::ON_LINK)?,
            watch: ArrayTable::open(maps, &shape::WATCH)?,
            watched: PerCpuArrayTable::open(maps, &shape::WATCHED)?,
        })
    }
}

impl<K: Pod, V: Pod> HashTable<K, V> {
    fn open(maps: Maps<'_>, shape: &'static MapShape) -> Result<Self, DatapathError> {
        let map = found_map(maps, shape)?.try_into().map_err(|e| failed("open", shape, e))?;
        Ok(Self { shape, map })
    }

    /// Every row, in the kernel's order.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rows(&self) -> Result<Vec<(K, V)>, DatapathError> {
        let mut rows = Vec::new();
        self.visit(|key, value| {
            rows.push((*key, *value));
            Ok::<_, DatapathError>(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// One row.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        found(self.map.get(key, 0), self.shape)
    }

    /// Writes a row, new or not.
    ///
    /// # Errors
    /// [`DatapathError::MapFull`] when there is no room for it.
    pub fn put(&mut self, key: &K, value: &V) -> Result<(), DatapathError> {
        self.map.insert(key, value, 0).map_err(|e| refused_row(self.shape, capacity_of(&self.map), e))
    }

    /// Removes a row; one that is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, key: &K) -> Result<(), DatapathError> {
        self.take(key).map(drop)
    }

    /// Removes a row; `false` where somebody else has.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&mut self, key: &K) -> Result<bool, DatapathError> {
        Ok(found(self.map.remove(key), self.shape)?.is_some())
    }

    /// How many rows there is room for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn capacity(&self) -> Result<u32, DatapathError> {
        Ok(capacity_of(&self.map).unwrap_or(self.shape.capacity))
    }
}

impl<V: Pod> ArrayTable<V> {
    fn open(maps: Maps<'_>, shape: &'static MapShape) -> Result<Self, DatapathError> {
        let map = found_map(maps, shape)?.try_into().map_err(|e| failed("open", shape, e))?;
        Ok(Self { shape, map })
    }

    /// Every row, by index; rows that were never written are all zero.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rows(&self) -> Result<Vec<V>, DatapathError> {
        let mut rows = Vec::with_capacity(self.map.len() as usize);
        self.visit(|_, value| rows.push(*value))?;
        Ok(rows)
    }

    /// One row; `None` beyond the capacity.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, index: u32) -> Result<Option<V>, DatapathError> {
        found(self.map.get(&index, 0), self.shape)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`DatapathError::MapFull`] beyond the capacity.
    pub fn put(&mut self, index: u32, value: &V) -> Result<(), DatapathError> {
        let capacity = Some(self.map.len());
        self.map.set(index, value, 0).map_err(|e| refused_row(self.shape, capacity, e))
    }

    /// How many rows there are.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.map.len()
    }
}

impl<K: Pod, V: Pod> TrieTable<K, V> {
    fn open(maps: Maps<'_>, shape: &'static MapShape) -> Result<Self, DatapathError> {
        let map = found_map(maps, shape)?.try_into().map_err(|e| failed("open", shape, e))?;
        Ok(Self { shape, map })
    }

    /// Every row: how many bits of its key count, the key, the value.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rows(&self) -> Result<Vec<TrieRow<K, V>>, DatapathError> {
        let rows = self.map.iter().map(|row| row.map(|(key, value)| ((key.prefix_len(), key.data()), value)));
        rows.collect::<Result<_, _>>().map_err(|e| failed("read", self.shape, e))
    }

    /// Writes a row, new or not. Bits of the key beyond those that count are zero.
    ///
    /// # Errors
    /// [`DatapathError::MapFull`] when there is no room for it.
    pub fn put(&mut self, (bits, data): &(u32, K), value: &V) -> Result<(), DatapathError> {
        let key = lpm_trie::Key::new(*bits, *data);
        self.map.insert(&key, value, 0).map_err(|e| refused_trie_row(self.shape, capacity_of(&self.map), e))
    }

    /// Removes a row; one that is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, (bits, data): &(u32, K)) -> Result<(), DatapathError> {
        found(self.map.remove(&lpm_trie::Key::new(*bits, *data)), self.shape).map(drop)
    }

    /// How many rows there is room for.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        capacity_of(&self.map).unwrap_or(self.shape.capacity)
    }
}

impl<V: Pod + Default> PerCpuArrayTable<V> {
    fn open(maps: Maps<'_>, shape: &'static MapShape) -> Result<Self, DatapathError> {
        let map = found_map(maps, shape)?.try_into().map_err(|e| failed("open", shape, e))?;
        Ok(Self { shape, map })
    }

    /// The values of one row, by CPU; `None` beyond the capacity.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, index: u32) -> Result<Option<Vec<V>>, DatapathError> {
        let values = found(self.map.get(&index, 0), self.shape)?;
        Ok(values.map(|values| values.iter().copied().collect()))
    }

    /// Zeroes one row on every CPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear(&mut self, index: u32) -> Result<(), DatapathError> {
        let zeros = vec![V::default(); super::cpus()? as usize];
        let zeros = PerCpuValues::try_from(zeros).map_err(|e| failed("clear", self.shape, e))?;
        self.map.set(index, zeros, 0).map_err(|e| failed("clear", self.shape, e))
    }

    /// How many rows there are.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.map.len()
    }
}

impl PerCpuArrayTable<Counters> {
    /// The counters of one row, over all CPUs; zero beyond the capacity.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sum(&self, index: u32) -> Result<Counters, DatapathError> {
        Ok(self.get(index)?.unwrap_or_default().iter().fold(Counters::default(), |sum, next| add(&sum, next)))
    }
}

impl<K: Pod> PerCpuHashTable<K, u64> {
    fn open(maps: Maps<'_>, shape: &'static MapShape) -> Result<Self, DatapathError> {
        let map = found_map(maps, shape)?.try_into().map_err(|e| failed("open", shape, e))?;
        Ok(Self { shape, map })
    }

    /// Every row, over all CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rows(&self) -> Result<Vec<(K, u64)>, DatapathError> {
        Ok(self.rows_by_cpu()?.into_iter().map(|(key, values)| (key, values.iter().sum())).collect())
    }

    /// Removes a row; one that is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, key: &K) -> Result<(), DatapathError> {
        found(self.map.remove(key), self.shape).map(drop)
    }
}

/// The sum of two rows of counters.
#[must_use]
pub fn add(a: &Counters, b: &Counters) -> Counters {
    let mut sum = *a;
    sum.from_guest_packets = sum.from_guest_packets.wrapping_add(b.from_guest_packets);
    sum.from_guest_bytes = sum.from_guest_bytes.wrapping_add(b.from_guest_bytes);
    sum.to_guest_packets = sum.to_guest_packets.wrapping_add(b.to_guest_packets);
    sum.to_guest_bytes = sum.to_guest_bytes.wrapping_add(b.to_guest_bytes);
    sum
}

/// The text of a name.
#[must_use]
pub fn name_text(name: &Name) -> String {
    let end = name.0.iter().position(|byte| *byte == 0).unwrap_or(name.0.len());
    String::from_utf8_lossy(&name.0[..end]).into_owned()
}

/// The row of a name; what does not fit is cut off at a character's end.
#[must_use]
pub fn name_row(text: &str) -> Name {
    let mut end = text.len().min(size_of::<Name>());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut row = Name([0; 128]);
    row.0[..end].copy_from_slice(&text.as_bytes()[..end]);
    row
}

/// The name of the host that was applied, where one was.
///
/// # Errors
/// When the kernel refuses.
pub fn applied_host(tables: &Tables) -> Result<Option<String>, DatapathError> {
    let key = NameKey { kind: maps::name_kind::HOST, index: 0 };
    Ok(tables.names.get(&key)?.as_ref().map(name_text))
}

/// The rows of UPLINKS where its pin is there, whatever else is lost; its layout was compared with this build's.
///
/// # Errors
/// When the kernel refuses.
pub fn pinned_uplinks(root: &Root) -> Result<Vec<(UplinkKey, Uplink)>, DatapathError> {
    let path = root.map(shape::UPLINKS.name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let open = |shape: &'static MapShape| MapData::from_pin(&path).map_err(|e| failed("open", shape, e));
    HashTable::<UplinkKey, Uplink>::open(&open, &shape::UPLINKS)?.rows()
}

fn found_map(maps: Maps<'_>, shape: &'static MapShape) -> Result<Map, DatapathError> {
    Map::from_map_data(maps(shape)?).map_err(|e| failed("open", shape, e))
}

fn capacity_of<K: Pod, V>(map: &impl aya_maps::IterableMap<K, V>) -> Option<u32> {
    map.map().info().ok().map(|info| info.max_entries())
}

fn failed(verb: &str, shape: &MapShape, error: impl std::error::Error + Send + Sync + 'static) -> DatapathError {
    DatapathError::failed(format!("{verb} map {}", shape.name), error)
}

/// `None` for a row that is not there.
fn found<T>(result: Result<T, MapError>, shape: &MapShape) -> Result<Option<T>, DatapathError> {
    match result {
        Ok(row) => Ok(Some(row)),
        Err(MapError::KeyNotFound | MapError::ElementNotFound | MapError::OutOfBounds { .. }) => Ok(None),
        Err(error) if errno(&error) == Some(rustix::io::Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(failed("use", shape, error)),
    }
}

fn refused_row(shape: &'static MapShape, capacity: Option<u32>, error: MapError) -> DatapathError {
    let is_full = matches!(error, MapError::OutOfBounds { .. })
        || errno(&error) == Some(rustix::io::Errno::TOOBIG.raw_os_error());
    if !is_full {
        return failed("write", shape, error);
    }
    let capacity = capacity.unwrap_or(shape.capacity);
    DatapathError::MapFull { name: shape.name, capacity, field: shape.capacity_field }
}

/// A full trie says that there is no space (`trie_update_elem`, kernel/bpf/lpm_trie.c), where a hash says too big.
fn refused_trie_row(shape: &'static MapShape, capacity: Option<u32>, error: MapError) -> DatapathError {
    if errno(&error) == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
        let capacity = capacity.unwrap_or(shape.capacity);
        return DatapathError::MapFull { name: shape.name, capacity, field: shape.capacity_field };
    }
    failed("write", shape, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_a_long_one_is_cut_at_a_character() {
        assert_eq!(name_text(&name_row("acme-web/web-1/02:00:0a:01:01:0b")), "acme-web/web-1/02:00:0a:01:01:0b");
        let long = "ä".repeat(100);
        assert_eq!(name_text(&name_row(&long)), "ä".repeat(64));
        let odd = format!("x{long}");
        assert_eq!(name_text(&name_row(&odd)), format!("x{}", "ä".repeat(63)));
    }
}
