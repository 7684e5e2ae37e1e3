//! Addresses as the maps hold them.

use core::{fmt, net::IpAddr, str::FromStr};

use bytemuck::{Pod, Zeroable};

/// A MAC address, in wire order; at an even address, so that it is compared in three loads instead of six.
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The first octets of what a host's routed frames come from on the wire of a VLAN or untagged network; the others are
    /// the host's own.
    pub const WIRE_PREFIX: [u8; 3] = [0x02, 0x6e, 0x71];

    /// Whether a host sends routed frames from this address on a wire.
    #[inline(always)]
    pub const fn is_wire(&self) -> bool {
        let [a, b, c] = Self::WIRE_PREFIX;
        self.0[0] == a && self.0[1] == b && self.0[2] == c
    }

    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, which no station has.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set: multicast or broadcast (IEEE 802-2014 §8.2.2).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is one of 01:80:c2:00:00:00-0f, which bridges never forward (IEEE 802.1D §7.12.6).
    #[inline(always)]
    pub fn is_link_local_group(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a == 0x01 && b == 0x80 && c == 0xc2 && d == 0 && e == 0 && f & 0xf0 == 0
    }

    /// The IPv6 link-local address that this MAC makes (RFC 4291 §2.5.1, modified EUI-64).
    pub const fn link_local(self) -> Address {
        let [a, b, c, d, e, f] = self.0;
        Address([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |value: u8| char::from_digit(value.into(), 16).map_or(b'?', |digit| digit as u8);
        let mut text = [b':'; 17];
        for (place, byte) in text.chunks_mut(3).zip(self.0) {
            place[..2].copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        out.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// The text is not six two-digit hexadecimal numbers with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacError;

impl fmt::Display for MacError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a MAC address is six two-digit hexadecimal numbers, such as 02:00:0a:01:01:0b")
    }
}

impl core::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or(MacError)
    }
}

/// An IPv4 or IPv6 address in 16 bytes; IPv4 as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// No address.
    pub const NONE: Self = Self([0; 16]);

    /// An IPv4 address, in wire order.
    #[inline(always)]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        IpAddr::from(address.0).to_canonical()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(out)
    }
}

/// Whether an IPv4 address is in 0/8, 127/8, 169.254/16, 224/4 or 240/4 (with the limited broadcast): nothing is routed from or
/// to those (RFC 1812 §5.3.7, RFC 3927 §7).
#[inline(always)]
pub const fn is_unroutable(ip: [u8; 4]) -> bool {
    let [a, b, _, _] = ip;
    a == 0 || a == 127 || a >= 224 || a == 169 && b == 254
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_mac_reads_back_what_it_prints() {
        let mac = Mac([0x02, 0x00, 0x0a, 0x01, 0x01, 0x0b]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for wrong in ["", "02:00", "02:00:0a:01:01:0b:00", "2:0:a:1:1:b", "+2:00:0a:01:01:0b"] {
            assert_eq!(wrong.parse::<Mac>(), Err(MacError), "{wrong}");
        }
    }

    #[test]
    fn a_link_local_address_flips_the_universal_bit() {
        let mac = Mac([0x02, 0x00, 0x0a, 0x01, 0x01, 0x0b]);
        assert_eq!(mac.link_local().to_string(), "fe80::aff:fe01:10b");
    }

    #[test]
    fn an_ipv4_address_prints_as_one() {
        assert_eq!(Address::v4([10, 1, 1, 11]).to_string(), "10.1.1.11");
    }
}
