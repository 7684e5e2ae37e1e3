//! What a packet carries above its Ethernet or IP header.

use std::net::{IpAddr, Ipv4Addr};

use super::{Mac, checksum};

/// What stands in a checksum field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The right sum.
    #[default]
    Right,
    /// Zero: "none" for UDP.
    Zero,
    /// The right sum with one bit turned.
    Wrong,
    /// The pseudo-header's sum only: what a sender with offload leaves (CHECKSUM_PARTIAL).
    Partial,
}

/// An ARP or RARP message.
#[derive(Clone, Copy, Debug)]
pub struct ArpBody {
    /// 1 request, 2 reply, 3 reverse request.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender_ip: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

/// The message inside a packet.
#[derive(Clone, Debug)]
pub enum Body {
    /// UDP.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// What follows the header.
        payload: Vec<u8>,
    },
    /// TCP without options.
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// The flags byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
        /// What follows the header.
        payload: Vec<u8>,
    },
    /// ICMP or ICMPv6, by the family of the packet.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The second word of the header.
        rest: [u8; 4],
        /// What follows the header.
        payload: Vec<u8>,
    },
    /// Any bytes under an IP protocol number.
    Ip {
        /// The protocol number.
        protocol: u8,
        /// What follows the IP header.
        payload: Vec<u8>,
    },
    /// ARP.
    Arp(ArpBody),
    /// RARP (ethertype 0x8035), as QEMU announces a migrated guest.
    Rarp(ArpBody),
    /// Any bytes under an ethertype.
    Ether {
        /// The ethertype.
        ethertype: u16,
        /// What follows it.
        payload: Vec<u8>,
    },
}

impl Body {
    /// The payload that belongs to the test, where the body has one.
    pub(crate) fn payload_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Udp { payload, .. }
            | Self::Tcp { payload, .. }
            | Self::Icmp { payload, .. }
            | Self::Ip { payload, .. }
            | Self::Ether { payload, .. } => Some(payload),
            Self::Arp(_) | Self::Rarp(_) => None,
        }
    }

    /// The IP protocol number, for bodies that ride on IP.
    pub(crate) fn protocol(&self, ipv4: bool) -> u8 {
        match self {
            Self::Udp { .. } => 17,
            Self::Tcp { .. } => 6,
            Self::Icmp { .. } if ipv4 => 1,
            Self::Icmp { .. } => 58,
            Self::Ip { protocol, .. } => *protocol,
            Self::Arp(_) | Self::Rarp(_) | Self::Ether { .. } => 0xff,
        }
    }

    /// The bytes of the message, its checksum as `sum` asks.
    pub(crate) fn bytes(&self, src: IpAddr, dst: IpAddr, sum: Checksum) -> Vec<u8> {
        let protocol = self.protocol(src.is_ipv4());
        match self {
            Self::Udp { src: sport, dst: dport, payload } => {
                let mut out = Vec::from(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend((8 + payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                out.extend(payload);
                finish(out, 6, Some((src, dst, protocol)), sum)
            }
            Self::Tcp { src: sport, dst: dport, seq, ack, flags, payload } => {
                let mut out = Vec::from(sport.to_be_bytes());
                out.extend(dport.to_be_bytes());
                out.extend(seq.to_be_bytes());
                out.extend(ack.to_be_bytes());
                out.extend([0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                out.extend(payload);
                finish(out, 16, Some((src, dst, protocol)), sum)
            }
            Self::Icmp { kind, code, rest, payload } => {
                let mut out = vec![*kind, *code, 0, 0];
                out.extend(rest);
                out.extend(payload);
                finish(out, 2, src.is_ipv6().then_some((src, dst, protocol)), sum)
            }
            Self::Arp(arp) | Self::Rarp(arp) => arp.bytes(),
            Self::Ip { payload, .. } | Self::Ether { payload, .. } => payload.clone(),
        }
    }
}

impl ArpBody {
    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0, 1, 8, 0, 6, 4];
        out.extend(self.operation.to_be_bytes());
        out.extend(self.sender_mac);
        out.extend(self.sender_ip.octets());
        out.extend(self.target_mac);
        out.extend(self.target_ip.octets());
        out
    }
}

fn finish(mut message: Vec<u8>, at: usize, pseudo: Option<(IpAddr, IpAddr, u8)>, sum: Checksum) -> Vec<u8> {
    let right = match pseudo {
        Some((src, dst, protocol)) => checksum::transport(src, dst, protocol, &message),
        None => checksum::internet(&message),
    };
    // RFC 768: a computed zero is sent as all ones, for zero means "none".
    let right = if right == 0 && matches!(pseudo, Some((_, _, 17))) { 0xffff } else { right };
    let value = match (sum, pseudo) {
        (Checksum::Right, _) => right,
        (Checksum::Zero, _) => 0,
        (Checksum::Wrong, _) => right ^ 0x0100,
        (Checksum::Partial, Some((src, dst, protocol))) => checksum::pseudo(src, dst, protocol, message.len()),
        (Checksum::Partial, None) => 0,
    };
    message[at..at + 2].copy_from_slice(&value.to_be_bytes());
    message
}
