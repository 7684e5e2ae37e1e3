//! Has the data path remove what was found to be over, after a look of its own.

use aya::{
    Pod,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use netpath_common::{
    maps::{BindingKey, FlowKey},
    reap::{self, KEY_LEN, KEYS_MAX},
};

use super::{DatapathError, Programs, Root};

/// The program that removes what is over: attached nowhere, run by whoever sweeps.
pub(super) const REAP: &str = "reap";

/// An Ethernet header that nobody ever sees: nowhere, from nowhere, of a type for experiments (RFC 5342 §B.2).
pub(super) const ETHERNET: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// The program that removes rows.
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
        let programs = Programs::pinned(root)?;
        programs.map(|programs| Ok(Self { program: programs.unattached(REAP)? })).transpose()
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

    fn reap<K: Pod + bytemuck::Pod>(&self, kind: u8, keys: &[K]) -> Result<u32, DatapathError> {
        let mut removed = 0;
        for keys in keys.chunks(KEYS_MAX) {
            let frame = frame(kind, keys);
            let options = TestRunOptions { data_in: Some(&frame), ..Default::default() };
            let run = self.program.test_run(options).map_err(|e| DatapathError::failed("run program reap", e))?;
            removed += run.return_value;
        }
        Ok(removed)
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
