//! One packet, described fluently and then built to bytes.
//!
//! ```
//! use netpath_tests::packet::{Endpoint, guest, verify_checksums};
//! const A: Endpoint = Endpoint::numbered(11);
//! const B: Endpoint = Endpoint::numbered(12);
//! let frame = guest(A).to(B).udp(1000, 53).payload(b"query").build();
//! verify_checksums(&frame).unwrap();
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ArpBody, BROADCAST, Body, Checksum, Endpoint, Mac, checksum, multicast_mac6, same_family, solicited_node};

/// A packet before it is bytes.
#[derive(Clone, Debug)]
pub struct Packet {
    src_mac: Mac,
    dst_mac: Mac,
    /// (TPID, TCI) from the outside in.
    tags: Vec<(u16, u16)>,
    src: IpAddr,
    dst: IpAddr,
    tos: u8,
    ttl: u8,
    id: u16,
    /// The flags and offset word of IPv4, or of an IPv6 fragment header where not zero.
    fragment: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    ip_checksum: Checksum,
    /// Replaces the length that IP claims (total length, or IPv6 payload length).
    ip_length: Option<u16>,
    checksum: Checksum,
    body: Body,
    pad_to: usize,
}

/// A packet from `station`, by default UDP 1000 → 2000 to a broadcast nobody.
pub fn guest(station: Endpoint) -> Packet {
    Packet::between(station.mac, BROADCAST, IpAddr::V4(station.ip), IpAddr::V4(Ipv4Addr::BROADCAST))
}

impl Packet {
    /// A UDP packet between plain addresses.
    pub fn between(src_mac: Mac, dst_mac: Mac, src: IpAddr, dst: IpAddr) -> Self {
        Self {
            src_mac,
            dst_mac,
            tags: Vec::new(),
            src,
            dst,
            tos: 0,
            ttl: 64,
            id: 0,
            fragment: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            ip_checksum: Checksum::Right,
            ip_length: None,
            checksum: Checksum::Right,
            body: Body::Udp { src: 1000, dst: 2000, payload: b"netpath".to_vec() },
            pad_to: 0,
        }
    }

    /// To a station, by IPv4.
    pub fn to(self, station: Endpoint) -> Self {
        self.to_mac(station.mac).to_ip(station.ip)
    }

    /// Between the IPv6 addresses of two stations.
    pub fn over_ipv6(mut self, from: Endpoint, to: Endpoint) -> Self {
        (self.src, self.dst) = (IpAddr::V6(from.ip6), IpAddr::V6(to.ip6));
        self.to_mac(to.mac)
    }

