//! Rates: a frame is charged to the meters of its NIC, its network, its account and its public address, to all or to none.
//!
//! What a limit says is decided in `netpath_common::stage::meter`. A meter is one word, moved on by what a frame costs: no
//! lock, and exact across processors. What two of them admit in the same moment makes a debt, which both wait for.

mod levels;

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    DropReason, Packet,
    frame::{EtherType, Protocol},
    maps::{FROM_GUEST, PortMeters, TO_GUEST, meter_row},
    stage::{
        meter::{TICKS, saver},
        tcp,
    },
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use self::levels::{Level, Scratch, netpath_admit, netpath_pay, netpath_use_up, note};
use crate::{
    account,
    arrival::{self, Inner},
    global, maps,
    packet::{TcPacket, XdpPacket},
    tuple::Tuple,
};

/// `BPF_SKB_TSTAMP_DELIVERY_MONO`: the time is one of departure, by the monotonic clock (Linux 5.18).
const DELIVERY_TIME: u32 = 1;

/// How a frame is charged: one word, for a function has five arguments.
#[derive(Clone, Copy)]
pub struct How(u32);

impl How {
    const DIRECTION: u32 = 1;
    const PACED: u32 = 2;
    /// Above it, the meter of the public address that the frame goes through.
    const ADDRESS_SHIFT: u32 = 2;

    /// Sent by a guest. `is_paced`: it leaves by a device that keeps it until its time of departure.
    #[inline(always)]
    pub const fn from_guest(is_paced: bool) -> Self {
        Self(FROM_GUEST | if is_paced { Self::PACED } else { 0 })
    }

    /// For a guest.
    pub const TO_GUEST: Self = Self(TO_GUEST);

    /// The same, through a public address, by its index.
    #[inline(always)]
    pub fn through(self, address: u16) -> Self {
        Self(self.0 | of_address(address) << Self::ADDRESS_SHIFT)
    }

    #[inline(always)]
    const fn address(self) -> u32 {
        self.0 >> Self::ADDRESS_SHIFT
    }

    #[inline(always)]
    const fn direction(self) -> u32 {
        self.0 & Self::DIRECTION
    }

    #[inline(always)]
    const fn is_paced(self) -> bool {
        self.0 & Self::PACED != 0
    }
}

/// A frame that can be told of congestion and of its time of departure.
pub trait Charged {
    /// Who uses what has been saved up after a refusal: one of [`saver`].
    fn saver(&self) -> u32;
    /// Marks it as having met congestion; `false` where it cannot say so (RFC 3168 §5).
    fn mark(&mut self) -> bool;
    /// Lets it depart at a time, in nanoseconds of the monotonic clock; `false` where it cannot wait.
    fn depart(&mut self, at_ns: u64) -> bool;
}

/// Who sends the frame that stands at the packet's start.
#[inline(always)]
fn saver_of<P: Packet>(pkt: &P) -> u32 {
    let Ok(frame) = Inner::read(pkt, 0) else { return saver::OTHER };
    if frame.protocol != Protocol::TCP {
        return saver::OTHER;
    }
    let mut ip_len = Ipv6Hdr::LEN;
    if frame.ether_type == EtherType::IPV4 {
        ip_len = Ipv4Hdr::LEN;
        // Where there are options, or the packet is a later fragment, no flags stand there.
        let is_plain = |ip: &Ipv4Hdr| ip.vihl == 0x45 && u16::from_be_bytes(ip.frags) & 0x1fff == 0;
        if !pkt.header::<Ipv4Hdr>(frame.l3).is_some_and(is_plain) {
            return saver::OTHER;
        }
    }
    pkt.header::<[u8; 2]>(frame.l3 + ip_len + 12).map_or(saver::OTHER, |[_, flags]| of_segment(*flags))
}

/// Who sends a segment with these flags.
#[inline(always)]
const fn of_segment(flags: u8) -> u32 {
    if flags & tcp::SYN != 0 { saver::BEGINS } else { saver::GOES_ON }
}

impl Charged for TcPacket {
    #[inline(always)]
    fn saver(&self) -> u32 {
        saver_of(self)
    }

    #[inline(always)]
    fn mark(&mut self) -> bool {
        // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut self`.
        unsafe { helper::bpf_skb_ecn_set_ce(self.skb()) == 1 }
    }

    #[inline(always)]
    fn depart(&mut self, at_ns: u64) -> bool {
        // SAFETY: as above. A plain write to the context would be cleared by the redirect.
        unsafe { helper::bpf_skb_set_tstamp(self.skb(), at_ns, DELIVERY_TIME) == 0 }
    }
}

impl Charged for XdpPacket {
    #[inline(always)]
    fn saver(&self) -> u32 {
        saver_of(self)
    }

    #[inline(always)]
    fn mark(&mut self) -> bool {
        Inner::read(self, 0).is_ok_and(|frame| arrival::mark_ce(self, &frame))
    }

    #[inline(always)]
    fn depart(&mut self, _: u64) -> bool {
        false
    }
}

/// A packet, with the header that it is to have.
impl Charged for Tuple {
    #[inline(always)]
    fn saver(&self) -> u32 {
        if self.key.protocol == Protocol::TCP.0 { of_segment(self.tcp_flags) } else { saver::OTHER }
    }

