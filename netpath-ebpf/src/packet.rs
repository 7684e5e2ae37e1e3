//! Packets in the kernel: the only pointer arithmetic of the data path.
//!
//! A header borrowed from a packet ends where the packet is moved: everything that moves it takes `&mut self`, and
//! the verifier wants the bounds compared again afterwards.

use core::{hint::assert_unchecked, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, xdp_md},
    helpers::generated as helper,
    programs::{TcContext, XdpContext},
};
use netpath_common::{
    DropReason, Frame, Packet,
    frame::{self, EtherType, Protocol},
    packet::Wire,
    vxlan::OUTER_LEN,
};

use crate::global;

/// A pointer to `T` at `offset`, where all of it lies before `end`.
#[inline(always)]
fn at<T>(start: usize, end: usize, offset: usize) -> Option<*mut T> {
    if start + offset + size_of::<T>() > end { None } else { Some((start + offset) as *mut T) }
}

/// A packet pointer from the context. Volatile, so that each comparison stands beside its access: the compiler would
/// reuse an earlier one whose result the verifier no longer has.
///
/// # Safety
/// `field` is one of the context's packet pointers.
#[inline(always)]
unsafe fn read(field: *const u32) -> usize {
    // SAFETY: the caller says so.
    unsafe { field.read_volatile() as usize }
}

/// The largest offset at which a header is looked for; the verifier wants a bound on what it adds to a pointer.
const OFFSET_MASK: usize = 0x7ff;

/// A packet whose bytes can be overwritten.
pub trait Rewrite: Packet {
    /// Overwrites the bytes at `offset`.
    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), DropReason>;
}

/// A frame as the driver received it.
pub struct XdpPacket {
    ctx: *mut xdp_md,
}

/// What XDP tells TC about a frame whose outer headers it stripped.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stripped {
    /// [`Stripped::MAGIC`].
    magic: u32,
    /// Network index.
    pub network: u32,
    /// Row of TUNNELS that leads back.
    pub tunnel: u32,
}

impl Stripped {
    const MAGIC: u32 = 0x6e70_7631;

    /// The note of a frame from `tunnel` in `network`.
    pub fn new(network: u32, tunnel: u32) -> Self {
        Self { magic: Self::MAGIC, network, tunnel }
    }
}

