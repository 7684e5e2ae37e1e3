//! Reads pcap and pcapng.

use std::io::{self, ErrorKind, Read};

use super::{ETHERNET, Frame, LONGEST_FRAME};

/// Most bytes of a pcapng block that is looked at; one that neither holds a frame nor describes an interface is passed over,
/// however long it is.
const LONGEST_BLOCK: usize = LONGEST_FRAME + 65_536;

/// Why a file is no capture.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// It ends within a record.
    #[error("it ends in the middle of a frame or a header: it was cut short, or is being written still")]
    Truncated,
    /// It is something else.
    #[error("it is neither pcap nor pcapng")]
    Unknown,
    /// It was captured elsewhere than on Ethernet.
    #[error("its frames are of link type {0}, not Ethernet's")]
    LinkType(u32),
    /// A frame is of an interface that it does not describe, or it describes too many.
    #[error("it has a frame of an interface that it does not describe, or more interfaces than 65536")]
    Interface,
    /// A length in it cannot be.
    #[error("it says that something in it is {0} bytes long")]
    Length(u64),
    /// It ends before.
    #[error("frame {wanted} is asked for, and it has {found}")]
    TooFew {
        /// The number of the frame that is asked for.
        wanted: u64,
        /// How many there are.
        found: u64,
    },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

/// Numbers in the file's byte order.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn u32(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let word = bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn u16(self, bytes: &[u8], offset: usize) -> Option<u16> {
        let word = bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_big { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) })
    }
}

/// Calls `visit` with each frame's link type and the frame until it says to stop.
///
/// # Errors
/// [`ReadError`] at the first thing that cannot be.
pub fn frames(mut from: impl Read, mut visit: impl FnMut(u32, Frame) -> bool) -> Result<(), ReadError> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic).map_err(|error| match error.into() {
        ReadError::Truncated => ReadError::Unknown,
        error => error,
    })?;
    match u32::from_le_bytes(magic) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => pcap(from, Order { is_big: false }, &mut visit),
        0xd4c3_b2a1 | 0x4d3c_b2a1 => pcap(from, Order { is_big: true }, &mut visit),
        0x0a0d_0d0a => pcapng(from, &mut visit),
        _ => Err(ReadError::Unknown),
    }
}

/// `false` where the file ends; an end within the bytes is an error.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<bool, ReadError> {
    let mut done = 0;
    while done < bytes.len() {
        match from.read(&mut bytes[done..]) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(ReadError::Truncated),
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn pcap(mut from: impl Read, order: Order, visit: &mut impl FnMut(u32, Frame) -> bool) -> Result<(), ReadError> {
    let mut header = [0; 20];
    from.read_exact(&mut header)?;
    // The bits above say how long a frame check sequence is.
    is_ethernet(order.u32(&header, 16).unwrap_or(0) & 0xffff)?;
    let mut record = [0; 16];
    while fill(&mut from, &mut record)? {
        let len = order.u32(&record, 8).unwrap_or(0) as usize;
        if len > LONGEST_FRAME {
            return Err(ReadError::Length(len as u64));
        }
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes)?;
        if !visit(ETHERNET, Frame { bytes, length: order.u32(&record, 12).unwrap_or(0) as usize }) {
            break;
        }
    }
    Ok(())
}

fn is_ethernet(link_type: u32) -> Result<(), ReadError> {
    if link_type == ETHERNET { Ok(()) } else { Err(ReadError::LinkType(link_type)) }
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;

/// Most interfaces of a section.
const INTERFACES_MAX: usize = 65_536;

/// What is known of a section while its blocks are read.
#[derive(Default)]
struct Section {
    /// The link types of its interfaces, in their order.
    link_types: Vec<u32>,
}

/// The first four bytes, a section header's, have been read.
fn pcapng(mut from: impl Read, visit: &mut impl FnMut(u32, Frame) -> bool) -> Result<(), ReadError> {
    let mut order = Order { is_big: false };
    let mut section = Section::default();
    let mut kind = SECTION;
    loop {
        let mut head = [0; 8];
        from.read_exact(&mut head[..4])?;
        let mut rest = 8;
        if kind == SECTION {
            from.read_exact(&mut head[4..])?;
            order.is_big = match head[4..] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(ReadError::Unknown),
            };
            rest += 4;
            section = Section::default();
        }
        let len = order.u32(&head, 0).unwrap_or(0) as usize;
        if len < rest + 4 || !len.is_multiple_of(4) {
            return Err(ReadError::Length(len as u64));
        }
        let is_wanted = matches!(kind, INTERFACE | SIMPLE | ENHANCED);
        if !is_wanted {
            skip(&mut from, len - rest)?;
        } else if len > LONGEST_BLOCK {
            return Err(ReadError::Length(len as u64));
        } else {
            let mut body = vec![0; len - rest];
            from.read_exact(&mut body)?;
            // The length stands at the end again.
            body.truncate(body.len() - 4);
            if !section.block(kind, &body, order, visit)? {
                return Ok(());
            }
        }
        let mut next = [0; 4];
        if !fill(&mut from, &mut next)? {
            return Ok(());
        }
        kind = order.u32(&next, 0).unwrap_or(0);
    }
}

/// Passes over so many bytes.
fn skip(from: &mut impl Read, bytes: usize) -> Result<(), ReadError> {
    let passed = io::copy(&mut from.take(bytes as u64), &mut io::sink())?;
    if passed == bytes as u64 { Ok(()) } else { Err(ReadError::Truncated) }
}

