//! Conversations: datagrams, segments and queries from guests and from outside.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason,
    maps::{Flow, FlowKey},
};
use netpath_tests::packet::{Body, Endpoint, Packet};

use super::{End, Outcome, PUBLIC, Rig, SERVER, Seen, inward, outward};

/// TCP flags.
pub const FIN: u8 = 1;
/// Opens a direction.
pub const SYN: u8 = 2;
/// Resets.
pub const RST: u8 = 4;
/// Acknowledges.
pub const ACK: u8 = 16;

/// The server's usual end of a UDP conversation.
pub const DNS: End = (SERVER, 53);
/// The server's usual end of a TCP connection.
pub const WEB: End = (SERVER, 443);

/// A TCP body.
pub fn segment(src: u16, dst: u16, flags: u8, seq: u32, ack: u32) -> Body {
    Body::Tcp { src, dst, seq, ack, flags, payload: Vec::new() }
}

/// An ICMP echo request or reply.
pub fn echo(kind: u8, id: u16) -> Body {
    let id = id.to_be_bytes();
    Body::Icmp { kind, code: 0, rest: [id[0], id[1], 0, 1], payload: b"abcdefghi".to_vec() }
}

impl Rig {
    /// A datagram from a guest to somewhere beyond its gateway.
    pub fn udp_out(&mut self, network: u32, station: Endpoint, port: u16, to: End) -> Outcome {
        self.from(network, station, &outward(station).to_ip(to.0).udp(port, to.1))
    }

    /// A datagram from beyond the router to a public address.
    pub fn udp_in(&mut self, from: End, to: End) -> Outcome {
        self.from_wire(&inward(from.0, to.0).udp(from.1, to.1))
    }

    /// A segment from a guest.
    pub fn tcp_out(&mut self, network: u32, station: Endpoint, port: u16, to: End, flags: u8) -> Outcome {
        self.from(network, station, &outward(station).to_ip(to.0).tcp(port, to.1, flags))
    }

    /// A segment from beyond the router.
    pub fn tcp_in(&mut self, from: End, to: End, flags: u8) -> Outcome {
        self.from_wire(&inward(from.0, to.0).tcp(from.1, to.1, flags))
    }

    /// An echo request from a guest.
    pub fn ping_out(&mut self, network: u32, station: Endpoint, id: u16, to: Ipv4Addr) -> Outcome {
        self.from(network, station, &outward(station).to_ip(to).body(echo(8, id)))
    }

    /// An echo reply from beyond the router.
    pub fn pong_in(&mut self, from: Ipv4Addr, to: Ipv4Addr, id: u16) -> Outcome {
        self.from_wire(&inward(from, to).body(echo(0, id)))
    }

    /// Opens a TCP connection by its three segments, and gives its public end.
    #[track_caller]
    pub fn connect(&mut self, network: u32, station: Endpoint, port: u16, to: End) -> End {
        let public = self.tcp_out(network, station, port, to, SYN).seen().source;
        let got = self.tcp_in(to, public, SYN | ACK).seen();
        assert_eq!(got.destination, (station.ip, port));
        assert_eq!(self.tcp_out(network, station, port, to, ACK).seen().source, public);
        public
    }

    /// The direction of a connection that a guest's packets take.
    pub fn flow_out(&self, network: u32, protocol: u8, from: End, to: End) -> Option<Flow> {
        self.get("FLOWS", key(network, protocol, from, to))
    }

    /// The direction that packets from the public side take.
    pub fn flow_in(&self, protocol: u8, from: End, to: End) -> Option<Flow> {
        self.get("FLOWS", key(PUBLIC, protocol, from, to))
    }

    /// Asserts that a datagram from outside arrives at a guest.
    #[track_caller]
    pub fn arrives(&mut self, from: End, public: End, at: End) -> Seen {
        let got = self.udp_in(from, public).seen();
        assert_eq!((got.source, got.destination), (from, at));
        got
    }
}

impl Outcome {
    /// Asserts that the packet was refused for one reason, counted once, whatever it was turned into.
    #[track_caller]
    pub fn assert_refused(&self, network: u32, reason: DropReason) {
        assert_eq!(self.drops, [((network, reason), 1)], "{self:?}");
    }
}

fn key(side: u32, protocol: u8, from: End, to: End) -> FlowKey {
    FlowKey {
        side,
        source: from.0.octets(),
        destination: to.0.octets(),
        source_port: from.1,
        destination_port: to.1,
        protocol,
        pad: [0; 3],
    }
}

/// A packet's bytes behind its Ethernet header and tags.
pub fn ip_bytes(packet: &Packet) -> Vec<u8> {
    let frame = packet.build();
    netpath_tests::packet::dissect(&frame).unwrap().network.to_vec()
}

/// Source and destination as they stand in a header.
pub fn tail_of(source: Ipv4Addr, destination: Ipv4Addr) -> [u8; 8] {
    (u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits())).to_be_bytes()
}
