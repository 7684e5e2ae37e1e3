//! A frame of which a capture has kept the beginning only, made whole for programs to judge: they compare the lengths in its
//! headers with its own, so that it would be malformed as it stands. And one that is longer than a test run takes.
//!
//! ```text
//! no longer than its device's MTU                       zeros take the place of what is missing
//! longer, so merged of several; too long for a run      it ends early, and the lengths in its headers say so
//! its headers are not all there                         nothing can be said of it
//! ```

use netpath_common::checksum;
use serde::Serialize;

use super::Frame;

/// A frame of one packet is longer than its MTU by so much at most: an Ethernet header and a tag.
const LINK_HEADERS: usize = 18;
/// A test run takes an skb of a page, less room for headers and `struct skb_shared_info`.
const LONGEST_RUN: usize = 3400;
/// Where a merged frame ends early: within every MTU, and behind any headers.
const SHORT: usize = 512;

/// How a frame was made whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mended {
    /// It was.
    Whole,
    /// Zeros stand for what the file has not got.
    Padded,
    /// It is a shorter packet now.
    Shortened,
}

/// The frame as a program can judge it, from a device with that MTU; what UDP carries to `tunnel_ports` is a frame itself. `None`
/// where not even its headers are all there.
#[must_use]
pub fn whole(frame: Frame, mtu: u32, tunnel_ports: &[u16]) -> Option<(Vec<u8>, Mended)> {
    let Frame { mut bytes, length } = frame;
    if length <= bytes.len() && bytes.len() <= LONGEST_RUN {
        return Some((bytes, Mended::Whole));
    }
    let mut headers = Headers { bytes: &bytes, tunnel_ports, lengths: Vec::new(), end: 0 };
    headers.ethernet(0)?;
    let Headers { lengths, end, .. } = headers;
    if length <= (mtu as usize + LINK_HEADERS).min(LONGEST_RUN) {
        bytes.resize(length, 0);
        return Some((bytes, Mended::Padded));
    }
    bytes.truncate(SHORT.max(end));
    lengths.into_iter().for_each(|length| length.write(&mut bytes));
    Some((bytes, Mended::Shortened))
}

/// A header that says how long what it begins is.
#[derive(Clone, Copy)]
enum Length {
    Ipv4(usize),
    Ipv6(usize),
    Udp(usize),
}

impl Length {
    /// Has it say that all ends with the frame.
    fn write(self, bytes: &mut [u8]) {
        let rest = |from: usize| ((bytes.len() - from) as u16).to_be_bytes();
        match self {
            Self::Ipv4(at) => {
                let (total, end) = (rest(at), at + usize::from(bytes[at] & 0x0f) * 4);
                bytes[at + 2..at + 4].copy_from_slice(&total);
                bytes[at + 10..at + 12].fill(0);
                let sum = !checksum::fold(checksum::sum(&bytes[at..end]));
                bytes[at + 10..at + 12].copy_from_slice(&sum.to_ne_bytes());
            }
            Self::Ipv6(at) => {
                let payload = rest(at + 40);
                bytes[at + 4..at + 6].copy_from_slice(&payload);
            }
            Self::Udp(at) => {
                let total = rest(at);
                bytes[at + 4..at + 6].copy_from_slice(&total);
            }
        }
    }
}

/// Walks over headers; `None` where one is not all there.
struct Headers<'a> {
    bytes: &'a [u8],
    tunnel_ports: &'a [u16],
    lengths: Vec<Length>,
    /// Where the last one ends.
    end: usize,
}

