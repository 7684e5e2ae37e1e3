//! Rates of NICs, networks, accounts and public addresses, packet by packet.

mod routed;
mod saved;

use netpath_common::{
    DropReason as R,
    maps::{
        Counters, FROM_GUEST, Limit, Meter, MeterEvents, Network, PortMeters, Shares, TO_GUEST, Tunnel, Upstream,
        meter_row, network_flags, stage, tunnel_flags, upstream_flags,
    },
    stage::meter::{self, INTERVAL, Members, SECOND, Share},
};
use netpath_tests::{
    pace::paced,
    packet::{Endpoint, Outer, Packet, guest},
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::rig::{
    A, ADDRESS, B, BLUE, BLUE_PUBLIC, BURST, C, DNS, GREEN, HERE, LINK, Outcome, Provoked, RATE, RED, REDIRECT, Rig,
    SHOT, THERE, THERE_MAC, TUNNEL, XDP_DROP, XDP_REDIRECT, outward, received, sent, slot, ticks,
};

/// A's meters in the rig.
const NIC: PortMeters = PortMeters { port: 1, network: 0, account: 0, pad: 0 };
const ALL: PortMeters = PortMeters { port: 1, network: 2, account: 3, pad: 0 };

/// Each with what brings it about in a rig with gateways.
pub const LIMITED: [Provoked; 4] = [
    (R::NicRate, |rig| over(rig, 1)),
    (R::NetworkRate, |rig| over(rig, 2)),
    (R::AccountRate, |rig| over(rig, 3)),
    (R::AddressRate, |rig| {
        rig.limited_address(BLUE_PUBLIC, 4);
        rig.paid_in(4, FROM_GUEST, 60.0);
        rig.udp_out(BLUE, A, 5000, DNS)
    }),
];

/// A frame of A's to its neighbour while one of its meters is in debt.
fn over(rig: &mut Rig, meter: u32) -> Outcome {
    rig.limited(BLUE, A, ALL);
    rig.paid_in(meter, FROM_GUEST, 60.0);
    rig.from_a(BLUE, &to_b().build())
}

fn to_b() -> Packet {
    guest(A).to(B).udp(1, 2).payload(vec![7; 1000])
}

/// What the other host sends to A.
fn wrapped(rig: &Rig, inner: &Packet) -> Vec<u8> {
    Outer::new(5001, (THERE_MAC, THERE), (rig.uplink_mac, HERE)).wrap(&inner.build())
}

fn dropped(len: usize) -> MeterEvents {
    MeterEvents { dropped_packets: 1, dropped_bytes: len as u64, ..MeterEvents::default() }
}

#[test]
fn each_limit_refuses_for_its_own_reason_and_charges_nobody() {
    for (reason, refuse) in LIMITED {
        let mut rig = Rig::routed();
        let out = refuse(&mut rig);
        out.assert_dropped(BLUE, reason);
        assert_eq!(out.counters, [], "{reason:?}: what is refused is not counted as passed");
        assert_eq!([1, 2, 3, 4].map(|meter| rig.passed(meter, FROM_GUEST)), [0; 4], "{reason:?}: all or none");
    }
}

#[test]
fn a_nic_may_send_its_burst_and_then_as_much_as_time_pays_for() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    let frame = to_b().build();
    for _ in 0..28 {
        rig.from_a(BLUE, &frame).assert_sent(REDIRECT);
    }
    rig.paid_in(1, FROM_GUEST, 60.0);
    let out = rig.from_a(BLUE, &frame);
    out.assert_dropped(BLUE, R::NicRate);
    assert_eq!(rig.events(1, FROM_GUEST).dropped_bytes, frame.len() as u64);
    let paid = rig.paid_in(1, FROM_GUEST, -1.0);
    rig.from_a(BLUE, &frame).assert_sent(REDIRECT);
    // It was charged whole, on top of what stood there.
    let cost = meter::cost(&meter::limit(RATE, BURST), frame.len() as u64);
    assert_eq!(rig.read::<Meter>("METERS", meter_row(1, FROM_GUEST)).time, paid + cost);
    assert_eq!(rig.passed(1, FROM_GUEST), 29 * frame.len() as u64);
    assert_eq!(rig.passed(1, TO_GUEST), 0);
}

