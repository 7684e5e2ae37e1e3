//! ICMP queries through source NAT.

use netpath_common::DropReason as R;
use netpath_tests::packet::{Body, Checksum};

use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, GREEN, OTHER_SERVER, Rig, SERVER, TIER_GATEWAY_IP, any, echo, inward, outward, public_of,
    seen,
};

#[test]
fn i1_u1_pings_and_timestamps_go_out_and_their_replies_come_back() {
    let mut rig = Rig::routed();
    for (query, reply) in [(8, 0), (13, 14)] {
        let body = |kind: u8, id: u16| {
            let id = id.to_be_bytes();
            Body::Icmp { kind, code: 0, rest: [id[0], id[1], 0, 9], payload: vec![7; 12] }
        };
        let out = rig.from(BLUE, A, &outward(A).body(body(query, 77))).seen();
        assert_eq!((out.source.0, out.destination.0), (BLUE_PUBLIC, SERVER));
        let back = rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(body(reply, out.source.1)));
        let got = back.seen();
        assert_eq!((got.source.0, got.destination), (SERVER, (A.ip, 77)));
        assert_eq!(got.payload, vec![7; 12]);
        rig.age(200);
    }
}

/// Nothing is put together here, and half an answer is none.
#[test]
fn a_ping_in_fragments_is_not_answered() {
    let mut rig = Rig::routed();
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    rig.tier();
    let query = echo(8, 7);
    rig.from_wire(&inward(SERVER, BLUE_PUBLIC).body(query.clone())).assert_answered(0, 0);
    let first = inward(SERVER, BLUE_PUBLIC).body(query.clone()).id(9).fragment(0, true);
    rig.from_wire(&first).assert_dropped(BLUE, R::GatewayClosed);
    let later = inward(SERVER, BLUE_PUBLIC).body(Body::Ip { protocol: 1, payload: vec![7; 64] });
    rig.from_wire(&later.id(9).fragment(185, false)).assert_dropped(BLUE, R::FragmentBeforeFirst);
    rig.from(BLUE, A, &outward(A).to_ip(TIER_GATEWAY_IP).body(query.clone())).assert_answered(0, 0);
    let first = outward(A).to_ip(TIER_GATEWAY_IP).body(query).id(9).fragment(0, true);
    rig.from(BLUE, A, &first).assert_dropped(BLUE, R::GatewayClosed);
}

#[test]
fn i1a_the_identifier_does_not_depend_on_the_destination() {
    let mut rig = Rig::routed();
    let first = rig.ping_out(BLUE, A, 77, SERVER).seen().source;
    assert_eq!(rig.ping_out(BLUE, A, 77, OTHER_SERVER).seen().source, first);
    rig.pong_in(OTHER_SERVER, first.0, first.1).seen();
}

#[test]
fn u3_two_guests_pings_with_one_identifier_are_told_apart() {
    let mut rig = Rig::routed();
    let (a, b) = (rig.ping_out(BLUE, A, 77, SERVER).seen().source, rig.ping_out(BLUE, B, 77, SERVER).seen().source);
    assert_ne!(a, b);
    assert_eq!(rig.pong_in(SERVER, a.0, a.1).seen().destination, (A.ip, 77));
    assert_eq!(rig.pong_in(SERVER, b.0, b.1).seen().destination, (B.ip, 77));
}

#[test]
fn x1_tenants_pings_come_back_to_their_own() {
    let mut rig = Rig::routed();
    for network in [BLUE, GREEN] {
        let public = rig.ping_out(network, A, 77, SERVER).seen().source;
        assert_eq!(public.0, public_of(network));
        let out = rig.pong_in(SERVER, public.0, public.1);
        assert_eq!(seen(&out.bytes).destination, (A.ip, 77));
        assert_eq!(out.counters[0].0, crate::rig::slot(network, A));
    }
}

#[test]
fn a_reply_that_nobody_asked_for_is_refused() {
    let mut rig = Rig::routed();
    rig.pong_in(SERVER, BLUE_PUBLIC, 77).assert_dropped(BLUE, R::Unsolicited);
    let public = rig.ping_out(BLUE, A, 77, SERVER).seen().source;
    rig.pong_in(OTHER_SERVER, public.0, public.1).assert_dropped(BLUE, R::Unsolicited);
}

#[test]
fn i3_a_query_with_a_wrong_checksum_is_not_made_right() {
    let mut rig = Rig::routed();
    let out = rig.from(BLUE, A, &outward(A).echo_request(77, 1).checksum(Checksum::Wrong));
    if out.drops.is_empty() {
        assert!(netpath_tests::packet::verify_checksums(&out.bytes).is_err(), "a broken packet was repaired");
    }
}

#[test]
fn i11_other_messages_are_refused_and_counted() {
    let mut rig = Rig::routed();
    for kind in [5, 9, 10, 4, 40] {
        let body = Body::Icmp { kind, code: 0, rest: [0; 4], payload: vec![0x45; 28] };
        let out = rig.from(BLUE, A, &outward(A).body(body));
        assert_eq!((out.drops.len(), out.action), (1, crate::rig::SHOT), "type {kind}: {out:?}");
    }
}