    /// Claims another source IP address.
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.src = address.into();
        self
    }

    /// Claims another source MAC address.
    pub fn from_mac(mut self, mac: Mac) -> Self {
        self.src_mac = mac;
        self
    }

    /// To another destination IP address.
    pub fn to_ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.dst = address.into();
        self
    }

    /// To another destination MAC address.
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.dst_mac = mac;
        self
    }

    /// One more 802.1Q tag, inside the ones already there.
    pub fn vlan(self, vid: u16) -> Self {
        self.tag(0x8100, vid)
    }

    /// One more tag with its TPID and whole TCI (PCP, DEI and VID).
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    /// Any body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// UDP with these ports.
    pub fn udp(self, src: u16, dst: u16) -> Self {
        self.body(Body::Udp { src, dst, payload: b"netpath".to_vec() })
    }

    /// TCP with these ports and flags, sequence 1.
    pub fn tcp(self, src: u16, dst: u16, flags: u8) -> Self {
        self.body(Body::Tcp { src, dst, seq: 1, ack: 0, flags, payload: Vec::new() })
    }

    /// An echo request of the packet's family.
    pub fn echo_request(self, id: u16, seq: u16) -> Self {
        let kind = if self.src.is_ipv4() { 8 } else { 128 };
        let (i, s) = (id.to_be_bytes(), seq.to_be_bytes());
        self.body(Body::Icmp { kind, code: 0, rest: [i[0], i[1], s[0], s[1]], payload: b"abcdefgh".to_vec() })
    }

    /// The payload of UDP, TCP, ICMP or a raw body; ARP has none.
    pub fn payload(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Some(payload) = self.body.payload_mut() {
            *payload = bytes.as_ref().to_vec();
        }
        self
    }

    /// Broadcast "who has `target`", from the packet's source address.
    pub fn arp_request(self, target: Ipv4Addr) -> Self {
        let (sender_mac, sender_ip) = (self.src_mac, self.ipv4_source());
        let arp = ArpBody { operation: 1, sender_mac, sender_ip, target_mac: [0; 6], target_ip: target };
        self.to_mac(BROADCAST).body(Body::Arp(arp))
    }

    /// "`station` is at my MAC", to `asker`.
    pub fn arp_reply(self, asker: Endpoint) -> Self {
        let (sender_mac, sender_ip) = (self.src_mac, self.ipv4_source());
        let arp = ArpBody { operation: 2, sender_mac, sender_ip, target_mac: asker.mac, target_ip: asker.ip };
        self.to_mac(asker.mac).body(Body::Arp(arp))
    }

    /// QEMU's announcement after a migration.
    pub fn rarp(self) -> Self {
        let (sender_mac, zero) = (self.src_mac, Ipv4Addr::UNSPECIFIED);
        let arp = ArpBody { operation: 3, sender_mac, sender_ip: zero, target_mac: sender_mac, target_ip: zero };
        self.to_mac(BROADCAST).body(Body::Rarp(arp))
    }

    /// A neighbour solicitation for `target` to its solicited-node group, with the source link-layer option.
    pub fn neighbour_solicitation(mut self, from: Ipv6Addr, target: Ipv6Addr) -> Self {
        let group = solicited_node(target);
        (self.src, self.dst, self.ttl) = (IpAddr::V6(from), IpAddr::V6(group), 255);
        let mut payload = target.octets().to_vec();
        if !from.is_unspecified() {
            payload.extend([1, 1]);
            payload.extend(self.src_mac);
        }
        self.to_mac(multicast_mac6(group)).body(Body::Icmp { kind: 135, code: 0, rest: [0; 4], payload })
    }

    /// A neighbour advertisement of `target` with the packet's source MAC; `flags` are R, S and O as in the top byte.
    pub fn neighbour_advertisement(mut self, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, flags: u8) -> Self {
        (self.src, self.dst, self.ttl) = (IpAddr::V6(from), IpAddr::V6(to), 255);
        let mut payload = target.octets().to_vec();
        payload.extend([2, 1]);
        payload.extend(self.src_mac);
        self.body(Body::Icmp { kind: 136, code: 0, rest: [flags, 0, 0, 0], payload })
    }

    /// A router advertisement from `from` to all nodes.
    pub fn router_advertisement(mut self, from: Ipv6Addr) -> Self {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        (self.src, self.dst, self.ttl) = (IpAddr::V6(from), IpAddr::V6(all_nodes), 255);
        self.to_mac(multicast_mac6(all_nodes)).body(Body::Icmp {
            kind: 134,
            code: 0,
            rest: [64, 0, 0x07, 0x08],
            payload: vec![0; 8],
        })
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// DSCP and ECN together: TOS or traffic class.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// The IPv4 identification.
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Sets DF.
    pub fn dont_fragment(mut self) -> Self {
        self.fragment |= 0x4000;
        self
    }

    /// Makes it a fragment: offset in 8-byte units; over IPv6 a fragment header is added. The body is taken as
    /// the whole message where the offset is zero, and as raw bytes of the middle otherwise.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        if self.src.is_ipv4() {
            self.fragment = offset | if more { 0x2000 } else { 0 };
        } else {
            let word = (offset << 3) | u16::from(more);
            let mut header = vec![0, 0];
            header.extend(word.to_be_bytes());
            header.extend([0, 0, 0, 7]);
            self.extensions.push((44, header));
        }
        self
    }

    /// IPv4 options; padded to words.
    pub fn options(mut self, bytes: &[u8]) -> Self {
        self.options = bytes.to_vec();
        self.options.resize(bytes.len().div_ceil(4) * 4, 0);
        self
    }

    /// An IPv6 extension header by its protocol number; `bytes` is the whole header, its first byte is filled in.
    pub fn extension(mut self, protocol: u8, bytes: &[u8]) -> Self {
        self.extensions.push((protocol, bytes.to_vec()));
        self
    }

    /// The checksum of the L4 message.
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// The checksum of the IPv4 header.
    pub fn ip_checksum(mut self, checksum: Checksum) -> Self {
        self.ip_checksum = checksum;
        self
    }

    /// What the IP header claims as its length.
    pub fn ip_length(mut self, length: u16) -> Self {
        self.ip_length = Some(length);
        self
    }

    /// Pads the frame with zeros, as a NIC does to 60.
    pub fn padded_to(mut self, len: usize) -> Self {
        self.pad_to = len;
        self
    }

    /// The frame's bytes.
    ///
    /// # Panics
    /// When source and destination are of different families: that is a mistake in the test.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::from(self.dst_mac);
        frame.extend(self.src_mac);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let body = self.body.bytes(self.src, self.dst, self.checksum);
        match &self.body {
            Body::Arp(_) => self.ether(&mut frame, 0x0806, &body),
            Body::Rarp(_) => self.ether(&mut frame, 0x8035, &body),
            Body::Ether { ethertype, .. } => self.ether(&mut frame, *ethertype, &body),
            _ => {
                assert!(same_family(self.src, self.dst), "{} and {} are of two families", self.src, self.dst);
                match (self.src, self.dst) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => {
                        self.ether(&mut frame, 0x0800, &self.ipv4(src, dst, &body));
                    }
                    (IpAddr::V6(src), IpAddr::V6(dst)) => {
                        self.ether(&mut frame, 0x86dd, &self.ipv6(src, dst, &body));
                    }
                    _ => unreachable!("families were compared"),
                }
            }
        }
        frame.resize(frame.len().max(self.pad_to), 0);
        frame
    }

    fn ether(&self, frame: &mut Vec<u8>, ethertype: u16, payload: &[u8]) {
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
    }

    fn ipv4(&self, src: Ipv4Addr, dst: Ipv4Addr, body: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = self.ip_length.unwrap_or((header_len + body.len()) as u16);
        let mut header = vec![0x40 | (header_len / 4) as u8, self.tos];
        header.extend(total.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.body.protocol(true), 0, 0]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(&self.options);
        let right = checksum::internet(&header);
        let value = match self.ip_checksum {
            Checksum::Right => right,
            Checksum::Wrong => right ^ 0x0100,
            Checksum::Zero | Checksum::Partial => 0,
        };
        header[10..12].copy_from_slice(&value.to_be_bytes());
        header.extend(body);
        header
    }

    fn ipv6(&self, src: Ipv6Addr, dst: Ipv6Addr, body: &[u8]) -> Vec<u8> {
        let mut next = self.body.protocol(false);
        let mut payload = body.to_vec();
        for (protocol, bytes) in self.extensions.iter().rev() {
            let mut with = bytes.clone();
            with[0] = next;
            with.extend(payload);
            payload = with;
            next = *protocol;
        }
        let length = self.ip_length.unwrap_or(payload.len() as u16);
        let mut header = vec![0x60 | (self.tos >> 4), self.tos << 4, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([next, self.ttl]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(payload);
        header
    }

    fn ipv4_source(&self) -> Ipv4Addr {
        match self.src {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }
}
