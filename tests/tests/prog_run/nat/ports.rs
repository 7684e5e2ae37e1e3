//! Which ports are given out: the guest's own where free, of its class and parity, at random otherwise, never twice.

use std::collections::BTreeSet;

use netpath_common::{
    DropReason,
    maps::{
        BLOCK_PORTS, BLOCKS, Binding, BindingKey, Forward, ForwardKey, HOLD_DOWN, POOL_PROTOCOLS, PoolAddress,
        forward_flags, gateway_flags,
    },
    reap,
    stage::idle::MARGIN,
};
use netpath_tests::packet::Endpoint;

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, DNS, End, FIN, GREEN, GREEN_PUBLIC, OTHER_SERVER, PUBLIC, RST, Rig, SERVER, SYN, WEB,
};

/// Marks ports of blue's pool for UDP as given out to somebody else.
fn occupy(rig: &mut Rig, taken: impl Fn(u16) -> bool) {
    for block in 0..BLOCKS {
        let word = (0..BLOCK_PORTS)
            .filter(|bit| taken((block * BLOCK_PORTS + bit) as u16))
            .fold(0u64, |word, bit| word | 1 << bit);
        // Blue's pool is the first; UDP is the second of its protocols.
        rig.array("PORT_BLOCKS", BLOCKS + block, word);
    }
    assert_eq!(POOL_PROTOCOLS, 3);
}

#[test]
fn the_guests_own_port_is_kept_where_it_is_free() {
    let mut rig = Rig::routed();
    for port in [53, 1024, 5000, 5001, 65535] {
        assert_eq!(rig.udp_out(BLUE, A, port, DNS).seen().source, (BLUE_PUBLIC, port));
        assert_eq!(rig.tcp_out(BLUE, A, port, WEB, SYN).seen().source, (BLUE_PUBLIC, port));
    }
}

#[test]
fn u3_t7_two_guests_with_one_port_get_two() {
    let mut rig = Rig::routed();
    let (a, b) = (rig.udp_out(BLUE, A, 5000, DNS).seen().source, rig.udp_out(BLUE, B, 5000, DNS).seen().source);
    assert_ne!(a, b);
    rig.arrives(DNS, a, (A.ip, 5000));
    rig.arrives(DNS, b, (B.ip, 5000));
    let (a, b) = (rig.connect(BLUE, A, 5000, WEB), rig.connect(BLUE, B, 5000, WEB));
    assert_ne!(a, b);
    let to_a = rig.tcp_in(WEB, a, 16).seen().destination;
    let to_b = rig.tcp_in(WEB, b, 16).seen().destination;
    assert_eq!((to_a, to_b), ((A.ip, 5000), (B.ip, 5000)));
}

/// N4: no port is given to two guests, not even where their destinations differ.
#[test]
fn n4_ports_are_not_overloaded_by_destination() {
    let mut rig = Rig::routed();
    let a = rig.udp_out(BLUE, A, 5000, (SERVER, 53)).seen().source;
    let b = rig.udp_out(BLUE, B, 5000, (OTHER_SERVER, 53)).seen().source;
    assert_ne!(a, b);
}

#[test]
fn u3a_u4_another_port_is_of_the_same_class_and_parity() {
    for half_full in [false, true] {
        for port in [500u16, 501, 5000, 5001, 65534] {
            let mut rig = Rig::routed();
            if half_full {
                occupy(&mut rig, |port| port / 64 % 2 == 0);
            }
            rig.udp_out(BLUE, B, port, DNS).seen();
            let got = rig.udp_out(BLUE, A, port, DNS).seen().source.1;
            assert_ne!(got, port);
            assert_eq!((got % 2, got < 1024), (port % 2, port < 1024), "{port} became {got}");
            assert_ne!(got, 0);
        }
    }
}

#[test]
fn n8_c15_ports_that_are_not_kept_are_random() {
    let mut rig = Rig::routed();
    let mut ports = Vec::new();
    for n in 0..400u32 {
        rig.udp_out(BLUE, B, 2000 + n as u16, DNS).seen();
        ports.push(u32::from(rig.udp_out(BLUE, A, 2000 + n as u16, DNS).seen().source.1));
    }
    let distinct: BTreeSet<_> = ports.iter().collect();
    assert_eq!(distinct.len(), ports.len());
    let steps: BTreeSet<i64> = ports.windows(2).map(|w| i64::from(w[1]) - i64::from(w[0])).collect();
    assert!(steps.len() > 300, "only {} different steps from one port to the next", steps.len());
    // Over eighths of the range: no more than three times what falls to each.
    let mut eighths = [0; 8];
    ports.iter().for_each(|port| eighths[(port / 8192) as usize] += 1);
    assert!(eighths.iter().all(|count| (10..150).contains(count)), "{eighths:?}");
}

