//! ICMP (RFC 792): errors that the data path sends, and what the errors of others quote.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{DropReason, Mac, Packet, address::is_unroutable, checksum, frame::Protocol, stage::translate};

/// Bytes of an ICMP or ICMPv6 error header.
pub const ICMP_LEN: usize = 8;
/// Bytes of the offending packet that an error quotes at most, from its IP header on (RFC 1812 §4.3.2.3 asks for as many
/// as fit into 576; the kernel sums at most 512 in one call).
pub const QUOTE_LEN: usize = 512;

/// Types of messages.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench, which is deprecated (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request.
    pub const TIMESTAMP_REQUEST: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Information and address mask, requests and replies, which are deprecated (RFC 6918): up to this one.
    pub const ADDRESS_MASK_REPLY: u8 = 18;
}

/// Whether a message is an error that quotes a packet, and is translated: redirects are not (RFC 5508 §4).
#[inline(always)]
pub const fn is_error(message: u8) -> bool {
    matches!(message, kind::UNREACHABLE | kind::SOURCE_QUENCH | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM)
}

/// Whether a message asks something, and has an identifier that its answer repeats.
#[inline(always)]
pub const fn is_request(message: u8) -> bool {
    matches!(message, kind::ECHO_REQUEST | kind::TIMESTAMP_REQUEST | 15 | 17)
}

/// Whether a message answers a request.
#[inline(always)]
pub const fn is_reply(message: u8) -> bool {
    matches!(message, kind::ECHO_REPLY | kind::TIMESTAMP_REPLY | 16 | kind::ADDRESS_MASK_REPLY)
}

/// The IPv4 header of an ICMP error that quotes `quote_len` bytes, with precedence 6 (RFC 1812 §4.3.2.5).
#[inline(always)]
pub fn ipv4(from: [u8; 4], to: [u8; 4], quote_len: u16) -> Ipv4Hdr {
    let mut ip = Ipv4Hdr {
        vihl: 0x45,
        tos: 0xc0,
        tot_len: ((Ipv4Hdr::LEN + ICMP_LEN) as u16).wrapping_add(quote_len).to_be_bytes(),
        id: [0; 2],
        frags: [0x40, 0],
        ttl: 64,
        proto: Protocol::ICMP.0,
        check: [0; 2],
        src_addr: from,
        dst_addr: to,
    };
    ip.check = checksum::ipv4_header(&ip);
    ip
}

/// The ICMP header of an error over a quote whose one's complement sum is `quote`. `mtu` is the next hop's for "fragmentation
/// needed" (RFC 1191 §4), and 0 otherwise.
#[inline(always)]
pub fn header(kind: u8, code: u8, mtu: u16, quote: u64) -> [u8; ICMP_LEN] {
    let [a, b] = mtu.to_be_bytes();
    with_checksum([kind, code, 0, 0, 0, 0, a, b], quote)
}

/// A header, with the checksum over it and what sums to `rest`.
#[inline(always)]
pub(crate) fn with_checksum(mut header: [u8; ICMP_LEN], rest: u64) -> [u8; ICMP_LEN] {
    let [c, d] = (!checksum::fold(checksum::sum(&header) + rest)).to_ne_bytes();
    header[2] = c;
    header[3] = d;
    header
}

/// The checksum of an echo reply that is made of a request with this code and checksum.
#[inline(always)]
pub fn echo_reply_checksum(check: [u8; 2], code: u8) -> [u8; 2] {
    checksum::replace(check, [kind::ECHO_REQUEST, code], [kind::ECHO_REPLY, code])
}

/// A query's type and code in one byte, as [`crate::maps::Flow`] has room for: the type alone where the code is 0, which it is of
/// nearly all of them.
pub mod query {
    const CODED: u8 = 0x80;
    const MOST: u8 = 31;
    /// What there are of them (RFC 792, RFC 950); each has the place that two bits tell.
    const KINDS: [u8; 4] = [8, 13, 15, 17];

    /// Of a type and a code; codes from 31 on are one.
    #[inline(always)]
    #[must_use]
    pub const fn of(kind: u8, code: u8) -> u8 {
        let place = match kind {
            _ if code == 0 => return kind,
            13 => 1,
            15 => 2,
            17 => 3,
            _ => 0,
        };
        CODED | place << 5 | if code < MOST { code } else { MOST }
    }

