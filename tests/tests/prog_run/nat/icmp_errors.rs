//! ICMP errors about connections, from outside and from inside: translated with what they quote.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason as R,
    maps::{FlowKey, TO_GUEST},
};
use netpath_tests::packet::{Body, Checksum, Packet, checksum, dissect};

use crate::rig::{
    A, ACK, ADDRESS, B, BLUE, BLUE_PUBLIC, End, Outcome, REDIRECT, Rig, SERVER, WEB, any, echo, inward, ip_bytes,
    outward, segment,
};

/// An unrelated router on the way.
const FAR_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 88, 99, 1);

/// An error of this type and code that quotes bytes of an IP packet.
fn error(kind: u8, code: u8, quote: &[u8]) -> Body {
    let rest = if (kind, code) == (3, 4) { [0, 0, 5, 0x14] } else { [0; 4] };
    Body::Icmp { kind, code, rest, payload: quote.to_vec() }
}

/// The connections that errors are about: what A sends, and the packet as the outside has seen it.
fn conversations(rig: &mut Rig) -> Vec<(Packet, Vec<u8>)> {
    let packets = [
        outward(A).udp(5000, 53).payload([3; 101]).id(7),
        outward(A).udp(5001, 53).checksum(Checksum::Zero).id(7),
        outward(A).body(segment(5000, 443, ACK, 7, 9)).payload([4; 40]).id(8),
        outward(A).body(echo(8, 77)).id(9),
    ];
    packets
        .into_iter()
        .map(|packet| {
            let out = rig.from(BLUE, A, &packet);
            (packet, dissect(out.assert_sent(REDIRECT)).unwrap().network.to_vec())
        })
        .collect()
}

/// Asserts that `out` is the error for A, quoting `inside` as A has sent it, as far as the quote reaches; the hop that it
/// had gone is in the quote.
#[track_caller]
fn assert_quotes(out: &Outcome, kind: (u8, u8), from: Ipv4Addr, inside: &[u8], len: usize) {
    let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
    let ip = parts.ip.as_ref().unwrap();
    assert_eq!((ip.src, ip.dst, parts.icmp()), (from.into(), A.ip.into(), Some(kind)), "{out:?}");
    let quote = &ip.message[8..];
    assert_eq!(quote.len(), len);
    assert_eq!(checksum::sum(&quote[..20]), 0xffff, "the quoted header's checksum");
    let mut wanted = inside[..len].to_vec();
    wanted[8] -= 1;
    wanted[10..12].copy_from_slice(&quote[10..12]);
    // The identification that it left with is not the guest's own (RFC 6864).
    wanted[4..6].copy_from_slice(&quote[4..6]);
    assert_eq!(quote, wanted, "quoted");
}

#[test]
fn i4_t9_u12b_an_error_from_outside_is_translated_with_its_quote() {
    let mut rig = Rig::routed();
    // Errors keep nothing alive, and there are many of them.
    rig.change_gateway(BLUE, |row| (row.timeouts.icmp, row.timeouts.udp_one_way) = (6000, 6000));
    for (packet, outside) in conversations(&mut rig) {
        let inside = ip_bytes(&packet);
        for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)] {
            for len in [28, 29, 40, 41, outside.len()] {
                let len = len.min(outside.len());
                let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(kind, code, &outside[..len])));
                assert_quotes(&out, (kind, code), SERVER, &inside, len);
            }
        }
    }
}

#[test]
fn u12a_an_error_of_an_unrelated_router_is_delivered_with_its_address() {
    let mut rig = Rig::routed();
    let (packet, outside) = conversations(&mut rig).remove(0);
    let out = rig.from_wire(&inward(FAR_ROUTER, BLUE_PUBLIC).body(error(11, 0, &outside[..28])));
    assert_quotes(&out, (11, 0), FAR_ROUTER, &ip_bytes(&packet), 28);
}

#[test]
fn an_error_counts_for_the_public_address_and_keeps_to_its_limit() {
    let mut rig = Rig::routed();
    rig.limited_address(BLUE_PUBLIC, 4);
    let (_, outside) = conversations(&mut rig).remove(0);
    let message = inward(SERVER, BLUE_PUBLIC).body(error(3, 1, &outside));
    let before = rig.public_counters(ADDRESS).to_guest_packets;
    rig.from_wire(&message).assert_sent(REDIRECT);
    assert_eq!(rig.public_counters(ADDRESS).to_guest_packets, before + 1);
    rig.paid_in(4, TO_GUEST, 60.0);
    rig.from_wire(&message).assert_dropped(BLUE, R::AddressRate);
}

