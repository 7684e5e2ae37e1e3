//! A frame, parsed once: every stage reads this instead of the bytes.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

use crate::{DropReason, Mac, Packet};

/// An Ethernet type, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// ARP (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// Reverse ARP (RFC 903), which QEMU sends to announce a migrated guest.
    pub const RARP: Self = Self(0x8035);
    /// IPv6 (RFC 2464).
    pub const IPV6: Self = Self(0x86dd);
    /// An 802.1Q customer tag.
    pub const VLAN: Self = Self(0x8100);
    /// An 802.1ad service tag.
    pub const SERVICE_VLAN: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    #[inline(always)]
    pub fn is_tag(self) -> bool {
        self == Self::VLAN || self == Self::SERVICE_VLAN
    }
}

/// An IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// DCCP (RFC 4340).
    pub const DCCP: Self = Self(33);
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: Self = Self(136);
}

/// Ports of TCP and UDP, or type and code of ICMP, in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Source port, or ICMP type and code in one number.
    pub source: u16,
    /// Destination port, or the ICMP checksum, which no flow is told by.
    pub destination: u16,
}

/// What the stages want to know of a frame.
///
/// The order of the fields keeps each at a multiple of what it is copied in: the verifier wants that of the stack.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination MAC address.
    pub destination: Mac,
    /// What the frame carries, behind its tags.
    pub ether_type: EtherType,
    /// Source MAC address.
    pub source: Mac,
    /// What IP carries.
    pub protocol: Protocol,
    /// Traffic class or type of service: DSCP and ECN.
    pub tos: u8,
    /// Offset of the network header in bytes.
    pub l3: usize,
    /// Offset of the transport header in bytes; 0 where there is none: not IP, or not the first fragment.
    pub l4: usize,
    /// Length of the network packet in bytes, by its own header; 0 where it is not IP.
    pub l3_len: usize,
    /// A hash of the flow: stable for its life, the same for all fragments of a packet.
    pub hash: u32,
    /// Ports, where the transport header has them.
    pub ports: Ports,
}

impl Frame {
    /// Whether a VLAN tag stands in the frame (tags that the kernel took off are not seen here).
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.l3 != EthHdr::LEN
    }
}

/// The most IPv6 extension headers that are walked; a longer chain is refused (RFC 7113 §3 wants it seen through).
const EXTENSION_HEADERS: usize = 6;

/// Where a transport header is looked for at most, in bytes: the data path reads the first 2048.
pub const FURTHEST_TRANSPORT: usize = 1984;

/// Parses the frame of a packet.
///
/// # Errors
/// [`DropReason::MalformedFrame`], [`DropReason::MalformedIpv4`] or [`DropReason::MalformedIpv6`].
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(pkt: &P) -> Result<Frame, DropReason> {
    parse_with(pkt, ipv6)
}

/// The same, with [`ipv6`] called by the caller.
///
/// # Errors
/// As [`parse`], and what `ipv6` refuses with.
#[inline(always)]
pub fn parse_with<P: Packet + ?Sized>(
    pkt: &P,
    ipv6: impl FnOnce(&P, &mut Frame) -> Result<(), DropReason>,
) -> Result<Frame, DropReason> {
    let mut frame = parse_link(pkt)?;
    if frame.ether_type == EtherType::IPV4 {
        ipv4(pkt, &mut frame)?;
    } else if frame.ether_type == EtherType::IPV6 {
        ipv6(pkt, &mut frame)?;
    } else {
        let Mac([_, _, a, b, c, d]) = frame.source;
        let Mac([_, _, e, f, g, h]) = frame.destination;
        frame.hash = mix(mix(0, u32::from_ne_bytes([a, b, c, d])), u32::from_ne_bytes([e, f, g, h]));
    }
    Ok(frame)
}

/// Parses the frame of an IPv4 packet.
///
/// # Errors
/// [`DropReason::MalformedFrame`] or [`DropReason::MalformedIpv4`]; [`DropReason::Ipv6NotRouted`] for what is not IPv4.
#[inline(always)]
pub fn parse_ipv4<P: Packet + ?Sized>(pkt: &P) -> Result<Frame, DropReason> {
    let mut frame = parse_link(pkt)?;
    if frame.ether_type != EtherType::IPV4 {
        return Err(DropReason::Ipv6NotRouted);
    }
    ipv4(pkt, &mut frame)?;
    Ok(frame)
}

/// Stations, and what stands behind the tag.
#[inline(always)]
fn parse_link<P: Packet + ?Sized>(pkt: &P) -> Result<Frame, DropReason> {
    let eth = pkt.header::<EthHdr>(0).ok_or(DropReason::MalformedFrame)?;
    let mut frame = Frame {
        destination: Mac(eth.dst_addr),
        source: Mac(eth.src_addr),
        ether_type: EtherType(u16::from_be(eth.ether_type)),
        l3: EthHdr::LEN,
        l4: 0,
        l3_len: 0,
        protocol: Protocol(0),
        tos: 0,
        ports: Ports::default(),
        hash: 0,
    };
    if frame.ether_type.is_tag() {
        let tag = pkt.header::<VlanHdr>(frame.l3).ok_or(DropReason::MalformedFrame)?;
        frame.ether_type = EtherType(u16::from_be(tag.ether_type));
        frame.l3 += VlanHdr::LEN;
    }
    Ok(frame)
}

