//! TCP through the gateway: every valid way of opening and closing, and what forged segments cannot do.

use netpath_common::maps::flow_state;

use crate::rig::{A, ACK, BLUE, BLUE_PUBLIC, End, FIN, RST, Rig, SYN, WEB, inward, outward, segment};

/// The state of A's connection from port 5000, which both directions agree on.
#[track_caller]
fn state(rig: &Rig, public: End) -> u8 {
    let out = rig.flow_out(BLUE, 6, (A.ip, 5000), WEB).unwrap().state;
    assert_eq!(rig.flow_in(6, WEB, public).unwrap().state, out);
    out
}

#[test]
fn t2_n1_a_connection_opens_and_closes() {
    let mut rig = Rig::routed();
    let public = rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source;
    assert_eq!(state(&rig, public), flow_state::OPENING);
    rig.tcp_in(WEB, public, SYN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::ESTABLISHED);
    rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen();
    rig.tcp_out(BLUE, A, 5000, WEB, FIN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::ORIGINATOR_FIN);
    rig.tcp_in(WEB, public, ACK).seen();
    rig.tcp_in(WEB, public, FIN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::CLOSING);
    rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen();
    assert_eq!(state(&rig, public), flow_state::CLOSING);
}

#[test]
fn t2_a_connection_is_closed_by_the_other_side_first() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.tcp_in(WEB, public, FIN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::RESPONDER_FIN);
    rig.tcp_out(BLUE, A, 5000, WEB, FIN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::CLOSING);
}

#[test]
fn t2a_simultaneous_open_is_established() {
    let mut rig = Rig::routed();
    let public = rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source;
    assert_eq!(rig.tcp_in(WEB, public, SYN).seen().destination, (A.ip, 5000));
    rig.tcp_out(BLUE, A, 5000, WEB, SYN | ACK).seen();
    rig.tcp_in(WEB, public, SYN | ACK).seen();
    assert_eq!(state(&rig, public), flow_state::ESTABLISHED);
}

#[test]
fn a_port_that_is_used_again_opens_a_new_connection() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.tcp_out(BLUE, A, 5000, WEB, FIN | ACK).seen();
    rig.tcp_in(WEB, public, FIN | ACK).seen();
    assert_eq!(rig.connect(BLUE, A, 5000, WEB), public);
    assert_eq!(state(&rig, public), flow_state::ESTABLISHED);
}

#[test]
fn n3_x8_a_reset_outside_the_window_changes_nothing() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    // A has acknowledged up to 1000.
    rig.from(BLUE, A, &outward(A).body(segment(5000, 443, ACK, 500, 1000))).seen();
    rig.from_wire(&inward(WEB.0, public.0).body(segment(443, public.1, ACK, 1000, 500))).seen();
    for forged in [1000 + (1 << 31), 1000u32.wrapping_sub(1 << 20), 1000 + 1_000_000_000] {
        let reset = inward(WEB.0, public.0).body(segment(443, public.1, RST, forged, 0));
        rig.from_wire(&reset);
        assert_eq!(state(&rig, public), flow_state::ESTABLISHED, "{forged}");
    }
    let reset = inward(WEB.0, public.0).body(segment(443, public.1, RST, 1000, 0));
    assert_eq!(rig.from_wire(&reset).seen().destination, (A.ip, 5000));
    assert_eq!(state(&rig, public), flow_state::TRANSITORY);
}

#[test]
fn x8_a_forged_fin_does_not_end_a_connection() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.from(BLUE, A, &outward(A).body(segment(5000, 443, ACK, 500, 1000))).seen();
    rig.from_wire(&inward(WEB.0, public.0).body(segment(443, public.1, ACK, 1000, 500))).seen();
    let forged = inward(WEB.0, public.0).body(segment(443, public.1, FIN | ACK, 1000 + (1 << 31), 500));
    rig.from_wire(&forged);
    rig.age(7000);
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, public);
}

#[test]
fn n3_data_after_a_reset_makes_the_connection_established_again() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.tcp_in(WEB, public, RST).seen();
    assert_eq!(state(&rig, public), flow_state::TRANSITORY);
    rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen();
    assert_eq!(state(&rig, public), flow_state::ESTABLISHED);
}

#[test]
fn a_connection_that_is_seen_in_its_middle_goes_on() {
    let mut rig = Rig::routed();
    let public = rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source;
    assert_eq!(public, (BLUE_PUBLIC, 5000));
    assert_eq!(state(&rig, public), flow_state::MIDSTREAM);
    rig.tcp_in(WEB, public, ACK).seen();
    assert_eq!(state(&rig, public), flow_state::ESTABLISHED);
}

#[test]
fn t2_options_and_odd_payloads_come_through() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    for len in [0, 1, 2, 3, 99, 1400, 1459, 1460] {
        let payload = vec![0xa5; len];
        let out = rig.from(BLUE, A, &outward(A).tcp(5000, 443, 0x18).payload(&payload)).seen();
        assert_eq!((out.source, &out.payload), (public, &payload));
        let back = inward(WEB.0, public.0).tcp(443, public.1, 0x18).payload(&payload);
        assert_eq!(rig.from_wire(&back).seen().payload, payload);
    }
}