impl Section {
    /// Looks at a block; `false` to stop.
    fn block(
        &mut self,
        kind: u32,
        body: &[u8],
        order: Order,
        visit: &mut impl FnMut(u32, Frame) -> bool,
    ) -> Result<bool, ReadError> {
        let (interface, offset, len, length): (_, usize, _, _) = match kind {
            INTERFACE => return self.interface(order.u16(body, 0).unwrap_or(0).into()).map(|()| true),
            ENHANCED => (order.u32(body, 0), 20, order.u32(body, 12), order.u32(body, 16)),
            _ => {
                let length = order.u32(body, 0);
                (Some(0), 4, length.map(|len| len.min(body.len().saturating_sub(4) as u32)), length)
            }
        };
        let len = len.unwrap_or(u32::MAX) as usize;
        let length = length.unwrap_or(0) as usize;
        let frame = offset.checked_add(len).filter(|_| len <= LONGEST_FRAME).and_then(|end| body.get(offset..end));
        let frame = frame.ok_or(ReadError::Length(len as u64))?;
        match interface.and_then(|interface| self.link_types.get(interface as usize)) {
            Some(link_type) => Ok(visit(*link_type, Frame { bytes: frame.to_vec(), length })),
            None => Err(ReadError::Interface),
        }
    }

    fn interface(&mut self, link_type: u32) -> Result<(), ReadError> {
        if self.link_types.len() == INTERFACES_MAX {
            return Err(ReadError::Interface);
        }
        self.link_types.push(link_type);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut found = Vec::new();
        frames(bytes, |_, frame| {
            found.push(frame.bytes);
            true
        })?;
        Ok(found)
    }

    fn file(is_big: bool, link_type: u32, frames: &[&[u8]]) -> Vec<u8> {
        let word = |number: u32| if is_big { number.to_be_bytes() } else { number.to_le_bytes() };
        let mut file = [word(0xa1b2_c3d4), word(0x0002_0004), word(0), word(0), word(65535), word(link_type)].concat();
        for frame in frames {
            let len = word(frame.len() as u32);
            file.extend([word(1), word(2), len, len].concat());
            file.extend(*frame);
        }
        file
    }

    #[test]
    fn a_pcap_file_of_either_byte_order_is_read() {
        for is_big in [false, true] {
            assert_eq!(read(&file(is_big, 1, &[&[1; 60], &[2; 70]])).unwrap(), [vec![1; 60], vec![2; 70]]);
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_in_words() {
        let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert_eq!(said(b"GIF89a"), "it is neither pcap nor pcapng");
        assert_eq!(said(&file(false, 113, &[])), "its frames are of link type 113, not Ethernet's");
        let mut long = file(false, 1, &[&[0; 4]]);
        long[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(said(&long), "it says that something in it is 4294967295 bytes long");
        assert_eq!(said(b""), "it is neither pcap nor pcapng");
        let whole = file(false, 1, &[&[0; 60]]);
        for end in [whole.len() - 1, 24 + 16, 24 + 5, 20] {
            let error = read(&whole[..end]).unwrap_err();
            assert!(error.to_string().starts_with("it ends in the middle of a frame or a header"), "{end}: {error}");
            assert!(std::error::Error::source(&error).is_none(), "it is said once");
        }
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes(), &len[..], body, &len].concat()
    }

    #[test]
    fn blocks_without_a_frame_are_passed_over_and_frames_know_the_link_type_of_their_interface() {
        let section = block(SECTION, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
        let interface = |link_type: u8| block(INTERFACE, &[link_type, 0, 0, 0, 0, 0, 0, 0]);
        let frame = |interface: u8, bytes: [u8; 4]| {
            block(ENHANCED, &[&[interface, 0, 0, 0][..], &[0; 8], &[4, 0, 0, 0], &[9, 0, 0, 0], &bytes].concat())
        };
        let names = block(4, &vec![0; 2 * LONGEST_BLOCK]);
        let whole = [section, interface(113), names, interface(1), frame(1, [1; 4]), frame(0, [2; 4])].concat();
        let mut found = Vec::new();
        let mut note = |link_type, frame: Frame| {
            found.push((link_type, frame.bytes, frame.length));
            true
        };
        frames(&whole[..], &mut note).unwrap();
        let stray = [whole.clone(), frame(2, [3; 4])].concat();
        assert!(matches!(frames(&stray[..], |_, _| true), Err(ReadError::Interface)));
        assert!(frames(&whole[..whole.len() - 60], |_, _| true).is_err(), "an end within a block is none");
        assert_eq!(found, [(1, vec![1; 4], 9), (113, vec![2; 4], 9)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..4usize) {
            let begins: [&[u8]; 4] = [&[], &[0xd4, 0xc3, 0xb2, 0xa1], &[0xa, 0xd, 0xd, 0xa], &[0xa1, 0xb2, 0x3c, 0x4d]];
            let _ = read(&[begins[kind], &bytes].concat());
        }

        #[test]
        fn a_file_with_a_byte_changed_is_read_or_refused(at in 0..500usize, to in any::<u8>()) {
            let mut file = crate::pcap::write::tests::file();
            let at = at % file.len();
            file[at] = to;
            let _ = read(&file);
        }
    }
}
