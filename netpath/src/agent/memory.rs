//! What an agent does so as to take little memory at rest: a large document takes much while it is read, and nothing afterwards.

/// Has all threads take memory from one heap, which [`give_back`] can shorten. Of a heap that a thread has to itself glibc keeps the end.
/// Call it before there are threads.
pub(super) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; no other thread takes memory yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free back to the kernel.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no arguments that could be wrong; it locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}
