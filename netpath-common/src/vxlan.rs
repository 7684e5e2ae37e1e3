//! The VXLAN tunnel header (RFC 7348 §5): built, and judged.

use network_types::{eth::EthHdr, ip::Ipv4Hdr, udp::UdpHdr, vxlan::VxlanHdr};

use crate::{
    DropReason, Frame, Mac, Packet, checksum,
    frame::{EtherType, Protocol},
    maps::{NextHop, Tunnel},
};

/// Bytes that a tunnel over IPv4 adds to a frame: Ethernet, IPv4, UDP, VXLAN.
pub const OUTER_LEN: usize = EthHdr::LEN + OUTER_L3_LEN;
/// Bytes of the outer headers that count against the underlay's MTU, the inner Ethernet header apart.
pub const OUTER_L3_LEN: usize = Ipv4Hdr::LEN + UdpHdr::LEN + VxlanHdr::LEN;
/// By how much the underlay's MTU must exceed a network's MTU: outer headers and the inner Ethernet header.
pub const MTU_OVERHEAD: usize = OUTER_L3_LEN + EthHdr::LEN;

/// The outer headers of one packet, in wire order.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Outer {
    /// Outer Ethernet header.
    pub eth: EthHdr,
    /// Outer IPv4 header.
    pub ip: Ipv4Hdr,
    /// Outer UDP header.
    pub udp: UdpHdr,
    /// VXLAN header.
    pub vxlan: VxlanHdr,
}

const _: () = assert!(size_of::<Outer>() == OUTER_LEN);

/// The outer headers, and the Ethernet header of the frame behind them.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Wrapped {
    /// What is before the frame.
    pub outer: Outer,
    /// The frame's own.
    pub inner: EthHdr,
}

impl Outer {
    /// The headers around a frame of `inner_len` bytes.
    ///
    /// Outer DSCP is 0: tenants do not mark the underlay (RFC 2983's pipe model). ECN is the inner packet's
    /// (RFC 6040 §4.1, normal mode). DF is set, so the IPv4 ID may be 0 (RFC 6864 §4.1). UDP checksum 0 as
    /// RFC 7348 §5 wants it.
    #[inline(always)]
    pub fn new(tunnel: &Tunnel, next_hop: &NextHop, vni: u32, frame: &Frame, inner_len: usize) -> Self {
        Self::of(tunnel, next_hop, vni, frame.tos, frame.hash, inner_len)
    }

    /// The same around a frame of which only DSCP and ECN, and the hash of its flow, are known.
    #[inline(always)]
    pub fn of(tunnel: &Tunnel, next_hop: &NextHop, vni: u32, inner_tos: u8, hash: u32, inner_len: usize) -> Self {
        let udp_len = (inner_len + UdpHdr::LEN + VxlanHdr::LEN) as u16;
        let tot_len = udp_len.wrapping_add(Ipv4Hdr::LEN as u16);
        let mut ip = Ipv4Hdr {
            vihl: 0x45,
            tos: inner_tos & 0x03,
            tot_len: tot_len.to_be_bytes(),
            id: [0, 0],
            frags: [0x40, 0],
            ttl: tunnel.ttl,
            proto: Protocol::UDP.0,
            check: [0, 0],
            src_addr: tunnel.local,
            dst_addr: tunnel.remote,
        };
        ip.check = checksum::ipv4_header(&ip);
        let [_, a, b, c] = vni.to_be_bytes();
        Self {
            eth: EthHdr {
                dst_addr: next_hop.destination_mac.0,
                src_addr: next_hop.source_mac.0,
                ether_type: EtherType::IPV4.0.to_be(),
            },
            ip,
            udp: UdpHdr {
                src: entropy_port(hash).to_be_bytes(),
                dst: tunnel.udp_port.to_be_bytes(),
                len: udp_len.to_be_bytes(),
                check: [0, 0],
            },
            vxlan: VxlanHdr { flags: 0x08, _reserved1: [0; 3], vni: [a, b, c], _reserved2: 0 },
        }
    }

