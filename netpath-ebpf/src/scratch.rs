//! Bytes of a packet for which the stack has no room, in memory of the CPU.

use aya_ebpf::helpers::generated as helper;
use netpath_common::maps::SCRATCH_WORDS;

use crate::{maps, packet::TcPacket};

/// The most bytes of a packet that are copied.
pub const MOST: usize = 2048;
/// The kernel sums at most so many bytes in one call before Linux 6.13.
const SUMMED_AT_ONCE: usize = 512;
/// Copies of this many pieces are summed: a message of 1536 bytes.
const PIECES: usize = 3;

/// A copy of a packet's bytes, with zeros behind them.
#[derive(Clone, Copy)]
pub struct Scratch {
    start: *mut u8,
    len: usize,
}

impl Scratch {
    /// The most bytes that [`Self::sum`] covers.
    pub const MOST_SUMMED: usize = PIECES * SUMMED_AT_ONCE;

    /// Copies `len` bytes from `offset` on; `None` for more than [`MOST`], for none, and for what the packet has not got.
    #[inline(always)]
    pub fn copy(pkt: &mut TcPacket, offset: usize, len: usize) -> Option<Self> {
        let start: *mut u8 = maps::SCRATCH.get_ptr_mut(0)?.cast();
        if len == 0 || len > MOST {
            return None;
        }
        // The verifier learns the bounds here: 1 to 2048.
        let len = ((len - 1) & (MOST - 1)) + 1;
        // SAFETY: the row has `SCRATCH_WORDS` words, more than `MOST` bytes and the four that follow; programs do not
        // preempt each other on a CPU.
        unsafe {
            if helper::bpf_skb_load_bytes(pkt.skb().cast(), offset as u32, start.cast(), len as u32) != 0 {
                return None;
            }
            start.add(len).cast::<u32>().write_unaligned(0);
        }
        Some(Self { start, len })
    }

    /// The one's complement sum of all of it, up to 1536 bytes.
    #[inline(always)]
    pub fn sum(&self) -> u64 {
        let mut sum = 0;
        for piece in 0..PIECES {
            let done = piece * SUMMED_AT_ONCE;
            if self.len > done {
                let rest = (self.len - done + 3) & !3;
                sum += self.sum_of(done, if rest > SUMMED_AT_ONCE { SUMMED_AT_ONCE } else { rest });
            }
        }
        sum
    }

    /// The one's complement sum of `len` bytes from `offset` on; both at compile time within the row, `len` a multiple of
    /// four and 512 at most.
    #[inline(always)]
    pub fn sum_of(&self, offset: usize, len: usize) -> u64 {
        const { assert!(SCRATCH_WORDS * 8 >= MOST + SUMMED_AT_ONCE / 2) };
        // SAFETY: the row reaches that far.
        let sum =
            unsafe { helper::bpf_csum_diff(core::ptr::null_mut(), 0, self.start.add(offset).cast(), len as u32, 0) };
        sum as u64 & 0xffff_ffff
    }

    /// Overwrites a 16-bit word of the copy.
    #[inline(always)]
    pub fn set(&mut self, offset: usize, word: [u8; 2]) {
        // SAFETY: an offset below `MOST` is within the row.
        unsafe { self.start.add(offset & (MOST - 1)).cast::<[u8; 2]>().write_unaligned(word) };
    }
}

/// Memory for a value that a function fills in: unlike one on the stack, it looks the same to the verifier however it was
/// filled, so that what follows is walked once.
///
/// # Safety
/// Any bytes are a value of `T`, and only one such reference lives at a time.
#[inline(always)]
pub unsafe fn place<T>() -> Option<&'static mut T> {
    const OFFSET: usize = MOST + 64;
    const { assert!(OFFSET + size_of::<T>() <= SCRATCH_WORDS * 8 && align_of::<T>() <= 8) };
    let start: *mut u8 = maps::SCRATCH.get_ptr_mut(0)?.cast();
    // SAFETY: within the row, which is aligned to 8, behind what is copied there; the caller vouches for the rest.
    Some(unsafe { &mut *start.add(OFFSET).cast() })
}
