//! Tunnel headers, built and judged.

use netpath_common::{
    DropReason, Frame, Mac, checksum, frame,
    maps::{NextHop, Tunnel},
    vxlan::{self, Ecn, OUTER_LEN, Outer},
};
use proptest::prelude::*;

const TUNNEL: Tunnel = Tunnel {
    remote: [192, 0, 2, 12],
    local: [192, 0, 2, 11],
    udp_port: 4789,
    ttl: 64,
    flags: 0,
    device: 0,
    lookup: 0,
    egress: 0,
    source_mac: Mac::ZERO,
    pad: [0; 2],
};

fn next_hop() -> NextHop {
    NextHop { destination_mac: Mac([2, 0, 0, 0, 0, 1]), source_mac: Mac([2, 0, 0, 0, 0, 2]), ..NextHop::default() }
}

fn inner(tos: u8) -> Frame {
    let mut bytes = [2u8, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4, 8, 0, 0x45, tos, 0, 20, 0, 0, 0, 0, 64, 6].to_vec();
    bytes.extend([0, 0, 10, 1, 1, 11, 10, 1, 1, 12]);
    let words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_ne_bytes(*word)).collect();
    frame::parse(bytemuck::cast_slice::<u16, u8>(&words)).unwrap()
}

/// Outer headers and an empty inner frame, at an aligned address.
fn packet(vni: u32, tos: u8, len: usize) -> Vec<u16> {
    let outer = Outer::new(&TUNNEL, &next_hop(), vni, &inner(tos), 14);
    let bytes = [&outer.as_bytes()[..], &[0; 14]].concat();
    let mut words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_ne_bytes(*word)).collect();
    words.truncate(len / 2);
    words
}

fn bytes(words: &[u16]) -> &[u8] {
    bytemuck::cast_slice(words)
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(vni in 0u32..1 << 24, tos: u8) {
        let words = packet(vni, tos, OUTER_LEN + 14);
        let arrival = vxlan::arrival(bytes(&words)).unwrap();
        prop_assert_eq!((arrival.remote, arrival.local, arrival.udp_port), (TUNNEL.local, TUNNEL.remote, 4789));
        prop_assert_eq!((arrival.tos, arrival.checksum_absent, arrival.inner()), (tos & 3, true, OUTER_LEN));
        prop_assert_eq!(vxlan::vni(bytes(&words), &arrival), Ok(vni));
        prop_assert_eq!(checksum::fold(checksum::sum(&bytes(&words)[14..34])), 0xffff);
    }

    #[test]
    fn an_entropy_port_is_dynamic(hash: u32) {
        prop_assert!(vxlan::entropy_port(hash) >= 49152);
    }
}

#[test]
fn a_header_cut_short_is_malformed() {
    for len in (42..OUTER_LEN + 14).step_by(2) {
        let words = packet(5001, 0, len);
        let arrival = vxlan::arrival(bytes(&words)).unwrap();
        assert_eq!(vxlan::vni(bytes(&words), &arrival), Err(DropReason::VxlanMalformed), "{len}");
    }
}

#[test]
fn rfc_6040_combines_the_two_ecn_fields() {
    use Ecn::{Keep, MarkCe, MarkEct1};
    let (not_ect, ect1, ect0, ce) = (0, 1, 2, 3);
    let table = [
        (not_ect, [Ok(Keep); 4]),
        (ect0, [Ok(Keep); 4]),
        (ect1, [Ok(Keep), Ok(Keep), Ok(MarkEct1), Ok(Keep)]),
        (ce, [Err(DropReason::CongestionNotEcn), Ok(MarkCe), Ok(MarkCe), Ok(Keep)]),
    ];
    for (outer, row) in table {
        for (inner, expected) in [not_ect, ect1, ect0, ce].into_iter().zip(row) {
            assert_eq!(vxlan::decapsulate_ecn(outer | 0xb8, inner | 0x40, true), expected, "{outer} {inner}");
        }
    }
    assert_eq!(vxlan::decapsulate_ecn(ce, not_ect, false), Ok(Keep), "ARP has no ECN to mark");
}

#[test]
fn a_groups_mac_address_keeps_its_low_23_bits() {
    assert_eq!(vxlan::group_mac([239, 0x93, 0x13, 0x89]), Mac([1, 0, 0x5e, 0x13, 0x13, 0x89]));
}
