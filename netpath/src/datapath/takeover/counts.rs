//! Counters of another ABI's programs, which go on counting until they are replaced.
//!
//! ```text
//! old 1000 ──copied──► new 1000, copied 1000        before any program changes
//! old 1200              new 1300                     both have counted: 200 and 300
//! old 1200 ─ copied ──► + 200 by the data path       no old program runs any more
//!              └──► copied 1200                      once more would add nothing
//! ```

use std::{io, path::PathBuf};

use aya::maps::MapData;
use netpath_common::{
    carry::{ROWS_MAX, Row, WORDS},
    maps::{MapKind, MapShape},
};

use super::{
    super::{
        DatapathError, FoundShape, Root,
        carry::Carrier,
        check::cpus,
        syscall::{self, Put, Sizes},
    },
    open,
};

/// A map of words that are added to, the one that gets its sums, and what that one has had.
pub(super) struct Counted {
    shape: &'static MapShape,
    from: MapData,
    from_sizes: Sizes,
    /// Values of a row, one for each CPU or one.
    values: usize,
    to: MapData,
    to_sizes: Sizes,
    copied: Option<Copied>,
}

/// What was copied so far, in the words of the map that it was copied from first.
struct Copied {
    map: MapData,
    sizes: Sizes,
}

impl Counted {
    /// From one root's map to another's.
    pub(super) fn open(
        (from, to): (&Root, &Root),
        shape: &'static MapShape,
        looks: FoundShape,
        capacity: u32,
    ) -> Result<Self, DatapathError> {
        let is_per_cpu = matches!(shape.kind, MapKind::PerCpuArray | MapKind::PerCpuHash);
        let values = if is_per_cpu { cpus()? as usize } else { 1 };
        let here = to.copied().join(shape.name);
        let copied = if here.exists() {
            Some(here)
        } else if to.incomplete().exists() {
            make(&here, shape, looks, capacity)?;
            Some(here)
        } else {
            // This build is the one that was taken over from, and takes back.
            Some(from.copied().join(shape.name)).filter(|there| there.exists())
        };
        Ok(Self {
            shape,
            from: open(from, shape)?,
            from_sizes: Sizes::new(shape.key_size, looks.value_size, values),
            values,
            to: open(to, shape)?,
            to_sizes: Sizes::new(shape.key_size, shape.value_size, values),
            copied: copied.map(|path| Copied::open(&path, shape)).transpose()?,
        })
    }

    /// Copies all sums. Nobody else writes the map.
    pub(super) fn fill(&self) -> Result<(), DatapathError> {
        let Some(copied) = &self.copied else { return Ok(()) };
        let mut row = vec![0; self.to_sizes.row];
        syscall::visit::<io::Error>(&self.from, self.from_sizes, |key, value| {
            let sum = self.sum(value);
            if copied.get(key)? == sum {
                return Ok(());
            }
            // On the first CPU; readers add them up.
            row[..self.shape.value_size as usize].copy_from_slice(&bytes(&sum, self.shape.value_size as usize));
            syscall::put(&self.to, key, &row, Put::Any)?;
            copied.put(key, &sum)
        })
        .map_err(|error| self.failed(error))
    }

    /// Has the data path add what was counted since it was copied. Nobody else counts in the old map.
    pub(super) fn add_difference(&self, carrier: &Carrier) -> Result<(), DatapathError> {
        let Some(copied) = &self.copied else {
            tracing::warn!(
                "what was copied of map {} is not known: what was counted since is not added",
                self.shape.name
            );
            return Ok(());
        };
        let mut rows = Vec::new();
        syscall::visit::<io::Error>(&self.from, self.from_sizes, |key, value| {
            let (sum, before) = (self.sum(value), copied.get(key)?);
            if let Some(row) = difference(key, &sum, &before) {
                rows.push((row, key.to_vec(), sum));
            }
            Ok(())
        })
        .map_err(|error| self.failed(error))?;
        for rows in rows.chunks(ROWS_MAX) {
            carrier.add(self.shape, &rows.iter().map(|(row, ..)| *row).collect::<Vec<_>>())?;
            for (_, key, sum) in rows {
                copied.put(key, sum).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    /// The words of a row, over all CPUs.
    fn sum(&self, value: &[u8]) -> Vec<u64> {
        let one = value.len() / self.values;
        let mut sum = vec![0_u64; one / 8];
        for value in value.chunks_exact(one) {
            for (sum, word) in sum.iter_mut().zip(value.chunks_exact(8)) {
                *sum = sum.wrapping_add(bytemuck::pod_read_unaligned(word));
            }
        }
        sum
    }

    fn failed(&self, error: io::Error) -> DatapathError {
        DatapathError::failed(format!("carry over rows of map {}", self.shape.name), error)
    }
}

impl Copied {
    fn open(path: &PathBuf, shape: &MapShape) -> Result<Self, DatapathError> {
        let fail = |e| DatapathError::failed(format!("open {}", path.display()), e);
        let map = MapData::from_pin(path).map_err(fail)?;
        let value = map.info().map_err(fail)?.value_size();
        Ok(Self { map, sizes: Sizes::new(shape.key_size, value, 1) })
    }

    /// The words of a row; none where nothing was copied.
    fn get(&self, key: &[u8]) -> io::Result<Vec<u64>> {
        let mut value = vec![0; self.sizes.row];
        syscall::get(&self.map, key, &mut value)?;
        Ok(value.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect())
    }

    fn put(&self, key: &[u8], words: &[u64]) -> io::Result<()> {
        syscall::put(&self.map, key, &bytes(words, self.sizes.row), Put::Any)
    }
}

/// A map of the sums of another map's rows.
fn make(path: &PathBuf, shape: &MapShape, looks: FoundShape, capacity: u32) -> Result<(), DatapathError> {
    let fail = |e: io::Error| DatapathError::failed(format!("make {}", path.display()), e);
    let kind = if shape.kind == MapKind::PerCpuHash { MapKind::Hash } else { MapKind::Array };
    let flags = if kind == MapKind::Hash { shape.flags } else { 0 };
    let fd = syscall::create(shape.name, kind as u32, (shape.key_size, looks.value_size), capacity, flags);
    let map = MapData::from_fd(fd.map_err(fail)?).map_err(|e| DatapathError::failed("open a map", e))?;
    map.pin(path).map_err(|e| DatapathError::failed(format!("pin {}", path.display()), e))
}

/// Words as a value of so many bytes.
fn bytes(words: &[u64], len: usize) -> Vec<u8> {
    let mut bytes = bytemuck::cast_slice(words).to_vec();
    bytes.resize(len, 0);
    bytes
}

/// What is to be added; `None` for nothing.
fn difference(key: &[u8], now: &[u64], before: &[u64]) -> Option<Row> {
    let mut row = Row::default();
    bytemuck::bytes_of_mut(&mut row.key)[..key.len()].copy_from_slice(key);
    for (word, (now, before)) in row.words[..WORDS].iter_mut().zip(now.iter().zip(before)) {
        *word = now.wrapping_sub(*before);
    }
    (row.words != [0; WORDS]).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_what_was_counted_since_in_words_that_both_know() {
        let key = 7_u32.to_ne_bytes();
        assert_eq!(difference(&key, &[10, 20], &[10, 20]), None);
        let row = difference(&key, &[12, 20, 5], &[10, 19]).unwrap();
        assert_eq!((row.key, row.words), ([7, 0], [2, 1, 0, 0, 0, 0, 0]));
    }
}
