//! Waiting for a descriptor to have something to read.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor that never blocks with the runtime.
pub(super) fn register<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what lends its descriptor (`AsFd`) has it open for as long as it lives, and neither of the two callers' types
    // exchanges it.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?)
}
