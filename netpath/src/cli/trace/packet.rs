//! A packet from a line of text: `tcp 10.1.1.11:40000 -> 198.51.100.7:443`.

use std::{net::IpAddr, str::FromStr};

use netpath_common::Mac;

/// What is to be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    /// Addresses of one family; of a question the one that asks and the one that is asked for.
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp {
        source: u16,
        destination: u16,
        flags: u8,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
    },
    Other(u8),
    /// By ARP, or for IPv6 by neighbour discovery.
    WhoHas,
}

/// What a packet may look like.
const FORMS: &str = "write `tcp 10.1.1.11:40000 -> 198.51.100.7:443` (a SYN; `… SA` for other flags; `10.1.1.11 -> …` for any port), \
                     `udp 10.1.1.11:5000 -> 198.51.100.7:53`, `icmp 10.1.1.11 -> 198.51.100.7` (an echo request; `icmp 3/1 …` for \
                     another type), `proto 47 10.1.1.11 -> 198.51.100.7`, `arp who-has 10.1.1.1 tell 10.1.1.11`, or the same of IPv6: \
                     `tcp [2001:db8::11]:40000 -> [2001:db8::12]:443`, `icmp6 2001:db8::11 -> 2001:db8::12`, `nd who-has 2001:db8::1 \
                     tell 2001:db8::11`";

/// The source port where none is written.
const ANY_PORT: u16 = 40_000;
/// What packets without a protocol's own contents carry.
const PAYLOAD: &[u8; 8] = b"netpath\n";
const ICMPV6: u8 = 58;

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let spec = Self::of(&words).filter(|spec| spec.source.is_ipv4() == spec.destination.is_ipv4());
        spec.ok_or_else(|| format!("`{text}` is no packet; {FORMS}"))
    }
}

impl Spec {
    fn of(words: &[&str]) -> Option<Self> {
        let spec = |source, destination, kind| Some(Self { source, destination, kind });
        match words {
            ["arp" | "nd", "who-has", target, "tell", sender] => {
                let (source, destination): (IpAddr, IpAddr) = (sender.parse().ok()?, target.parse().ok()?);
                spec(source, destination, Kind::WhoHas).filter(|_| source.is_ipv4() == (words[0] == "arp"))
            }
            [name @ ("icmp" | "icmp6" | "icmpv6"), what @ .., source, "->", destination] if what.len() <= 1 => {
                let source: IpAddr = source.parse().ok()?;
                let (kind, code) = icmp_type(what.first().unwrap_or(&"echo"), source.is_ipv6())?;
                let spec = spec(source, destination.parse().ok()?, Kind::Icmp { kind, code });
                spec.filter(|_| source.is_ipv4() == (*name == "icmp"))
            }
            ["proto", number, source, "->", destination] => {
                spec(source.parse().ok()?, destination.parse().ok()?, Kind::Other(number.parse().ok()?))
            }
            [protocol @ ("tcp" | "udp"), from, "->", to, flags @ ..] if flags.len() <= 1 => {
                let ((source, from), (destination, to)) = (end(from)?, end(to)?);
                let (from, to) = (from.unwrap_or(ANY_PORT), to?);
                let kind = match (*protocol, flags) {
                    ("tcp", flags) => {
                        Kind::Tcp { source: from, destination: to, flags: tcp_flags(flags.first().unwrap_or(&"S"))? }
                    }
                    (_, []) => Kind::Udp { source: from, destination: to },
                    _ => return None,
                };
                spec(source, destination, kind)
            }
            _ => None,
        }
    }

    /// Where a question goes: to everybody, or to those who may have the address (RFC 4291 §2.7.1). `None` for other packets.
    pub(super) fn group(&self) -> Option<Mac> {
        match (self.kind, self.destination) {
            (Kind::WhoHas, IpAddr::V4(_)) => Some(Mac::BROADCAST),
            (Kind::WhoHas, IpAddr::V6(target)) => {
                let [.., a, b, c] = target.octets();
                Some(Mac([0x33, 0x33, 0xff, a, b, c]))
            }
            _ => None,
        }
    }

