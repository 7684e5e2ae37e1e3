//! What connection a packet is of.

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    DropReason, Frame, Packet, checksum,
    clock::since,
    frame::{self, Protocol},
    icmp::query,
    maps::{CONNECTION_WORDS, FRAGMENT_LIFETIME, Flow, FlowKey, Fragment, FragmentKey, connection_row, flow_flags},
};
use network_types::ip::Ipv4Hdr;

use crate::{global, maps, packet::TcPacket};

/// ICMP types of queries (RFC 792, RFC 950): the ones that a querier sends, and the ones that answer it.
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Echo request.
    pub const ECHO: u8 = 8;

    /// Whether a message of this type asks.
    #[inline(always)]
    pub fn asks(kind: u8) -> bool {
        matches!(kind, ECHO | 13 | 15 | 17)
    }

    /// Whether a message of this type answers.
    #[inline(always)]
    pub fn answers(kind: u8) -> bool {
        matches!(kind, ECHO_REPLY | 14 | 16 | 18)
    }
}

/// The type of the query that a flow began with.
#[inline(always)]
pub fn query_type(flow: &Flow) -> u8 {
    query::kind(flow.icmp_type)
}

/// A routed packet's connection, and what the stages want to know besides.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tuple {
    /// The connection and the direction.
    pub key: FlowKey,
    /// Its IPv4 header, without options.
    pub ip: Ipv4Hdr,
    /// TCP: the flags of the segment.
    pub tcp_flags: u8,
    /// ICMP: the type.
    pub icmp_type: u8,
    /// ICMP: the code.
    pub icmp_code: u8,
    /// [`fragment`].
    pub fragment: u8,
    /// The identification that a fragment leaves with, in host order, for [`fragment::LATER`].
    pub id: u16,
    /// Zero.
    pub pad: u16,
}

impl Tuple {
    /// Nothing.
    pub const ZERO: Self = Self {
        key: crate::connection::ZERO_KEY,
        // SAFETY: a struct of integers and integer arrays; zero is a value of each.
        ip: unsafe { core::mem::zeroed() },
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
        fragment: fragment::WHOLE,
        id: 0,
        pad: 0,
    };

    /// Whether this is ICMP that is no query.
    #[inline(always)]
    pub fn is_other_icmp(&self) -> bool {
        self.key.protocol == Protocol::ICMP.0 && self.is_icmp_error()
    }

    /// Whether this is ICMP that neither asks nor answers: an error about some other packet.
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        !icmp::asks(self.icmp_type) && !icmp::answers(self.icmp_type) && self.fragment != fragment::LATER
    }

    /// What a flow notes of the query that it begins with: [`Flow::icmp_type`].
    #[inline(always)]
    pub fn query(&self) -> u8 {
        query::of(self.icmp_type, self.icmp_code)
    }

    /// Whether this is another query than the one that a flow began with. Its identifier does not tell, and rules may. One that was
    /// noted of an answer began with no query that is known.
    #[inline(always)]
    pub fn asks_otherwise(&self, flow: &Flow) -> bool {
        icmp::asks(self.icmp_type)
            && icmp::asks(query_type(flow))
            && (flow.icmp_type != self.query() || flow.flags & flow_flags::REPLY != 0)
    }

    /// Whether this asks, and the flow answers: with the identifier 0 a query from the one end is told by nothing else from the answer to
    /// one from the other end.
    #[inline(always)]
    pub fn asks_back(&self, flow: &Flow) -> bool {
        flow.flags & flow_flags::REPLY != 0 && self.asks_otherwise(flow)
    }
}

/// Which part of its packet a packet is: [`Tuple::fragment`].
pub mod fragment {
    /// All of it.
    pub const WHOLE: u8 = 0;
    /// The first of several.
    pub const FIRST: u8 = 1;
    /// Not the first.
    pub const LATER: u8 = 2;
}

/// A routed packet's headers, in the memory of its processor.
#[repr(C)]
pub struct Routed {
    /// The frame.
    pub frame: Frame,
    /// The connection.
    pub tuple: Tuple,
}

