//! ICMP errors: when one may be sent, that its checksums are right, and what is read of those of others.

use netpath_common::{
    DropReason, Mac, checksum,
    icmp::{self, Quoted},
};
use network_types::ip::Ipv4Hdr;
use proptest::prelude::*;

const AT: usize = 42;
const STATION: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn rfc_1071(bytes: &[u8]) -> u16 {
    !checksum::fold(checksum::sum(bytes)).to_be()
}

/// An IPv4 packet with a right header checksum.
fn ipv4(protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut ip = vec![0x40 | (header / 4) as u8, 0];
    ip.extend(((header + payload.len()) as u16).to_be_bytes());
    ip.extend([0, 7]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([61, protocol, 0, 0, 203, 0, 113, 9, 192, 0, 2, 1]);
    ip.extend(options);
    let check = rfc_1071(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    ip.extend(payload);
    ip
}

/// Reads the quote of an error that ends after `quote`, in a frame that has `padding` more bytes.
fn quoted(quote: &[u8], padding: usize) -> Result<Quoted, DropReason> {
    let end = AT + quote.len();
    let bytes = [&[0xee; AT], quote, &vec![0xee; padding]].concat();
    let mut words = vec![0u16; bytes.len().div_ceil(2)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    icmp::quoted(&bytemuck::cast_slice::<u16, u8>(&words)[..bytes.len()], AT, end)
}

const TCP: [u8; 20] = [0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 1, 0, 0xab, 0xcd, 0, 0];

#[test]
fn i3b_i4_ports_and_checksum_are_found_behind_any_options_and_in_quotes_of_any_length() {
    for words in 0..=10 {
        let packet = ipv4(6, &vec![1; words * 4], 0x4000, &[&TCP[..], b"payload"].concat());
        let l4 = 20 + words * 4;
        for len in l4 + 8..=packet.len() {
            let quote = quoted(&packet[..len], 6).unwrap();
            let expected = Quoted {
                l3: AT,
                l4: AT + l4,
                check: if len >= l4 + 18 { AT + l4 + 16 } else { 0 },
                ports: AT + l4,
                source: [203, 0, 113, 9],
                destination: [192, 0, 2, 1],
                source_port: 40000,
                destination_port: 443,
                protocol: 6,
                icmp_type: 0,
                pad: [0; 2],
            };
            assert_eq!(quote, expected);
        }
        for len in 0..l4 + 8 {
            assert_eq!(
                quoted(&packet[..len], 64),
                Err(DropReason::MalformedIcmp),
                "{words} words of options, {len} bytes"
            );
        }
    }
}

#[test]
fn i4_the_checksum_of_udp_and_icmp_lies_within_eight_bytes() {
    let udp = quoted(&ipv4(17, &[], 0, &[0, 53, 0x9c, 0x40, 0, 8, 0, 0]), 0).unwrap();
    assert_eq!((udp.check, udp.ports, udp.source_port, udp.destination_port), (AT + 26, AT + 20, 53, 40000));
    let echo = quoted(&ipv4(1, &[], 0, &[8, 0, 0xab, 0xcd, 0x12, 0x34, 0, 1]), 0).unwrap();
    assert_eq!((echo.check, echo.ports), (AT + 22, AT + 24));
    assert_eq!((echo.source_port, echo.destination_port, echo.icmp_type), (0x1234, 0, 8));
    let reply = quoted(&ipv4(1, &[], 0, &[0, 0, 0xab, 0xcd, 0x12, 0x34, 0, 1]), 0).unwrap();
    assert_eq!((reply.source_port, reply.destination_port, reply.icmp_type), (0, 0x1234, 0));
    let gre = quoted(&ipv4(47, &[], 0, &[0; 8]), 0).unwrap();
    assert_eq!((gre.check, gre.ports, gre.source_port, gre.destination_port), (0, 0, 0, 0));
}

#[test]
fn i4_a_quoted_packet_without_ports_may_be_shorter_than_eight_bytes_but_is_whole() {
    for len in 0..8 {
        let packet = ipv4(47, &[], 0, &vec![0; len]);
        let gre = quoted(&packet, 0).unwrap();
        assert_eq!((gre.protocol, gre.check, gre.ports), (47, 0, 0), "{len} bytes");
        if len > 0 {
            assert_eq!(quoted(&packet[..packet.len() - 1], 64), Err(DropReason::MalformedIcmp), "cut from {len} bytes");
        }
        assert_eq!(quoted(&ipv4(17, &[], 0, &vec![0; len]), 64), Err(DropReason::MalformedIcmp), "{len} bytes of UDP");
    }
}

#[test]
fn i3d_what_follows_the_quoted_packet_is_not_taken_for_its_checksum() {
    // RFC 4884 §3 pads the quote to 128 bytes; the quoted packet itself ends before its checksum would be.
    let packet = ipv4(6, &[], 0, &TCP[..8]);
    let padded = [&packet[..], &[0; 100]].concat();
    assert_eq!(quoted(&padded, 0).unwrap().check, 0);
}

#[test]
fn i3a_a_wrong_checksum_of_the_quoted_header_is_malformed() {
    for words in [0, 3, 10] {
        let packet = ipv4(17, &vec![1; words * 4], 0, &[0; 8]);
        for byte in 0..20 + words * 4 {
            for bit in 0..8 {
                let mut wrong = packet.clone();
                wrong[byte] ^= 1 << bit;
                assert_eq!(quoted(&wrong, 64), Err(DropReason::MalformedIcmp), "byte {byte}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_quote_of_no_connection_matches_none() {
    assert_eq!(quoted(&ipv4(17, &[], 1, &[0; 8]), 0), Err(DropReason::IcmpErrorUnmatched));
    assert_eq!(quoted(&ipv4(1, &[], 0, &[3, 1, 0, 0, 0, 0, 0, 0]), 0), Err(DropReason::IcmpErrorUnmatched));
    // The first of several fragments is as good as a whole packet.
    assert!(quoted(&ipv4(17, &[], 0x2000, &[0; 8]), 0).is_ok());
}

fn header(source: [u8; 4], destination: [u8; 4], protocol: u8, fragment: u16) -> Ipv4Hdr {
    let mut ip = icmp::ipv4(source, destination, 0);
    ip.proto = protocol;
    ip.frags = fragment.to_be_bytes();
    ip
}

#[test]
fn r2_no_error_is_sent_about_what_must_not_be_answered() {
    let (from, to) = ([10, 1, 1, 11], [192, 0, 2, 1]);
    let may = |mac, ip: Ipv4Hdr, kind| icmp::may_answer(mac, &ip, kind);
    assert!(may(STATION, header(from, to, 17, 0x4000), 0));
    assert!(may(STATION, header(from, to, 17, 0x2000), 3), "the first fragment, and not ICMP");
    for fragment in [1, 0x2001, 0x0100, 0x1fff] {
        assert!(!may(STATION, header(from, to, 17, fragment), 0), "fragment word {fragment:#x}");
    }
    for group in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        assert!(!may(group, header(from, to, 17, 0), 0));
    }
    for several in [[224, 0, 0, 1], [255; 4], [239, 255, 255, 250]] {
        assert!(!may(STATION, header(from, several, 17, 0), 0));
    }
    for martian in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4], [169, 254, 1, 1]] {
        assert!(!may(STATION, header(martian, to, 17, 0), 0));
    }
    let queries: Vec<u8> = (0..=255).filter(|kind| may(STATION, header(from, to, 1, 0), *kind)).collect();
    assert_eq!(queries, [0, 8, 13, 14, 15, 16, 17, 18]);
}

proptest! {
    #[test]
    fn r3_r5_an_error_verifies_and_has_precedence_six(
        from: [u8; 4], to: [u8; 4], kind: u8, code: u8, mtu: u16, quote in prop::collection::vec(any::<u8>(), 28..=512),
    ) {
        let ip = icmp::ipv4(from, to, quote.len() as u16);
        prop_assert_eq!(checksum::ipv4_header(&ip), [0, 0]);
        prop_assert_eq!((ip.tos >> 5, ip.ttl, ip.proto, ip.src_addr, ip.dst_addr), (6, 64, 1, from, to));
        let error = icmp::header(kind, code, mtu, checksum::sum(&quote));
        let packet = [&error[..], &quote].concat();
        prop_assert_eq!(rfc_1071(&packet) % 0xffff, 0);
        prop_assert_eq!(usize::from(u16::from_be_bytes(ip.tot_len)), 20 + packet.len());
        prop_assert_eq!((error[0], error[1], u16::from_be_bytes([error[6], error[7]])), (kind, code, mtu));
    }

    #[test]
    fn an_echo_reply_has_the_checksum_of_its_bytes(mut request in prop::collection::vec(any::<u8>(), 8..64)) {
        (request[0], request[2], request[3]) = (8, 0, 0);
        let check = rfc_1071(&request).to_be_bytes();
        request[0] = 0;
        prop_assume!(request.iter().any(|byte| *byte != 0));
        prop_assert_eq!(icmp::echo_reply_checksum(check, request[1]), rfc_1071(&request).to_be_bytes());
    }

    #[test]
    fn no_bytes_make_a_quote_reach_beyond_its_error(bytes in prop::collection::vec(any::<u8>(), 0..120), head in 0x44u8..0x50) {
        let mut bytes = bytes;
        if bytes.len() >= 20 {
            bytes[0] = head;
            bytes[6..8].fill(0);
            let len = (usize::from(head & 15) * 4).min(bytes.len());
            bytes[10..12].fill(0);
            let check = rfc_1071(&bytes[..len]);
            bytes[10..12].copy_from_slice(&check.to_be_bytes());
        }
        if let Ok(quote) = quoted(&bytes, 64) {
            let end = AT + bytes.len();
            prop_assert!(quote.l4 >= AT + 20 && quote.l4 + 8 <= end && quote.check <= end - 2 && quote.ports <= end - 4);
        }
    }
}