    #[inline(always)]
    fn mark(&mut self) -> bool {
        if self.ip.tos & 3 == 0 {
            return false;
        }
        arrival::set_ecn(&mut self.ip, 3);
        true
    }

    #[inline(always)]
    fn depart(&mut self, _: u64) -> bool {
        false
    }
}

/// The meters of a port.
#[inline(always)]
pub fn of_port(slot: u32) -> &'static PortMeters {
    maps::PORT_METERS.get(slot).unwrap_or(&NONE)
}

/// The meter of a public address, by its index.
#[inline(always)]
fn of_address(address: u16) -> u32 {
    if address == 0 { 0 } else { maps::PUBLIC_METERS.get(u32::from(address)).copied().unwrap_or(0) }
}

/// No meters.
pub static NONE: PortMeters = PortMeters { port: 0, network: 0, account: 0, pad: 0 };

/// Charges and counts a frame that a guest has sent.
#[inline(never)]
pub fn from_guest(pkt: &mut TcPacket, slot: u32, is_paced: bool) -> Result<(), DropReason> {
    charge_skb(pkt, of_port(slot), slot, How::from_guest(is_paced))?;
    account::from_guest(slot, pkt.len());
    Ok(())
}

/// Charges and counts a frame that goes to a guest.
#[inline(always)]
pub fn to_guest(pkt: &mut TcPacket, slot: u32) -> Result<(), DropReason> {
    charge_skb(pkt, of_port(slot), slot, How::TO_GUEST)?;
    account::to_guest(slot, pkt.len());
    Ok(())
}

/// Charges and counts a frame that goes to a guest, in XDP.
#[inline(always)]
pub fn to_guest_early(pkt: &mut XdpPacket, slot: u32) -> Result<(), DropReason> {
    let len = pkt.len();
    charge(pkt, of_port(slot), slot, How::TO_GUEST, len)?;
    account::to_guest(slot, len);
    Ok(())
}

/// Charges a frame in a socket buffer: a super-packet for all that it becomes on the wire.
#[inline(always)]
pub fn charge_skb(pkt: &mut TcPacket, meters: &PortMeters, slot: u32, how: How) -> Result<(), DropReason> {
    if is_free(meters, how) {
        return Ok(());
    }
    let len = if pkt.gso_size() == 0 { pkt.len() as u32 } else { netpath_bytes_on_wire(pkt.skb()) };
    if is_paid(meters, how, len) {
        return Ok(());
    }
    global::result(netpath_charge(pkt.skb(), slot, how.0, len, meters.port | meters.network | meters.account))
}

/// [`charge_skb`], where somebody has to be asked, as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_charge(skb: *mut __sk_buff, slot: u32, how: u32, len: u32, has_meters: u32) -> u32 {
    global::word(told(&mut TcPacket::from_raw(skb), netpath_admit(slot, how, len, has_meters)))
}

/// [`TcPacket::bytes_on_wire`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_bytes_on_wire(skb: *mut __sk_buff) -> u32 {
    TcPacket::from_raw(skb).bytes_on_wire() as u32
}

/// Charges `len` bytes.
#[inline(always)]
pub fn charge<P: Charged>(pkt: &mut P, meters: &PortMeters, slot: u32, how: How, len: usize) -> Result<(), DropReason> {
    if is_free(meters, how) || is_paid(meters, how, len as u32) {
        return Ok(());
    }
    told(pkt, netpath_admit(slot, how.0, len as u32, meters.port | meters.network | meters.account))
}

/// Does what the levels have said.
#[inline(always)]
fn told<P: Charged>(pkt: &mut P, said: u32) -> Result<(), DropReason> {
    match said {
        Level::PASS => Ok(()),
        Level::TELLS => {
            tell(pkt);
            Ok(())
        }
        Level::PORT => Err(DropReason::NicRate),
        Level::NETWORK => Err(DropReason::NetworkRate),
        Level::ACCOUNT => Err(DropReason::AccountRate),
        _ => Err(DropReason::AddressRate),
    }
}

#[inline(always)]
fn is_free(meters: &PortMeters, how: How) -> bool {
    meters.port | meters.network | meters.account | how.address() == 0
}

/// Whether nobody but the port has a say, and it is far from its limit, as most that have one are: then it is charged.
#[inline(always)]
fn is_paid(meters: &PortMeters, how: How, len: u32) -> bool {
    meters.network | meters.account | how.address() == 0
        && netpath_pay(meter_row(meters.port, how.direction()), len) != 0
}

/// Marks the frame that was admitted last, has it wait, or pay for what it was not saved for.
#[inline(never)]
fn tell<P: Charged>(pkt: &mut P) {
    let Some(Scratch { charge, .. }) = Scratch::here() else { return };
    if charge.saved != 0 {
        match pkt.saver() {
            saver::GOES_ON => {}
            by => drop(netpath_use_up(by)),
        }
    }
    if charge.marks != 0 && pkt.mark() {
        note(charge.marks, charge.len, |events| (&raw mut events.marked_packets, &raw mut events.marked_bytes));
    }
    if charge.waits != 0 && pkt.depart((charge.now + charge.wait) / TICKS) {
        note(charge.waits, charge.len, |events| (&raw mut events.delayed_packets, &raw mut events.delayed_bytes));
    }
}
