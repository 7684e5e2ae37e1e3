//! Reads and writes rows of the rig's maps.

use std::{collections::BTreeMap, fmt::Debug};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuHashMap, lpm_trie::Key},
};
use netpath_common::{
    DropReason,
    maps::{Counters, DropKey},
};

use super::{Rig, run::sum};

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

    /// Every row of COUNTERS that a station here may have, over all CPUs.
    pub fn counters(&self) -> BTreeMap<u32, Counters> {
        let map: PerCpuArray<&MapData, Counters> = PerCpuArray::try_from(self.bpf.map("COUNTERS").unwrap()).unwrap();
        (0..600).map(|slot| (slot, map.get(&slot, 0).unwrap().iter().fold(Counters::default(), sum))).collect()
    }
}
