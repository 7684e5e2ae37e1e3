//! The Internet checksum (RFC 1071) with the pseudo-headers of IPv4 and IPv6.

use std::net::IpAddr;

/// Ones' complement sum of `bytes`, folded to 16 bits, not inverted.
pub fn sum(bytes: &[u8]) -> u16 {
    fold(add(0, bytes))
}

/// The checksum field of a header or message whose field is zero: `sum` inverted.
pub fn internet(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The folded sum of a pseudo-header: what CHECKSUM_PARTIAL leaves in the field.
pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u16 {
    let mut total = 0;
    for address in [src, dst] {
        total = match address {
            IpAddr::V4(a) => add(total, &a.octets()),
            IpAddr::V6(a) => add(total, &a.octets()),
        };
    }
    fold(total + u64::from(protocol) + (len as u64 & 0xffff) + (len as u64 >> 16))
}

/// The checksum of an L4 message whose field is zero, over its pseudo-header.
pub fn transport(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    !fold(add(u64::from(pseudo(src, dst, protocol, message.len())), message))
}

fn add(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .fold(start, |total, pair| total + u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half() {
        assert_eq!(sum(&[0x12]), 0x1200);
    }
}
