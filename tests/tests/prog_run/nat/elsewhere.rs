//! NAT on another host: it judges, and the guest's own host passes on.

use netpath_common::maps::{Rule, nat_place};
use netpath_tests::packet::{Packet, dissect};

use crate::rig::{A, ACK, BLUE, End, GATEWAY, REDIRECT, Rig, Routed, SERVER, SYN, TUNNEL, any, echo, outward};

const CLIENT: End = (SERVER, 40_000);

/// Blue's public side is at the other end of the tunnel.
fn elsewhere() -> Routed {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| (gateway.nat_place, gateway.nat_target) = (nat_place::TUNNEL, TUNNEL));
    rig
}

/// A packet of A's goes to the other host as it is, from the gateway.
fn is_passed_on(rig: &mut Rig, packet: &Packet) {
    let out = rig.from(BLUE, A, packet);
    let (vni, _, inner) = dissect(out.assert_sent(REDIRECT)).unwrap().vxlan().unwrap();
    assert_eq!((vni, inner), (5001, &packet.clone().from_mac(inner[6..12].try_into().unwrap()).build()[..]));
    assert_eq!(inner[..6], GATEWAY.0);
}

#[test]
fn i1_the_answer_to_a_ping_from_outside_is_passed_on() {
    let mut rig = elsewhere();
    // Its question was translated there: nothing of it is known here.
    for kind in [0, 14] {
        is_passed_on(&mut rig, &outward(A).body(echo(kind, 9)));
    }
}

#[test]
fn what_answers_a_connection_from_outside_is_no_new_one_to_the_acl() {
    let mut rig = elsewhere();
    rig.acl(BLUE, &[any(true)], &[Rule { allow: 0, ..any(true) }]);
    is_passed_on(&mut rig, &outward(A).to_ip(CLIENT.0).tcp(80, CLIENT.1, SYN | ACK));
}