/// RFC 791 §3.1.
#[inline(always)]
fn ipv4<P: Packet + ?Sized>(pkt: &P, frame: &mut Frame) -> Result<(), DropReason> {
    let ip = pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?;
    let header_len = usize::from(ip.vihl & 0x0f) * 4;
    frame.l3_len = usize::from(u16::from_be_bytes(ip.tot_len));
    if ip.vihl >> 4 != 4
        || header_len < Ipv4Hdr::LEN
        || frame.l3_len < header_len
        || frame.l3 + frame.l3_len > pkt.len()
    {
        return Err(DropReason::MalformedIpv4);
    }
    frame.tos = ip.tos;
    frame.protocol = Protocol(ip.proto);
    let addresses = mix(u32::from_ne_bytes(ip.src_addr), u32::from_ne_bytes(ip.dst_addr));
    let more_or_offset = u16::from_be_bytes(ip.frags) & 0x3fff;
    if more_or_offset & 0x1fff == 0 {
        frame.l4 = frame.l3 + header_len;
    }
    transport(pkt, frame, addresses, more_or_offset != 0, frame.l3_len - header_len, DropReason::MalformedIpv4)
}

/// Fills in what the IPv6 packet of a frame tells (RFC 8200 §3 and §4). A function of its own: the walk over extension headers
/// wants stack that IPv4 has use for.
///
/// # Errors
/// [`DropReason::MalformedIpv6`].
#[inline(never)]
pub fn ipv6<P: Packet + ?Sized>(pkt: &P, frame: &mut Frame) -> Result<(), DropReason> {
    let ip = pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?;
    frame.l3_len = Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(ip.payload_len));
    if ip.vcf[0] >> 4 != 6 || frame.l3 + frame.l3_len > pkt.len() {
        return Err(DropReason::MalformedIpv6);
    }
    frame.tos = ip.vcf[0] << 4 | ip.vcf[1] >> 4;
    let mut addresses = 0;
    for word in ip.src_addr.as_chunks::<4>().0 {
        addresses = mix(addresses, u32::from_ne_bytes(*word));
    }
    for word in ip.dst_addr.as_chunks::<4>().0 {
        addresses = mix(addresses, u32::from_ne_bytes(*word));
    }
    let next = ip.next_hdr;
    let chain = extension_headers(pkt, frame.l3 + Ipv6Hdr::LEN, next)?;
    frame.protocol = chain.protocol;
    let end = frame.l3 + frame.l3_len;
    if chain.first_fragment {
        // A chain that ends behind its packet says nothing of what comes next (RFC 7112 §5).
        if chain.offset > end {
            return Err(DropReason::MalformedIpv6);
        }
        frame.l4 = chain.offset;
    }
    let room = end.saturating_sub(chain.offset);
    transport(pkt, frame, addresses, chain.fragment, room, DropReason::MalformedIpv6)
}

/// Where a chain of IPv6 extension headers ends.
struct Chain {
    protocol: Protocol,
    offset: usize,
    fragment: bool,
    first_fragment: bool,
}

#[inline(always)]
fn extension_headers<P: Packet + ?Sized>(pkt: &P, start: usize, first: u8) -> Result<Chain, DropReason> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;

    let mut chain = Chain { protocol: Protocol(first), offset: start, fragment: false, first_fragment: true };
    for _ in 0..EXTENSION_HEADERS {
        let header_len = match chain.protocol.0 {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let header = pkt.header::<[u8; 2]>(chain.offset).ok_or(DropReason::MalformedIpv6)?;
                chain.protocol = Protocol(header[0]);
                (usize::from(header[1]) + 1) * 8
            }
            AUTHENTICATION => {
                let header = pkt.header::<[u8; 2]>(chain.offset).ok_or(DropReason::MalformedIpv6)?;
                chain.protocol = Protocol(header[0]);
                (usize::from(header[1]) + 2) * 4
            }
            FRAGMENT => {
                let header = pkt.header::<[u8; 4]>(chain.offset).ok_or(DropReason::MalformedIpv6)?;
                chain.protocol = Protocol(header[0]);
                chain.fragment = true;
                chain.first_fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff8 == 0;
                8
            }
            _ => return Ok(chain),
        };
        chain.offset += header_len;
        if !chain.first_fragment {
            return Ok(chain);
        }
        if chain.offset > FURTHEST_TRANSPORT {
            return Err(DropReason::MalformedIpv6);
        }
    }
    Err(DropReason::MalformedIpv6)
}

/// Ports and the flow's hash. A fragment is hashed without ports: only the first has them.
///
/// A transport header that is there and cannot be read is `malformed`: nobody could say what the packet is.
#[inline(always)]
fn transport<P: Packet + ?Sized>(
    pkt: &P,
    frame: &mut Frame,
    addresses: u32,
    fragment: bool,
    room: usize,
    malformed: DropReason,
) -> Result<(), DropReason> {
    let mut ports = 0;
    if frame.l4 != 0 && room >= 4 {
        let [a, b, c, d] = *pkt.header::<[u8; 4]>(frame.l4).ok_or(malformed)?;
        frame.ports = Ports { source: u16::from_be_bytes([a, b]), destination: u16::from_be_bytes([c, d]) };
        let has_ports = frame.protocol == Protocol::TCP || frame.protocol == Protocol::UDP;
        if has_ports && !fragment {
            ports = u32::from_ne_bytes([a, b, c, d]);
        }
    }
    frame.hash = mix(mix(addresses, ports), u32::from(frame.protocol.0));
    Ok(())
}

/// One round of a 32-bit mixer: multiply, fold the high bits down, multiply.
#[inline(always)]
pub fn mix(state: u32, word: u32) -> u32 {
    let mut x = (state.rotate_left(13) ^ word).wrapping_mul(0x9e37_79b1);
    x ^= x >> 15;
    x = x.wrapping_mul(0x85eb_ca77);
    x ^ x >> 13
}
