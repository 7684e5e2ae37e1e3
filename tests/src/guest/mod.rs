//! Guests: raw ones that send and compare frames, and kernel ones with a real stack behind a veth or a tap.

pub mod bulk;
pub mod kernel;
pub mod load;
pub mod packet_socket;
pub mod raw;
pub mod relay;

pub use kernel::KernelGuest;
pub use load::Load;
pub use packet_socket::PacketSocket;
pub use raw::RawGuest;
pub use relay::Relay;

use std::{
    io, thread,
    time::{Duration, Instant},
};

/// How long a test waits for what must happen; emulated machines are slow, and so are those with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Binds a socket to an address that another one may have had until now: while a test beside this one starts a program, the
/// new process holds a copy of every descriptor, closed here or not.
pub fn bind_when_free<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => thread::yield_now(),
            bound => return bound,
        }
    }
}
