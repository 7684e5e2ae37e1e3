//! Reads and writes rows of the rig's maps.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, lpm_trie::Key},
    util::nr_cpus,
};
use netpath_common::{
    DropReason,
    maps::{Counters, DropKey},
};

use super::{Rig, run::sum};

/// `BPF_MAP_LOOKUP_BATCH` (Linux 5.6; of arrays with a value per CPU 5.14).
const LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` that names a batch.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    flags: [u64; 2],
}

/// The first rows of an array, of `each` values, in one call. aya has one for a row, and asks how many processors there are for
/// each: where the processor is emulated, that was most of a test's time.
fn first_rows<V: Pod>(map: &Map, rows: usize, each: usize) -> Vec<V> {
    let (Map::Array(map) | Map::PerCpuArray(map)) = map else { panic!("no array") };
    let (mut to, mut keys, mut values) = (0u32, vec![0u32; rows], Vec::<V>::with_capacity(rows * each));
    let mut attr = Batch {
        from: 0,
        to: &raw mut to as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: rows as u32,
        map: map.fd().as_fd().as_raw_fd() as u32,
        flags: [0; 2],
    };
    assert!(each == 1 || size_of::<V>().is_multiple_of(8), "the kernel fills a CPU's value up to words");
    // SAFETY: keys and values have room for so many rows, and outlive the call as the attributes do.
    let read = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attr, size_of::<Batch>()) };
    assert_eq!((read, attr.count as usize), (0, rows), "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has written every value, and any bytes are one (`Pod`).
    unsafe { values.set_len(rows * each) };
    values
}

impl Rig {
    /// Writes a row of a hash.
    pub fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, K, V> = HashMap::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.insert(key, value, 0).unwrap();
    }

    /// Reads a row of a hash.
    pub fn get<K: Pod, V: Pod>(&self, map: &str, key: K) -> Option<V> {
        let map: HashMap<&MapData, K, V> = HashMap::try_from(self.bpf.map(map).unwrap()).unwrap();
        map.get(&key, 0).ok()
    }

    /// Removes a row of a hash.
    pub fn remove<K: Pod, V: Pod>(&mut self, map: &str, key: K) {
        let mut map: HashMap<&mut MapData, K, V> = HashMap::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.remove(&key).unwrap();
    }

    /// Writes a row of an array.
    pub fn array<V: Pod>(&mut self, map: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, V> = Array::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.set(index, value, 0).unwrap();
    }

    /// Changes a row of an array.
    pub fn change<V: Pod>(&mut self, map: &str, index: u32, change: impl FnOnce(&mut V)) {
        let mut map: Array<&mut MapData, V> = Array::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        let mut row = map.get(&index, 0).unwrap();
        change(&mut row);
        map.set(index, row, 0).unwrap();
    }

    /// Every row of a hash.
    pub fn rows<K: Pod + Ord, V: Pod>(&self, map: &str) -> BTreeMap<K, V> {
        let map: HashMap<&MapData, K, V> = HashMap::try_from(self.bpf.map(map).unwrap()).unwrap();
        map.iter().map(|row| row.unwrap()).collect()
    }

    /// Changes every row of a hash.
    pub fn change_each<K: Pod + Ord, V: Pod>(&mut self, map: &str, change: impl Fn(&mut V)) {
        for (key, mut value) in self.rows::<K, V>(map) {
            change(&mut value);
            self.put(map, key, value);
        }
    }

    /// Removes every row of a hash.
    pub fn clear<K: Pod + Ord + Debug, V: Pod>(&mut self, map: &str) {
        for key in self.rows::<K, V>(map).into_keys() {
            self.remove::<K, V>(map, key);
        }
    }

    /// Writes a row of a trie.
    pub fn put_prefix<K: Pod, V: Pod>(&mut self, map: &str, bits: u32, key: K, value: V) {
        let mut map: LpmTrie<&mut MapData, K, V> = LpmTrie::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        map.insert(&Key::new(bits, key), value, 0).unwrap();
    }

    /// Removes every row of a trie.
    pub fn clear_prefixes<K: Pod, V: Pod>(&mut self, map: &str) {
        let mut map: LpmTrie<&mut MapData, K, V> = LpmTrie::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        let keys: Vec<_> = map.keys().map(|key| key.unwrap()).collect();
        for key in keys {
            map.remove(&key).unwrap();
        }
    }

    /// Reads a row of an array.
    pub fn read<V: Pod>(&self, map: &str, index: u32) -> V {
        let map: Array<&MapData, V> = Array::try_from(self.bpf.map(map).unwrap()).unwrap();
        map.get(&index, 0).unwrap()
    }

    pub fn drops(&self) -> BTreeMap<(u32, DropReason), u64> {
        let map: PerCpuHashMap<&MapData, DropKey, u64> =
            PerCpuHashMap::try_from(self.bpf.map("DROPS").unwrap()).unwrap();
        map.iter()
            .map(|row| row.unwrap())
            .map(|(key, cpus)| ((key.network, DropReason::from_code(key.reason).unwrap()), cpus.iter().sum()))
            .collect()
    }

    /// What was counted for a public address, over all CPUs.
    pub fn public_counters(&self, address: u16) -> Counters {
        let map: PerCpuArray<&MapData, Counters> =
            PerCpuArray::try_from(self.bpf.map("PUBLIC_COUNTERS").unwrap()).unwrap();
        map.get(&u32::from(address), 0).unwrap().iter().fold(Counters::default(), sum)
    }

    /// Makes them nothing.
    pub fn reset_public_counters(&mut self, address: u16) {
        let mut map: PerCpuArray<&mut MapData, Counters> =
            PerCpuArray::try_from(self.bpf.map_mut("PUBLIC_COUNTERS").unwrap()).unwrap();
        let none = PerCpuValues::try_from(vec![Counters::default(); nr_cpus().unwrap()]).unwrap();
        map.set(u32::from(address), none, 0).unwrap();
    }

    /// Every row of COUNTERS that a station here may have, over all CPUs.
    pub fn counters(&self) -> BTreeMap<u32, Counters> {
        const SLOTS: usize = 600;
        let cpus = nr_cpus().unwrap();
        let values = first_rows::<Counters>(self.bpf.map("COUNTERS").unwrap(), SLOTS, cpus);
        (0..).zip(values.chunks(cpus)).map(|(slot, row)| (slot, row.iter().fold(Counters::default(), sum))).collect()
    }

    /// The first rows of an array.
    pub fn first<V: Pod>(&self, map: &str, rows: usize) -> Vec<V> {
        first_rows(self.bpf.map(map).unwrap(), rows, 1)
    }
}
