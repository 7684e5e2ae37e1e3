//! A second opinion on what a gateway does: Linux routing and nftables, ruled by the same definitions as netpath.
//!
//! ```text
//!                       definitions (draw)
//!               netpath apply ◄──┴──► ruleset, nft -f
//!   guests' taps ─ hv1 ─ uplink        guests' tap ─ a namespace per tenant ─ tap
//!                  Subject                         Routers, and a switch between them
//!                     └── the same packet, what arrived where ──┘
//! ```
//!
//! Both are a [`System`]: a packet goes in at a [`Place`], and what came out by the time it was dealt with comes back.

pub mod compare;
pub mod draw;
pub mod routers;
pub mod ruleset;
pub mod site;
pub mod subject;
pub mod traffic;

use std::net::{IpAddr, Ipv4Addr};

pub use routers::Routers;
pub use site::{Guest, Site};
pub use subject::Subject;

use crate::packet::{Mac, Packet, dissect};

/// Stations on the public link and beyond its router, which is the first.
pub const OUTSIDE: [Ipv4Addr; 6] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 100),
    Ipv4Addr::new(198, 51, 100, 101),
    Ipv4Addr::new(203, 0, 113, 7),
    Ipv4Addr::new(203, 0, 113, 8),
    Ipv4Addr::new(9, 9, 9, 9),
];

/// Where a packet goes in or comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A guest, by its index in [`Site::guests`].
    Guest(usize),
    /// The public link.
    Wire,
}

/// A packet that came out, as IPv4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where.
    pub at: Place,
    /// From its IPv4 header on, without padding.
    pub packet: Vec<u8>,
}

/// A gateway under test, or one to compare with.
pub trait System {
    /// Sends a packet, whose MAC addresses do not count, in at `from`, and waits until it has been dealt with.
    fn exchange(&mut self, from: Place, packet: &Packet) -> Vec<Arrival>;
}

/// Who answers for an outside address on the public link: a station there, or the router.
pub fn outside_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, last] = address.octets();
    let station = if [a, b, c] == [198, 51, 100] { last } else { 1 };
    [0x02, 0x00, 0xc6, 0x33, 0x64, station]
}

/// The IPv4 packet in a frame, without padding, with its source and destination.
fn ipv4(frame: &[u8]) -> Option<(Vec<u8>, Ipv4Addr, Ipv4Addr)> {
    let parts = dissect(frame)?;
    let ip = parts.ip?;
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else { return None };
    Some(([ip.header, ip.message].concat(), src, dst))
}
