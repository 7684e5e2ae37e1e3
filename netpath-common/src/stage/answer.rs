//! What the gateway says itself: ICMP errors (RFC 1812 §4.3), echo replies, neighbour advertisements.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    Address, DropReason, Frame, Mac, Packet, checksum,
    frame::{EtherType, Protocol},
    icmp::{self, ICMP_LEN},
    stage::martian,
};

/// The most bytes of a packet that an error quotes: the error fits into 576 bytes (RFC 1812 §4.3.2.3).
pub const LONGEST_QUOTE: usize = 576 - Ipv4Hdr::LEN - ICMP_LEN;
/// ICMP errors that a network causes in a second at most.
pub const ERRORS_PER_SECOND: u32 = 100;
/// Time to live, and hop limit, of answers.
const TTL: u8 = 64;

/// Whether an error may tell of a packet whose network has the prefix `prefix` with `mask`: what
/// [`icmp::may_answer`] excepts is, and so are the network's broadcasts.
#[inline(always)]
pub fn may_tell(frame: &Frame, ip: &Ipv4Hdr, prefix: [u8; 4], mask: [u8; 4]) -> bool {
    let kind = (frame.ports.source >> 8) as u8;
    let broadcast = |address| martian::is_directed_broadcast(address, prefix, mask);
    icmp::may_answer(frame.destination, ip, kind) && !broadcast(ip.src_addr) && !broadcast(ip.dst_addr)
}

/// A word of a second (high half) and a number of events in it (low half), after one more event in the second `now`;
/// `None` where `most` are reached.
#[inline(always)]
pub fn count(word: u64, now: u32, most: u32) -> Option<u64> {
    if (word >> 32) as u32 != now {
        return Some(u64::from(now) << 32 | 1);
    }
    if word as u32 >= most { None } else { Some(word + 1) }
}

/// The Ethernet header of an answer.
#[inline(always)]
pub fn eth(from: Mac, to: Mac, frame: &Frame) -> EthHdr {
    EthHdr { dst_addr: to.0, src_addr: from.0, ether_type: frame.ether_type.0.to_be() }
}

/// The IPv4 header of the reply to an echo request (RFC 1812 §4.3.3.6): the addresses swapped, a fresh time to live.
#[inline(always)]
pub fn echo_ipv4(ip: &Ipv4Hdr) -> Ipv4Hdr {
    let mut reply = *ip;
    (reply.src_addr, reply.dst_addr, reply.ttl) = (ip.dst_addr, ip.src_addr, TTL);
    reply.check = checksum::replace(ip.check, [ip.ttl, ip.proto], [TTL, ip.proto]);
    reply
}

/// The IPv6 header of the reply to an echo request (RFC 4443 §4.2).
#[inline(always)]
pub fn echo_ipv6(ip: &Ipv6Hdr) -> Ipv6Hdr {
    Ipv6Hdr { src_addr: ip.dst_addr, dst_addr: ip.src_addr, hop_limit: TTL, ..*ip }
}

/// The first bytes of an echo message, of ICMP or ICMPv6, with `reply` for its type: all else that its checksum covers sums
/// to what it did.
#[inline(always)]
pub fn echo(request: [u8; 4], reply: u8) -> [u8; 4] {
    let [kind, code, c, d] = request;
    let [c, d] = checksum::replace([c, d], [kind, code], [reply, code]);
    [reply, code, c, d]
}

/// The sum of an ICMPv6 message's pseudo-header (RFC 8200 §8.1).
#[inline(always)]
pub fn pseudo_header6(ip: &Ipv6Hdr, len: u16) -> u64 {
    checksum::sum(&ip.src_addr)
        + checksum::sum(&ip.dst_addr)
        + checksum::sum(&len.to_be_bytes())
        + checksum::sum(&[0, Protocol::ICMPV6.0])
}

/// Length in bytes of an advertisement: IPv6 header, message, and the option with the MAC address.
pub const ADVERTISEMENT_LEN: usize = Ipv6Hdr::LEN + 32;

/// An advertisement of the gateway (RFC 4861 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The gateway's MAC address.
    pub mac: Mac,
    /// The gateway's address.
    pub gateway: Address,
    /// Who asked; unspecified where duplicates of the address are looked for.
    pub asker: Address,
}

/// Whether a packet solicits the gateway (RFC 4861 §7.1.1, but for the checksum).
///
/// # Errors
/// [`DropReason::MalformedIpv6`] where it is one and cannot be read.
#[inline(always)]
pub fn solicits<P: Packet + ?Sized>(pkt: &P, frame: &Frame, gateway: Address) -> Result<bool, DropReason> {
    const SOLICITATION: u16 = 135 << 8;
    if frame.protocol != Protocol::ICMPV6 || frame.ports.source != SOLICITATION || gateway == Address::NONE {
        return Ok(false);
    }
    let target = pkt.header::<[u8; 16]>(frame.l4 + 8).ok_or(DropReason::MalformedIpv6)?;
    Ok(*target == gateway.0)
}

impl Advertisement {
    /// To whom it goes (RFC 4861 §7.2.4): whoever asked, or all nodes where the asker has no address yet.
    #[inline(always)]
    fn to(&self) -> [u8; 16] {
        const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        if self.asker == Address::NONE { ALL_NODES } else { self.asker.0 }
    }