#[test]
fn the_debt_of_a_lower_rate_does_not_outlive_a_raised_limit() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    rig.array("LIMITS", meter_row(1, FROM_GUEST), meter::limit(200 * RATE, BURST));
    // A super-packet at 64 kbit/s.
    rig.paid_in(1, FROM_GUEST, 8.2);
    rig.from_a(BLUE, &to_b().build()).assert_dropped(BLUE, R::NicRate);
    let Meter { time, refused, .. } = rig.read("METERS", meter_row(1, FROM_GUEST));
    assert!(time < ticks() + meter::SECOND / 5);
    assert!(refused > time - meter::SECOND && refused < ticks());
}

#[test]
fn what_goes_to_a_guest_is_limited_on_every_way_there() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    rig.paid_in(1, TO_GUEST, 60.0);
    let udp = guest(C).to(A).udp(1, 2);
    let len = udp.build().len();
    let frame = wrapped(&rig, &udp);
    let out = rig.xdp(&frame);
    assert_eq!((out.action, &out.drops[..], &out.counters[..]), (XDP_DROP, &[((BLUE, R::NicRate), 1)][..], &[][..]));
    assert_eq!(rig.events(1, TO_GUEST), dropped(len));
    // From a neighbour on the host.
    let out = rig.from(BLUE, B, &guest(B).to(A).udp(1, 2));
    out.assert_dropped(BLUE, R::NicRate);
    // A broadcast reaches the others.
    let out = rig.from(BLUE, B, &guest(B).udp(1, 2));
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[((BLUE, R::NicRate), 1)][..]));
    // A VLAN network's, and its twin's in another network, whose meters are their own.
    rig.limited(RED, A, PortMeters { port: 5, ..PortMeters::default() });
    rig.paid_in(5, TO_GUEST, 60.0);
    let tagged = guest(C).to(A).vlan(100).udp(1, 2).build();
    let uplink = rig.uplink;
    assert_eq!(rig.xdp(&tagged).drops, [((RED, R::NicRate), 1)]);
    assert_eq!(rig.tc("from_uplink", uplink, &tagged).drops, [((RED, R::NicRate), 1)]);
    let green = guest(B).to(A).udp(1, 2);
    let (out, green) = (rig.from(GREEN, B, &green), green.build());
    out.assert_sent(REDIRECT);
    assert_eq!(out.counters, [(slot(GREEN, A), received(green.len())), (slot(GREEN, B), sent(green.len()))]);
}

#[test]
fn a_super_packet_is_charged_for_what_goes_on_the_wire() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    for (packet, segment, headers) in [
        (guest(A).to(B).tcp(1, 2, 16).payload(vec![7; 3000]), 1000, 54),
        (guest(A).to(B).udp(1, 2).payload(vec![7; 2500]), 1000, 42),
        (guest(A).over_ipv6(A, B).to_mac(B.mac).tcp(1, 2, 16).payload(vec![7; 3001]), 1000, 74),
    ] {
        let frame = packet.build();
        let before = rig.passed(1, FROM_GUEST);
        let port = rig.ports[&(BLUE, 11)];
        rig.tc_gso("from_guest", port, &frame, segment).assert_sent(REDIRECT);
        let segments = (frame.len() - headers).div_ceil(segment as usize);
        let wire = frame.len() + (segments - 1) * headers;
        assert_eq!(rig.passed(1, FROM_GUEST) - before, wire as u64, "{packet:?}");
    }
}

