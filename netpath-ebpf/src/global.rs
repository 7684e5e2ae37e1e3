//! Global functions: `#[no_mangle] extern "C"`, which the verifier looks at once for any arguments, and not again for every state
//! in which they are called.
//!
//! What the branches inside have told it is forgotten where they return, and so is what stands in memory that they were given.
//! Before Linux 6.8 they take words, contexts and pointers to structs, and answer a word.

use netpath_common::DropReason;

/// A result as the answer of a global function.
#[inline(always)]
pub fn word(result: Result<(), DropReason>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

/// The answer of a global function as a result.
#[inline(always)]
pub fn result(word: u32) -> Result<(), DropReason> {
    match word {
        0 => Ok(()),
        // SAFETY: `word` made it of a reason.
        _ => Err(unsafe { core::mem::transmute::<u32, DropReason>(word - 1) }),
    }
}
