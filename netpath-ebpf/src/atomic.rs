//! Words of maps that several processors change. `core::sync::atomic` has no read-modify-write for this target, though
//! its processor has (`-Ctarget-cpu=v3`, Linux 5.12).
//!
//! Every word is in a map's value, aligned as its type is, and has no writers but these, so that the functions are safe.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_and, atomic_cxchg, atomic_or, atomic_xadd};

/// An integer in a map's value.
pub struct Word<T: 'static>(&'static mut T);

impl<T: Copy + 'static> Word<T> {
    /// The word at `place`.
    ///
    /// # Safety
    /// It is in a map's value.
    #[inline(always)]
    pub unsafe fn at(place: *mut T) -> Self {
        // SAFETY: a map's value lives for as long as the program runs.
        Self(unsafe { &mut *place })
    }

    #[inline(always)]
    fn place(&self) -> *mut T {
        core::ptr::from_ref(&*self.0).cast_mut()
    }

    /// The value now: one load, which this target's code generator makes of a volatile read only.
    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: as the constructor was promised.
        unsafe { self.place().read_volatile() }
    }

    /// Adds, and answers what was there before.
    #[inline(always)]
    pub fn add(&self, by: T) -> T {
        // SAFETY: as the constructor was promised.
        unsafe { atomic_xadd::<_, _, { Relaxed }>(self.place(), by) }
    }

    /// Sets bits, and answers what was there before.
    #[inline(always)]
    pub fn set(&self, bits: T) -> T {
        // SAFETY: as the constructor was promised.
        unsafe { atomic_or::<_, _, { Relaxed }>(self.place(), bits) }
    }

    /// Keeps these bits only, and answers what was there before.
    #[inline(always)]
    pub fn keep(&self, bits: T) -> T {
        // SAFETY: as the constructor was promised.
        unsafe { atomic_and::<_, _, { Relaxed }>(self.place(), bits) }
    }

    /// Writes `after` where `before` stands; answers what stood there.
    #[inline(always)]
    pub fn replace(&self, before: T, after: T) -> T {
        // SAFETY: as the constructor was promised.
        unsafe { atomic_cxchg::<_, { Relaxed }, { Relaxed }>(self.place(), before, after) }.0
    }
}