    /// The type.
    #[inline(always)]
    #[must_use]
    pub const fn kind(query: u8) -> u8 {
        match query {
            0..CODED => query,
            _ => match query >> 5 & 3 {
                0 => KINDS[0],
                1 => KINDS[1],
                2 => KINDS[2],
                _ => KINDS[3],
            },
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_type_and_code_is_a_byte_of_its_own_and_tells_its_type() {
            let mut seen = std::collections::HashSet::new();
            for kind in KINDS {
                for code in 0..MOST {
                    assert!(seen.insert(of(kind, code)), "{kind}/{code}");
                    assert_eq!(super::kind(of(kind, code)), kind);
                }
                assert_eq!(of(kind, 255), of(kind, MOST));
            }
        }
    }
}

/// Whether an error may be sent about a packet for the MAC address `to` (RFC 1812 §4.3.2.7): not about one to many or from
/// nobody in particular, about a fragment other than the first, or about an ICMP message that is neither a request nor a reply.
/// `icmp_type` is looked at where the packet is ICMP. Directed broadcasts are the caller's to know.
#[inline(always)]
pub fn may_answer(to: Mac, ip: &Ipv4Hdr, icmp_type: u8) -> bool {
    let [high, low] = ip.frags;
    let first = high & 0x1f == 0 && low == 0;
    let harmless = ip.proto != Protocol::ICMP.0 || is_request(icmp_type) || is_reply(icmp_type);
    let [to_group, ..] = ip.dst_addr;
    first && harmless && !to.is_group() && !is_unroutable(ip.src_addr) && to_group < 224
}

/// The same of a packet of IPv6 (RFC 4443 §2.4 e) whose upper layer is `protocol`: not about an error, nor about one to many.
#[inline(always)]
pub fn may_answer_ipv6(ip: &Ipv6Hdr, protocol: Protocol, message: u8) -> bool {
    const FIRST_THAT_TELLS: u8 = 128;
    let [to, ..] = ip.dst_addr;
    to != 0xff && (protocol != Protocol::ICMPV6 || message >= FIRST_THAT_TELLS)
}

/// The packet that an ICMP error is about, as far as the error quotes it. Offsets are in bytes from the start of the frame,
/// ports in host order; of an ICMP query they are as in [`crate::maps::FlowKey`].
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Where the quoted IP header begins.
    pub l3: usize,
    /// Where the quoted transport header begins; where it is read, eight bytes of it are there.
    pub l4: usize,
    /// Where its checksum is; 0 where the protocol has none that is known, or the quote ends before it.
    pub check: usize,
    /// Where the ports are, or the identifier of an ICMP query; 0 where the protocol has none.
    pub ports: usize,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The type of the quoted message, where it is ICMP.
    pub icmp_type: u8,
    /// Zero.
    pub pad: [u8; 2],
}

impl Quoted {
    /// Addresses and ports, as the quoted packet has them.
    #[inline(always)]
    pub fn change(&self) -> translate::Change {
        translate::Change {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }
}

/// Words of the longest options of an IPv4 header.
const OPTION_WORDS: usize = 10;

/// Reads the packet that an ICMP error quotes from offset `at` on; the error ends at `end` (what follows is padding).
///
/// # Errors
/// [`DropReason::MalformedIcmp`] where the quote is not IPv4, has less than eight bytes of its transport header (RFC 792; of a protocol
/// whose header is not read, all of a packet that is shorter), or a wrong checksum of its IP header (RFC 5508 REQ-3 a). [`DropReason::IcmpErrorUnmatched`] where it is a fragment other than
/// the first, or an ICMP message without an identifier: no connection is known by those.
#[inline(always)]
pub fn quoted<P: Packet + ?Sized>(pkt: &P, at: usize, end: usize) -> Result<Quoted, DropReason> {
    let ip = *pkt.header::<Ipv4Hdr>(at).ok_or(DropReason::MalformedIcmp)?;
    let header_len = usize::from(ip.vihl & 0x0f) * 4;
    let l4 = at + header_len;
    let has_eight = l4 + 8 <= end;
    let len = usize::from(u16::from_be_bytes(ip.tot_len));
    let is_short = !reads_header(Protocol(ip.proto)) && len >= header_len && at + len <= end;
    let is_whole = ip.vihl >> 4 == 4 && header_len >= Ipv4Hdr::LEN && (has_eight || is_short);
    if !is_whole || !header_verifies(pkt, &ip, at + Ipv4Hdr::LEN, l4)? {
        return Err(DropReason::MalformedIcmp);
    }
    let [high, low] = ip.frags;
    if high & 0x1f != 0 || low != 0 {
        return Err(DropReason::IcmpErrorUnmatched);
    }
    let [a, b, c, d, e, f, _, _] =
        if has_eight { *pkt.header::<[u8; 8]>(l4).ok_or(DropReason::MalformedIcmp)? } else { [0; 8] };
    let (first, second, identifier) =
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), u16::from_be_bytes([e, f]));
    let quote_end = end.min(at + len);
    let field = |offset: usize| if l4 + offset + 2 <= quote_end { l4 + offset } else { 0 };
    let (ports, check, source_port, destination_port) = match Protocol(ip.proto) {
        Protocol::TCP => (l4, field(16), first, second),
        Protocol::UDP => (l4, field(6), first, second),
        Protocol::ICMP if is_request(a) => (l4 + 4, field(2), identifier, 0),
        Protocol::ICMP if is_reply(a) => (l4 + 4, field(2), 0, identifier),
        Protocol::ICMP => return Err(DropReason::IcmpErrorUnmatched),
        Protocol::UDP_LITE | Protocol::DCCP => (0, field(6), 0, 0),
        _ => (0, 0, 0, 0),
    };
    Ok(Quoted {
        l3: at,
        l4,
        check,
        ports,
        source: ip.src_addr,
        destination: ip.dst_addr,
        source_port,
        destination_port,
        protocol: ip.proto,
        icmp_type: if ip.proto == Protocol::ICMP.0 { a } else { 0 },
        pad: [0; 2],
    })
}

/// Whether anything of a protocol's header is read or mended.
#[inline(always)]
const fn reads_header(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::UDP_LITE | Protocol::DCCP)
}

/// Whether the checksum of a header with options from `options` to `end` is right.
#[inline(always)]
fn header_verifies<P: Packet + ?Sized>(pkt: &P, ip: &Ipv4Hdr, options: usize, end: usize) -> Result<bool, DropReason> {
    // A right header sums to ones, its checksum included.
    let mut sum = u64::from(!u16::from_ne_bytes(checksum::ipv4_header(ip)));
    let mut offset = options;
    for _ in 0..OPTION_WORDS {
        if offset >= end {
            break;
        }
        sum += u64::from(u32::from_ne_bytes(*pkt.header::<[u8; 4]>(offset).ok_or(DropReason::MalformedIcmp)?));
        offset += 4;
    }
    Ok(checksum::fold(sum) == u16::MAX)
}