impl Routed {
    /// Reads an IPv4 packet from `side`.
    ///
    /// # Errors
    /// As [`frame::parse`] and [`read`]; [`DropReason::Ipv6NotRouted`] for what is not IPv4.
    #[inline(always)]
    pub fn read(pkt: &mut TcPacket, side: u32) -> Result<&'static mut Self, DropReason> {
        let routed = Self::scratch()?;
        global::result(netpath_read(pkt.skb(), side, routed))?;
        Ok(routed)
    }

    /// Reads the frame of a packet of any kind.
    ///
    /// # Errors
    /// As [`frame::parse`].
    #[inline(always)]
    pub fn read_frame(pkt: &TcPacket) -> Result<&'static mut Frame, DropReason> {
        let routed = Self::scratch()?;
        routed.frame = pkt.frame()?;
        Ok(&mut routed.frame)
    }

    /// This processor's one. Programs do not preempt each other on a processor.
    #[inline(always)]
    fn scratch() -> Result<&'static mut Self, DropReason> {
        const { assert!(size_of::<Self>() <= CONNECTION_WORDS * 8 && align_of::<Self>() <= 8) };
        let row = maps::CONNECTION.get_ptr_mut(connection_row::PACKET).ok_or(DropReason::FlowTableFull)?;
        // SAFETY: the row is large enough and aligned, and any bytes are a value of integers.
        Ok(unsafe { &mut *row.cast() })
    }

    #[inline(always)]
    fn fill<P: Packet>(&mut self, pkt: &P, side: u32) -> Result<(), DropReason> {
        self.frame = frame::parse_ipv4(pkt)?;
        read(pkt, &self.frame, side, &mut self.tuple)
    }
}

/// [`Routed::fill`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_read(skb: *mut __sk_buff, side: u32, routed: *mut Routed) -> u32 {
    // SAFETY: the caller's row, which nobody else refers to meanwhile; or null, says the verifier.
    let Some(routed) = (unsafe { routed.as_mut() }) else { return global::word(Err(DropReason::FlowTableFull)) };
    global::word(routed.fill(&TcPacket::from_raw(skb), side))
}

