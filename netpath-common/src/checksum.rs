//! The Internet checksum (RFC 1071) and its incremental form (RFC 1624).

use network_types::ip::Ipv4Hdr;

/// Folds a one's complement sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The one's complement sum of bytes, in the memory's own byte order; an odd last byte is padded with zero.
///
/// The sum of swapped bytes is the swapped sum (RFC 1071 §2 B), so it may be stored as it is.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum = 0;
    for word in words {
        sum += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = rest {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// The checksum field of an IPv4 header without options; its own checksum field must be zero.
#[inline(always)]
pub fn ipv4_header(ip: &Ipv4Hdr) -> [u8; 2] {
    let word = |a: u8, b: u8| u64::from(u16::from_ne_bytes([a, b]));
    let long = |bytes: [u8; 4]| u64::from(u32::from_ne_bytes(bytes));
    let sum = word(ip.vihl, ip.tos)
        + word(ip.tot_len[0], ip.tot_len[1])
        + word(ip.id[0], ip.id[1])
        + word(ip.frags[0], ip.frags[1])
        + word(ip.ttl, ip.proto)
        + word(ip.check[0], ip.check[1])
        + long(ip.src_addr)
        + long(ip.dst_addr);
    (!fold(sum)).to_ne_bytes()
}

/// A checksum field after one 16-bit word that it covers has changed (RFC 1624 equation 3).
#[inline(always)]
pub fn replace(check: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let not = |word: [u8; 2]| u64::from(!u16::from_ne_bytes(word));
    (!fold(not(check) + not(old) + u64::from(u16::from_ne_bytes(new)))).to_ne_bytes()
}

/// The value `x` of a checksum field for which a region's sum is the same before and after a device fills it in.
///
/// A device that finishes a partial checksum replaces the field `x` by `!(rest + x)`, where `rest` is the sum of
/// the region without the field; the region's sum turns from `rest + x` into `!x`. A checksum over the region
/// from outside, such as that of an ICMP error that quotes it, survives if both are the same: `2x = -rest` in one's
/// complement, and 32768 is the inverse of 2 modulo 65535.
#[inline(always)]
pub fn steady_field(rest: u64) -> [u8; 2] {
    let negative = u64::from(!fold(rest));
    ((negative * 32768 % 65535) as u16).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_replaced_word_gives_the_checksum_of_the_new_bytes(mut bytes in prop::collection::vec(any::<u8>(), 4..64), new in any::<[u8; 2]>()) {
            bytes.truncate(bytes.len() & !1);
            prop_assume!(bytes.iter().any(|b| *b != 0) && new != [0, 0]);
            let check = (!fold(sum(&bytes))).to_ne_bytes();
            let old = [bytes[2], bytes[3]];
            let updated = replace(check, old, new);
            bytes[2..4].copy_from_slice(&new);
            prop_assert_eq!(updated, (!fold(sum(&bytes))).to_ne_bytes());
        }

        #[test]
        fn a_steady_field_keeps_the_sum_when_a_device_finishes_it(rest in prop::collection::vec(any::<u8>(), 2..128)) {
            let rest = sum(&rest);
            let field = u64::from(u16::from_ne_bytes(steady_field(rest)));
            let before = fold(rest + field);
            let finished = u64::from(!fold(rest + field));
            let after = fold(rest + finished);
            // 0 and 0xffff are the same number in one's complement.
            prop_assert_eq!(before % 0xffff, after % 0xffff);
        }

        #[test]
        fn an_ipv4_header_sums_to_ones(source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), tos: u8, len in any::<[u8; 2]>()) {
            let mut ip = Ipv4Hdr {
                vihl: 0x45, tos, tot_len: len, id: [0; 2], frags: [0x40, 0], ttl: 64, proto: 17, check: [0; 2],
                src_addr: source, dst_addr: destination,
            };
            ip.check = ipv4_header(&ip);
            prop_assert_eq!(ipv4_header(&ip), [0, 0]);
        }
    }
}