    /// The frame, from one station to another, in a tag where the link has one.
    pub(super) fn frame(&self, from: Mac, to: Mac, vlan: u16) -> Vec<u8> {
        let mut frame = [to.0, from.0].concat();
        if vlan != 0 {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        match (self.kind, self.source, self.destination) {
            (Kind::WhoHas, IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
                frame.extend(from.0);
                frame.extend(source.octets());
                frame.extend([0; 6]);
                frame.extend(destination.octets());
            }
            (_, IpAddr::V4(_), _) => {
                frame.extend([8, 0]);
                frame.extend(self.ipv4());
            }
            (_, IpAddr::V6(_), _) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(from));
            }
        }
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn ipv4(&self) -> Vec<u8> {
        const TTL: u8 = 64;
        const DONT_FRAGMENT: u8 = 0x40;
        let (protocol, segment, sum_at) = self.segment();
        let [high, low] = ((20 + segment.len()) as u16).to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, DONT_FRAGMENT, 0, TTL, protocol, 0, 0];
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        let pseudo = if protocol == 1 { Vec::new() } else { self.pseudo_header(protocol, segment.len()) };
        header.extend(with_sum(segment, sum_at, &pseudo));
        header
    }

    fn ipv6(&self, from: Mac) -> Vec<u8> {
        const HOP_LIMIT: u8 = 64;
        const OF_DISCOVERY: u8 = 255;
        let (protocol, mut segment, sum_at) = self.segment();
        let (mut destination, mut hop_limit) = (octets(self.destination), HOP_LIMIT);
        if self.kind == Kind::WhoHas {
            // RFC 4861 §4.3: the target, and the sender's link-layer address.
            segment = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &destination, &[1, 1], &from.0].concat();
            let node = [destination[13], destination[14], destination[15]];
            destination = [&[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff][..], &node].concat();
            hop_limit = OF_DISCOVERY;
        }
        let [high, low] = (segment.len() as u16).to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, high, low, protocol, hop_limit];
        packet.extend(octets(self.source));
        packet.extend(&destination);
        let pseudo = [&packet[8..40], &[0, 0, high, low, 0, 0, 0, protocol]].concat();
        packet.extend(with_sum(segment, sum_at, &pseudo));
        packet
    }

    fn pseudo_header(&self, protocol: u8, len: usize) -> Vec<u8> {
        let [high, low] = (len as u16).to_be_bytes();
        [octets(self.source), octets(self.destination), vec![0, protocol, high, low]].concat()
    }

    /// The protocol, what IP carries, and where its checksum goes, if it has one.
    fn segment(&self) -> (u8, Vec<u8>, Option<usize>) {
        let ports = |a: u16, b: u16| [a.to_be_bytes(), b.to_be_bytes()].concat();
        match self.kind {
            Kind::Tcp { source, destination, flags } => {
                let mut segment = ports(source, destination);
                segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, segment, Some(16))
            }
            Kind::Udp { source, destination } => {
                let mut segment = ports(source, destination);
                segment.extend([0, 16, 0, 0]);
                segment.extend(PAYLOAD);
                (17, segment, Some(6))
            }
            Kind::Icmp { kind, code } => {
                let protocol = if self.source.is_ipv4() { 1 } else { ICMPV6 };
                (protocol, [&[kind, code, 0, 0, 0, 1, 0, 1][..], PAYLOAD].concat(), Some(2))
            }
            Kind::WhoHas => (ICMPV6, Vec::new(), Some(2)),
            Kind::Other(protocol) => (protocol, PAYLOAD.to_vec(), None),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A segment with its checksum in it, over a pseudo-header too.
fn with_sum(mut segment: Vec<u8>, sum_at: Option<usize>, pseudo: &[u8]) -> Vec<u8> {
    if let Some(at) = sum_at {
        let sum = checksum(&[pseudo, &segment].concat());
        segment[at..at + 2].copy_from_slice(&sum);
    }
    segment
}

/// An address and a port, if there is one: `10.1.1.11:443`, `[2001:db8::1]:443`, `10.1.1.11`.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(end) = text.parse::<std::net::SocketAddr>() {
        return Some((end.ip(), Some(end.port())));
    }
    Some((text.trim_start_matches('[').trim_end_matches(']').parse().ok()?, None))
}

/// Letters of FIN, SYN, RST, PSH, ACK, URG.
fn tcp_flags(letters: &str) -> Option<u8> {
    letters.chars().try_fold(0, |bits, letter| Some(bits | 1 << "FSRPAU".find(letter)?))
}

