//! Frames parsed from bytes.

use netpath_common::{
    DropReason, Frame, Mac,
    frame::{self, EtherType, Ports, Protocol},
};
use proptest::prelude::*;

/// Bytes at an address where headers may lie.
fn aligned(bytes: &[u8]) -> Vec<u16> {
    let mut words = vec![0u16; bytes.len().div_ceil(2)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

fn parse(bytes: &[u8]) -> Result<Frame, DropReason> {
    let words = aligned(bytes);
    frame::parse(&bytemuck::cast_slice::<u16, u8>(&words)[..bytes.len()])
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ether_type.to_be_bytes()[..], payload].concat()
}

/// An IPv4 packet with `options` words of options, whose fragment word is `fragment`.
fn ipv4(protocol: u8, options: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = 20 + usize::from(options) * 4 + payload.len();
    let mut ip = vec![0x45 + options, 0xb9];
    ip.extend((len as u16).to_be_bytes());
    ip.extend([0, 7]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, protocol, 0, 0, 10, 1, 1, 11, 10, 1, 1, 12]);
    ip.extend(vec![1; usize::from(options) * 4]);
    ip.extend(payload);
    ip
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x6b, 0x90, 0, 0];
    ip.extend((payload.len() as u16).to_be_bytes());
    ip.extend([next, 64]);
    ip.extend([0xfd; 32]);
    ip.extend(payload);
    ip
}

const UDP: [u8; 8] = [0x03, 0xe8, 0x07, 0xd0, 0, 8, 0, 0];

#[test]
fn a_udp_packet_has_its_ports_where_options_end() {
    for options in 0..=10 {
        let frame = parse(&ethernet(0x0800, &ipv4(17, options, 0x4000, &UDP))).unwrap();
        assert_eq!(frame.source, Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!((frame.ether_type, frame.protocol, frame.tos), (EtherType::IPV4, Protocol::UDP, 0xb9));
        assert_eq!((frame.l3, frame.l4), (14, 34 + 4 * usize::from(options)));
        assert_eq!(frame.ports, Ports { source: 1000, destination: 2000 });
    }
}

#[test]
fn only_the_first_fragment_has_a_transport_header_and_all_have_one_hash() {
    let first = parse(&ethernet(0x0800, &ipv4(17, 0, 0x2000, &UDP))).unwrap();
    let later = parse(&ethernet(0x0800, &ipv4(17, 0, 0x0001, &[9; 8]))).unwrap();
    assert_ne!(first.l4, 0);
    assert_eq!((later.l4, later.ports), (0, Ports::default()));
    assert_eq!(first.hash, later.hash);
}

#[test]
fn an_ipv6_chain_is_walked_to_its_transport_header() {
    let chain = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[17, 1], &[0; 14], &UDP].concat();
    let frame = parse(&ethernet(0x86dd, &ipv6(0, &chain))).unwrap();
    assert_eq!((frame.protocol, frame.l4, frame.tos), (Protocol::UDP, 14 + 40 + 24, 0xb9));
    assert_eq!(frame.ports.destination, 2000);
    let later_fragment = [&[17, 0, 0, 9, 0, 0, 0, 7][..], &UDP].concat();
    assert_eq!(parse(&ethernet(0x86dd, &ipv6(44, &later_fragment))).unwrap().l4, 0);
}

#[test]
fn a_chain_too_long_to_see_through_is_refused() {
    let chain = [60, 0, 0, 0, 0, 0, 0, 0].repeat(9);
    assert_eq!(parse(&ethernet(0x86dd, &ipv6(60, &chain))), Err(DropReason::MalformedIpv6));
}

#[test]
fn headers_that_contradict_the_frame_are_refused() {
    let whole = ipv4(17, 0, 0, &UDP);
    for (offset, value) in [(0, 0x55), (0, 0x44), (3, 19), (2, 0xff)] {
        let mut wrong = whole.clone();
        wrong[offset] = value;
        assert_eq!(parse(&ethernet(0x0800, &wrong)), Err(DropReason::MalformedIpv4), "byte {offset}");
    }
    assert_eq!(parse(&ethernet(0x0800, &whole[..19])), Err(DropReason::MalformedIpv4));
    assert_eq!(parse(&[0; 13]), Err(DropReason::MalformedFrame));
}

proptest! {
    #[test]
    fn any_bytes_parse_to_offsets_inside_the_frame_or_are_refused(
        start in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100]),
        payload in prop::collection::vec(any::<u8>(), 0..160),
        version in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0x6f]),
    ) {
        let mut bytes = ethernet(start, &payload);
        if let Some(first) = bytes.get_mut(14) {
            *first = version;
        }
        if let Ok(frame) = parse(&bytes) {
            prop_assert!(frame.l3 <= bytes.len() && frame.l3 + frame.l3_len <= bytes.len());
            // An extension header may claim to end behind the packet; then there are no ports.
            prop_assert!(frame.l4 == 0 || frame.l4 + 4 <= bytes.len() || frame.ports == Ports::default());
        }
    }

    #[test]
    fn flows_that_differ_in_a_port_rarely_share_a_hash(a: u16, b: u16) {
        prop_assume!(a != b);
        let hash = |port: u16| {
            let udp = [&port.to_be_bytes()[..], &UDP[2..]].concat();
            parse(&ethernet(0x0800, &ipv4(17, 0, 0, &udp))).unwrap().hash
        };
        prop_assert_ne!(hash(a), hash(b));
    }
}
