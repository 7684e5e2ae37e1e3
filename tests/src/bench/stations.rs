//! Who is where in every benchmark: one guest here, one station behind the tunnel.

use std::net::Ipv4Addr;

use crate::packet::{Endpoint, Mac};

/// The guest on the hypervisor that is measured.
pub const GUEST: Endpoint = Endpoint::numbered(11);
/// The station on the other host.
pub const REMOTE: Endpoint = Endpoint::numbered(12);
/// The measured hypervisor's tunnel address.
pub const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// The other host's tunnel address.
pub const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// The other host's MAC address.
pub const THERE_MAC: Mac = [0x02, 0, 0xc0, 0, 2, 12];
/// The network's VNI.
pub const VNI: u32 = 5001;
/// The tunnel's UDP port.
pub const PORT: u16 = 4789;
