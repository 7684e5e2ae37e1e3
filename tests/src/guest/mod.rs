//! Guests: raw ones that send and compare frames, and kernel ones with a real stack behind a veth or a tap.

pub mod bulk;
pub mod kernel;
pub mod packet_socket;
pub mod raw;
pub mod relay;

pub use kernel::KernelGuest;
pub use packet_socket::PacketSocket;
pub use raw::RawGuest;
pub use relay::Relay;

use std::time::Duration;

/// How long a test waits for what must happen; emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(30);
