//! When idle connections end: by moving the clock in their rows.

use netpath_common::{DropReason as R, maps::gateway_flags};

use crate::rig::{A, ACK, B, BLUE, DNS, FIN, OTHER_SERVER, RST, Rig, SERVER, SYN, WEB};

#[test]
fn u5_an_answered_udp_flow_lives_for_300_seconds() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.arrives(DNS, public, (A.ip, 5000));
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.age(298);
    rig.arrives(DNS, public, (A.ip, 5000));
}

#[test]
fn x9_u5_an_expired_flow_is_not_matched_though_nobody_swept_it() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.arrives(DNS, public, (A.ip, 5000));
    rig.age(301);
    let out = rig.udp_in(DNS, public);
    assert_eq!((out.drops.len(), out.counters.len()), (1, 0), "{out:?}");
}

#[test]
fn u5_a_one_way_udp_flow_lives_for_120_seconds() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.age(118);
    rig.arrives(DNS, public, (A.ip, 5000));
    let public = rig.udp_out(BLUE, B, 6000, DNS).seen().source;
    rig.age(121);
    assert_eq!(rig.udp_in(DNS, public).counters, []);
}

#[test]
fn u5b_the_udp_timeout_is_the_networks_own() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.timeouts.udp = 1000);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.arrives(DNS, public, (A.ip, 5000));
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.age(998);
    rig.arrives(DNS, public, (A.ip, 5000));
    rig.age(1001);
    assert_eq!(rig.udp_in(DNS, public).counters, []);
}

#[test]
fn u6_the_guests_packets_keep_the_mapping() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    for _ in 0..8 {
        rig.age(100);
        assert_eq!(rig.udp_out(BLUE, A, 5000, DNS).seen().source, public);
    }
    // A newcomer for another destination finds the same mapping.
    assert_eq!(rig.udp_out(BLUE, A, 5000, (OTHER_SERVER, 53)).seen().source, public);
}

#[test]
fn u6a_n6_packets_from_outside_do_not_keep_it_unless_defined() {
    for refresh in [false, true] {
        let mut rig = Rig::routed();
        rig.change_gateway(BLUE, |gateway| {
            gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT;
            if refresh {
                gateway.flags |= gateway_flags::INBOUND_REFRESH;
            }
        });
        let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
        rig.arrives(DNS, public, (A.ip, 5000));
        rig.udp_out(BLUE, A, 5000, DNS).seen();
        for _ in 0..2 {
            rig.age(140);
            rig.arrives(DNS, public, (A.ip, 5000));
            rig.arrives((OTHER_SERVER, 53), public, (A.ip, 5000));
        }
        rig.age(140);
        let out = rig.udp_in(DNS, public);
        assert_eq!(!out.counters.is_empty(), refresh, "{out:?}");
    }
}

#[test]
fn n6_a_reset_that_answers_a_stranger_does_not_keep_it() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| {
        gateway.flags = gateway.flags & !gateway_flags::INBOUND_REFRESH | gateway_flags::ENDPOINT_INDEPENDENT;
    });
    let stranger = (OTHER_SERVER, 443);
    let public = rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source;
    rig.age(200);
    assert_eq!(rig.tcp_in(stranger, public, SYN).seen().destination, (A.ip, 5000));
    rig.tcp_out(BLUE, A, 5000, stranger, RST | ACK).seen();
    rig.age(100);
    rig.tcp_in((SERVER, 9), public, SYN).assert_dropped(BLUE, R::Unsolicited);
}

/// A packet from outside finds its own direction idle and the guest's alive, or both judged by older rules: they are written
/// down again, and no younger for it.
#[test]
fn u6a_n6_a_packet_from_outside_that_is_judged_again_keeps_nothing_alive() {
    for rules_change in [false, true] {
        let mut rig = Rig::routed();
        let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
        rig.arrives(DNS, public, (A.ip, 5000));
        for _ in 0..5 {
            rig.age(50);
            rig.udp_out(BLUE, A, 5000, DNS).seen();
        }
        for seconds in [60, 236] {
            if rules_change {
                rig.change_gateway(BLUE, |_| {});
            }
            rig.age(seconds);
            rig.arrives(DNS, public, (A.ip, 5000));
        }
        rig.age(5);
        let out = rig.udp_in(DNS, public);
        assert_eq!(out.counters, [], "301 seconds after the guest's last one: {out:?}");
    }
}

