//! What each map's rows mean, pinned beside the maps: a build of another ABI learns from it what it may take over.
//!
//! The kernel tells a map's sizes; that a row is the one that a build knows, tells its version.

use std::{collections::BTreeMap, io};

use aya::maps::MapData;
use netpath_common::maps::{self, MapKind, MapShape};
use rustix::io::Errno;

use super::{
    DatapathError, Root,
    error::errno,
    syscall::{self, Put, Sizes},
};

/// Bytes of a name, as the kernel keeps it.
const NAME: usize = 16;
/// More maps than any ABI has.
const CAPACITY: u32 = 256;

/// What a build wrote down of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Recorded {
    kind: u32,
    key_size: u32,
    value_size: u32,
    flags: u32,
    /// The oldest version that the rows begin with.
    pub(super) since: u32,
    /// The version of the rows.
    pub(super) version: u32,
}

impl Recorded {
    /// What builds wrote that wrote nothing: the first version of every map.
    pub(super) const FIRST: Self = Self { kind: 0, key_size: 0, value_size: 0, flags: 0, since: 1, version: 1 };
}

impl From<&MapShape> for Recorded {
    fn from(shape: &MapShape) -> Self {
        let MapShape { kind, key_size, value_size, flags, since, version, .. } = *shape;
        Self { kind: kind as u32, key_size, value_size, flags, since, version }
    }
}

const SIZES: Sizes = Sizes { key: NAME, row: size_of::<Recorded>() };

/// Writes down what this build's maps are, where it is not written yet.
pub(super) fn write(root: &Root) -> Result<(), DatapathError> {
    let path = root.schema();
    if path.exists() {
        return Ok(());
    }
    let fail = |e: io::Error| DatapathError::failed(format!("write {}", path.display()), e);
    let (key, value) = (SIZES.key as u32, SIZES.row as u32);
    let fd = syscall::create("schema", MapKind::Hash as u32, (key, value), CAPACITY, 0).map_err(fail)?;
    let map = MapData::from_fd(fd).map_err(|e| DatapathError::failed("open map schema", e))?;
    for shape in maps::ALL {
        syscall::put(&map, &name_key(shape.name), bytemuck::bytes_of(&Recorded::from(shape)), Put::Any)
            .map_err(fail)?;
    }
    // Pinned when it is whole: killed before, it is gone.
    map.pin(&path).map_err(|e| DatapathError::failed(format!("pin {}", path.display()), e))
}

/// What was written down, by the names of maps; empty where a build did not do so yet.
pub(super) fn read(root: &Root) -> Result<BTreeMap<String, Recorded>, DatapathError> {
    let path = root.schema();
    let map = match MapData::from_pin(&path) {
        Err(error) if errno(&error) == Some(Errno::NOENT.raw_os_error()) => return Ok(BTreeMap::new()),
        map => map.map_err(|e| DatapathError::failed(format!("open {}", path.display()), e))?,
    };
    let mut rows = BTreeMap::new();
    let read = syscall::visit::<io::Error>(&map, SIZES, |key, value| {
        let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
        rows.insert(String::from_utf8_lossy(&key[..end]).into_owned(), bytemuck::pod_read_unaligned(value));
        Ok(())
    });
    read.map_err(|e| DatapathError::failed(format!("read {}", path.display()), e))?;
    Ok(rows)
}

fn name_key(name: &str) -> [u8; NAME] {
    let mut key = [0; NAME];
    key[..name.len()].copy_from_slice(name.as_bytes());
    key
}