#[test]
fn u11_behaviour_is_the_same_when_most_ports_are_taken() {
    for percent in [0u16, 50, 95] {
        let mut rig = Rig::routed();
        occupy(&mut rig, |port| port % 100 < percent);
        let ends = [(SERVER, 53), (SERVER, 54), (OTHER_SERVER, 53)];
        for station in [A, B] {
            let seen = ends.map(|end| rig.udp_out(BLUE, station, 5000, end).seen().source);
            assert!(seen.iter().all(|end| *end == seen[0]), "{seen:?} at {percent} %");
            rig.arrives((SERVER, 54), seen[0], (station.ip, 5000));
            rig.udp_in((OTHER_SERVER, 54), seen[0]).assert_refused(BLUE, DropReason::UnsolicitedSource);
        }
    }
}

#[test]
fn c8_a_port_is_held_down_before_another_guest_gets_it() {
    let mut rig = Rig::routed();
    occupy(&mut rig, |port| port != 5000);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    assert_eq!(public, (BLUE_PUBLIC, 5000));
    // The binding has ended; its port is nobody's, and no other is free.
    rig.age(120 + MARGIN + 1);
    rig.udp_out(BLUE, B, 5000, DNS).assert_refused(BLUE, DropReason::PortsExhausted);
    rig.age(HOLD_DOWN - 4);
    rig.udp_out(BLUE, B, 5000, DNS).assert_refused(BLUE, DropReason::PortsExhausted);
    rig.age(8);
    assert_eq!(rig.udp_out(BLUE, B, 5000, DNS).seen().source, public, "held for longer than it has to be");
}

#[test]
fn c8_a_guest_gets_its_own_port_back_at_once() {
    let mut rig = Rig::routed();
    occupy(&mut rig, |port| port != 5000);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    rig.age(120 + MARGIN + 5);
    assert_eq!(rig.udp_out(BLUE, A, 5000, DNS).seen().source, public);
}

/// Closes a connection that is open, both ways.
fn close(rig: &mut Rig, to: End, public: End) {
    rig.tcp_out(BLUE, A, 5000, to, FIN | ACK).seen();
    rig.tcp_in(to, public, FIN | ACK).seen();
}

/// Has room made: another network, which may have no connection, wants one.
fn sweep(rig: &mut Rig) {
    rig.change_gateway(GREEN, |row| row.flow_limit = 0);
    rig.udp_out(GREEN, A, 9, DNS).assert_refused(GREEN, DropReason::ConnectionLimit);
}

/// C8: a mapping ends with its last session, not when that could have ended at the latest.
#[test]
fn c8_the_port_of_a_closed_connection_is_free_when_it_has_rested() {
    let mut rig = Rig::routed();
    for ends in [FIN, RST] {
        let public = rig.connect(BLUE, A, 5000, WEB);
        match ends {
            FIN => close(&mut rig, WEB, public),
            _ => drop(rig.tcp_in(WEB, public, RST).seen()),
        }
        rig.age(240 + MARGIN + HOLD_DOWN + 5);
        sweep(&mut rig);
        assert_eq!((rig.flows().len(), rig.bindings().len(), rig.ports_in_use()), (0, 0, 0), "after {ends}");
    }
}

#[test]
fn u1_the_port_of_a_closed_connection_is_kept_for_another_one_of_it_that_is_silent() {
    let mut rig = Rig::routed();
    let public = rig.connect(BLUE, A, 5000, WEB);
    assert_eq!(rig.connect(BLUE, A, 5000, (OTHER_SERVER, 443)), public);
    close(&mut rig, WEB, public);
    rig.age(240 + MARGIN + HOLD_DOWN + 5);
    sweep(&mut rig);
    assert_eq!((rig.flows().len(), rig.bindings().len(), rig.ports_in_use()), (2, 1, 1));
    assert_eq!(rig.tcp_in((OTHER_SERVER, 443), public, ACK).seen().destination, (A.ip, 5000));
    assert_ne!(rig.tcp_out(BLUE, B, 5000, WEB, SYN).seen().source, public);
}

#[test]
fn a_port_is_given_out_again_after_it_was_held_down() {
    let mut rig = Rig::routed();
    // One even port above 1023 is left.
    occupy(&mut rig, |port| port != 5000);
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    // A binding outlives its flows by up to 32 seconds.
    rig.age(120 + 32 + HOLD_DOWN + 5);
    assert_eq!(rig.udp_out(BLUE, B, 5000, DNS).seen().source, public);
    assert_eq!(rig.udp_in(DNS, public).seen().destination, (B.ip, 5000));
}

/// The address may be another network's still, which must not run out of what this one has left.
#[test]
fn a_port_of_an_address_that_is_the_networks_no_longer_is_given_back() {
    let mut rig = Rig::routed();
    assert_eq!(rig.udp_out(BLUE, A, 5000, DNS).seen().source, (BLUE_PUBLIC, 5000));
    rig.change_gateway(BLUE, |row| {
        row.pool[0] = PoolAddress { pool: 1, address: GREEN_PUBLIC.octets(), ..row.pool[0] }
    });
    assert_eq!(rig.udp_out(BLUE, A, 5000, WEB).seen().source, (GREEN_PUBLIC, 5000));
    assert_eq!(rig.ports_in_use(), 1);
}

