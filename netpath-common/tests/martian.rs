//! Addresses that are not routed, at the edges of their prefixes.

use std::net::Ipv4Addr;

use netpath_common::stage::martian;
use proptest::prelude::*;

#[test]
fn r9_r12_martians_are_known_at_both_ends_of_their_prefixes() {
    let martians = [
        "0.0.0.0",
        "0.255.255.255",
        "127.0.0.0",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
    ];
    let others = [
        "1.0.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "223.255.255.255",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
    ];
    for (list, expected) in [(&martians[..], true), (&others[..], false)] {
        for text in list {
            let ip = text.parse::<Ipv4Addr>().unwrap().octets();
            assert_eq!((martian::source(ip), martian::destination(ip)), (expected, expected), "{text}");
        }
    }
}

#[test]
fn r10_prefixes_of_31_and_32_bits_have_no_broadcast_address() {
    assert!(martian::is_directed_broadcast([10, 1, 1, 3], [10, 1, 1, 0], [255, 255, 255, 252]));
    assert!(!martian::is_directed_broadcast([10, 1, 1, 1], [10, 1, 1, 0], [255, 255, 255, 254]));
    assert!(!martian::is_directed_broadcast([10, 1, 1, 1], [10, 1, 1, 1], [255, 255, 255, 255]));
}

proptest! {
    #[test]
    fn r10_the_last_address_of_a_prefix_is_its_broadcast_address(prefix: u32, len in 1u32..=30, other: u32) {
        let mask = u32::MAX << (32 - len);
        let last = prefix & mask | !mask;
        let is_broadcast = |ip: u32| {
            martian::is_directed_broadcast(ip.to_be_bytes(), (prefix & mask).to_be_bytes(), mask.to_be_bytes())
        };
        prop_assert!(is_broadcast(last));
        prop_assert!(!is_broadcast(last - 1));
        prop_assert_eq!(is_broadcast(other), other == last);
    }
}
