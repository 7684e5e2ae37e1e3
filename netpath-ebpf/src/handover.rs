//! From one TC program to the next: each has a stack of its own, and a packet is parsed again from its bytes.
//!
//! ```text
//!   from_guest, from_uplink, from_tunnel ──► gateway ──► (sent)
//!                                            │  ▲  │
//!                       no connection yet    ▼  │  └──► icmp_error ──► (sent)
//!                                          connect ──► answer ──► (sent back)
//!   from_guest ──► flood ──► (copies sent)
//! ```

use aya_ebpf::{EbpfContext, bindings::__sk_buff};
use netpath_common::{
    frame::Protocol,
    maps::{PUBLIC_SIDE, Port},
};

use crate::{maps, packet::TcPacket, vlan};

/// What travels with the packet, in the words of `__sk_buff::cb` that the kernel leaves to programs.
#[derive(Clone, Copy)]
pub struct Handover {
    /// Where the packet came from: a network index, or `PUBLIC_SIDE` and the index of a public link.
    pub side: u32,
    /// The ifindex of the guest's port that it came from; 0 for the wire.
    pub port: u32,
    /// How many programs it has been through.
    pub rounds: u32,
    /// Row of COUNTERS of the guest's port, if `port` names one.
    pub slot: u32,
    /// For `stage::ANSWER`: what is to be answered, see [`Answer`]. For the others: [`Self::AGAIN`], or zero.
    pub answer: u32,
    /// The network that refusals are counted for.
    pub owner: u32,
    /// The priority bits (PCP and DEI) of the tag that was taken off, where a tag has them; a tag that is put on has them again.
    pub priority: u16,
}

/// What a packet becomes: ICMP type, code, and the MTU of "fragmentation needed", in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// ICMP type; 0 is an echo reply.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The next hop's MTU in bytes, for type 3 code 4.
    pub mtu: u16,
}

impl Answer {
    /// Echo reply (RFC 792).
    pub const ECHO_REPLY: Self = Self { kind: 0, code: 0, mtu: 0 };
    /// Time to live exceeded in transit (RFC 792).
    pub const TTL_EXCEEDED: Self = Self { kind: 11, code: 0, mtu: 0 };
    /// Network unreachable (RFC 792).
    pub const NET_UNREACHABLE: Self = Self::unreachable(0);
    /// Host unreachable (RFC 792).
    pub const HOST_UNREACHABLE: Self = Self::unreachable(1);
    /// Protocol unreachable (RFC 792).
    pub const PROTOCOL_UNREACHABLE: Self = Self::unreachable(2);
    /// Port unreachable (RFC 792).
    pub const PORT_UNREACHABLE: Self = Self::unreachable(3);
    /// Communication administratively prohibited (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: Self = Self::unreachable(13);

    const fn unreachable(code: u8) -> Self {
        Self { kind: 3, code, mtu: 0 }
    }

    /// There is nobody to talk to by this protocol, or by any port of it.
    #[inline(always)]
    pub const fn closed(protocol: u8) -> Self {
        match Protocol(protocol) {
            Protocol::TCP | Protocol::UDP => Self::PORT_UNREACHABLE,
            _ => Self::PROTOCOL_UNREACHABLE,
        }
    }

    /// Fragmentation needed and DF set (RFC 1191 §4).
    #[inline(always)]
    pub const fn too_big(mtu: u16) -> Self {
        Self { kind: 3, code: 4, mtu }
    }

    /// In one word.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        (self.kind as u32) << 24 | (self.code as u32) << 16 | self.mtu as u32
    }

    /// From one word.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self { kind: (word >> 24) as u8, code: (word >> 16) as u8, mtu: word as u16 }
    }
}

impl Handover {
    /// Rounds share a word with the slot, and priority with the owner: a map has at most 2²⁴ rows.
    const INDEX_BITS: u32 = 24;
    const INDEX_MASK: u32 = (1 << Self::INDEX_BITS) - 1;
    /// In `answer`: the packet has come to its public link from a public address of this host, and not by the wire.
    pub const AGAIN: u32 = 1;

    /// A packet from `side`, at its first program.
    #[inline(always)]
    pub fn new(side: u32, port: u32, owner: u32) -> Self {
        Self { side, port, rounds: 0, slot: 0, answer: 0, owner, priority: 0 }
    }

    /// A guest's packet, at its first program.
    #[inline(always)]
    pub fn from_port(port: &Port) -> Self {
        Self { slot: port.slot, ..Self::new(port.network, port.ifindex, port.network) }
    }

    /// The same packet as it comes to a public link from a public address of this host.
    #[inline(always)]
    pub fn again(self, side: u32) -> Self {
        Self { side, port: 0, answer: Self::AGAIN, ..self }
    }

    /// Whether the packet has come by the wire of a public link.
    #[inline(always)]
    pub fn is_from_public_wire(&self) -> bool {
        self.side & PUBLIC_SIDE != 0 && self.answer != Self::AGAIN
    }

    /// What the program before this one handed on.
    #[inline(always)]
    pub fn read(pkt: &TcPacket) -> Self {
        // SAFETY: the context is the kernel's; volatile, so that the words are read where this stands.
        let [side, port, walk, answer, owner] = unsafe { (&raw const (*pkt.raw()).cb).read_volatile() };
        let (rounds, slot) = (walk >> Self::INDEX_BITS, walk & Self::INDEX_MASK);
        let (priority, owner) = ((owner >> 16) as u16 & vlan::PRIORITY, owner & Self::INDEX_MASK);
        Self { side, port, rounds, slot, answer, owner, priority }
    }

    /// Hands the packet to a program of `netpath_common::maps::stage`. Returns only where there is none, or the kernel's
    /// limit of 33 hand-overs is reached.
    #[inline(always)]
    pub fn to(self, pkt: &mut TcPacket, stage: u32) {
        let Self { side, port, rounds, slot, answer, owner, priority } = self;
        let walk = (rounds + 1) << Self::INDEX_BITS | slot & Self::INDEX_MASK;
        let owner = u32::from(priority & vlan::PRIORITY) << 16 | owner & Self::INDEX_MASK;
        let skb = pkt.skb();
        // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut`. Volatile, since nothing here
        // reads what is written.
        unsafe {
            (&raw mut (*skb).cb).write_volatile([side, port, walk, answer, owner]);
            maps::STAGES.tail_call(&Skb(skb), stage);
        }
    }
}

/// A context of which only the address is needed.
struct Skb(*mut __sk_buff);

impl EbpfContext for Skb {
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.0.cast()
    }
}