#[test]
fn what_can_say_that_it_met_congestion_does_before_anything_is_dropped() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    for ipv6 in [false, true] {
        for (ecn, expected) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
            let to_b = if ipv6 { guest(A).over_ipv6(A, B).to_mac(B.mac) } else { guest(A).to(B) }.udp(1, 2);
            rig.paid_in(1, FROM_GUEST, -1.0);
            let out = rig.from_a(BLUE, &to_b.clone().tos(ecn).build());
            assert_eq!(out.assert_sent(REDIRECT), to_b.tos(expected).build());
            // In XDP, on the way to a guest.
            let to_a = if ipv6 { guest(C).to(A).over_ipv6(C, A) } else { guest(C).to(A) }.udp(1, 2);
            rig.paid_in(1, TO_GUEST, -1.0);
            let frame = wrapped(&rig, &to_a.clone().tos(ecn));
            assert_eq!(rig.xdp(&frame).assert_sent(XDP_REDIRECT), to_a.tos(expected).build());
        }
    }
    let marked = rig.events(1, FROM_GUEST);
    assert_eq!((marked.marked_packets, marked.dropped_packets, marked.delayed_packets), (6, 0, 0));
    // With all of its credit nothing is marked.
    rig.paid_in(1, FROM_GUEST, -9.0);
    let plain = guest(A).to(B).udp(1, 2).tos(2).build();
    assert_eq!(rig.from_a(BLUE, &plain).assert_sent(REDIRECT), plain);
}

#[test]
fn where_the_uplink_keeps_packets_until_their_departure_they_wait_instead_of_being_dropped() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    rig.limited(RED, A, PortMeters { port: 5, ..PortMeters::default() });
    rig.change("TUNNELS", TUNNEL, |row: &mut Tunnel| row.flags |= tunnel_flags::PACED);
    rig.change("NETWORKS", RED, |row: &mut Network| row.flags |= network_flags::PACED);
    rig.change("UPSTREAMS", LINK, |row: &mut Upstream| row.flags |= upstream_flags::PACED);
    let to_c = guest(A).to(C).udp(1, 2).build();
    let ways: [(u32, u32, Vec<u8>); 3] =
        [(BLUE, 1, to_c.clone()), (RED, 5, to_c), (BLUE, 1, outward(A).to_ip(DNS.0).udp(5000, 53).build())];
    for (network, meter, frame) in &ways {
        let before = rig.events(*meter, FROM_GUEST);
        rig.paid_in(*meter, FROM_GUEST, 5.0);
        let out = rig.from_a(*network, frame);
        assert_eq!((out.action, &out.drops[..]), (REDIRECT, &[][..]), "{network} {out:?}");
        let after = rig.events(*meter, FROM_GUEST);
        assert_eq!(after.delayed_packets - before.delayed_packets, 1);
        // Beyond the horizon there is no waiting.
        rig.paid_in(*meter, FROM_GUEST, 60.0);
        rig.from_a(*network, frame).assert_dropped(*network, R::NicRate);
    }
    rig.change("TUNNELS", TUNNEL, |row: &mut Tunnel| row.flags &= !tunnel_flags::PACED);
}

#[test]
fn what_cannot_wait_passes_beside_packets_that_do_and_is_policed_where_none_does() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, ALL);
    let frame = to_b().build();
    let row = meter_row(1, FROM_GUEST);
    for meter in [1, 2, 3] {
        let passed = rig.passed(meter, FROM_GUEST);
        // A sender with more than its rate keeps the meter ahead, by as much as its packets may wait.
        let ahead = rig.paid_in(meter, FROM_GUEST, 5.0);
        rig.from_a(BLUE, &frame).assert_sent(REDIRECT);
        assert!(rig.passed(meter, FROM_GUEST) > passed);
        // It is owed.
        assert!(rig.read::<Meter>("METERS", meter_row(meter, FROM_GUEST)).time > ahead);
        assert_eq!(rig.events(meter, FROM_GUEST).delayed_packets, 0);
        rig.paid_in(meter, FROM_GUEST, 60.0);
        rig.from_a(BLUE, &frame).assert_dropped(BLUE, [R::NicRate, R::NetworkRate, R::AccountRate][meter as usize - 1]);
        rig.paid_in(meter, FROM_GUEST, -9.0);
    }
    // Where no uplink paces, a debt is paid before anything passes.
    rig.change("LIMITS", row, |limit: &mut Limit| limit.horizon = 0);
    rig.paid_in(1, FROM_GUEST, 5.0);
    rig.from_a(BLUE, &frame).assert_dropped(BLUE, R::NicRate);
}

