//! A frame's headers in words: of what the data path copied, of what a file has, of what a trace made.
//!
//! Nothing here is believed: whatever the bytes say, no read goes beyond them, and what is cut short is left out.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netpath_common::Mac;
use serde::Serialize;

/// VXLAN's UDP port, and the one that CloudStack uses with multicast: a tunnel of the host's own may have another.
pub(crate) const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// Packets inside packets are followed so far.
const DEEPEST: usize = 2;

/// Where in a frame something is read.
#[derive(Clone, Copy)]
struct Inside<'a> {
    tunnel_ports: &'a [u16],
    /// In how many others the packet is.
    depth: usize,
}

impl Inside<'_> {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// What a frame's headers say. What the frame has not got is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// Source MAC address.
    #[serde(serialize_with = "in_words")]
    pub source_mac: Option<Mac>,
    /// Destination MAC address.
    #[serde(serialize_with = "in_words")]
    pub destination_mac: Option<Mac>,
    /// VLAN ids, the outermost first.
    pub vlans: Vec<u16>,
    /// `ipv4`, `ipv6`, `arp`, `rarp`, or the Ethernet type in hexadecimal.
    pub family: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number; for ARP `request` or `reply`.
    pub protocol: Option<String>,
    /// Source address; ARP's sender.
    pub source: Option<IpAddr>,
    /// Source port; of an ICMP query its identifier.
    pub source_port: Option<u16>,
    /// Destination address; ARP's target.
    pub destination: Option<IpAddr>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Letters of FIN, SYN, RST, PSH, ACK, URG: `S`, `SA`, `FA`.
    pub tcp_flags: Option<String>,
    /// Type and code: `8/0`.
    pub icmp_type: Option<String>,
    /// Time to live, or hop limit.
    pub ttl: Option<u8>,
    /// It is a fragment, and not the first one.
    pub fragment: bool,
    /// The VXLAN network identifier, where there is a frame inside.
    pub vni: Option<u32>,
    /// The frame inside VXLAN, or the packet that an ICMP error quotes.
    pub inside: Option<Box<Headers>>,
}

fn in_words<S: serde::Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
    mac.map(|mac| mac.to_string()).serialize(serializer)
}

/// `N` bytes at an offset, where they are.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn word(bytes: &[u8], offset: usize) -> Option<u16> {
    at(bytes, offset).map(u16::from_be_bytes)
}

impl Headers {
    /// Reads a frame; what UDP carries to `tunnel_ports` is a frame in VXLAN.
    #[must_use]
    pub fn of(frame: &[u8], tunnel_ports: &[u16]) -> Self {
        Self::of_frame(frame, Inside { tunnel_ports, depth: 0 })
    }

    /// The same, with a tag that a device took off the frame put before what is in it.
    #[must_use]
    pub fn tagged(frame: &[u8], tag: u32, tunnel_ports: &[u16]) -> Self {
        let mut headers = Self::of(frame, tunnel_ports);
        if tag != 0 {
            headers.vlans.insert(0, tag as u16 & 0xfff);
        }
        headers
    }

    fn of_frame(frame: &[u8], inside: Inside<'_>) -> Self {
        let mut headers =
            Self { destination_mac: at(frame, 0).map(Mac), source_mac: at(frame, 6).map(Mac), ..Self::default() };
        let mut offset = 12;
        while let Some(0x8100 | 0x88a8) = word(frame, offset) {
            headers.vlans.extend(word(frame, offset + 2).map(|tci| tci & 0xfff));
            offset += 4;
        }
        let rest = frame.get(offset + 2..).unwrap_or_default();
        match word(frame, offset) {
            Some(0x0800) => headers.ipv4(rest, inside),
            Some(0x86dd) => headers.ipv6(rest, inside),
            Some(kind @ (0x0806 | 0x8035)) => headers.arp(rest, kind),
            Some(other) => headers.family = format!("{other:#06x}"),
            None => headers.family = "cut_short".to_owned(),
        }
        headers
    }

    fn arp(&mut self, packet: &[u8], kind: u16) {
        self.family = if kind == 0x0806 { "arp" } else { "rarp" }.to_owned();
        self.protocol = word(packet, 6).map(|operation| match operation {
            1 => "request".to_owned(),
            2 => "reply".to_owned(),
            other => other.to_string(),
        });
        if at(packet, 4) == Some([6, 4]) {
            self.source = at::<4>(packet, 14).map(|ip| Ipv4Addr::from(ip).into());
            self.destination = at::<4>(packet, 24).map(|ip| Ipv4Addr::from(ip).into());
        }
    }

