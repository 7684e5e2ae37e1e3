//! The outer headers of a VXLAN packet (RFC 7348), every field of them settable.

use std::net::{IpAddr, Ipv4Addr};

use super::{Body, Mac, Packet, body::Checksum};

/// How a frame is wrapped.
#[derive(Clone, Debug)]
pub struct Outer {
    packet: Packet,
    flags: u8,
    reserved: [u8; 3],
    vni: u32,
    reserved_last: u8,
    source_port: u16,
    port: u16,
}

impl Outer {
    /// From one tunnel endpoint to another, as a conforming VTEP sends: I set, reserved bits and UDP checksum zero.
    pub fn new(vni: u32, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Self {
        let packet = Packet::between(from.0, to.0, IpAddr::V4(from.1), IpAddr::V4(to.1)).ttl(64).dont_fragment();
        Self {
            packet: packet.checksum(Checksum::Zero),
            flags: 0x08,
            reserved: [0; 3],
            vni,
            reserved_last: 0,
            source_port: 50_000,
            port: 4789,
        }
    }

    /// The UDP destination port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The UDP source port.
    pub fn source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// The VXLAN flags byte and its reserved bits.
    pub fn flags(mut self, flags: u8, reserved: [u8; 3], reserved_last: u8) -> Self {
        (self.flags, self.reserved, self.reserved_last) = (flags, reserved, reserved_last);
        self
    }

    /// Changes the outer packet: TTL, TOS, fragments, tags, checksum.
    pub fn outer(mut self, change: impl FnOnce(Packet) -> Packet) -> Self {
        self.packet = change(self.packet);
        self
    }

    /// The whole outer frame around `inner`.
    pub fn wrap(&self, inner: &[u8]) -> Vec<u8> {
        let mut payload = vec![self.flags];
        payload.extend(self.reserved);
        payload.extend(&self.vni.to_be_bytes()[1..]);
        payload.push(self.reserved_last);
        payload.extend(inner);
        self.packet.clone().body(Body::Udp { src: self.source_port, dst: self.port, payload }).build()
    }
}