#[test]
fn a_refusal_earns_the_reserve_also_where_packets_are_paced() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    rig.change("TUNNELS", TUNNEL, |row: &mut Tunnel| row.flags |= tunnel_flags::PACED);
    rig.paid_in(1, FROM_GUEST, 60.0);
    let before = ticks();
    rig.from_a(BLUE, &guest(A).to(C).udp(1, 2).build()).assert_dropped(BLUE, R::NicRate);
    assert!(rig.read::<Meter>("METERS", meter_row(1, FROM_GUEST)).refused >= before);
}

#[test]
fn what_passed_in_a_second_is_its_rate_however_late_the_next_packet_comes() {
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, NIC);
    let frame = guest(A).to(C).udp(1, 2).payload(vec![0; 1000]).build();
    let (len, row) = (frame.len() as u64, meter_row(1, FROM_GUEST));
    for (ago, rate) in [(1.1, 4 * len..=4 * len), (5.0, 4 * len / 7..=4 * len / 4)] {
        rig.array("METERS", row, Meter::default());
        (0..4).for_each(|_| drop(rig.from_a(BLUE, &frame)));
        let began = ticks() - (ago * SECOND as f64) as u64;
        rig.change("METERS", row, |row: &mut Meter| row.window_start = began);
        rig.from_a(BLUE, &frame).assert_sent(REDIRECT);
        let meter = rig.read::<Meter>("METERS", row);
        assert!(rate.contains(&meter.rate), "{} of {rate:?}, {ago} s later", meter.rate);
        assert_eq!(meter.peak, 4 * len, "{ago} s later");
        assert_eq!((meter.passed, meter.window_passed), (5 * len, 4 * len), "{ago} s later");
    }
}

#[test]
fn a_public_address_is_counted_and_limited_in_both_directions() {
    let mut rig = Rig::routed();
    rig.limited_address(BLUE_PUBLIC, 4);
    let end = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let out_len = outward(A).udp(5000, 53).build().len() as u64;
    let in_len = rig.inward(DNS.0, end.0).udp(53, end.1).build().len() as u64 - 4;
    rig.udp_in(DNS, end).seen();
    let counted =
        Counters { from_guest_packets: 1, from_guest_bytes: out_len, to_guest_packets: 1, to_guest_bytes: in_len };
    assert_eq!(rig.public_counters(ADDRESS), counted);
    assert_eq!((rig.passed(4, FROM_GUEST), rig.passed(4, TO_GUEST)), (out_len, in_len));
    rig.paid_in(4, TO_GUEST, 60.0);
    rig.udp_in(DNS, end).assert_dropped(BLUE, R::AddressRate);
    let frame = rig.inward(DNS.0, end.0).udp(53, end.1).build();
    let out = rig.xdp(&frame);
    assert_eq!((out.action, out.drops.len()), (XDP_DROP, 1), "{out:?}");
    assert_eq!(rig.public_counters(ADDRESS), counted);
    // Out it still goes.
    rig.udp_out(BLUE, A, 5000, DNS).seen();
}

