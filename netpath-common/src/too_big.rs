//! "Too big": the ICMP error that keeps an MTU mistake from being a black hole.

use network_types::{eth::EthHdr, ip::Ipv4Hdr, ip::Ipv6Hdr};

use crate::{
    Address, Frame, Mac, Packet, checksum,
    frame::{EtherType, Protocol},
    icmp::{self, with_checksum},
    maps::Network,
};

pub use crate::icmp::{ICMP_LEN, QUOTE_LEN};

/// Who the error goes to, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// The gateway's MAC address, or the one that the guest sent to.
    pub from: Mac,
    /// The guest.
    pub to: Mac,
    /// The largest packet that fits, in bytes.
    pub mtu: u16,
}

impl TooBig {
    /// Whether and how the sender of an oversized packet is told.
    ///
    /// It is not (RFC 1812 §4.3.2.7, RFC 4443 §2.4 e) where the network has no gateway to speak, about
    /// broadcast and multicast, and about what is not IP.
    #[inline(always)]
    pub fn answer(frame: &Frame, network: &Network, mtu: u16) -> Option<Self> {
        let gateway = match frame.ether_type {
            EtherType::IPV4 => network.gateway_ip4 != [0; 4],
            EtherType::IPV6 => network.gateway_ip6 != Address::NONE,
            _ => false,
        };
        let first_fragment = frame.l4 != 0;
        if !gateway || !first_fragment || frame.destination.is_group() {
            return None;
        }
        let from = if network.gateway_mac == Mac::ZERO { frame.destination } else { network.gateway_mac };
        Some(Self { from, to: frame.source, mtu })
    }

    /// The Ethernet header of the error.
    #[inline(always)]
    pub fn eth(&self, ether_type: EtherType) -> EthHdr {
        EthHdr { dst_addr: self.to.0, src_addr: self.from.0, ether_type: ether_type.0.to_be() }
    }

    /// The IPv4 header of "fragmentation needed" to `to`, with precedence 6 (RFC 1812 §4.3.2.5).
    #[inline(always)]
    pub fn ipv4(&self, network: &Network, to: [u8; 4]) -> Ipv4Hdr {
        icmp::ipv4(network.gateway_ip4, to, QUOTE_LEN as u16)
    }

    /// The IPv6 header of "packet too big" to `to`.
    #[inline(always)]
    pub fn ipv6(&self, network: &Network, to: [u8; 16]) -> Ipv6Hdr {
        Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: ((ICMP_LEN + QUOTE_LEN) as u16).to_be_bytes(),
            next_hdr: Protocol::ICMPV6.0,
            hop_limit: 64,
            src_addr: network.gateway_ip6.0,
            dst_addr: to,
        }
    }

    /// The ICMP header (RFC 1191 §4: type 3, code 4) over a quote whose one's complement sum is `quote`.
    #[inline(always)]
    pub fn icmp(&self, quote: u64) -> [u8; ICMP_LEN] {
        icmp::header(icmp::kind::UNREACHABLE, 4, self.mtu, quote)
    }

    /// The ICMPv6 header (RFC 4443 §3.2: type 2) over a quote, with the pseudo-header of `ip` (RFC 8200 §8.1).
    #[inline(always)]
    pub fn icmpv6(&self, ip: &Ipv6Hdr, quote: u64) -> [u8; ICMP_LEN] {
        let [a, b] = self.mtu.to_be_bytes();
        let pseudo = checksum::sum(&ip.src_addr)
            + checksum::sum(&ip.dst_addr)
            + checksum::sum(&ip.payload_len)
            + checksum::sum(&[0, ip.next_hdr]);
        with_checksum([2, 0, 0, 0, 0, 0, a, b], quote + pseudo)
    }
}

/// Offset in bytes, from the transport header, of the checksum that a sender may have left to a device.
#[inline(always)]
pub const fn checksum_offset(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::TCP => Some(16),
        Protocol::UDP => Some(6),
        _ => None,
    }
}

/// What the transport checksum of a packet covers besides its segment.
#[derive(Clone, Copy, Debug)]
pub struct PseudoHeader {
    addresses_and_protocol: u64,
    len: u16,
}

impl PseudoHeader {
    /// Whether a checksum field holds the pseudo-header's sum only: its sender left the rest to a device. Some
    /// leave out the length of a super-packet, which each of its segments will have of its own.
    #[inline(always)]
    pub fn is_unfinished(&self, field: [u8; 2]) -> bool {
        let field = u16::from_ne_bytes(field);
        let len = u64::from(self.len.to_be());
        field == checksum::fold(self.addresses_and_protocol + len)
            || field == checksum::fold(self.addresses_and_protocol)
    }
}

/// The pseudo-header of a TCP or UDP packet (RFC 9293 §3.1, RFC 8200 §8.1).
#[inline(always)]
pub fn pseudo_header<P: Packet + ?Sized>(pkt: &P, frame: &Frame) -> Option<PseudoHeader> {
    let addresses = if frame.ether_type == EtherType::IPV4 {
        let ip = pkt.header::<Ipv4Hdr>(frame.l3)?;
        checksum::sum(&ip.src_addr) + checksum::sum(&ip.dst_addr)
    } else {
        let ip = pkt.header::<Ipv6Hdr>(frame.l3)?;
        checksum::sum(&ip.src_addr) + checksum::sum(&ip.dst_addr)
    };
    let len = (frame.l3 + frame.l3_len - frame.l4) as u16;
    Some(PseudoHeader { addresses_and_protocol: addresses + checksum::sum(&[0, frame.protocol.0]), len })
}

/// The one's complement sum of the bytes between the start of the network header and the transport header.
#[inline(always)]
pub fn header_sum<P: Packet + ?Sized>(pkt: &P, frame: &Frame) -> Option<u64> {
    const MOST_WORDS: usize = 32;
    let mut sum = 0;
    let mut offset = frame.l3;
    for _ in 0..MOST_WORDS {
        if offset >= frame.l4 {
            return Some(sum);
        }
        sum += u64::from(u32::from_ne_bytes(*pkt.header::<[u8; 4]>(offset)?));
        offset += 4;
    }
    None
}

/// The address that a packet came from, in its IPv4 header.
#[inline(always)]
pub fn ipv4_sender<P: Packet + ?Sized>(pkt: &P, frame: &Frame) -> Option<[u8; 4]> {
    pkt.header::<Ipv4Hdr>(frame.l3).map(|ip| ip.src_addr)
}

/// The address that a packet came from, in its IPv6 header.
#[inline(always)]
pub fn ipv6_sender<P: Packet + ?Sized>(pkt: &P, frame: &Frame) -> Option<[u8; 16]> {
    pkt.header::<Ipv6Hdr>(frame.l3).map(|ip| ip.src_addr)
}
