//! Who is where behind the gateway that is measured. The generator (`netpath-ebpf/src/floor/flows.rs`) knows the same.

use std::net::Ipv4Addr;

use crate::packet::Mac;

/// Networks that connections are spread over, each with a VNI of its own.
pub const NETWORKS: u8 = 4;
/// Guests of each, all on the other host.
pub const GUESTS: u16 = 256;
/// The first network's VNI.
pub const FIRST_VNI: u32 = 5001;
/// Public addresses of each network.
pub const POOL: u8 = 8;
/// The last octet of the first one.
pub const FIRST_POOL: u8 = 16;
/// The measured host's own address on the public link, where it wants one.
pub const PUBLIC_HERE: Ipv4Addr = public(1);
/// The upstream router.
pub const ROUTER: Ipv4Addr = public(254);
/// The router's MAC address.
pub const ROUTER_MAC: Mac = [0x02, 0, 0xcb, 0, 0x71, 0xfe];
/// The station that guests talk to.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The port that it listens on.
pub const SERVICE: u16 = 2000;
/// MAC address of every network's gateway.
pub const GATEWAY_MAC: Mac = [0x02, 0, 0x0a, 0, 0, 1];
/// Device of the public link on the measured host.
pub const PUBLIC_UPLINK: &str = "eth2";
/// Its other end.
pub const PUBLIC_END: &str = "port2";

/// An address of the public link.
pub const fn public(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, last)
}

/// The gateway of a network, from 0.
pub fn gateway(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1 + network, 0, 1)
}

/// A guest's address.
pub fn guest(network: u8, guest: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 1 + network, 1, guest as u8)
}

/// A guest's MAC address.
pub fn guest_mac(network: u8, guest: u16) -> Mac {
    [0x02, 0, 0x0a, 1 + network, 1, guest as u8]
}

/// The public addresses of a network.
pub fn pool(network: u8) -> impl Iterator<Item = Ipv4Addr> {
    let first = FIRST_POOL + network * POOL;
    (first..first + POOL).map(public)
}
