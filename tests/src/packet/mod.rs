//! Whole frames: built with right checksums by default and knobs to break each of them, and taken apart again.

pub mod body;
pub mod build;
pub mod checksum;
pub mod dissect;
pub mod mutate;
pub mod verify;
pub mod vxlan;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use body::{ArpBody, Body, Checksum};
pub use build::{Packet, guest};
pub use dissect::{Dissected, dissect};
pub use verify::verify_checksums;
pub use vxlan::Outer;

/// A MAC address in wire order.
pub type Mac = [u8; 6];

/// The Ethernet broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// The addresses of one station: what a NIC of a definition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its MAC address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ip: Ipv4Addr,
    /// Its IPv6 address, global or unique-local.
    pub ip6: Ipv6Addr,
}

impl Endpoint {
    /// Station `last` of a network 10.1.1.0/24 and fd00:1:1::/64, with the MAC of CloudStack's pattern.
    pub const fn numbered(last: u8) -> Self {
        Self {
            mac: [0x02, 0x00, 0x0a, 0x01, 0x01, last],
            ip: Ipv4Addr::new(10, 1, 1, last),
            ip6: Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, last as u16),
        }
    }

    /// The IPv6 link-local address that the MAC yields (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let m = self.mac;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
    }
}

/// The multicast MAC of an IPv6 group (RFC 2464, section 7).
pub fn multicast_mac6(group: Ipv6Addr) -> Mac {
    let o = group.octets();
    [0x33, 0x33, o[12], o[13], o[14], o[15]]
}

/// The solicited-node group of an address (RFC 4291, section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

/// `02:00:0a:01:01:0b`, as definitions write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Both addresses of a packet, which are of one family.
pub(crate) fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
