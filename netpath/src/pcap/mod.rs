//! Capture files: one frame out of a pcap or pcapng file, and pcapng as it is written.
//!
//! The formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. What a file says of itself is never believed: every
//! length is compared with a bound before anything is read by it.

mod cut;
mod read;
mod write;

use std::{fs::File, io::BufReader, path::Path};

pub use self::{
    cut::{Mended, whole},
    read::{ReadError, frames},
    write::{Direction, Packet, Writer},
};
use crate::error::Error;

/// Frames on Ethernet: `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
/// Most bytes of a frame: more than any packet and its headers.
const LONGEST_FRAME: usize = 70_000;

/// A frame, as far as it was captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// What was kept of it.
    pub bytes: Vec<u8>,
    /// How long it was.
    pub length: usize,
}

/// A frame of a file, from 1.
///
/// # Errors
/// When the file cannot be read, is neither pcap nor pcapng, or has fewer frames; when the frame is not Ethernet's.
pub fn frame(path: &Path, number: u64) -> Result<Frame, Error> {
    let failed = |source: ReadError| Error::Capture { path: path.to_owned(), source };
    let file = File::open(path).map_err(|e| failed(e.into()))?;
    let mut found = None;
    let mut count = 0;
    frames(BufReader::new(file), |link_type, frame| {
        count += 1;
        found = (count == number).then_some((link_type, frame));
        found.is_none()
    })
    .map_err(failed)?;
    match found {
        Some((ETHERNET, frame)) => Ok(frame),
        Some((other, _)) => Err(failed(ReadError::LinkType(other))),
        None => Err(failed(ReadError::TooFew { wanted: number, found: count })),
    }
}
