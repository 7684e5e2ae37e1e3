//! Credit that is saved up after a refusal: it is for connections of TCP that go on, and nobody else has more of it than a third of a
//! second.

use netpath_common::{
    maps::{FROM_GUEST, Meter, PortMeters, TO_GUEST, meter_row},
    stage::meter::{self, SECOND},
};
use netpath_tests::packet::{Packet, guest};

use super::{NIC, wrapped};
use crate::rig::{A, ADDRESS, BLUE, BLUE_PUBLIC, C, DNS, RATE, Rig, outward, ticks};

/// So much of a second is anybody's.
const COMMON: u64 = SECOND * 35 / 100;
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// How much credit a meter of a burst of 0.24 s has left, in ticks, after something was sent two seconds after all was paid for and a
/// moment after a refusal: as much as it is at least, and at most.
fn left(rig: &mut Rig, meter: u32, direction: u32, act: impl FnOnce(&mut Rig)) -> [u64; 2] {
    let row = meter_row(meter, direction);
    rig.array("LIMITS", row, meter::limit(RATE, 30_000));
    let began = ticks();
    rig.array("METERS", row, Meter { time: began - 2 * SECOND, refused: began, ..Meter::default() });
    act(rig);
    let (ended, stands) = (ticks(), rig.read::<Meter>("METERS", row).time);
    // The data path's clock may be some milliseconds behind.
    [(began - SECOND / 50).saturating_sub(stands), ended - stands]
}

/// Asserts what is left of a second where a packet has cost `times` what it has to.
fn assert_paid([least, most]: [u64; 2], len: usize, times: u64) {
    let wanted = SECOND - times * meter::cost(&meter::limit(RATE, 30_000), len as u64);
    assert!((least..=most).contains(&wanted), "{wanted} ticks of {least} to {most}");
}

fn assert_common([least, most]: [u64; 2]) {
    assert!((least..=most).contains(&COMMON), "{COMMON} ticks of {least} to {most}");
}

#[test]
fn a_guest_keeps_it_for_segments_that_go_on_and_a_new_connection_ends_it() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    let to_c = guest(A).to(C);
    for packet in [to_c.clone(), outward(A).to_ip(DNS.0), guest(A).over_ipv6(A, C)] {
        let sends = |rig: &mut Rig, packet: &Packet| {
            let len = packet.build().len();
            (left(rig, 1, FROM_GUEST, |rig| drop(rig.from_a(BLUE, &packet.build()))), len)
        };
        assert_common(sends(&mut rig, &packet.clone().tcp(5000, 53, SYN)).0);
        let (left, len) = sends(&mut rig, &packet.clone().tcp(5000, 53, ACK));
        assert_paid(left, len, 1);
        let (left, len) = sends(&mut rig, &packet.clone().udp(5000, 53));
        assert_paid(left, len, 8);
    }
    let request = guest(A).arp_request(C.ip).build();
    assert_paid(left(&mut rig, 1, FROM_GUEST, |rig| drop(rig.from_a(BLUE, &request))), request.len(), 8);
}

#[test]
fn xdp_knows_who_goes_on_in_front_of_a_guest_and_behind_a_public_address() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, PortMeters { port: 1, ..PortMeters::default() });
    let udp = guest(C).to(A).udp(1, 2);
    let frame = wrapped(&rig, &udp);
    assert_paid(left(&mut rig, 1, TO_GUEST, |rig| drop(rig.xdp(&frame))), udp.build().len(), 8);
    rig.limited_address(BLUE_PUBLIC, 4);
    rig.udp_out(BLUE, A, 5000, DNS).seen();
    rig.udp_in(DNS, (BLUE_PUBLIC, 5000)).seen();
    let back = rig.inward(DNS.0, BLUE_PUBLIC).udp(DNS.1, 5000).build();
    let tag = 4;
    assert_paid(left(&mut rig, 4, TO_GUEST, |rig| drop(rig.xdp(&back))), back.len() - tag, 8);
    assert_ne!(rig.public_counters(ADDRESS).to_guest_packets, 0);
}

#[test]
fn a_flood_of_datagrams_uses_it_up_before_it_has_a_second_of_it() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    let frame = guest(A).to(C).udp(1, 2).payload(vec![0; 1400]).build();
    // Eleven milliseconds each, and seven times as much more: eight of them use up what is not anybody's.
    let after = left(&mut rig, 1, FROM_GUEST, |rig| (0..8).for_each(|_| drop(rig.from_a(BLUE, &frame))));
    assert!(after[0] <= COMMON, "{after:?}");
}