    /// The headers as bytes.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8; OUTER_LEN] {
        // SAFETY: `Outer` is packed and exactly `OUTER_LEN` bytes of integers, so all of them are initialised.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

/// The outer source port of a flow: in 49152-65535, the dynamic range that RFC 7348 §5 recommends.
#[inline(always)]
pub fn entropy_port(hash: u32) -> u16 {
    0xc000 | (hash ^ hash >> 16) as u16
}

/// The MAC address of an IPv4 multicast group (RFC 1112 §6.4).
pub const fn group_mac([_, b, c, d]: [u8; 4]) -> Mac {
    Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

/// What the outer headers of a tunnel packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Outer source address.
    pub remote: [u8; 4],
    /// Outer destination address.
    pub local: [u8; 4],
    /// Destination UDP port.
    pub udp_port: u16,
    /// Whether the outer UDP checksum is absent; where it is not, only the kernel verifies it.
    pub checksum_absent: bool,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// Offset of the VXLAN header in bytes.
    pub vxlan: usize,
    /// Length in bytes that the frame must have for all of its outer packet to be in it.
    pub frame_len: usize,
}

impl Arrival {
    /// Offset of the inner frame in bytes.
    #[inline(always)]
    pub fn inner(&self) -> usize {
        self.vxlan + VxlanHdr::LEN
    }
}

/// Reads the outer headers of an untagged frame, if it is a whole UDP datagram over IPv4 without options.
///
/// Anything else is nothing that the data path takes: outer fragments and options go to the kernel.
#[inline(always)]
pub fn arrival<P: Packet + ?Sized>(pkt: &P) -> Option<Arrival> {
    let eth = pkt.header::<EthHdr>(0)?;
    if eth.ether_type != EtherType::IPV4.0.to_be() {
        return None;
    }
    let ip = pkt.header::<Ipv4Hdr>(EthHdr::LEN)?;
    let fragment = u16::from_be_bytes(ip.frags) & 0x3fff != 0;
    if ip.vihl != 0x45 || ip.proto != Protocol::UDP.0 || fragment {
        return None;
    }
    let (remote, local, tos) = (ip.src_addr, ip.dst_addr, ip.tos);
    let frame_len = EthHdr::LEN + usize::from(u16::from_be_bytes(ip.tot_len));
    let udp = pkt.header::<UdpHdr>(EthHdr::LEN + Ipv4Hdr::LEN)?;
    Some(Arrival {
        remote,
        local,
        udp_port: u16::from_be_bytes(udp.dst),
        checksum_absent: udp.check == [0, 0],
        tos,
        vxlan: EthHdr::LEN + Ipv4Hdr::LEN + UdpHdr::LEN,
        frame_len,
    })
}

/// Whether this is UDP over IPv4 that [`arrival`] does not read: a fragment, or a header with options.
#[inline(always)]
pub fn is_unreadable_udp<P: Packet + ?Sized>(pkt: &P) -> bool {
    let is_ipv4 = pkt.header::<EthHdr>(0).is_some_and(|eth| eth.ether_type == EtherType::IPV4.0.to_be());
    is_ipv4 && pkt.header::<Ipv4Hdr>(EthHdr::LEN).is_some_and(|ip| ip.proto == Protocol::UDP.0)
}

/// The VNI of a packet that arrived on a VXLAN port. Bits that RFC 7348 reserves are ignored on receipt.
///
/// # Errors
/// [`DropReason::VxlanMalformed`] without a whole VXLAN and inner Ethernet header; [`DropReason::VxlanNoVni`]
/// where the I flag is 0.
#[inline(always)]
pub fn vni<P: Packet + ?Sized>(pkt: &P, arrival: &Arrival) -> Result<u32, DropReason> {
    let vxlan = pkt.header::<VxlanHdr>(arrival.vxlan).ok_or(DropReason::VxlanMalformed)?;
    if vxlan.flags & 0x08 == 0 {
        return Err(DropReason::VxlanNoVni);
    }
    let [a, b, c] = vxlan.vni;
    if pkt.header::<EthHdr>(arrival.inner()).is_none() {
        return Err(DropReason::VxlanMalformed);
    }
    Ok(u32::from_be_bytes([0, a, b, c]))
}

/// The VXLAN header of a packet without the bits that RFC 7348 reserves, where one of them is set.
///
/// Linux's own tunnel device drops such packets (`vxlan_rcv`), though the RFC wants the bits ignored on receipt.
#[inline(always)]
pub fn without_reserved_bits<P: Packet + ?Sized>(pkt: &P, arrival: &Arrival) -> Option<VxlanHdr> {
    let VxlanHdr { flags, _reserved1, vni, _reserved2 } = *pkt.header::<VxlanHdr>(arrival.vxlan)?;
    let clean = flags == 0x08 && _reserved1 == [0; 3] && _reserved2 == 0;
    (!clean).then_some(VxlanHdr { flags: 0x08, _reserved1: [0; 3], vni, _reserved2: 0 })
}

/// The outer UDP checksum of a packet whose VXLAN header loses its reserved bits, as right or wrong as it was. `None` where there is none to
/// change: absent, or left to a device, which finds the sum of the pseudo-header in its place.
#[inline(always)]
pub fn check_without_reserved_bits<P: Packet + ?Sized>(pkt: &P, arrival: &Arrival) -> Option<[u8; 2]> {
    if arrival.checksum_absent {
        return None;
    }
    let [_, _, _, _, high, low, a, b] = *pkt.header::<[u8; 8]>(arrival.vxlan - UdpHdr::LEN)?;
    let [s0, s1, s2, s3] = arrival.remote;
    let [d0, d1, d2, d3] = arrival.local;
    let pseudo = [s0, s1, s2, s3, d0, d1, d2, d3, 0, Protocol::UDP.0, high, low];
    if checksum::fold(checksum::sum(&pseudo)).to_ne_bytes() == [a, b] {
        return None;
    }
    let [f, r0, r1, r2, _, _, v, r3] = *pkt.header::<[u8; 8]>(arrival.vxlan)?;
    let check = checksum::replace([a, b], [f, r0], [0x08, 0]);
    let check = checksum::replace(check, [r1, r2], [0, 0]);
    let check = checksum::replace(check, [v, r3], [v, 0]);
    // Zero would say that there is none (RFC 768).
    Some(if check == [0, 0] { [0xff, 0xff] } else { check })
}

/// What decapsulation does to the inner packet's ECN field (RFC 6040 §4.2, figure 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Nothing.
    Keep,
    /// Mark congestion.
    MarkCe,
    /// The outer ECT(1) replaces the inner ECT(0).
    MarkEct1,
}

/// Combines the ECN fields of the outer and the inner header.
///
/// # Errors
/// [`DropReason::CongestionNotEcn`] where congestion was marked on a packet that does not understand it.
#[inline(always)]
pub fn decapsulate_ecn(outer_tos: u8, inner_tos: u8, inner_is_ip: bool) -> Result<Ecn, DropReason> {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    match (outer_tos & 3, inner_tos & 3) {
        _ if !inner_is_ip => Ok(Ecn::Keep),
        (CE, NOT_ECT) => Err(DropReason::CongestionNotEcn),
        (CE, ECT0 | ECT1) => Ok(Ecn::MarkCe),
        (ECT1, ECT0) => Ok(Ecn::MarkEct1),
        _ => Ok(Ecn::Keep),
    }
}
