//! Rows of another ABI's map, brought into this one's: what both know of a value is kept, what only this one knows is zero.

use std::io;

use aya::maps::MapData;
use netpath_common::maps::{MapKind, MapShape, shape};
use rustix::io::Errno;

use super::{
    super::{
        DatapathError, FoundShape,
        syscall::{self, Put, Sizes},
    },
    flows,
};

/// A map of one value a row, and the one that gets its rows.
pub(super) struct Carried {
    shape: &'static MapShape,
    from: MapData,
    from_value: usize,
    to: MapData,
    to_value: usize,
}

impl Carried {
    /// From a map that looks so to one of this build's shape.
    pub(super) fn new(shape: &'static MapShape, from: MapData, looks: FoundShape, to: MapData) -> Self {
        Self { shape, from, from_value: looks.value_size as usize, to, to_value: shape.value_size as usize }
    }

    /// The way back.
    pub(super) fn turned(self) -> Self {
        let Self { shape, from, from_value, to, to_value } = self;
        Self { shape, from: to, from_value: to_value, to: from, to_value: from_value }
    }

    /// The map that got the rows.
    pub(super) fn into_target(self) -> MapData {
        self.to
    }

    /// Copies every row that is not there as it is. Nobody else writes the map.
    pub(super) fn fill(&self) -> Result<(), DatapathError> {
        self.each(|key, value, there| match there {
            Some(there) if there == value => Ok(()),
            _ => syscall::put(&self.to, key, value, Put::Any),
        })
    }

    /// Copies what is missing; of a connection that both have, the later parts. Programs write the map meanwhile, and what they
    /// wrote stays.
    pub(super) fn add_missing(&self) -> Result<(), DatapathError> {
        let is_array = self.shape.kind == MapKind::Array;
        let merges = self.shape.name == shape::FLOWS.name && self.to_value == self.shape.value_size as usize;
        self.each(|key, value, there| {
            let put = |value: &[u8], which| match syscall::put(&self.to, key, value, which) {
                // It has come meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
                put => put,
            };
            match there {
                None => put(value, Put::New),
                Some(there) if is_array && is_zero(there) && !is_zero(value) => put(value, Put::Any),
                Some(there) if merges => match flows::merged(value, there) {
                    Some(merged) => put(&merged, Put::Any),
                    None => Ok(()),
                },
                Some(_) => Ok(()),
            }
        })
    }

    /// Calls `act` with every row's key, its value as the target has it, and what is there.
    fn each(&self, mut act: impl FnMut(&[u8], &[u8], Option<&[u8]>) -> io::Result<()>) -> Result<(), DatapathError> {
        let sizes = Sizes { key: self.shape.key_size as usize, row: self.from_value };
        let (mut value, mut there) = (vec![0; self.to_value], vec![0; self.to_value]);
        syscall::visit::<io::Error>(&self.from, sizes, |key, found| {
            convert(found, &mut value);
            let is_there = syscall::get(&self.to, key, &mut there)?;
            act(key, &value, is_there.then_some(&there[..]))
        })
        .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> DatapathError {
        if error.raw_os_error() == Some(Errno::TOOBIG.raw_os_error()) {
            let capacity = self.to.info().map_or(self.shape.capacity, |info| info.max_entries());
            return DatapathError::MapFull { name: self.shape.name, capacity, field: self.shape.capacity_field };
        }
        DatapathError::failed(format!("carry over rows of map {}", self.shape.name), error)
    }
}

/// A value as a longer or a shorter one.
fn convert(from: &[u8], to: &mut [u8]) {
    let both = from.len().min(to.len());
    to[..both].copy_from_slice(&from[..both]);
    to[both..].fill(0);
}

fn is_zero(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_what_both_know_and_what_is_new_is_zero() {
        let mut longer = [9; 6];
        convert(&[1, 2, 3, 4], &mut longer);
        assert_eq!(longer, [1, 2, 3, 4, 0, 0]);
        let mut shorter = [9; 2];
        convert(&longer, &mut shorter);
        assert_eq!(shorter, [1, 2]);
    }
}
