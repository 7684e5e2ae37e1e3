//! A frame taken apart as far as tests ask about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mac;

/// What was found in a frame. Fields above a layer that was not recognised are empty.
#[derive(Clone, Debug)]
pub struct Dissected<'a> {
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
    /// (TPID, TCI) from the outside in.
    pub tags: Vec<(u16, u16)>,
    /// The ethertype after the tags.
    pub ethertype: u16,
    /// Everything after the ethertype, with any padding.
    pub network: &'a [u8],
    /// The IP header's part, if it is IP.
    pub ip: Option<Ip<'a>>,
}

/// The IP layer and what is above it.
#[derive(Clone, Debug)]
pub struct Ip<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// The L4 protocol after extension headers.
    pub protocol: u8,
    /// The fixed header with its options (IPv4), without extension headers (IPv6).
    pub header: &'a [u8],
    /// The L4 message, cut at the length IP claims.
    pub message: &'a [u8],
    /// (offset in bytes, more fragments); (0, false) for a whole packet.
    pub fragment: (usize, bool),
}

impl<'a> Dissected<'a> {
    /// (source port, destination port, payload) of UDP or TCP.
    pub fn ports(&self) -> Option<(u16, u16, &'a [u8])> {
        let ip = self.ip.as_ref()?;
        let header = match ip.protocol {
            17 => 8,
            6 => usize::from(ip.message.get(12)? >> 4) * 4,
            _ => return None,
        };
        Some((be16(ip.message, 0)?, be16(ip.message, 2)?, ip.message.get(header..)?))
    }

    /// (VNI, flags byte, inner frame) when it is UDP to a VXLAN port (4789 or 8472).
    pub fn vxlan(&self) -> Option<(u32, u8, &'a [u8])> {
        let (_, port, payload) = self.ports()?;
        let udp = self.ip.as_ref()?.protocol == 17 && (port == 4789 || port == 8472);
        if !udp || payload.len() < 8 {
            return None;
        }
        Some((u32::from_be_bytes([0, payload[4], payload[5], payload[6]]), payload[0], &payload[8..]))
    }

    /// (type, code) of ICMP or ICMPv6.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let ip = self.ip.as_ref()?;
        matches!(ip.protocol, 1 | 58).then_some((*ip.message.first()?, *ip.message.get(1)?))
    }

    /// (operation, sender MAC, sender IP, target MAC, target IP) of ARP.
    pub fn arp(&self) -> Option<(u16, Mac, Ipv4Addr, Mac, Ipv4Addr)> {
        let arp = (self.ethertype == 0x0806).then_some(self.network)?;
        let mac = |at: usize| -> Option<Mac> { arp.get(at..at + 6)?.try_into().ok() };
        Some((be16(arp, 6)?, mac(8)?, ipv4(arp, 14)?, mac(18)?, ipv4(arp, 24)?))
    }
}

/// Takes a frame apart; `None` when it is no Ethernet frame.
pub fn dissect(frame: &[u8]) -> Option<Dissected<'_>> {
    let dst_mac = frame.get(..6)?.try_into().ok()?;
    let src_mac = frame.get(6..12)?.try_into().ok()?;
    let mut at = 12;
    let mut tags = Vec::new();
    let mut ethertype = be16(frame, at)?;
    while matches!(ethertype, 0x8100 | 0x88a8) {
        tags.push((ethertype, be16(frame, at + 2)?));
        at += 4;
        ethertype = be16(frame, at)?;
    }
    let network = &frame[at + 2..];
    let ip = match ethertype {
        0x0800 => dissect_ipv4(network),
        0x86dd => dissect_ipv6(network),
        _ => None,
    };
    Some(Dissected { dst_mac, src_mac, tags, ethertype, network, ip })
}

fn dissect_ipv4(bytes: &[u8]) -> Option<Ip<'_>> {
    let header_len = usize::from(bytes.first()? & 0x0f) * 4;
    let header = bytes.get(..header_len).filter(|h| h.len() >= 20)?;
    let message = bytes.get(header_len..usize::from(be16(bytes, 2)?))?;
    let word = be16(bytes, 6)?;
    Some(Ip {
        src: IpAddr::V4(ipv4(header, 12)?),
        dst: IpAddr::V4(ipv4(header, 16)?),
        ttl: header[8],
        tos: header[1],
        protocol: header[9],
        header,
        message,
        fragment: (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0),
    })
}

fn dissect_ipv6(bytes: &[u8]) -> Option<Ip<'_>> {
    let header = bytes.get(..40)?;
    let mut message = bytes.get(40..40 + usize::from(be16(header, 4)?))?;
    let mut protocol = header[6];
    let mut fragment = (0, false);
    while matches!(protocol, 0 | 43 | 44 | 60) && fragment.0 == 0 {
        let len = if protocol == 44 { 8 } else { (usize::from(*message.get(1)?) + 1) * 8 };
        if protocol == 44 {
            let word = be16(message, 2)?;
            fragment = (usize::from(word & 0xfff8), word & 1 != 0);
        }
        protocol = message[0];
        message = message.get(len..)?;
    }
    Some(Ip {
        src: IpAddr::V6(ipv6(header, 8)?),
        dst: IpAddr::V6(ipv6(header, 24)?),
        ttl: header[7],
        tos: (header[0] << 4) | (header[1] >> 4),
        protocol,
        header,
        message,
        fragment,
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ipv4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
}

fn ipv6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?))
}
