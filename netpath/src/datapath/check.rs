//! Compares pinned maps with what this build works with: aya opens whatever is pinned at a path.

use std::{fmt, io};

use aya::maps::{MapInfo, MapType};
use netpath_common::maps::{self, MapKind, MapShape};

use super::{DatapathError, Root, error::errno};

/// Rows wanted of each map: a host's `capacities` by field name, `None` for the default.
pub type Capacities<'a> = &'a dyn Fn(&str) -> Option<u32>;

/// What a map looks like, apart from its capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundShape {
    /// The kernel's type.
    pub kind: u32,
    /// Size of the key in bytes.
    pub key_size: u32,
    /// Size of the value in bytes.
    pub value_size: u32,
    /// Flags.
    pub flags: u32,
}

impl fmt::Display for FoundShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            1 => "hash",
            2 => "array",
            3 => "program array",
            5 => "per-CPU hash",
            6 => "per-CPU array",
            9 => "LRU hash",
            11 => "trie",
            27 => "ring",
            other => return write!(f, "map of type {other}"),
        };
        let (key, value) = (self.key_size, self.value_size);
        write!(f, "{kind} with keys of {key} and values of {value} bytes, flags {:#x}", self.flags)
    }
}

impl From<&MapShape> for FoundShape {
    fn from(shape: &MapShape) -> Self {
        let MapShape { kind, key_size, value_size, flags, .. } = *shape;
        Self { kind: kind as u32, key_size, value_size, flags }
    }
}

/// The rows a map shall have room for.
#[must_use]
pub fn wanted_capacity(shape: &MapShape, capacities: Capacities<'_>) -> u32 {
    capacities(shape.capacity_field).unwrap_or(shape.capacity)
}

/// The memory the maps take in bytes, as far as it is taken at creation, by the kernel's element layout.
#[must_use]
pub fn memory(capacities: Capacities<'_>, cpus: u64) -> u64 {
    maps::ALL.iter().map(|shape| memory_of(shape, wanted_capacity(shape, capacities), cpus)).sum()
}

fn memory_of(shape: &MapShape, capacity: u32, cpus: u64) -> u64 {
    /// `struct htab_elem` before its key.
    const ELEMENT: u64 = 48;
    /// `struct bucket`; there is one per row, rounded up to a power of two.
    const BUCKET: u64 = 16;
    let round = |bytes: u32| u64::from(bytes).next_multiple_of(8);
    let (rows, key, value) = (u64::from(capacity), round(shape.key_size), round(shape.value_size));
    let buckets = u64::from(capacity.next_power_of_two()) * BUCKET;
    match shape.kind {
        MapKind::Array | MapKind::ProgramArray => rows * value,
        MapKind::PerCpuArray => rows * value * cpus,
        // Its capacity is in bytes.
        MapKind::Ring => rows,
        MapKind::LpmTrie => 0,
        _ if shape.flags & maps::NO_PREALLOC != 0 => buckets,
        MapKind::PerCpuHash => rows * (ELEMENT + key + 8 + value * cpus) + buckets,
        MapKind::Hash | MapKind::LruHash => rows * (ELEMENT + key + value) + buckets,
    }
}

/// Compares every pinned map with what this build wants; a map that is not pinned yet is fine.
///
/// Returns whether all are there.
///
/// # Errors
/// [`DatapathError::MapLayout`] or [`DatapathError::MapCapacity`] naming the first that differs.
pub fn check_maps(root: &Root, capacities: Capacities<'_>) -> Result<bool, DatapathError> {
    let mut all = true;
    for shape in maps::ALL {
        match pinned(root, shape.name)? {
            None => all = false,
            Some(info) => compare(root, shape, &info, wanted_capacity(shape, capacities))?,
        }
    }
    Ok(all)
}

/// Compares the layouts only, for those who read the maps and do not know the definitions.
///
/// # Errors
/// [`DatapathError::NothingApplied`] when a map is missing, [`DatapathError::MapLayout`] when one differs.
pub fn check_layouts(root: &Root) -> Result<(), DatapathError> {
    for shape in maps::ALL {
        let info =
            pinned(root, shape.name)?.ok_or_else(|| DatapathError::NothingApplied { root: root.path().to_owned() })?;
        compare(root, shape, &info, info.max_entries())?;
    }
    Ok(())
}

/// The rows that a pinned map has room for.
///
/// # Errors
/// [`DatapathError::NothingApplied`] when it is missing.
pub fn capacity(root: &Root, shape: &MapShape) -> Result<u32, DatapathError> {
    let info = pinned(root, shape.name)?;
    Ok(info.ok_or_else(|| DatapathError::NothingApplied { root: root.path().to_owned() })?.max_entries())
}

/// What is pinned as a map; `None` where nothing is.
pub(super) fn pinned(root: &Root, name: &str) -> Result<Option<MapInfo>, DatapathError> {
    let path = root.map(name);
    match MapInfo::from_pin(&path) {
        Ok(info) => Ok(Some(info)),
        Err(error) if errno(&error) == Some(rustix::io::Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(DatapathError::failed(format!("open map {name} at {}", path.display()), error)),
    }
}

/// What the kernel says that a map looks like.
pub(super) fn found_shape(info: &MapInfo) -> FoundShape {
    let kind = info.map_type().unwrap_or(MapType::Unspecified) as u32;
    FoundShape { kind, key_size: info.key_size(), value_size: info.value_size(), flags: info.map_flags() }
}

fn compare(root: &Root, shape: &MapShape, info: &MapInfo, capacity: u32) -> Result<(), DatapathError> {
    let found = found_shape(info);
    let wanted = FoundShape::from(shape);
    if found != wanted {
        return Err(DatapathError::MapLayout { name: shape.name, path: root.map(shape.name), found, wanted });
    }
    if info.max_entries() != capacity {
        return Err(DatapathError::MapCapacity {
            name: shape.name,
            field: shape.capacity_field,
            found: info.max_entries(),
            wanted: capacity,
        });
    }
    Ok(())
}

/// The number of CPUs that per-CPU maps have a slot for.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn cpus() -> Result<u64, DatapathError> {
    let count = aya::util::nr_cpus();
    count.map(|n| n as u64).map_err(|(path, e): (_, io::Error)| DatapathError::failed(format!("read {path}"), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_reads_as_a_sentence() {
        let shape = FoundShape::from(&maps::shape::DROPS);
        assert_eq!(shape.to_string(), "per-CPU hash with keys of 8 and values of 8 bytes, flags 0x1");
    }

    #[test]
    fn a_capacity_that_is_named_replaces_the_default_of_every_map_it_is_for() {
        let named = |field: &str| (field == "ports").then_some(7);
        assert_eq!(wanted_capacity(&maps::shape::PORTS, &named), 7);
        assert_eq!(wanted_capacity(&maps::shape::COUNTERS, &named), 7);
        assert_eq!(wanted_capacity(&maps::shape::FDB, &named), maps::shape::FDB.capacity);
    }

    #[test]
    fn memory_grows_with_capacity_and_processors() {
        let more = |_: &str| Some(1 << 20);
        assert!(memory(&|_| None, 4) > memory(&|_| None, 2));
        assert!(memory(&more, 2) > memory(&|_| None, 2));
    }
}
