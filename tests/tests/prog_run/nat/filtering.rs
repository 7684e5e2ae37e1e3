//! Who may answer: address- and port-dependent filtering by default, endpoint-independent by definition.

use netpath_common::{DropReason as R, maps::gateway_flags};

use crate::rig::{A, ACK, BLUE, BLUE_PUBLIC, DNS, FIN, OTHER_SERVER, Rig, SERVER, SYN, WEB};

#[test]
fn u8_only_who_was_sent_to_may_answer() {
    let mut rig = Rig::routed();
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.arrives(DNS, public, (A.ip, 5000));
    rig.udp_in((OTHER_SERVER, 53), public).assert_dropped(BLUE, R::UnsolicitedSource);
    rig.udp_in((SERVER, 54), public).assert_dropped(BLUE, R::UnsolicitedSource);
    rig.udp_out(BLUE, A, 5000, (SERVER, 54)).seen();
    rig.arrives((SERVER, 54), public, (A.ip, 5000));
}

#[test]
fn u8_c7_with_endpoint_independent_filtering_everybody_may() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    for from in [DNS, (OTHER_SERVER, 53), (SERVER, 54)] {
        rig.arrives(from, public, (A.ip, 5000));
    }
    let answer = rig.udp_out(BLUE, A, 5000, (OTHER_SERVER, 53)).seen();
    assert_eq!(answer.source, public);
}

#[test]
fn t3_a_syn_from_elsewhere_is_filtered_as_defined() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.tcp_in((OTHER_SERVER, 443), public, SYN).assert_dropped(BLUE, R::UnsolicitedSource);
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    let got = rig.tcp_in((OTHER_SERVER, 443), public, SYN).seen();
    assert_eq!((got.source, got.destination), ((OTHER_SERVER, 443), (A.ip, 5000)));
}

/// A binding from before, which the loader has not come to: its guest's next packet opens it.
#[test]
fn t3_a_binding_that_was_left_closed_is_opened_by_its_guest() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    rig.close_bindings();
    rig.tcp_in((OTHER_SERVER, 443), public, SYN).assert_dropped(BLUE, R::Unsolicited);
    rig.tcp_out(BLUE, A, 5000, WEB, ACK).seen();
    assert_eq!(rig.tcp_in((OTHER_SERVER, 443), public, SYN).seen().destination, (A.ip, 5000));
}

#[test]
fn t3_a_closed_connection_keeps_nobody_from_a_port_that_everybody_may_use() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    let public = rig.connect(BLUE, A, 5000, WEB);
    assert_eq!(rig.connect(BLUE, A, 5000, (OTHER_SERVER, 443)), public);
    rig.tcp_out(BLUE, A, 5000, WEB, FIN | ACK).seen();
    rig.tcp_in(WEB, public, FIN | ACK).seen();
    rig.age(600);
    assert_eq!(rig.tcp_in((SERVER, 9), public, SYN).seen().destination, (A.ip, 5000));
}

#[test]
fn n5_a_udp_mapping_does_not_admit_tcp() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.tcp_in(DNS, public, SYN).assert_dropped(BLUE, R::Unsolicited);
    rig.tcp_in(DNS, public, ACK).assert_dropped(BLUE, R::Unsolicited);
}

#[test]
fn t4_an_unsolicited_syn_is_dropped_in_silence_and_a_later_connection_works() {
    let mut rig = Rig::routed();
    rig.tcp_in(WEB, (BLUE_PUBLIC, 5000), SYN).assert_dropped(BLUE, R::Unsolicited);
    let public = rig.connect(BLUE, A, 5000, WEB);
    assert_eq!(public.0, BLUE_PUBLIC);
}

#[test]
fn what_is_for_nobody_leaves_no_trace() {
    let mut rig = Rig::routed();
    for port in [1, 5000, 65535] {
        rig.udp_in(DNS, (BLUE_PUBLIC, port)).assert_dropped(BLUE, R::Unsolicited);
    }
    assert!(rig.flows().is_empty() && rig.bindings().is_empty());
    assert_eq!(rig.state(BLUE).flows, 0);
}