#[test]
fn u12_t10_an_error_does_not_end_the_connection() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    let sent = rig.tcp_out(BLUE, A, 5000, WEB, ACK);
    let quote = dissect(&sent.bytes).unwrap().network.to_vec();
    for kind in [(3, 3), (3, 1), (11, 0)] {
        rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(kind.0, kind.1, &quote))).assert_sent(REDIRECT);
    }
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, public);
}

#[test]
fn i6_x8_an_error_neither_refreshes_nor_changes_the_connection() {
    let mut rig = Rig::routed();
    let (_, outside) = conversations(&mut rig).remove(2);
    rig.age(50);
    let (flows, bindings) = (rig.flows(), rig.bindings());
    for kind in [(3, 3), (3, 13), (11, 0), (12, 0)] {
        rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(kind.0, kind.1, &outside))).assert_sent(REDIRECT);
    }
    let times = |flows: &std::collections::BTreeMap<FlowKey, netpath_common::maps::Flow>| {
        flows.iter().map(|(key, flow)| (*key, (flow.last_seen, flow.state))).collect::<Vec<_>>()
    };
    assert_eq!(times(&rig.flows()), times(&flows));
    assert_eq!(rig.bindings(), bindings);
}

#[test]
fn i4_an_error_about_no_connection_is_refused() {
    let mut rig = Rig::routed();
    let (_, outside) = conversations(&mut rig).remove(0);
    let mut unknown = outside;
    unknown[21] ^= 8;
    let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &unknown)));
    out.assert_dropped(BLUE, R::IcmpErrorUnmatched);
}

#[test]
fn i3_i3a_errors_with_wrong_checksums_are_refused() {
    let mut rig = Rig::routed();
    let (_, outside) = conversations(&mut rig).remove(0);
    let wrong = inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &outside)).checksum(Checksum::Wrong);
    rig.from_wire(&wrong).assert_dropped(BLUE, R::MalformedIcmp);
    let mut quote = outside.clone();
    quote[10] ^= 1;
    let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &quote)));
    out.assert_dropped(BLUE, R::MalformedIcmp);
    for len in [0, 8, 19, 20, 27] {
        let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &outside[..len])));
        out.assert_dropped(BLUE, R::MalformedIcmp);
    }
}

#[test]
fn i3b_options_in_the_quoted_header_are_no_hindrance() {
    for words in 1..=10usize {
        let mut rig = Rig::routed();
        let packet = outward(A).udp(5000, 53).options(&vec![1; words * 4]).id(7);
        // The connection itself may have been begun without options.
        let public = rig.from(BLUE, A, &outward(A).udp(5000, 53)).seen().source;
        let outside = Packet::between([2; 6], [2; 6], public.0.into(), SERVER.into())
            .udp(public.1, 53)
            .options(&vec![1; words * 4])
            .id(7)
            .ttl(63);
        let quote = ip_bytes(&outside);
        let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &quote)));
        let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
        let got = &parts.ip.as_ref().unwrap().message[8..];
        assert_eq!(checksum::sum(&got[..20 + words * 4]), 0xffff);
        assert_eq!(got[20 + words * 4..], ip_bytes(&packet)[20 + words * 4..]);
        assert_eq!(got[12..20], ip_bytes(&packet)[12..20]);
    }
}

#[test]
fn i3c_a_wrong_checksum_inside_the_quote_stays_wrong_and_is_no_hindrance() {
    let mut rig = Rig::routed();
    let (packet, mut outside) = conversations(&mut rig).remove(0);
    outside[26] ^= 0x40;
    let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &outside)));
    let mut inside = ip_bytes(&packet);
    inside[26] ^= 0x40;
    let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
    let got = &parts.ip.as_ref().unwrap().message[8..];
    assert_eq!((got[12..26].to_vec(), got[28..].to_vec()), (inside[12..26].to_vec(), inside[28..].to_vec()));
    let sum = |bytes: &[u8]| checksum::transport(A.ip.into(), SERVER.into(), 17, &bytes[20..]);
    assert_ne!(sum(got), 0, "a broken quote was repaired");
}