/// As an apply gives the ports of bindings back that it removes: others are claimed in the same word all the time.
#[test]
fn a_port_that_is_given_back_takes_no_other_one_with_it() {
    let mut rig = Rig::routed();
    for port in [5000, 5002] {
        rig.udp_out(BLUE, A, port, DNS).seen();
    }
    let inside = |port| BindingKey { side: BLUE, address: A.ip.octets(), port, protocol: 17, pad: 0 };
    let outside = |port| BindingKey { side: PUBLIC, address: BLUE_PUBLIC.octets(), ..inside(port) };
    let reaped = rig.reap(reap::RELEASE, &[[inside(5000), outside(5000)], [inside(5002), outside(5000)]]);
    assert_eq!(reaped, 1, "5002 has another port");
    assert_eq!((rig.ports_in_use(), rig.bindings().len(), rig.state(BLUE).bindings), (1, 1, 1));
    let elsewhere = (OTHER_SERVER, 53);
    assert_eq!(rig.udp_out(BLUE, B, 5000, elsewhere).seen().source.1, 5000);
    assert_ne!(rig.udp_out(BLUE, B, 5002, elsewhere).seen().source.1, 5002);
}

#[test]
fn a_port_of_the_host_or_a_forwarded_one_is_never_given_out() {
    let mut rig = Rig::routed();
    let reserved = Forward { network: BLUE, flags: forward_flags::RESERVED, ..Forward::default() };
    rig.forward(BLUE_PUBLIC, 17, 4789, 16, reserved);
    rig.forward_udp(BLUE, BLUE_PUBLIC, 5000, B, 53);
    for port in [4789, 5000] {
        let got = rig.udp_out(BLUE, A, port, DNS).seen().source.1;
        assert_ne!(got, port);
    }
    // Once it leads nowhere any more it can be had.
    rig.clear_prefixes::<ForwardKey, Forward>("FORWARDS");
    rig.forget_connections();
    for port in [4789, 5000] {
        assert_eq!(rig.udp_out(BLUE, A, port, DNS).seen().source.1, port);
    }
}

#[test]
fn beside_a_large_range_that_is_forwarded_a_port_is_always_found() {
    let mut rig = Rig::routed();
    let range = Forward { network: BLUE, address: B.ip.octets(), ..Forward::default() };
    // 16384 to 32767: a quarter of all, and of the guest's own.
    rig.forward(BLUE_PUBLIC, 17, 16384, 2, range);
    for port in 20_000..20_400 {
        assert!(!(16384..32768).contains(&rig.udp_out(BLUE, A, port, DNS).seen().source.1));
    }
}

#[test]
fn where_all_ports_are_forwarded_none_is_given_out_and_none_is_kept() {
    let mut rig = Rig::routed();
    let all = Forward { network: BLUE, address: B.ip.octets(), ..Forward::default() };
    rig.forward(BLUE_PUBLIC, 17, 0, 0, all);
    for port in 5000..5010 {
        rig.udp_out(BLUE, A, port, DNS).assert_refused(BLUE, DropReason::PortsExhausted);
    }
    let given: u32 = (0..BLOCKS).map(|block| rig.read::<u64>("PORT_BLOCKS", BLOCKS + block).count_ones()).sum();
    assert_eq!(given, 0);
}

#[test]
fn c11a_c11b_i8_without_a_free_port_newcomers_are_refused_and_old_flows_live() {
    let mut rig = Rig::routed();
    occupy(&mut rig, |port| port != 5000 && port != 5001);
    let public = [5000, 5001].map(|port| rig.udp_out(BLUE, A, port, DNS).seen().source);
    let out = rig.udp_out(BLUE, B, 5000, DNS);
    out.assert_refused(BLUE, DropReason::PortsExhausted);
    // I8: the sender is told.
    out.assert_answered(3, 13);
    for (end, port) in public.into_iter().zip([5000, 5001]) {
        rig.arrives(DNS, end, (A.ip, port));
    }
}

/// A binding is a row of its inside end, and one of its outside end where strangers come in by it.
#[test]
fn bindings_that_let_everybody_in_are_pairs_of_rows_and_others_are_one() {
    let mut rig = Rig::routed();
    rig.change_gateway(GREEN, |gateway| gateway.flags |= gateway_flags::ENDPOINT_INDEPENDENT);
    for last in [11, 13] {
        for port in 3000..3032 {
            rig.udp_out(BLUE, Endpoint::numbered(last), port, DNS).seen();
            rig.udp_out(GREEN, Endpoint::numbered(last), port, DNS).seen();
        }
    }
    let rows = rig.bindings();
    let of = |network: u32| rows.iter().filter(move |(key, row)| key.side == network || row.side == network);
    assert_eq!((of(BLUE).count(), of(GREEN).count(), rows.len()), (64, 128, 192));
    for (key, row) in of(GREEN) {
        let other = BindingKey { side: row.side, address: row.address, port: row.port, ..*key };
        let back: Binding = rows[&other];
        assert_eq!((back.side, back.address, back.port), (key.side, key.address, key.port));
    }
    rig.age(10_000);
    sweep(&mut rig);
    assert_eq!((rig.bindings().len(), rig.ports_in_use()), (0, 0));
}
