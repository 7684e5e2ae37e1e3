//! What becomes of a routed packet.

use crate::rig::{A, BLUE, BLUE_PUBLIC, REDIRECT, Rig, outward};

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
    assert_eq!(rig.bindings().len(), 2);
}