impl Headers<'_> {
    fn word(&self, at: usize) -> Option<u16> {
        self.bytes.get(at..at + 2).map(|word| u16::from_be_bytes([word[0], word[1]]))
    }

    /// The frame has so many bytes.
    fn has(&mut self, end: usize) -> Option<()> {
        self.end = self.end.max(end);
        (end <= self.bytes.len()).then_some(())
    }

    fn ethernet(&mut self, at: usize) -> Option<()> {
        let mut at = at + 12;
        while matches!(self.word(at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
        match self.word(at)? {
            0x0800 => self.ipv4(at + 2),
            0x86dd => self.ipv6(at + 2),
            0x0806 => self.has(at + 2 + 28),
            _ => self.has(at + 2),
        }
    }

    fn ipv4(&mut self, at: usize) -> Option<()> {
        self.has(at + 20)?;
        let transport = at + usize::from(self.bytes[at] & 0x0f) * 4;
        if transport < at + 20 {
            return None;
        }
        self.has(transport)?;
        self.lengths.push(Length::Ipv4(at));
        match self.word(at + 6)? & 0x1fff {
            0 => self.transport(self.bytes[at + 9], transport),
            _ => Some(()),
        }
    }

    /// Extension headers are left as they are.
    fn ipv6(&mut self, at: usize) -> Option<()> {
        self.has(at + 40)?;
        self.lengths.push(Length::Ipv6(at));
        self.transport(self.bytes[at + 6], at + 40)
    }

    fn transport(&mut self, protocol: u8, at: usize) -> Option<()> {
        match protocol {
            6 => {
                self.has(at + 20)?;
                self.has(at + usize::from(self.bytes[at + 12] >> 4) * 4)
            }
            17 => {
                self.has(at + 8)?;
                self.lengths.push(Length::Udp(at));
                match self.tunnel_ports.contains(&self.word(at + 2)?) {
                    true => self.ethernet(at + 16),
                    false => Some(()),
                }
            }
            1 | 58 => self.has(at + 8),
            _ => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A TCP packet of so many bytes of data, in VXLAN.
    fn tunnelled(data: usize) -> Vec<u8> {
        let ipv4 = |protocol: u8, payload: Vec<u8>| {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            header.extend(payload);
            Length::Ipv4(0).write(&mut header);
            header
        };
        let ethernet = |packet: Vec<u8>| [vec![2; 12], vec![8, 0], packet].concat();
        let mut tcp = vec![0; 20];
        tcp[12] = 5 << 4;
        tcp.resize(20 + data, 7);
        let mut udp = [vec![0xc0, 0, 0x12, 0xb6, 0, 0, 0, 0], vec![8, 0, 0, 0, 0, 0x13, 0x89, 0]].concat();
        udp.extend(ethernet(ipv4(6, tcp)));
        Length::Udp(0).write(&mut udp);
        ethernet(ipv4(17, udp))
    }

    fn cut(of: &[u8], to: usize) -> Frame {
        Frame { bytes: of[..to].to_vec(), length: of.len() }
    }

    #[test]
    fn a_frame_that_is_all_there_is_left_as_it_is() {
        let frame = tunnelled(9);
        assert_eq!(whole(cut(&frame, frame.len()), 100, &[4790]), Some((frame, Mended::Whole)));
    }

    #[test]
    fn zeros_stand_for_what_is_missing_of_a_frame_within_the_mtu() {
        let frame = tunnelled(1000);
        let padded = [&frame[..200], &vec![0; frame.len() - 200]].concat();
        assert_eq!(whole(cut(&frame, 200), 1500, &[4790]), Some((padded, Mended::Padded)));
    }

    #[test]
    fn a_merged_frame_becomes_a_packet_of_which_all_is_there_to_its_innermost_length() {
        let merged = whole(cut(&tunnelled(30_000), 2048), 1500, &[4790]).unwrap();
        assert_eq!(merged, (tunnelled(SHORT - 104), Mended::Shortened));
    }

    #[test]
    fn a_frame_that_is_longer_than_a_test_run_takes_becomes_one_that_it_takes() {
        let merged = tunnelled(30_000);
        let shortened = whole(cut(&merged, merged.len()), 1500, &[4790]).unwrap();
        assert_eq!(shortened, (tunnelled(SHORT - 104), Mended::Shortened));
        let jumbo = tunnelled(LONGEST_RUN - 104);
        assert_eq!(whole(cut(&jumbo, jumbo.len()), 9000, &[4790]), Some((jumbo, Mended::Whole)));
    }

    #[test]
    fn nothing_is_made_of_a_header_that_is_shorter_than_headers_are() {
        let tags = b"\x81\0\0\x01".repeat(125);
        for protocol in [1, 6, 17, 255] {
            let header = [[0x40, 0, 0, 0, 0, 0, 0, 0, 64, protocol].as_slice(), &[0; 30]].concat();
            let frame = [[2; 12].as_slice(), &tags, &[8, 0], &header].concat();
            assert_eq!(whole(Frame { bytes: frame, length: 100_000 }, 1500, &[4789]), None);
        }
    }

    proptest! {
        /// Bytes that walk into headers, behind tags that have them begin anywhere.
        #[test]
        fn whatever_a_capture_has_cut_or_not_fits_into_a_run_or_nothing_is_made_of_it(
            tags in 0..140_usize,
            kind in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), Just([0x08, 0x06])],
            bytes in proptest::collection::vec(prop_oneof![Just(0x45), Just(0x60), Just(17), Just(6), any::<u8>()], 0..160),
            more in 0..100_000_usize,
        ) {
            let frame = [[2; 12].as_slice(), &b"\x81\0\0\x01".repeat(tags), &kind, &bytes].concat();
            let length = frame.len() + more;
            if let Some((made, how)) = whole(Frame { bytes: frame, length }, 1500, &[4789]) {
                prop_assert!(made.len() <= LONGEST_RUN && (made.len() == length) == (how != Mended::Shortened));
            }
        }
    }

    #[test]
    fn nothing_is_made_of_a_frame_without_its_headers() {
        let frame = tunnelled(1000);
        assert_eq!(whole(cut(&frame, 103), 1500, &[4790]), None);
        assert!(whole(cut(&frame, 103), 1500, &[4789]).is_some(), "there the tunnel is a packet like any other");
        for to in 0..42 {
            assert_eq!(whole(cut(&frame, to), 1500, &[4790]), None);
        }
    }
}
