//! Reading tables that may be large, a few thousand rows at a time.

use std::ops::ControlFlow;

use aya::{Pod, maps::IterableMap as _};
use netpath_common::maps::Counters;

use super::{ArrayTable, HashTable, PerCpuArrayTable, PerCpuHashTable, add, failed};
use crate::datapath::{DatapathError, cpus, syscall::Batches};

/// Rows of maps with a value for each processor that are asked for at a time.
const PER_CPU_ROOM: usize = 512;

/// Where a walk over a table has come to that goes on later.
#[derive(Debug, Default)]
pub struct Place {
    position: Option<u32>,
}

impl<K: Pod, V: Pod> HashTable<K, V> {
    /// Calls `visit` with some `count` of the rows from `place` on, and notes where the next ones are; `false` when those were
    /// the last. Rows that come or go meanwhile may or may not be among them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn visit_some(
        &self,
        place: &mut Place,
        count: usize,
        mut visit: impl FnMut(&K, &V),
    ) -> Result<bool, DatapathError> {
        let mut batches = Batches::<K, V>::from(self.map.map(), place.position, count);
        let rows = batches.next().map_err(|e| failed("read", self.shape, e))?;
        if let Some((keys, values)) = rows {
            keys.iter().zip(values).for_each(|(key, value)| visit(key, value));
        }
        place.position = batches.position();
        Ok(place.position.is_some())
    }

    /// Calls `visit` with each row, in the kernel's order, until it says to stop. Rows that come or go meanwhile may or may
    /// not be among them.
    ///
    /// # Errors
    /// When the kernel refuses, or `visit` fails.
    pub fn visit<E: From<DatapathError>>(
        &self,
        mut visit: impl FnMut(&K, &V) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut batches = Batches::<K, V>::of(self.map.map());
        while let Some((keys, values)) = batches.next().map_err(|e| failed("read", self.shape, e))? {
            for (key, value) in keys.iter().zip(values) {
                if visit(key, value)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl<V: Pod> ArrayTable<V> {
    /// The first `count` rows, or all where there are fewer; rows that were never written are all zero.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn first_rows(&self, count: usize) -> Result<Vec<V>, DatapathError> {
        const ROOM: usize = 4096;
        let mut rows = Vec::with_capacity(count);
        let mut batches = Batches::<u32, V>::from(self.map.map(), None, count.clamp(1, ROOM));
        while rows.len() < count
            && let Some((_, values)) = batches.next().map_err(|e| failed("read", self.shape, e))?
        {
            rows.extend(values.iter().take(count - rows.len()));
        }
        Ok(rows)
    }

    /// Calls `visit` with each row and its index, those that were never written too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn visit(&self, mut visit: impl FnMut(u32, &V)) -> Result<(), DatapathError> {
        let mut batches = Batches::<u32, V>::of(self.map.map());
        while let Some((indices, values)) = batches.next().map_err(|e| failed("read", self.shape, e))? {
            indices.iter().zip(values).for_each(|(index, value)| visit(*index, value));
        }
        Ok(())
    }
}

impl PerCpuArrayTable<Counters> {
    /// The counters of the first `count` rows, over all CPUs, or of all where there are fewer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn first_sums(&self, count: usize) -> Result<Vec<Counters>, DatapathError> {
        let cpus = cpus()? as usize;
        let mut sums = Vec::with_capacity(count);
        let mut batches = Batches::<u32, Counters>::per_cpu(self.map.map(), count.clamp(1, PER_CPU_ROOM), cpus);
        while sums.len() < count
            && let Some((_, values)) = batches.next().map_err(|e| failed("read", self.shape, e))?
        {
            let rows = values.chunks_exact(cpus).take(count - sums.len());
            sums.extend(rows.map(|row| row.iter().fold(Counters::default(), |sum, next| add(&sum, next))));
        }
        Ok(sums)
    }
}

impl<K: Pod> PerCpuHashTable<K, u64> {
    /// Every row, with its value on each CPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rows_by_cpu(&self) -> Result<Vec<(K, Vec<u64>)>, DatapathError> {
        let cpus = cpus()? as usize;
        let mut rows = Vec::new();
        let mut batches = Batches::<K, u64>::per_cpu(self.map.map(), PER_CPU_ROOM, cpus);
        while let Some((keys, values)) = batches.next().map_err(|e| failed("read", self.shape, e))? {
            rows.extend(keys.iter().copied().zip(values.chunks_exact(cpus).map(<[u64]>::to_vec)));
        }
        Ok(rows)
    }
}
