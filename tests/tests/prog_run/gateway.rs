//! What becomes of a routed packet.

use netpath_common::{DropReason as R, maps::Rule};

use crate::rig::{A, BLUE, BLUE_PUBLIC, REDIRECT, Rig, SERVER, any, outward};

#[test]
fn a_guests_packet_leaves_from_the_public_address() {
    let mut rig = Rig::routed();
    for _ in 0..2 {
        let out = rig.from(BLUE, A, &outward(A).udp(40000, 53));
        assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[][..]));
        netpath_tests::packet::verify_checksums(&out.bytes).unwrap();
        let ip = &out.bytes[14..];
        assert_eq!(ip[12..16], BLUE_PUBLIC.octets());
        assert_eq!(ip[20..22], 40000u16.to_be_bytes());
        assert_eq!(ip[8], 63);
    }
    assert_eq!(rig.flows().len(), 2);
    assert_eq!(rig.bindings().len(), 1);
}

#[test]
fn a_public_address_that_is_no_guests_answers_ping_where_a_rule_lets_it_in() {
    let mut rig = Rig::routed();
    let ping = rig.inward(SERVER, BLUE_PUBLIC).echo_request(7, 1);
    rig.from_wire(&ping).assert_dropped(BLUE, R::IngressDenied);
    rig.ingress(BLUE, BLUE_PUBLIC, &[Rule { protocol: 1, icmp_type: 8, ..any(true) }]);
    let reply = rig.from_wire(&ping);
    reply.assert_sent(REDIRECT);
    let sent = &reply.bytes;
    assert!(sent.windows(8).any(|w| w[..4] == BLUE_PUBLIC.octets() && w[4..] == SERVER.octets()), "{reply:?}");
    assert_eq!(rig.flows().len(), 0, "no connection comes of it");
}
