//! What a receiver sees of a packet: the addresses that a gateway translates.

use std::net::{IpAddr, Ipv4Addr};

use netpath_tests::packet::{dissect, verify_checksums};

use super::{Outcome, REDIRECT};

/// One end of a packet: an address and a port, or the identifier of an ICMP query on the querier's side.
pub type End = (Ipv4Addr, u16);

/// The translated part of a packet, and what has to come through untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is from.
    pub source: End,
    /// Where it goes.
    pub destination: End,
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// What follows the transport header.
    pub payload: Vec<u8>,
    /// The frame's source and destination MAC addresses.
    pub macs: ([u8; 6], [u8; 6]),
}

/// Takes a frame with IPv4 apart, whose checksums are all right; of VXLAN the frame inside.
#[track_caller]
pub fn seen(frame: &[u8]) -> Seen {
    verify_checksums(frame).unwrap();
    let parts = dissect(frame).unwrap();
    if let Some((_, _, inner)) = parts.vxlan() {
        return seen(inner);
    }
    let ip = parts.ip.as_ref().unwrap_or_else(|| panic!("no IP packet: {frame:02x?}"));
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (ip.src, ip.dst) else { panic!("not IPv4") };
    let (ports, payload) = match (parts.ports(), parts.icmp()) {
        (Some((from, to, payload)), _) => ((from, to), payload),
        (_, Some((kind, _))) => {
            let id = u16::from_be_bytes([ip.message[4], ip.message[5]]);
            (if matches!(kind, 0 | 14) { (0, id) } else { (id, 0) }, &ip.message[8..])
        }
        _ => ((0, 0), ip.message),
    };
    Seen {
        source: (source, ports.0),
        destination: (destination, ports.1),
        protocol: ip.protocol,
        ttl: ip.ttl,
        payload: payload.to_vec(),
        macs: (parts.src_mac, parts.dst_mac),
    }
}

impl Outcome {
    /// Asserts that the packet was sent on, with right checksums, and takes it apart.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        seen(self.assert_sent(REDIRECT))
    }

    /// Asserts that the packet became an ICMP error of this type and code for its sender, counted for one reason.
    #[track_caller]
    pub fn assert_answered(&self, kind: u8, code: u8) -> &[u8] {
        verify_checksums(&self.bytes).unwrap();
        let parts = dissect(&self.bytes).unwrap();
        assert_eq!((self.action, parts.icmp()), (REDIRECT, Some((kind, code))), "{self:?}");
        &self.bytes
    }
}