    fn ipv4(&mut self, packet: &[u8], inside: Inside<'_>) {
        self.family = "ipv4".to_owned();
        self.source = at::<4>(packet, 12).map(|ip| Ipv4Addr::from(ip).into());
        self.destination = at::<4>(packet, 16).map(|ip| Ipv4Addr::from(ip).into());
        self.ttl = packet.get(8).copied();
        let (Some(first), Some(protocol)) = (packet.first(), packet.get(9)) else { return };
        self.fragment = word(packet, 6).is_some_and(|word| word & 0x1fff != 0);
        let rest = packet.get(usize::from(first & 0x0f) * 4..).unwrap_or_default();
        self.transport(*protocol, if self.fragment { &[] } else { rest }, inside);
    }

    fn ipv6(&mut self, packet: &[u8], inside: Inside<'_>) {
        const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];
        self.family = "ipv6".to_owned();
        self.source = at::<16>(packet, 8).map(|ip| Ipv6Addr::from(ip).into());
        self.destination = at::<16>(packet, 24).map(|ip| Ipv6Addr::from(ip).into());
        self.ttl = packet.get(7).copied();
        let Some(mut protocol) = packet.get(6).copied() else { return };
        let mut rest = packet.get(40..).unwrap_or_default();
        for _ in 0..8 {
            if !EXTENSIONS.contains(&protocol) {
                break;
            }
            let (Some(next), Some(len)) = (rest.first(), rest.get(1)) else { break };
            if protocol == 44 {
                self.fragment |= word(rest, 2).is_some_and(|word| word & 0xfff8 != 0);
            }
            let len = if protocol == 44 { 8 } else { (usize::from(*len) + 1) * 8 };
            (protocol, rest) = (*next, rest.get(len..).unwrap_or_default());
        }
        self.transport(protocol, if self.fragment { &[] } else { rest }, inside);
    }

    fn transport(&mut self, protocol: u8, segment: &[u8], inside: Inside<'_>) {
        self.protocol = Some(match protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "icmpv6".to_owned(),
            other => other.to_string(),
        });
        match protocol {
            6 | 17 => (self.source_port, self.destination_port) = (word(segment, 0), word(segment, 2)),
            1 | 58 => return self.icmp(segment, inside),
            _ => {}
        }
        if protocol == 6 {
            self.tcp_flags = segment.get(13).map(|bits| {
                let letters = ['F', 'S', 'R', 'P', 'A', 'U'].into_iter().enumerate();
                letters.filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, letter)| letter).collect()
            });
        }
        if protocol == 17
            && inside.depth < DEEPEST
            && self.destination_port.is_some_and(|port| inside.tunnel_ports.contains(&port))
        {
            let Some([flags, _, _, _, a, b, c, _]) = at(segment, 8) else { return };
            if flags & 0x08 != 0 {
                self.vni = Some(u32::from_be_bytes([0, a, b, c]));
                self.inside = segment.get(16..).map(|frame| Box::new(Self::of_frame(frame, inside.deeper())));
            }
        }
    }

    fn icmp(&mut self, message: &[u8], inside: Inside<'_>) {
        let Some([kind, code]) = at(message, 0) else { return };
        self.icmp_type = Some(format!("{kind}/{code}"));
        let is_v6 = self.family == "ipv6";
        let is_error = if is_v6 { kind < 128 } else { matches!(kind, 3 | 4 | 5 | 11 | 12) };
        match is_error {
            false => self.source_port = word(message, 4),
            true if inside.depth < DEEPEST => {
                let mut quoted = Self::default();
                let packet = message.get(8..).unwrap_or_default();
                if is_v6 {
                    quoted.ipv6(packet, inside.deeper())
                } else {
                    quoted.ipv4(packet, inside.deeper())
                }
                self.inside = Some(Box::new(quoted));
            }
            true => {}
        }
    }

    /// These headers, and those inside them.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |headers| headers.inside.as_deref())
    }

    /// Whether an address is the source or the destination, here or inside.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.all().any(|headers| headers.source == Some(address) || headers.destination == Some(address))
    }

    /// Whether a port is the source's or the destination's, here or inside.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.all().any(|headers| headers.source_port == Some(port) || headers.destination_port == Some(port))
    }
}