/// Seconds of the coarse monotonic clock.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: no arguments, no side effects.
    (unsafe { helper::bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// Reads the tuple of an IPv4 packet from `side` into `tuple`.
///
/// # Errors
/// When the header's checksum is wrong, a transport header is cut short, or a later fragment comes without its first.
#[inline(always)]
pub fn read<P: Packet>(pkt: &P, frame: &Frame, side: u32, tuple: &mut Tuple) -> Result<(), DropReason> {
    tuple.ip = *pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?;
    verify(pkt, frame, &tuple.ip)?;
    tuple.key = FlowKey {
        side,
        source: tuple.ip.src_addr,
        destination: tuple.ip.dst_addr,
        source_port: 0,
        destination_port: 0,
        protocol: tuple.ip.proto,
        pad: [0; 3],
    };
    (tuple.tcp_flags, tuple.icmp_type, tuple.icmp_code, tuple.fragment) = (0, 0, 0, fragment::WHOLE);
    let fragments = u16::from_be_bytes(tuple.ip.frags);
    if fragments & 0x3fff != 0 {
        tuple.fragment = if fragments & 0x1fff == 0 { fragment::FIRST } else { fragment::LATER };
        if tuple.fragment == fragment::LATER {
            return later_fragment(tuple);
        }
    }
    transport(pkt, frame, tuple)
}

/// The header's checksum (RFC 1812 §5.2.2), options included.
#[inline(always)]
fn verify<P: Packet>(pkt: &P, frame: &Frame, ip: &Ipv4Hdr) -> Result<(), DropReason> {
    const LONGEST_OPTIONS: usize = 10;
    let mut sum = u64::from(!u16::from_ne_bytes(checksum::ipv4_header(ip)));
    let words = usize::from(ip.vihl & 0x0f) - 5;
    if words != 0 {
        for word in 0..LONGEST_OPTIONS {
            if word >= words {
                break;
            }
            let option = pkt.header::<[u8; 4]>(frame.l3 + Ipv4Hdr::LEN + word * 4).ok_or(DropReason::MalformedIpv4)?;
            sum += u64::from(u32::from_ne_bytes(*option));
        }
    }
    if checksum::fold(sum) == 0xffff { Ok(()) } else { Err(DropReason::BadIpv4Checksum) }
}

#[inline(always)]
fn transport<P: Packet>(pkt: &P, frame: &Frame, tuple: &mut Tuple) -> Result<(), DropReason> {
    let malformed = DropReason::MalformedTransport;
    let room = (frame.l3 + frame.l3_len).saturating_sub(frame.l4);
    match frame.protocol {
        Protocol::TCP => {
            if room < 20 {
                return Err(malformed);
            }
            (tuple.key.source_port, tuple.key.destination_port) = (frame.ports.source, frame.ports.destination);
            let [_, flags] = *pkt.header::<[u8; 2]>(frame.l4 + 12).ok_or(malformed)?;
            tuple.tcp_flags = flags;
        }
        Protocol::UDP => {
            if room < 8 {
                return Err(malformed);
            }
            (tuple.key.source_port, tuple.key.destination_port) = (frame.ports.source, frame.ports.destination);
        }
        Protocol::ICMP => {
            if room < 8 {
                return Err(DropReason::MalformedIcmp);
            }
            let [kind, code, _, _, a, b, _, _] = *pkt.header::<[u8; 8]>(frame.l4).ok_or(DropReason::MalformedIcmp)?;
            (tuple.icmp_type, tuple.icmp_code) = (kind, code);
            let id = u16::from_be_bytes([a, b]);
            if icmp::asks(kind) {
                tuple.key.source_port = id;
            } else if icmp::answers(kind) {
                tuple.key.destination_port = id;
            }
        }
        Protocol::UDP_LITE | Protocol::DCCP if room < 8 => return Err(malformed),
        _ => {}
    }
    Ok(())
}

fn fragment_key(tuple: &Tuple) -> FragmentKey {
    FragmentKey {
        side: tuple.key.side,
        source: tuple.key.source,
        destination: tuple.key.destination,
        id: u16::from_be_bytes(tuple.ip.id),
        protocol: tuple.key.protocol,
        pad: 0,
    }
}

/// Gives a later fragment the ports that the first one told.
#[inline(never)]
fn later_fragment(tuple: &mut Tuple) -> Result<(), DropReason> {
    let key = fragment_key(tuple);
    // SAFETY: the row is copied at once, and `side` tells whether it is still the row that was asked for.
    let row = unsafe { maps::FRAGMENTS.get(key) }.copied().ok_or(DropReason::FragmentBeforeFirst)?;
    if row.side != key.side || since(now(), row.seen) > FRAGMENT_LIFETIME {
        return Err(DropReason::FragmentBeforeFirst);
    }
    (tuple.key.source_port, tuple.key.destination_port, tuple.id) = (row.source_port, row.destination_port, row.id);
    Ok(())
}

/// The identification that was noted for the fragments of a packet, if its first one is here again; 0 for none.
#[inline(never)]
pub fn noted_identification(tuple: &Tuple, now: u32) -> u32 {
    // SAFETY: read at once, and `side` tells whether it is still the row that was asked for.
    match unsafe { maps::FRAGMENTS.get(fragment_key(tuple)) } {
        Some(row) if row.side == tuple.key.side && since(now, row.seen) <= FRAGMENT_LIFETIME => row.id.into(),
        _ => 0,
    }
}

/// Notes what the first fragment tells, and the identification that all of them leave with.
#[inline(never)]
pub fn note_first_fragment(tuple: &Tuple, id: u16, now: u32) {
    let row = Fragment {
        side: tuple.key.side,
        source_port: tuple.key.source_port,
        destination_port: tuple.key.destination_port,
        id,
        pad: [0; 2],
        seen: now,
    };
    // A full map has evicted another hint: the fragments of that packet are dropped and counted.
    let _ = maps::FRAGMENTS.insert(fragment_key(tuple), row, 0);
}
