//! Has the data path do what is to be done to rows that only it writes, after a look of its own: remove what was found to be over, open
//! bindings, take them away.

use aya::{
    Pod,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use netpath_common::{
    maps::{BindingKey, FlowKey},
    reap::{self, KEY_LEN, KEYS_MAX},
};

use super::{DatapathError, Programs, Root};

/// The program that does it: attached nowhere, run by whoever sweeps or applies.
pub(super) const REAP: &str = "reap";

/// An Ethernet header that nobody ever sees: nowhere, from nowhere, of a type for experiments (RFC 5342 §B.2).
pub(super) const ETHERNET: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// The program that works on rows.
#[derive(Debug)]
pub struct Reaper {
    program: SchedClassifier,
}

impl Reaper {
    /// The program of this build under a root; `None` where it was never loaded.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(root: &Root) -> Result<Option<Self>, DatapathError> {
        Programs::pinned(root)?.map(|programs| Self::of(&programs)).transpose()
    }

    /// The one of these programs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of(programs: &Programs) -> Result<Self, DatapathError> {
        Ok(Self { program: programs.unattached(REAP)? })
    }

    /// Removes those of these connections that are over; gives how many directions went.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flows(&self, keys: &[FlowKey]) -> Result<u32, DatapathError> {
        self.reap(reap::FLOWS, keys)
    }

    /// Removes those of these bindings, by their inside ends, that are over; gives how many went.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bindings(&self, keys: &[BindingKey]) -> Result<u32, DatapathError> {
        self.reap(reap::BINDINGS, keys)
    }

    /// Has these bindings, by their inside ends, let in whoever sends to them; gives how many do.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open_bindings(&self, keys: &[BindingKey]) -> Result<u32, DatapathError> {
        self.reap(reap::OPEN, keys)
    }

    /// Takes the bindings between these inside and outside ends away, and gives their ports back; gives how many there were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&self, ends: &[[BindingKey; 2]]) -> Result<u32, DatapathError> {
        self.reap(reap::RELEASE, ends)
    }

    fn reap<K: Pod + bytemuck::Pod>(&self, kind: u8, keys: &[K]) -> Result<u32, DatapathError> {
        let mut done = 0;
        for keys in keys.chunks(KEYS_MAX) {
            let frame = frame(kind, keys);
            let options = TestRunOptions { data_in: Some(&frame), ..Default::default() };
            let run = self.program.test_run(options).map_err(|e| DatapathError::failed("run program reap", e))?;
            done += run.return_value;
        }
        Ok(done)
    }
}

/// The frame that tells the program of these keys, as many as one has room for.
fn frame<K: bytemuck::Pod>(kind: u8, keys: &[K]) -> Vec<u8> {
    let mut frame = ETHERNET.to_vec();
    frame.extend([kind, keys.len().min(KEYS_MAX) as u8]);
    for key in keys.iter().take(KEYS_MAX) {
        let end = frame.len() + KEY_LEN;
        frame.extend(bytemuck::bytes_of(key));
        frame.resize(end, 0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_every_key_in_a_place_of_its_own() {
        let key = |port| FlowKey { side: 7, source_port: port, protocol: 6, ..FlowKey::default() };
        let frame = frame(reap::FLOWS, &[key(1), key(2)]);
        assert_eq!(frame.len(), reap::HEAD_LEN + 2 * KEY_LEN);
        assert_eq!(frame[12..16], [0x88, 0xb5, reap::FLOWS, 2]);
        for (index, port) in [(0, 1), (1, 2)] {
            let start = reap::HEAD_LEN + index * KEY_LEN;
            assert_eq!(frame[start..start + size_of::<FlowKey>()], *bytemuck::bytes_of(&key(port)));
        }
    }
}