#[test]
fn i3d_extensions_behind_the_quote_are_preserved() {
    let mut rig = Rig::routed();
    let (packet, outside) = conversations(&mut rig).remove(0);
    // RFC 4884: the quote is padded to 128 bytes, its length in words stands in the header, and objects follow.
    let mut quote = outside.clone();
    quote.resize(128, 0);
    let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0xe1, 0x40];
    let mut payload = quote.clone();
    payload.extend(extension);
    let body = Body::Icmp { kind: 11, code: 0, rest: [0, 32, 0, 0], payload };
    let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(body));
    let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
    let message = parts.ip.as_ref().unwrap().message;
    assert_eq!(message[4..8], [0, 32, 0, 0]);
    assert_eq!(message[8 + 128..], extension);
    assert_eq!(message[8 + 20..8 + 22], ip_bytes(&packet)[20..22]);
}

/// A forwarded port: B serves it, and sends an error about what came in.
fn served(rig: &mut Rig) -> (End, Vec<u8>) {
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    let out = rig.udp_in((SERVER, 4000), (BLUE_PUBLIC, 2222));
    assert_eq!(out.seen().destination, (B.ip, 22));
    ((SERVER, 4000), dissect(&out.bytes).unwrap().network.to_vec())
}

#[test]
fn i5_an_error_from_inside_shows_the_public_address_only() {
    let mut rig = Rig::routed();
    let (_, inbound) = served(&mut rig);
    for len in [28, inbound.len()] {
        let packet = outward(B).body(error(3, 3, &inbound[..len]));
        let out = rig.from(BLUE, B, &packet);
        let parts = dissect(out.assert_sent(REDIRECT)).unwrap();
        let ip = parts.ip.as_ref().unwrap();
        assert_eq!((ip.src, ip.dst, parts.icmp()), (BLUE_PUBLIC.into(), SERVER.into(), Some((3, 3))));
        let quote = &ip.message[8..];
        assert_eq!(checksum::sum(&quote[..20]), 0xffff);
        assert_eq!(quote[16..20], BLUE_PUBLIC.octets());
        assert_eq!(quote[20..24], [4000u16.to_be_bytes(), 2222u16.to_be_bytes()].concat());
    }
}

#[test]
fn n6_an_error_from_inside_does_not_refresh_the_connection() {
    let mut rig = Rig::routed();
    let (_, inbound) = served(&mut rig);
    rig.age(50);
    let before: Vec<_> = rig.flows().values().map(|flow| flow.last_seen).collect();
    rig.from(BLUE, B, &outward(B).body(error(3, 3, &inbound))).assert_sent(REDIRECT);
    assert_eq!(rig.flows().values().map(|flow| flow.last_seen).collect::<Vec<_>>(), before);
}

/// With a quote that an error would be translated with: a redirect would tell a guest to go another way.
#[test]
fn i11_r14_messages_that_are_no_errors_are_refused_whatever_they_quote() {
    let mut rig = Rig::routed();
    let ((server, _), inbound) = served(&mut rig);
    let (_, outside) = conversations(&mut rig).remove(0);
    for kind in [1, 2, 5, 6, 9, 10, 19, 30, 40, 253] {
        let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(kind, 1, &outside)));
        out.assert_dropped(BLUE, R::IcmpErrorUnmatched);
        let out = rig.from(BLUE, B, &outward(B).to_ip(server).body(error(kind, 1, &inbound)));
        out.assert_dropped(BLUE, R::IcmpErrorUnmatched);
    }
    rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 1, &outside))).assert_sent(REDIRECT);
}

#[test]
fn errors_about_fragments_and_quotes_of_errors_are_not_matched() {
    let mut rig = Rig::routed();
    let (_, outside) = conversations(&mut rig).remove(0);
    let quoted = error(3, 3, &outside);
    let Body::Icmp { payload, .. } = &quoted else { unreachable!() };
    let inner = Packet::between([2; 6], [2; 6], BLUE_PUBLIC.into(), SERVER.into()).body(error(3, 3, payload));
    let out = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(error(3, 3, &ip_bytes(&inner))));
    assert_eq!((out.counters.len(), out.drops.len()), (0, 1), "{out:?}");
}
