//! Whether two systems did the same to a packet: field by field, public ports of source NAT up to a mapping that is learned.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, ops::Range};

use super::{
    Arrival, Place, Site,
    traffic::{Case, Kind},
};

/// An address and a port.
pub type End = (Ipv4Addr, u16);

/// Addresses and ports of a packet. An ICMP query's identifier is its source port, that of an answer the destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Source address and port.
    pub src: End,
    /// Destination address and port.
    pub dst: End,
}

impl Tuple {
    /// That of the other direction.
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }
}

/// What the ports of an address are a set of: a protocol, and of ICMP a kind of query.
pub type Pool = (u8, u8);

/// The pool of a packet by its protocol and ICMP type.
pub fn pool(protocol: u8, kind: u8) -> Pool {
    match (protocol, kind) {
        (1, 0) => (1, 8),
        (1, 14 | 16 | 18) => (1, kind - 1),
        (1, kind) => (1, kind),
        (protocol, _) => (protocol, 0),
    }
}

/// A packet without what no two gateways have in common: checksums, which are verified, and the identification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// DSCP and ECN.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Whether DF is set.
    pub whole: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// The rest of the message: the transport header without ports and checksum, and the payload.
    pub rest: Vec<u8>,
    /// Of an ICMP error: the packet that it is about.
    pub quote: Option<Box<Seen>>,
}

impl Seen {
    /// Reads a packet; one that is quoted may be cut off behind the first 8 bytes of its message.
    pub fn read(packet: &[u8]) -> Self {
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let message = &packet[usize::from(packet[0] & 15) * 4..];
        let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let protocol = packet[9];
        let (ports, mut rest, mut quote) = match protocol {
            6 => ((word(0), word(2)), cut(&cut(message, 16..18), 0..4), None),
            17 => ((word(0), word(2)), cut(&cut(message, 6..8), 0..4), None),
            1 => {
                let error = matches!(message[0], 3 | 4 | 11 | 12);
                let quote = error.then(|| Box::new(Self::read(&message[8..])));
                match message[0] {
                    8 | 13 | 15 | 17 => ((word(4), 0), cut(message, 2..6), quote),
                    0 | 14 | 16 | 18 => ((0, word(4)), cut(message, 2..6), quote),
                    _ => ((0, 0), cut(&message[..8], 2..4), quote),
                }
            }
            _ => ((0, 0), message.to_vec(), None),
        };
        if protocol == 17 {
            // Whether there is a checksum is no detail.
            rest.push(u8::from(word(6) != 0));
        }
        if let Some(quote) = &mut quote {
            quote.ttl = 0;
        }
        let tuple = Tuple { src: (address(12), ports.0), dst: (address(16), ports.1) };
        Self { tos: packet[1], ttl: packet[8], whole: packet[6] & 0x40 != 0, protocol, tuple, rest, quote }
    }

    /// ICMP type and code.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        (self.protocol == 1).then(|| (self.rest[0], self.rest[1]))
    }

    fn pool(&self) -> Pool {
        pool(self.protocol, self.rest.first().copied().unwrap_or_default())
    }

    /// Whether it is an ICMP error.
    pub fn is_error(&self) -> bool {
        self.quote.is_some()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tuple { src, dst } = self.tuple;
        write!(f, "{}:{} → {}:{} protocol {} ttl {}", src.0, src.1, dst.0, dst.1, self.protocol, self.ttl)?;
        write!(f, " tos {:#x}{}, ", self.tos, if self.whole { " DF" } else { "" })?;
        let (bytes, payload) = self.rest.split_at(self.rest.len().min(10));
        write!(f, "{bytes:02x?} {}", String::from_utf8_lossy(payload))?;
        self.quote.as_ref().map_or(Ok(()), |quote| write!(f, " about [{quote}]"))
    }
}

/// `bytes` without a range, of which there may be less.
fn cut(bytes: &[u8], without: Range<usize>) -> Vec<u8> {
    let end = bytes.len();
    [&bytes[..without.start.min(end)], &bytes[without.end.min(end)..]].concat()
}

/// Which public port of the one system is which of the other, for each end that it talks to.
#[derive(Debug, Default)]
pub struct Ports {
    known: [BTreeMap<(Pool, End, End), End>; 2],
}

impl Ports {
    /// Whether the two systems gave the same packets at the same places.
    pub fn agree(&mut self, site: &Site, case: &Case, [one, other]: &[Vec<Arrival>; 2]) -> bool {
        let sorted = |arrivals: &[Arrival]| {
            let mut sorted: Vec<_> = arrivals.iter().map(|a| (a.at, Seen::read(&a.packet))).collect();
            sorted.sort_by_key(|(at, seen)| (*at, seen.protocol, seen.tuple.dst));
            sorted
        };
        let (one, other) = (sorted(one), sorted(other));
        one.len() == other.len()
            && one.iter().zip(&other).all(|((at, a), (there, b))| at == there && self.same(site, case, *at, a, b))
    }

    /// What a public port of `system` (0 or 1) that talks to `remote` is called by the other system.
    pub fn other_name(
        &self,
        system: usize,
        pool: Pool,
        port: (Ipv4Addr, u16),
        remote: (Ipv4Addr, u16),
    ) -> Option<(Ipv4Addr, u16)> {
        self.known[system].get(&(pool, port, remote)).copied()
    }

    fn same(&mut self, site: &Site, case: &Case, at: Place, a: &Seen, b: &Seen) -> bool {
        let error = matches!(case.kind, Kind::Error(..));
        if let (Some(quote), Some(other), false) = (&a.quote, &b.quote, error) {
            // An error of the gateway's own: how much it quotes, and in what dress, is its affair.
            let quoted = [(quote.pool(), quote.tuple.reversed()), (other.pool(), other.tuple.reversed())];
            return (a.icmp(), a.tuple, quoted[0].0) == (b.icmp(), b.tuple, quoted[1].0)
                && self.maps(site, quoted[0].0, quoted[0].1, quoted[1].1);
        }
        // What goes back to where the packet came from is the gateway's own echo reply, which has DF or not, as it likes.
        let own = at == case.from;
        let masked = |seen: &Seen| {
            let mut masked = seen.clone();
            masked.whole &= !own;
            masked.tuple.src.1 = 0;
            if let Some(quote) = &mut masked.quote {
                quote.tuple.dst.1 = 0;
            }
            masked
        };
        let quoted = a.quote.iter().zip(&b.quote).map(|(a, b)| (a.pool(), a.tuple.reversed(), b.tuple.reversed()));
        let tuples: Vec<_> = quoted.chain([(a.pool(), a.tuple, b.tuple)]).collect();
        masked(a) == masked(b) && tuples.into_iter().all(|(pool, a, b)| self.maps(site, pool, a, b))
    }

    /// Whether the source ports are the same, or stand for each other as ever before.
    fn maps(&mut self, site: &Site, pool: Pool, a: Tuple, b: Tuple) -> bool {
        if !site.is_source_nat(a.src.0) || (a.src.0, a.dst) != (b.src.0, b.dst) {
            return a == b;
        }
        let pairs = [(a.src, b.src), (b.src, a.src)];
        let mut known = self.known.iter_mut().zip(pairs);
        known.all(|(known, (from, to))| *known.entry((pool, from, a.dst)).or_insert(to) == to)
    }
}
