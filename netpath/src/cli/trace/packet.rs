//! A packet from a line of text: `tcp 10.1.1.11:40000 -> 198.51.100.7:443`.

use std::{net::Ipv4Addr, str::FromStr};

use netpath_common::Mac;

/// What is to be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    /// IPv4 addresses; of ARP the one that asks and the one that is asked for.
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp { source: u16, destination: u16, flags: u8 },
    Udp { source: u16, destination: u16 },
    Echo,
    Arp,
}

/// What a packet may look like.
const FORMS: &str = "write `tcp 10.1.1.11:40000 -> 198.51.100.7:443` (a SYN; `… SA` for other flags), \
                     `udp 10.1.1.11:5000 -> 198.51.100.7:53`, `icmp echo 10.1.1.11 -> 198.51.100.7`, \
                     or `arp who-has 10.1.1.1 tell 10.1.1.11`";

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        Self::of(&words).ok_or_else(|| format!("`{text}` is no packet; {FORMS}"))
    }
}

impl Spec {
    fn of(words: &[&str]) -> Option<Self> {
        match words {
            ["arp", "who-has", target, "tell", sender] => {
                Some(Self { source: sender.parse().ok()?, destination: target.parse().ok()?, kind: Kind::Arp })
            }
            ["icmp", "echo", source, "->", destination] => {
                Some(Self { source: source.parse().ok()?, destination: destination.parse().ok()?, kind: Kind::Echo })
            }
            [protocol @ ("tcp" | "udp"), from, "->", to, flags @ ..] if flags.len() <= 1 => {
                let ((source, from), (destination, to)) = (end(from)?, end(to)?);
                let kind = match (*protocol, flags) {
                    ("tcp", flags) => {
                        Kind::Tcp { source: from, destination: to, flags: tcp_flags(flags.first().unwrap_or(&"S"))? }
                    }
                    (_, []) => Kind::Udp { source: from, destination: to },
                    _ => return None,
                };
                Some(Self { source, destination, kind })
            }
            _ => None,
        }
    }

    /// Whether it is a question to everybody.
    pub(super) fn is_arp(&self) -> bool {
        self.kind == Kind::Arp
    }

    /// The frame, from one station to another, in a tag where the link has one.
    pub(super) fn frame(&self, from: Mac, to: Mac, vlan: u16) -> Vec<u8> {
        let mut frame = [to.0, from.0].concat();
        if vlan != 0 {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        let (source, destination) = (self.source.octets(), self.destination.octets());
        if self.is_arp() {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(from.0);
            frame.extend(source);
            frame.extend([0; 6]);
            frame.extend(destination);
        } else {
            frame.extend([8, 0]);
            frame.extend(self.ipv4());
        }
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn ipv4(&self) -> Vec<u8> {
        const TTL: u8 = 64;
        const DONT_FRAGMENT: u8 = 0x40;
        let (protocol, segment, sum_at) = self.segment();
        let len = (20 + segment.len()) as u16;
        let [high, low] = len.to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, DONT_FRAGMENT, 0, TTL, protocol, 0, 0];
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        let mut segment = segment;
        let mut summed = Vec::new();
        if self.kind != Kind::Echo {
            summed.extend([self.source.octets(), self.destination.octets()].concat());
            summed.extend([0, protocol]);
            summed.extend((segment.len() as u16).to_be_bytes());
        }
        summed.extend(&segment);
        let sum = checksum(&summed);
        segment[sum_at..sum_at + 2].copy_from_slice(&sum);
        header.extend(segment);
        header
    }

    /// The protocol, what IP carries, and where its checksum goes.
    fn segment(&self) -> (u8, Vec<u8>, usize) {
        let ports = |a: u16, b: u16| [a.to_be_bytes(), b.to_be_bytes()].concat();
        match self.kind {
            Kind::Tcp { source, destination, flags } => {
                let mut segment = ports(source, destination);
                segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, segment, 16)
            }
            Kind::Udp { source, destination } => {
                let mut segment = ports(source, destination);
                segment.extend([0, 16, 0, 0]);
                segment.extend(*b"netpath\n");
                (17, segment, 6)
            }
            Kind::Echo | Kind::Arp => (1, [&[8, 0, 0, 0, 0, 1, 0, 1][..], b"netpath\n"].concat(), 2),
        }
    }
}

fn end(text: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = text.split_once(':')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// Letters of FIN, SYN, RST, PSH, ACK, URG.
fn tcp_flags(letters: &str) -> Option<u8> {
    letters.chars().try_fold(0, |bits, letter| Some(bits | 1 << "FSRPAU".find(letter)?))
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
        assert_eq!(read("tcp 10.1.1.11:40000 -> 198.51.100.7:443"), "tcp 10.1.1.11:40000 > 198.51.100.7:443 [S]");
        assert_eq!(read("tcp 10.1.1.11:1 -> 10.1.1.12:2 FA"), "tcp 10.1.1.11:1 > 10.1.1.12:2 [FA]");
        assert_eq!(read("udp 10.1.1.11:5 -> 10.1.1.12:53"), "udp 10.1.1.11:5 > 10.1.1.12:53");
        assert_eq!(read("icmp echo 10.1.1.11 -> 10.1.1.12"), "icmp 10.1.1.11:1 > 10.1.1.12 type 8/0");
        assert_eq!(read("arp who-has 10.1.1.1 tell 10.1.1.11"), "arp request 10.1.1.11 > 10.1.1.1");
    }

    #[test]
    fn a_line_that_is_no_packet_is_told_what_one_looks_like() {
        for wrong in [
            "",
            "tcp 10.1.1.11 -> 10.1.1.12",
            "udp 10.1.1.11:1 -> 10.1.1.12:99999",
            "tcp a:1 -> b:2",
            "udp 1.1.1.1:1 -> 2.2.2.2:2 S",
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
    }
}