impl XdpPacket {
    /// The packet of a program's context.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self::from_raw(ctx.ctx)
    }

    /// The same of a context that a global function was given.
    #[inline(always)]
    pub fn from_raw(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }

    /// The device that the frame arrived on.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: as above; the verifier turns both loads into packet pointers.
        unsafe { (read(&raw const (*self.ctx).data), read(&raw const (*self.ctx).data_end)) }
    }

    /// Whether part of the frame lies in fragments that cannot be read here.
    #[inline(always)]
    pub fn has_fragments(&self) -> bool {
        // SAFETY: the context is the kernel's.
        unsafe { helper::bpf_xdp_get_buff_len(self.ctx) != self.len() as u64 }
    }

    /// Takes `len` bytes off the front.
    #[inline(always)]
    pub fn shrink_head(&mut self, len: usize) -> Result<(), DropReason> {
        // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut self`.
        match unsafe { helper::bpf_xdp_adjust_head(self.ctx, len as i32) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Takes bytes off the front, or makes room there where `len` is negative.
    #[inline(always)]
    pub fn move_head(&mut self, len: i32) -> Result<(), DropReason> {
        if len == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        match unsafe { helper::bpf_xdp_adjust_head(self.ctx, len) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// The raw context, for helpers.
    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.ctx
    }

    /// Leaves a note for TC. `false` where the driver keeps none.
    #[inline(always)]
    pub fn note(&mut self, note: Stripped) -> bool {
        // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut self`.
        if unsafe { helper::bpf_xdp_adjust_meta(self.ctx, -(size_of::<Stripped>() as i32)) } != 0 {
            return false;
        }
        // SAFETY: both are loads from the context.
        let (start, end) = unsafe { (read(&raw const (*self.ctx).data_meta), read(&raw const (*self.ctx).data)) };
        let Some(target) = at::<Stripped>(start, end, 0) else { return false };
        // SAFETY: `at` compared the bounds.
        unsafe { target.write_unaligned(note) };
        true
    }
}

impl Rewrite for XdpPacket {
    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), DropReason> {
        let (start, end) = self.bounds();
        let target = at::<T>(start, end, offset & OFFSET_MASK).ok_or(DropReason::MalformedFrame)?;
        // SAFETY: `at` compared the bounds.
        unsafe { target.write_unaligned(*value) };
        Ok(())
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn header<T: Wire>(&self, offset: usize) -> Option<&T> {
        let (start, end) = self.bounds();
        let header = at::<T>(start, end, offset & OFFSET_MASK)?;
        // SAFETY: `at` compared the bounds and `Wire` allows any bytes. Drivers and the stack keep frames at even
        // addresses, and where one did not, the loads would be right all the same: BPF has them at any alignment.
        unsafe {
            assert_unchecked(header.cast::<u16>().is_aligned());
            Some(&*header)
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }
}

/// [`frame::ipv6`] as a [global] function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_parse_ipv6(skb: *mut __sk_buff, frame: *mut Frame) -> u32 {
    // SAFETY: the caller's frame; or null, says the verifier.
    let Some(frame) = (unsafe { frame.as_mut() }) else { return global::word(Err(DropReason::MalformedIpv6)) };
    global::word(frame::ipv6(&TcPacket::from_raw(skb), frame))
}

/// A socket buffer: a frame from a guest, possibly of 64 KiB, or one that the stack has received.
pub struct TcPacket {
    skb: *mut __sk_buff,
}

/// A copy of what stands in a packet from `offset` on; `None` for what it has not got. It is read where memory of the processor may
/// not be: before Linux 6.3 packets that arrive interrupt a program that the loader runs.
#[inline(always)]
pub fn copied<T: Wire>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the context is the kernel's, and the value has as many bytes as are asked for.
    let failed =
        unsafe { helper::bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) };
    // SAFETY: all of it was written, and any bytes are one.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// Bytes of headers that every program wants readable: Ethernet, IPv6 with a few extension headers, transport.
const HEADERS: u32 = 128;

impl TcPacket {
    /// The packet of a program's context, with its headers pulled together where they can be read.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        let pkt = Self { skb: ctx.as_ptr().cast() };
        let (start, end) = pkt.bounds();
        let wanted = (pkt.skb_len()).min(HEADERS);
        if ((end - start) as u32) < wanted {
            // SAFETY: the context is the kernel's. Refused: the parser finds the headers too short.
            unsafe { helper::bpf_skb_pull_data(pkt.skb, wanted) };
        }
        pkt
    }

    /// The same packet again, inside a loop's callback.
    #[inline(always)]
    pub fn from_raw(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    #[inline(always)]
    fn skb_len(&self) -> u32 {
        // SAFETY: the context is the kernel's and lives as long as the program runs.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: as above; the verifier turns both loads into packet pointers.
        unsafe { (read(&raw const (*self.skb).data), read(&raw const (*self.skb).data_end)) }
    }

    /// The raw context, for helpers.
    #[inline(always)]
    pub fn skb(&mut self) -> *mut __sk_buff {
        self.skb
    }

    /// The raw context, to read.
    #[inline(always)]
    pub fn raw(&self) -> *const __sk_buff {
        self.skb
    }

    /// Parses its frame.
    ///
    /// # Errors
    /// As [`frame::parse`].
    #[inline(always)]
    pub fn frame(&self) -> Result<Frame, DropReason> {
        frame::parse_with(self, |pkt, frame| global::result(netpath_parse_ipv6(pkt.skb, frame)))
    }

    /// The device that the program is attached to.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).ifindex }
    }

    /// The packet's mark.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).mark }
    }

    /// Sets the packet's mark.
    #[inline(always)]
    pub fn set_mark(&mut self, mark: u32) {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).mark = mark }
    }

    /// Payload bytes of each segment that a super-packet will become; 0 for an ordinary packet.
    #[inline(always)]
    pub fn gso_size(&self) -> usize {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).gso_size as usize }
    }

    /// At least as many as the packets that this one will become on the wire.
    #[inline(always)]
    pub fn segments(&self) -> u32 {
        1 + self.len().checked_div(self.gso_size()).unwrap_or(0) as u32
    }

    /// The outermost VLAN tag (TPID, TCI), whether the device took it off or it stands in the frame.
    #[inline(always)]
    pub fn tag(&self) -> Option<(EtherType, u16)> {
        // SAFETY: the context is the kernel's.
        let skb = unsafe { &*self.skb };
        if skb.vlan_present != 0 {
            return Some((EtherType(u16::from_be(skb.vlan_proto as u16)), skb.vlan_tci as u16));
        }
        let [a, b, c, d] = *self.header::<[u8; 4]>(12)?;
        let tpid = EtherType(u16::from_be_bytes([a, b]));
        tpid.is_tag().then_some((tpid, u16::from_be_bytes([c, d])))
    }

    /// Whether the device took the outermost VLAN tag off the frame.
    #[inline(always)]
    pub fn has_offloaded_tag(&self) -> bool {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    /// Takes the outermost VLAN tag off.
    #[inline(always)]
    pub fn pop_tag(&mut self) -> Result<(), DropReason> {
        // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut self`.
        match unsafe { helper::bpf_skb_vlan_pop(self.skb) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Puts an 802.1Q tag around whatever tags there are.
    #[inline(always)]
    pub fn push_tag(&mut self, tci: u16) -> Result<(), DropReason> {
        // SAFETY: as for `pop_tag`.
        match unsafe { helper::bpf_skb_vlan_push(self.skb, EtherType::VLAN.0.to_be(), tci) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Overwrites `OUTER_LEN` bytes at the front.
    #[inline(always)]
    pub fn write_outer(&mut self, outer: &[u8; OUTER_LEN]) -> Result<(), DropReason> {
        self.write_bytes(0, outer.as_ptr(), OUTER_LEN)
    }

    /// Keeps the sum that a device took over the whole packet (`CHECKSUM_COMPLETE`) true.
    #[inline(always)]
    fn write_bytes(&mut self, offset: usize, bytes: *const u8, len: usize) -> Result<(), DropReason> {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: the caller's reference covers `len` bytes; no pointer into the packet outlives `&mut self`.
        match unsafe { helper::bpf_skb_store_bytes(self.skb, offset as u32, bytes.cast(), len as u32, flags) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Makes `len` bytes of room between the Ethernet header and what follows, or takes them away.
    #[inline(always)]
    pub fn adjust_room(&mut self, len: i32, flags: u64) -> Result<(), DropReason> {
        // SAFETY: as for `pop_tag`.
        match unsafe { helper::bpf_skb_adjust_room(self.skb, len, BPF_ADJ_ROOM_MAC, flags) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Makes `len` bytes of room before the Ethernet header.
    #[inline(always)]
    pub fn grow_head(&mut self, len: usize) -> Result<(), DropReason> {
        // SAFETY: as for `pop_tag`.
        match unsafe { helper::bpf_skb_change_head(self.skb, len as u32, 0) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Cuts the packet to `len` bytes; a super-packet becomes an ordinary one.
    #[inline(always)]
    pub fn cut(&mut self, len: usize) -> Result<(), DropReason> {
        // SAFETY: as for `pop_tag`.
        match unsafe { helper::bpf_skb_change_tail(self.skb, len as u32, 0) } {
            0 => Ok(()),
            _ => Err(DropReason::EncapsulationRefused),
        }
    }

    /// Makes the first `len` bytes readable.
    #[inline(always)]
    pub fn pull(&mut self, len: usize) {
        // SAFETY: as for `pop_tag`. Refused: the next read finds the packet too short.
        unsafe { helper::bpf_skb_pull_data(self.skb, len as u32) };
    }

    /// Overwrites bytes whose sum does not change, or is mended by the caller: a sum that a device took over the whole
    /// packet (`CHECKSUM_COMPLETE`) is left alone.
    #[inline(always)]
    pub fn overwrite<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), DropReason> {
        let (start, end) = self.bounds();
        let target = at::<T>(start, end, offset & OFFSET_MASK).ok_or(DropReason::MalformedFrame)?;
        // SAFETY: `at` compared the bounds.
        unsafe { target.write_unaligned(*value) };
        Ok(())
    }

    /// Length in bytes of the frame's payload as a wire sees it: of each segment, for a super-packet. What stands behind
    /// the packet's own length is sent too, so it counts.
    #[inline(always)]
    pub fn wire_len(&self, frame: &Frame) -> usize {
        let segment = self.gso_size();
        if segment == 0 || frame.l4 == 0 {
            return self.len().saturating_sub(frame.l3);
        }
        let transport = match frame.protocol {
            Protocol::TCP => self.header::<[u8; 2]>(frame.l4 + 12).map_or(20, |word| usize::from(word[0] >> 4) * 4),
            _ => 8,
        };
        frame.l4 - frame.l3 + transport + segment
    }

    /// Bytes that a super-packet takes on the wire: its headers are sent with each segment.
    #[inline(always)]
    pub fn bytes_on_wire(&self) -> usize {
        let (len, segment) = (self.len(), self.gso_size());
        let Some([kind_a, kind_b, first, ..]) = self.header::<[u8; 4]>(12).copied() else { return len };
        let (l4, protocol) = match EtherType(u16::from_be_bytes([kind_a, kind_b])) {
            EtherType::IPV4 => {
                (14 + usize::from(first & 0xf) * 4, self.header::<[u8; 2]>(22).map_or(0, |word| word[1]))
            }
            EtherType::IPV6 => (54, self.header::<[u8; 2]>(20).map_or(0, |word| word[0])),
            _ => return len,
        };
        let transport = match Protocol(protocol) {
            Protocol::TCP => self.header::<[u8; 2]>(l4 + 12).map_or(20, |word| usize::from(word[0] >> 4) * 4),
            _ => 8,
        };
        let headers = l4 + transport;
        let more = len.saturating_sub(headers + 1).checked_div(segment).unwrap_or(0);
        len + more * headers
    }

    /// XDP's note about this frame, if XDP stripped it.
    #[inline(always)]
    pub fn note(&self) -> Option<Stripped> {
        // SAFETY: both are loads from the context.
        let (start, end) = unsafe { (read(&raw const (*self.skb).data_meta), read(&raw const (*self.skb).data)) };
        let note = at::<Stripped>(start, end, 0)?;
        // SAFETY: `at` compared the bounds; three integers take any bytes.
        let note = unsafe { note.read_unaligned() };
        (note.magic == Stripped::MAGIC).then_some(note)
    }
}

impl Rewrite for TcPacket {
    /// In a buffer that is made writable first.
    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), DropReason> {
        self.write_bytes(offset, core::ptr::from_ref(value).cast(), size_of::<T>())
    }
}

impl Packet for TcPacket {
    #[inline(always)]
    fn header<T: Wire>(&self, offset: usize) -> Option<&T> {
        let (start, end) = self.bounds();
        let header = at::<T>(start, end, offset & OFFSET_MASK)?;
        // SAFETY: `at` compared the bounds and `Wire` allows any bytes. Drivers and the stack keep frames at even
        // addresses, and where one did not, the loads would be right all the same: BPF has them at any alignment.
        unsafe {
            assert_unchecked(header.cast::<u16>().is_aligned());
            Some(&*header)
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.skb_len() as usize
    }
}
