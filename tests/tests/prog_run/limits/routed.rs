//! Limits of what is routed: marked as it leaves, in TC and in XDP.

use netpath_common::{
    DropReason as R,
    maps::{FROM_GUEST, PortMeters, TO_GUEST},
};
use netpath_tests::packet::{dissect, guest, verify_checksums};

use super::NIC;
use crate::rig::{
    A, B, BLUE, BLUE_PUBLIC, D, DNS, GATEWAY, GATEWAY_IP, REDIRECT, Rig, SERVER, TIER, XDP_REDIRECT, any, outward,
    sent, slot,
};

/// ECN of a packet before and after it met congestion: of one that cannot say so, and of each that can.
const MARKS: [(u8, u8); 4] = [(0, 0), (1, 3), (2, 3), (3, 3)];

/// ECN of a frame, whose checksums are right; of VXLAN the frame inside.
#[track_caller]
fn ecn(frame: &[u8]) -> u8 {
    verify_checksums(frame).unwrap();
    let parts = dissect(frame).unwrap();
    parts.vxlan().map_or_else(|| parts.ip.as_ref().unwrap().tos & 3, |(.., inner)| ecn(inner))
}

#[test]
fn a_translated_packet_leaves_with_the_mark_that_is_counted() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    rig.limited_address(BLUE_PUBLIC, 4);
    let (out, back) = (outward(A).tcp(5000, 80, 2), rig.inward(SERVER, BLUE_PUBLIC).tcp(80, 5000, 18));
    for (before, after) in MARKS {
        let counted = [(1, FROM_GUEST), (1, TO_GUEST), (4, TO_GUEST)];
        let marked = |rig: &Rig| counted.map(|(meter, direction)| rig.events(meter, direction).marked_packets);
        let seen = marked(&rig);
        rig.paid_in(1, FROM_GUEST, -1.0);
        assert_eq!(ecn(rig.from(BLUE, A, &out.clone().tos(before)).assert_sent(REDIRECT)), after);
        // In by the address, and by the guest's own limit.
        for (meter, of_address) in [(1, -9.0), (4, -1.0)] {
            rig.paid_in(1, TO_GUEST, if meter == 1 { -1.0 } else { -9.0 });
            rig.paid_in(4, TO_GUEST, of_address);
            assert_eq!(ecn(rig.from_wire(&back.clone().tos(before)).assert_sent(REDIRECT)), after);
        }
        let more = u64::from(after == 3);
        assert_eq!(marked(&rig), seen.map(|count| count + more), "ECN {before}");
    }
}

#[test]
fn what_is_routed_between_tiers_leaves_with_the_mark_that_is_counted() {
    let mut rig = Rig::routed();
    rig.tier();
    rig.limited(BLUE, A, NIC);
    rig.acl(TIER, &[any(true)], &[]);
    for (before, after) in MARKS {
        rig.paid_in(1, FROM_GUEST, -1.0);
        let packet = outward(A).to_ip(D.ip).tcp(5000, 80, 2).tos(before);
        assert_eq!(ecn(rig.from(BLUE, A, &packet).assert_sent(REDIRECT)), after);
    }
    assert_eq!(rig.events(1, FROM_GUEST).marked_packets, 3);
}

#[test]
fn what_xdp_forwards_leaves_with_the_mark_that_is_counted() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, PortMeters { port: 1, ..PortMeters::default() });
    rig.limited_address(BLUE_PUBLIC, 4);
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.udp_in(DNS, (BLUE_PUBLIC, 5000)).seen();
    let back = rig.inward(DNS.0, BLUE_PUBLIC).udp(DNS.1, 5000);
    for meter in [1, 4] {
        for (before, after) in MARKS {
            for other in [1, 4] {
                rig.paid_in(other, TO_GUEST, if other == meter { -1.0 } else { -9.0 });
            }
            let out = rig.xdp(&back.clone().tos(before).build());
            assert_eq!(ecn(out.assert_sent(XDP_REDIRECT)), after);
        }
        assert_eq!(rig.events(meter, TO_GUEST).marked_packets, 3);
    }
}

#[test]
fn what_the_gateway_answers_is_limited_as_anything_else() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    let ping = guest(A).to_mac(GATEWAY.0).to_ip(GATEWAY_IP).echo_request(7, 9);
    let answer = rig.from(BLUE, A, &ping).assert_sent(REDIRECT).len() as u64;
    assert_eq!(rig.passed(1, TO_GUEST), answer);
    rig.paid_in(1, TO_GUEST, 60.0);
    let out = rig.from(BLUE, A, &ping);
    out.assert_dropped(BLUE, R::NicRate);
    assert_eq!(out.counters, [(slot(BLUE, A), sent(ping.build().len()))]);
    // A question that is answered is charged to whoever asks.
    let request = guest(A).arp_request(B.ip).build();
    let before = rig.passed(1, FROM_GUEST);
    rig.from_a(BLUE, &request).assert_sent(REDIRECT);
    assert_eq!(rig.passed(1, FROM_GUEST) - before, request.len() as u64);
    rig.paid_in(1, FROM_GUEST, 60.0);
    rig.from_a(BLUE, &request).assert_dropped(BLUE, R::NicRate);
}