    /// Its Ethernet header, where `asker` has asked.
    #[inline(always)]
    pub fn eth(&self, asker: Mac) -> EthHdr {
        const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
        let to = if self.asker == Address::NONE { ALL_NODES } else { asker.0 };
        EthHdr { dst_addr: to, src_addr: self.mac.0, ether_type: EtherType::IPV6.0.to_be() }
    }

    /// Its IPv6 header.
    #[inline(always)]
    pub fn ipv6(&self) -> Ipv6Hdr {
        Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: 32u16.to_be_bytes(),
            next_hdr: Protocol::ICMPV6.0,
            hop_limit: 255,
            src_addr: self.gateway.0,
            dst_addr: self.to(),
        }
    }

    /// The message, with the gateway's MAC address in an option (RFC 4861 §4.6.1).
    #[inline(always)]
    pub fn message(&self) -> [u8; 32] {
        const ROUTER: u8 = 0x80;
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        let solicited = if self.asker == Address::NONE { 0 } else { SOLICITED };
        let mut message = [0; 32];
        (message[0], message[4]) = (136, ROUTER | OVERRIDE | solicited);
        message[8..24].copy_from_slice(&self.gateway.0);
        (message[24], message[25]) = (2, 1);
        message[26..32].copy_from_slice(&self.mac.0);
        // The gateway's address stands in the message and in the pseudo-header.
        let twice = 2 * checksum::sum(&self.gateway.0);
        let rest = checksum::sum(&[136, 0, message[4], 0, 2, 1])
            + checksum::sum(&self.mac.0)
            + checksum::sum(&self.to())
            + checksum::sum(&[0, 32, 0, Protocol::ICMPV6.0]);
        let [c, d] = (!checksum::fold(twice + rest)).to_ne_bytes();
        (message[2], message[3]) = (c, d);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Ports;

    fn packet() -> (Frame, Ipv4Hdr) {
        let frame = Frame {
            destination: Mac([2, 0, 0, 0, 0, 1]),
            source: Mac([2, 0, 0, 0, 0, 2]),
            ether_type: EtherType::IPV4,
            l3: 14,
            l4: 34,
            l3_len: 28,
            protocol: Protocol::UDP,
            tos: 0,
            ports: Ports { source: 3 << 8, destination: 0 },
            hash: 0,
        };
        (frame, Ipv4Hdr { proto: 17, ..icmp::ipv4([10, 0, 0, 9], [203, 0, 113, 1], 20) })
    }

    const PREFIX: ([u8; 4], [u8; 4]) = ([10, 0, 0, 0], [255, 255, 255, 0]);

    fn told(change: impl FnOnce(&mut Frame, &mut Ipv4Hdr)) -> bool {
        let (mut frame, mut ip) = packet();
        change(&mut frame, &mut ip);
        may_tell(&frame, &ip, PREFIX.0, PREFIX.1)
    }

    #[test]
    fn r2_no_error_tells_of_what_rfc_1812_excepts() {
        assert!(told(|_, _| {}));
        for kind in [3u16, 4, 5, 11, 12] {
            assert!(!told(|frame, ip| (ip.proto, frame.ports.source) = (1, kind << 8)));
        }
        assert!(told(|frame, ip| (ip.proto, frame.ports.source) = (1, 8 << 8)));
        assert!(!told(|_, ip| ip.frags = [0, 1]));
        assert!(!told(|frame, _| frame.destination = Mac([0xff; 6])));
        for address in [[10, 0, 0, 255], [0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [240, 0, 0, 1]] {
            assert!(!told(|_, ip| ip.src_addr = address), "from {address:?}");
        }
        for address in [[10, 0, 0, 255], [224, 0, 0, 1], [255; 4]] {
            assert!(!told(|_, ip| ip.dst_addr = address), "to {address:?}");
        }
    }

    #[test]
    fn r4_a_second_has_so_many_errors_and_the_next_one_has_as_many() {
        let mut word = 0;
        for second in 7..9 {
            for _ in 0..ERRORS_PER_SECOND {
                word = count(word, second, ERRORS_PER_SECOND).unwrap();
            }
            assert_eq!(count(word, second, ERRORS_PER_SECOND), None);
        }
    }

    #[test]
    fn a7_an_advertisement_sums_to_ones_and_goes_to_all_nodes_where_the_asker_has_no_address() {
        let gateway = Address([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for (asker, flags) in [(Address::NONE, 0xa0), (Address([0xfe; 16]), 0xe0)] {
            let advertisement = Advertisement { mac: Mac([2, 0, 0x5e, 0, 0, 1]), gateway, asker };
            let (eth, ip, message) = (advertisement.eth(Mac([2; 6])), advertisement.ipv6(), advertisement.message());
            assert_eq!(checksum::fold(checksum::sum(&message) + pseudo_header6(&ip, 32)), 0xffff);
            assert_eq!((message[4], ip.hop_limit), (flags, 255));
            assert_eq!(eth.dst_addr == [2; 6], asker != Address::NONE);
        }
    }
}