/// In one line: `tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]`.
impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vlan in &self.vlans {
            write!(f, "vlan {vlan}: ")?;
        }
        let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("[{ip}]:{port}"),
            (Some(ip), Some(port)) => format!("{ip}:{port}"),
            (Some(ip), None) => ip.to_string(),
            (None, _) => "?".to_owned(),
        };
        match self.family.as_str() {
            "arp" | "rarp" => {
                let operation = self.protocol.as_deref().unwrap_or("cut short");
                return write!(
                    f,
                    "{} {operation} {} > {}",
                    self.family,
                    end(self.source, None),
                    end(self.destination, None)
                );
            }
            "ipv4" | "ipv6" => {}
            other => {
                let mac = |mac: Option<Mac>| mac.map_or("?".to_owned(), |mac| mac.to_string());
                return write!(f, "{other} {} > {}", mac(self.source_mac), mac(self.destination_mac));
            }
        }
        let protocol = self.protocol.as_deref().unwrap_or("ip");
        write!(
            f,
            "{protocol} {} > {}",
            end(self.source, self.source_port),
            end(self.destination, self.destination_port)
        )?;
        if let Some(flags) = &self.tcp_flags {
            write!(f, " [{flags}]")?;
        }
        if let Some(kind) = &self.icmp_type {
            write!(f, " type {kind}")?;
        }
        if self.fragment {
            write!(f, " fragment")?;
        }
        match (&self.inside, self.vni) {
            (Some(inside), Some(vni)) => write!(f, ", vni {vni}: {inside}"),
            (Some(inside), None) => write!(f, " about {inside}"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYN: &str = "02005e000001 02000a01010b 0800 4500002800000000 4006 0000 0a01010b c6336407 \
                       9c40 01bb 00000000 00000000 5002 ffff 0000 0000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn a_segment_reads_as_its_five_tuple_and_flags() {
        let headers = Headers::of(&bytes(SYN), &VXLAN_PORTS);
        assert_eq!(headers.to_string(), "tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]");
        assert_eq!((headers.ttl, headers.family.as_str()), (Some(64), "ipv4"));
        assert!(headers.has_port(443) && headers.has_address([10, 1, 1, 11].into()) && !headers.has_port(22));
    }

    #[test]
    fn a_tag_that_the_device_took_off_stands_before_the_others() {
        let tagged = SYN.replacen("0800", "8100 0064 0800", 1);
        let headers = Headers::tagged(&bytes(&tagged), 0x8100_0005, &VXLAN_PORTS);
        assert_eq!(headers.vlans, [5, 100]);
        assert_eq!(headers.to_string(), "vlan 5: vlan 100: tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]");
    }

    #[test]
    fn arp_reads_as_who_asks_and_for_whom() {
        let arp = "ffffffffffff 02000a01010b 0806 0001 0800 06 04 0001 02000a01010b 0a01010b 000000000000 0a010101";
        assert_eq!(Headers::of(&bytes(arp), &VXLAN_PORTS).to_string(), "arp request 10.1.1.11 > 10.1.1.1");
    }

    #[test]
    fn what_is_inside_vxlan_is_read_too() {
        let outer = "020000000002 020000000001 0800 4500003200000000 4011 0000 c000020b c000020c c350 12b5 0000 0000 \
                     08000000 001389 00";
        let headers = Headers::of(&bytes(&format!("{outer} {SYN}")), &VXLAN_PORTS);
        assert_eq!(headers.vni, Some(5001));
        assert!(headers.to_string().ends_with("vni 5001: tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]"), "{headers}");
        assert!(headers.has_port(443));
    }

    #[test]
    fn a_frame_cut_anywhere_is_read_as_far_as_it_goes() {
        let frame = bytes(SYN);
        for len in 0..frame.len() {
            let _ = Headers::of(&frame[..len], &VXLAN_PORTS).to_string();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(frame in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4usize) {
            let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
            let mut frame = frame;
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&kinds[kind]);
            }
            let _ = Headers::of(&frame, &VXLAN_PORTS).to_string();
        }
    }
}