#[test]
fn t5_an_established_connection_may_idle_for_7440_seconds() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.age(7438);
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, public);
    rig.age(7441);
    assert_eq!(rig.tcp_in(WEB, public, ACK).counters, []);
}

#[test]
fn t5b_a_half_open_connection_may_take_240_seconds() {
    let mut rig = Rig::routed();
    let public = rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source;
    rig.age(238);
    assert_eq!(rig.tcp_in(WEB, public, SYN | ACK).seen().destination, (A.ip, 5000));
    let public = rig.tcp_out(BLUE, B, 6000, WEB, SYN).seen().source;
    rig.age(241);
    let out = rig.tcp_in(WEB, public, SYN | ACK);
    assert_eq!(out.counters, [], "{out:?}");
}

#[test]
fn n2_opening_and_closing_have_times_of_their_own() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| {
        gateway.timeouts.tcp_opening = 300;
        gateway.timeouts.tcp_closing = 500;
    });
    let opening = rig.tcp_out(BLUE, A, 5000, WEB, SYN).seen().source;
    let closing = rig.connect(BLUE, B, 6000, WEB);
    rig.tcp_out(BLUE, B, 6000, WEB, FIN | ACK).seen();
    rig.tcp_in(WEB, closing, FIN | ACK).seen();
    rig.age(301);
    assert_eq!(rig.tcp_in(WEB, opening, SYN | ACK).counters, []);
    assert_eq!(rig.tcp_in(WEB, closing, ACK).seen().destination, (B.ip, 6000));
    rig.age(501);
    assert_eq!(rig.tcp_in(WEB, closing, ACK).counters, []);
}

#[test]
fn n3_a_reset_connection_lives_for_240_seconds_more() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.tcp_in(WEB, public, RST).seen();
    rig.age(238);
    assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, public);
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
    rig.age(7000);
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000), "data made it established again");
}

/// However long it was silent before: the time of its new state begins with the reset, or the FIN.
#[test]
fn n3_a_connection_that_was_idle_for_an_hour_lives_for_240_seconds_after_its_end() {
    for ends in [RST, FIN | ACK] {
        let mut rig = Rig::routed();
        let public = rig.connect(BLUE, A, 5000, WEB);
        rig.age(3600);
        rig.tcp_in(WEB, public, ends).seen();
        rig.age(200);
        assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
        assert_eq!(rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen().source, public);
    }
}

#[test]
fn i2_n10_a_ping_may_take_60_seconds() {
    let mut rig = Rig::routed();
    let public = rig.ping_out(BLUE, A, 77, SERVER).seen().source;
    rig.age(58);
    assert_eq!(rig.pong_in(SERVER, public.0, public.1).seen().destination, (A.ip, 77));
    let public = rig.ping_out(BLUE, B, 78, SERVER).seen().source;
    rig.age(61);
    let out = rig.pong_in(SERVER, public.0, public.1);
    assert!(out.counters.is_empty() && out.drops.iter().all(|((_, why), _)| *why != R::MalformedIcmp), "{out:?}");
}

#[test]
fn n10_the_ping_timeout_is_its_own() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.timeouts.icmp = 200);
    let public = rig.ping_out(BLUE, A, 77, SERVER).seen().source;
    rig.age(198);
    rig.pong_in(SERVER, public.0, public.1).seen();
}

/// A guest that begins again after its mapping has ended is a newcomer, and is served.
#[test]
fn an_expired_flow_begins_again_with_the_guests_next_packet() {
    let mut rig = Rig::routed();
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    for _ in 0..3 {
        rig.age(400);
        let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
        rig.arrives(DNS, public, (A.ip, 5000));
        assert_eq!(rig.state(BLUE).flows, 2);
    }
    assert_eq!(rig.flows().len(), 2);
    assert_eq!(rig.bindings().len(), 1);
}
