//! Watches what the data path tells.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use netpath_common::maps::{Event, Watch, Watched};

use super::Rig;

/// Somebody who watches for an hour, and wants everything.
pub const WATCHER: Watch = Watch {
    until_ns: u64::MAX,
    kinds: u32::MAX,
    network: 0,
    reason: 0,
    ifindex: 0,
    rate: 1000,
    bytes: 128,
    process: 1,
    pad: 0,
};

/// Only these kinds of `event_kind`.
pub fn only(kinds: &[u8]) -> Watch {
    Watch { kinds: kinds.iter().fold(0, |bits, kind| bits | 1 << kind), ..WATCHER }
}

impl Rig {
    /// Begins to watch, and forgets what was told before.
    pub fn watch(&mut self, watch: Watch) {
        self.array("WATCH", 0, watch);
        let mut told: PerCpuArray<&mut MapData, Watched> =
            PerCpuArray::try_from(self.bpf.map_mut("WATCHED").unwrap()).unwrap();
        let zeros = told.get(&0, 0).unwrap().iter().map(|_| Watched::default()).collect::<Vec<_>>();
        told.set(0, zeros.try_into().unwrap(), 0).unwrap();
        self.told();
    }

    /// What was told since the last time, with the packets' first bytes.
    pub fn told(&mut self) -> Vec<(Event, Vec<u8>)> {
        let mut ring = RingBuf::try_from(self.bpf.map_mut("EVENTS").unwrap()).unwrap();
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            let (event, bytes) = record.split_at(size_of::<Event>());
            let event: Event = bytemuck::pod_read_unaligned(event);
            events.push((event, bytes[..(event.kept as usize).min(bytes.len())].to_vec()));
        }
        events
    }

    /// How much was kept from the watcher, over all CPUs: because it was too much, because it was too slow.
    pub fn untold(&self) -> (u64, u64) {
        let told: PerCpuArray<&MapData, Watched> = PerCpuArray::try_from(self.bpf.map("WATCHED").unwrap()).unwrap();
        let rows = told.get(&0, 0).unwrap();
        (rows.iter().map(|row| row.suppressed).sum(), rows.iter().map(|row| row.lost).sum())
    }
}