#[test]
fn for_what_a_guests_own_limit_refuses_its_public_address_does_not_pay() {
    let mut rig = Rig::routed();
    rig.limited_address(BLUE_PUBLIC, 4);
    rig.limited(BLUE, A, NIC);
    let end = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    let frame = rig.inward(DNS.0, end.0).udp(53, end.1).build();
    let out = rig.udp_in(DNS, end);
    out.seen();
    assert_eq!(out.counters, [(slot(BLUE, A), received(out.bytes.len()))]);
    let len = out.bytes.len() as u64;
    assert_eq!((rig.passed(1, TO_GUEST), rig.passed(4, TO_GUEST)), (len, len));
    rig.paid_in(1, TO_GUEST, 60.0);
    rig.udp_in(DNS, end).assert_dropped(BLUE, R::NicRate);
    assert_eq!(rig.xdp(&frame).drops, [((BLUE, R::NicRate), 1)]);
    assert_eq!((rig.passed(4, TO_GUEST), rig.public_counters(ADDRESS).to_guest_packets), (len, 1));
}

#[test]
fn whoever_has_had_its_share_of_an_aggregate_leaves_the_rest_to_the_others() {
    let mut rig = Rig::routed();
    let shared = PortMeters { network: 2, ..PortMeters::default() };
    rig.limited(BLUE, A, shared);
    rig.limited(BLUE, B, shared);
    // The aggregate has less than half of its credit, or half of what may wait does, and its two senders have come; A has had more
    // than a half.
    for (ahead, horizon) in [(7.0, 10 * meter::SECOND), (-1.0, 0)] {
        rig.change("LIMITS", meter_row(2, FROM_GUEST), |limit: &mut Limit| limit.horizon = horizon);
        let refused = loop {
            rig.paid_in(2, FROM_GUEST, ahead);
            let interval = meter::interval(ticks());
            let greedy = Share(Share::begun(interval, 0).0 + Share::units(INTERVAL) / 2 + 1);
            rig.change("SHARES", slot(BLUE, A), |row: &mut Shares| row.network[0] = greedy.0);
            rig.change("METERS", meter_row(2, FROM_GUEST), |row: &mut Meter| {
                row.members = Members(0).joined(interval).joined(interval).0;
            });
            let (a, b) = (rig.from_a(BLUE, &to_b().build()), rig.from(BLUE, B, &guest(B).to(A).udp(1, 2)));
            // Both were judged in the interval that the words are about.
            if meter::interval(ticks()) == interval {
                b.assert_sent(REDIRECT);
                break a;
            }
        };
        refused.assert_dropped(BLUE, R::NetworkRate);
    }
    // With credit there is enough for both.
    rig.paid_in(2, FROM_GUEST, -9.0);
    rig.from_a(BLUE, &to_b().build()).assert_sent(REDIRECT);
}

#[test]
fn two_cpus_charge_one_meter_to_the_last_byte() {
    const FAST: u64 = 10_000_000_000;
    let frames = paced(20_000) as u64;
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, ALL);
    rig.load("from_guest");
    // Credit of 250 seconds, of 400 that there may be: enough for all, and none is lost to the clock meanwhile.
    let burst = FAST / 8 * 400;
    for level in [1, 2, 3] {
        rig.array("LIMITS", meter_row(level, FROM_GUEST), meter::limit(FAST, burst));
        rig.paid_in(level, FROM_GUEST, -250.0);
    }
    let before = [1, 2, 3].map(|level| rig.read::<Meter>("METERS", meter_row(level, FROM_GUEST)).time);
    let (port, frame) = (rig.ports[&(BLUE, 11)], to_b().build());
    std::thread::scope(|scope| {
        for cpu in [0, 1] {
            let (rig, frame) = (&rig, &frame);
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).unwrap();
                rig.ns.run(|| (0..frames).for_each(|_| rig.tc_only("from_guest", port, frame)));
            });
        }
    });
    let limit = meter::limit(FAST, burst);
    let sum = 2 * frames * frame.len() as u64;
    for (level, before) in (1..).zip(before) {
        let row: Meter = rig.read("METERS", meter_row(level, FROM_GUEST));
        assert_eq!(row.passed, sum);
        assert_eq!(row.time - before, 2 * frames * meter::cost(&limit, frame.len() as u64));
    }
}