/// `echo`, `reply`, or numbers: `3`, `3/1`.
fn icmp_type(text: &str, is_v6: bool) -> Option<(u8, u8)> {
    match (text, is_v6) {
        ("echo", false) => Some((8, 0)),
        ("echo", true) => Some((128, 0)),
        ("reply", false) => Some((0, 0)),
        ("reply", true) => Some((129, 0)),
        _ => {
            let (kind, code) = text.split_once('/').unwrap_or((text, "0"));
            Some((kind.parse().ok()?, code.parse().ok()?))
        }
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;

    fn read(text: &str) -> String {
        let frame = text.parse::<Spec>().unwrap().frame(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), 0);
        assert!(frame.len() >= 60);
        Headers::of(&frame, &[]).to_string()
    }

    #[test]
    fn a_packet_is_what_its_line_says() {
        for (line, packet) in [
            ("tcp 10.1.1.11:40000 -> 198.51.100.7:443", "tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]"),
            ("tcp 10.1.1.11:1 -> 10.1.1.12:2 FA", "tcp 10.1.1.11:1 > 10.1.1.12:2 [FA]"),
            ("tcp 10.1.1.11 -> 10.1.1.12:2", "tcp 10.1.1.11:40000 > 10.1.1.12:2 [S]"),
            ("udp 10.1.1.11:5 -> 10.1.1.12:53", "udp 10.1.1.11:5 > 10.1.1.12:53"),
            ("icmp echo 10.1.1.11 -> 10.1.1.12", "icmp 10.1.1.11:1 > 10.1.1.12 type 8/0"),
            ("icmp 10.1.1.11 -> 10.1.1.12", "icmp 10.1.1.11:1 > 10.1.1.12 type 8/0"),
            ("icmp 13 10.1.1.11 -> 10.1.1.12", "icmp 10.1.1.11:1 > 10.1.1.12 type 13/0"),
            ("arp who-has 10.1.1.1 tell 10.1.1.11", "arp request 10.1.1.11 > 10.1.1.1"),
        ] {
            assert_eq!(read(line), packet);
        }
        assert!(read("proto 47 10.1.1.11 -> 10.1.1.12").starts_with("47 10.1.1.11 > 10.1.1.12"));
        assert!(read("tcp [2001:db8::11]:1 -> [2001:db8::12]:443").ends_with(":443 [S]"));
        assert!(read("udp 2001:db8::11 -> [2001:db8::12]:53").ends_with(":53"));
        assert!(read("icmp6 2001:db8::11 -> 2001:db8::12").ends_with("type 128/0"));
        assert!(read("nd who-has 2001:db8::1 tell 2001:db8::11").ends_with("type 135/0"));
    }

    #[test]
    fn a_line_that_is_no_packet_is_told_what_one_looks_like() {
        for wrong in [
            "",
            "tcp 10.1.1.11 -> 10.1.1.12",
            "udp 10.1.1.11:1 -> 10.1.1.12:99999",
            "tcp a:1 -> b:2",
            "udp 1.1.1.1:1 -> 2.2.2.2:2 S",
            "tcp 10.1.1.11:1 -> [2001:db8::1]:2",
            "icmp 2001:db8::1 -> 2001:db8::2",
            "arp who-has 2001:db8::1 tell 2001:db8::2",
        ] {
            assert!(wrong.parse::<Spec>().unwrap_err().contains("arp who-has"), "{wrong}");
        }
    }

    #[test]
    fn every_checksum_is_right() {
        let spec: Spec = "tcp 10.1.1.11:40000 -> 198.51.100.7:443".parse().unwrap();
        let packet = spec.ipv4();
        assert_eq!(checksum(&packet[..20]), [0, 0]);
        let pseudo = [&packet[12..20], &[0, 6, 0, 20]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[20..]].concat()), [0, 0]);
        for (line, protocol) in [
            ("udp [2001:db8::11]:1 -> [2001:db8::12]:2", 17),
            ("icmp6 2001:db8::11 -> 2001:db8::12", 58),
            ("nd who-has 2001:db8::1 tell 2001:db8::11", 58),
        ] {
            let packet = line.parse::<Spec>().unwrap().ipv6(Mac([2, 0, 0, 0, 0, 1]));
            let pseudo = [&packet[8..40], &[0, 0, packet[4], packet[5], 0, 0, 0, protocol]].concat();
            assert_eq!(checksum(&[&pseudo, &packet[40..]].concat()), [0, 0], "{line}");
        }
    }
}
