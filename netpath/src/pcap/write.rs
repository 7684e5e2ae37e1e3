//! Writes pcapng: a section, an interface for each device as it is met, and a packet with a comment.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::ETHERNET;

/// Which way a frame goes: bits 0 and 1 of `epb_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came in.
    Inbound = 1,
    /// It leaves.
    Outbound = 2,
}

/// A frame to be written.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'p> {
    /// The device.
    pub device: &'p str,
    /// Time of day in nanoseconds.
    pub time_ns: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// Its bytes, as far as they were kept.
    pub bytes: &'p [u8],
    /// Its whole length.
    pub len: u32,
    /// What is known of it.
    pub comment: &'p str,
}

/// A file under way.
pub struct Writer<W> {
    to: W,
    snaplen: u32,
    devices: HashMap<String, u32>,
}

/// `opt_endofopt`.
const END: u16 = 0;
/// `opt_comment`.
const COMMENT: u16 = 1;

impl<W: Write> Writer<W> {
    /// What it writes to.
    pub fn to(&mut self) -> &mut W {
        &mut self.to
    }

    /// Begins a file; frames are cut to `snaplen` bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(to: W, snaplen: u32) -> io::Result<Self> {
        const USER_APPLICATION: u16 = 4;
        let mut writer = Self { to, snaplen, devices: HashMap::new() };
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // The section's length is not known.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, USER_APPLICATION, concat!("netpath ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, END, &[]);
        writer.block(0x0a0d_0d0a, &body)?;
        Ok(writer)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        const FLAGS: u16 = 2;
        let interface = match self.devices.get(packet.device) {
            Some(index) => *index,
            None => self.interface(packet.device)?,
        };
        let bytes = &packet.bytes[..packet.bytes.len().min(self.snaplen as usize)];
        let mut body = Vec::with_capacity(bytes.len() + packet.comment.len() + 64);
        body.extend(interface.to_le_bytes());
        body.extend(((packet.time_ns >> 32) as u32).to_le_bytes());
        body.extend((packet.time_ns as u32).to_le_bytes());
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(packet.len.max(bytes.len() as u32).to_le_bytes());
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        option(&mut body, COMMENT, packet.comment.as_bytes());
        option(&mut body, FLAGS, &(packet.direction as u32).to_le_bytes());
        option(&mut body, END, &[]);
        self.block(6, &body)
    }

    /// What was written goes to where it is written to.
    ///
    /// # Errors
    /// When that refuses.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn interface(&mut self, device: &str) -> io::Result<u32> {
        const NAME: u16 = 2;
        const RESOLUTION: u16 = 9;
        let mut body = Vec::new();
        body.extend((ETHERNET as u16).to_le_bytes());
        body.extend([0; 2]);
        body.extend(self.snaplen.to_le_bytes());
        option(&mut body, NAME, device.as_bytes());
        // Times are in 10^-9 seconds.
        option(&mut body, RESOLUTION, &[9]);
        option(&mut body, END, &[]);
        self.block(1, &body)?;
        let index = self.devices.len() as u32;
        self.devices.insert(device.to_owned(), index);
        Ok(index)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        self.to.write_all(&[&kind.to_le_bytes()[..], &len, body, &len].concat())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pcap::frames;

    /// A file with two frames.
    pub(in crate::pcap) fn file() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, 64).unwrap();
        for (device, len) in [("vnet0", 61), ("eth1", 100)] {
            let bytes = vec![7; len];
            let direction = Direction::Inbound;
            let packet =
                Packet { device, time_ns: 1 << 40, direction, bytes: &bytes, len: len as u32, comment: "network acme" };
            writer.packet(&packet).unwrap();
        }
        file
    }

    #[test]
    fn what_is_written_is_read_again_cut_to_what_was_asked_for() {
        let mut found = Vec::new();
        let file = file();
        frames(&file[..], |_, frame| {
            found.push(frame.bytes);
            true
        })
        .unwrap();
        assert_eq!(found, [vec![7; 61], vec![7; 64]]);
        assert_eq!(file.len() % 4, 0);
        assert!(file.windows(12).any(|bytes| bytes == b"network acme"));
    }
}