#[test]
fn the_short_way_and_the_long_one_charge_the_same() {
    // A has a limit of its own alone, and is charged at once. B has a network's meter besides, so that all are asked; that one
    // limits nothing.
    const SHORT: u32 = 1;
    const LONG: u32 = 5;
    let mut rig = Rig::routed();
    rig.limited(BLUE, A, PortMeters { port: SHORT, ..PortMeters::default() });
    rig.limited(BLUE, B, PortMeters { port: LONG, network: 6, ..PortMeters::default() });
    rig.array("LIMITS", meter_row(6, FROM_GUEST), Limit::default());
    rig.array("LIMITS", meter_row(6, TO_GUEST), Limit::default());
    // Of 400 seconds of credit so many are left: more than half of them, less, and none. What is owed is within the longest that
    // a clock may stand ahead (`meter::latest`): a MiB of the rate more than the horizon.
    let limit = Limit { horizon: 30 * meter::SECOND, ..meter::limit(RATE / 10, RATE / 80 * 400) };
    for (credit, dropped) in [(300.0, 0), (100.0, 0), (-90.0, 7)] {
        let charged = [(A, SHORT), (B, LONG)].map(|(station, meter)| {
            let rows = [FROM_GUEST, TO_GUEST].map(|direction| meter_row(meter, direction));
            for row in rows {
                rig.array("LIMITS", row, limit);
                rig.array("METER_EVENTS", row, MeterEvents::default());
            }
            let stand = [FROM_GUEST, TO_GUEST].map(|direction| rig.paid_in(meter, direction, -credit));
            let before = rows.map(|row| rig.read::<Meter>("METERS", row).passed);
            all_ways(&mut rig, station);
            [0, 1].map(|direction| {
                let row: Meter = rig.read("METERS", rows[direction]);
                let events: MeterEvents = rig.read("METER_EVENTS", rows[direction]);
                (row.time - stand[direction], row.passed - before[direction], events)
            })
        });
        assert_eq!(charged[0], charged[1], "{credit} s of credit");
        let [(_, sent, lost), (_, received, refused)] = charged[0];
        assert_eq!(lost.dropped_packets + refused.dropped_packets, dropped, "{credit} s of credit");
        assert_eq!(sent > 0 && received > 0, dropped == 0, "{credit} s of credit");
    }
}

/// Seven frames of a station's, or for it: small and large, in segments, and on each way to a guest.
fn all_ways(rig: &mut Rig, station: Endpoint) {
    let port = rig.ports[&(BLUE, station.ip.octets()[3])];
    for len in [0, 100, 1400] {
        rig.tc("from_guest", port, &guest(station).to(C).udp(1, 2).payload(vec![7; len]).build());
    }
    rig.tc_gso("from_guest", port, &guest(station).to(C).tcp(1, 2, 16).payload(vec![7; 3001]).build(), 1000);
    rig.tc("from_guest", port, &guest(station).over_ipv6(station, C).to_mac(C.mac).udp(1, 2).build());
    for len in [3, 1400] {
        let frame = wrapped(rig, &guest(C).to(station).udp(1, 2).payload(vec![7; len]));
        rig.xdp(&frame);
    }
}

#[test]
fn a_broadcast_is_charged_once_to_its_sender() {
    let mut rig = Rig::new();
    rig.load_stage(stage::FLOOD);
    rig.limited(BLUE, A, NIC);
    let frame = guest(A).udp(1, 2).build();
    let out = rig.from_a(BLUE, &frame);
    assert_eq!((out.action, &out.drops[..]), (SHOT, &[][..]));
    assert_eq!(rig.passed(1, FROM_GUEST), frame.len() as u64);
    rig.paid_in(1, FROM_GUEST, 60.0);
    rig.from_a(BLUE, &frame).assert_dropped(BLUE, R::NicRate);
}
