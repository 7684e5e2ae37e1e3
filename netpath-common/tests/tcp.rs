//! The life of a TCP connection as a gateway sees it: every edge, and every way to open and close (RFC 9293 §3.5, §3.6).

use netpath_common::{
    maps::{Timeouts, flow_state::*},
    stage::tcp::{self, ACK, FIN, RST, SYN},
};

const ORIGINATOR: bool = false;
const RESPONDER: bool = true;

/// RFC 6146 §3.5.2.2, read with "V6" as the originator: from, flags, whose, to. What is not here stays as it is. The rows
/// from MIDSTREAM and those that are marked are ours.
const EDGES: &[(u8, &[u8], &[bool], u8)] = &[
    // CLOSED.
    (NONE, &[SYN], &[ORIGINATOR], OPENING),
    // V6 INIT (and V4 INIT, where the responder's side is inside).
    (OPENING, &[SYN, SYN | ACK], &[RESPONDER], ESTABLISHED),
    // ESTABLISHED.
    (ESTABLISHED, &[FIN, FIN | ACK], &[ORIGINATOR], ORIGINATOR_FIN),
    (ESTABLISHED, &[FIN, FIN | ACK], &[RESPONDER], RESPONDER_FIN),
    (ESTABLISHED, &[RST, RST | ACK], &[ORIGINATOR, RESPONDER], TRANSITORY),
    // V6 FIN RCV, V4 FIN RCV.
    (ORIGINATOR_FIN, &[FIN, FIN | ACK], &[RESPONDER], CLOSING),
    (RESPONDER_FIN, &[FIN, FIN | ACK], &[ORIGINATOR], CLOSING),
    // Ours: the session is over, and is not to stay for hours.
    (ORIGINATOR_FIN, &[RST, RST | ACK], &[ORIGINATOR, RESPONDER], TRANSITORY),
    (RESPONDER_FIN, &[RST, RST | ACK], &[ORIGINATOR, RESPONDER], TRANSITORY),
    // V6 FIN + V4 FIN RCV has no edge but time. Ours: its five-tuple is used again.
    (CLOSING, &[SYN], &[ORIGINATOR], OPENING),
    (CLOSING, &[SYN | ACK], &[ORIGINATOR], ESTABLISHED),
    // TRANS: any segment but a reset.
    (TRANSITORY, &[0, ACK, FIN, FIN | ACK, SYN | ACK], &[ORIGINATOR, RESPONDER], ESTABLISHED),
    (TRANSITORY, &[SYN], &[RESPONDER], ESTABLISHED),
    // Ours: the originator begins again, and is answered or not.
    (TRANSITORY, &[SYN], &[ORIGINATOR], OPENING),
    // Ours.
    (NONE, &[0, ACK, FIN, FIN | ACK, RST, RST | ACK, SYN | ACK], &[ORIGINATOR], MIDSTREAM),
    (MIDSTREAM, &[SYN], &[ORIGINATOR], OPENING),
    (MIDSTREAM, &[0, ACK, SYN, SYN | ACK], &[RESPONDER], ESTABLISHED),
    (MIDSTREAM, &[FIN, FIN | ACK], &[RESPONDER], RESPONDER_FIN),
];

fn expected(state: u8, flags: u8, reply: bool) -> u8 {
    let row =
        EDGES.iter().find(|(from, with, whose, _)| *from == state && with.contains(&flags) && whose.contains(&reply));
    row.map_or(state, |row| row.3)
}

#[test]
fn n1_every_edge_is_that_of_rfc_6146() {
    for state in [NONE, OPENING, ESTABLISHED, ORIGINATOR_FIN, RESPONDER_FIN, CLOSING, TRANSITORY, MIDSTREAM] {
        for flags in [0, ACK, SYN, SYN | ACK, FIN, FIN | ACK, RST, RST | ACK] {
            for reply in [ORIGINATOR, RESPONDER] {
                // A connection's first segment is its originator's.
                if state == NONE && reply {
                    continue;
                }
                // PSH and URG change nothing.
                for more in [0, 8, 32, 40] {
                    let to = tcp::next(state, flags | more, reply);
                    assert_eq!(to, expected(state, flags, reply), "state {state}, flags {flags:#x}, reply {reply}");
                }
            }
        }
    }
}

/// The states that a sequence of segments leads through.
fn run(segments: &[(bool, u8)]) -> Vec<u8> {
    let mut state = NONE;
    segments
        .iter()
        .map(|(reply, flags)| {
            state = tcp::next(state, *flags, *reply);
            state
        })
        .collect()
}

#[test]
fn t2_a_three_way_handshake_and_both_orders_of_closing() {
    let open = [(ORIGINATOR, SYN), (RESPONDER, SYN | ACK), (ORIGINATOR, ACK), (RESPONDER, ACK)];
    assert_eq!(run(&open), [OPENING, ESTABLISHED, ESTABLISHED, ESTABLISHED]);
    for (first, half) in [(ORIGINATOR, ORIGINATOR_FIN), (RESPONDER, RESPONDER_FIN)] {
        let close = [(first, FIN | ACK), (!first, ACK), (!first, FIN | ACK), (first, ACK)];
        assert_eq!(run(&[&open[..], &close].concat())[4..], [half, half, CLOSING, CLOSING]);
    }
}

#[test]
fn t2_fins_that_cross_close_too() {
    let segments =
        [(ORIGINATOR, SYN), (RESPONDER, SYN | ACK), (RESPONDER, FIN | ACK), (ORIGINATOR, FIN | ACK), (RESPONDER, ACK)];
    assert_eq!(run(&segments)[2..], [RESPONDER_FIN, CLOSING, CLOSING]);
}

#[test]
fn t2_retransmitted_segments_change_nothing() {
    let segments = [
        (ORIGINATOR, SYN),
        (ORIGINATOR, SYN),
        (RESPONDER, SYN | ACK),
        (RESPONDER, SYN | ACK),
        (ORIGINATOR, SYN),
        (ORIGINATOR, FIN | ACK),
        (ORIGINATOR, FIN | ACK),
    ];
    let expected = [OPENING, OPENING, ESTABLISHED, ESTABLISHED, ESTABLISHED, ORIGINATOR_FIN, ORIGINATOR_FIN];
    assert_eq!(run(&segments), expected);
}

#[test]
fn t2a_a_simultaneous_open_is_established() {
    let segments = [
        (ORIGINATOR, SYN),
        (RESPONDER, SYN),
        (ORIGINATOR, SYN | ACK),
        (RESPONDER, SYN | ACK),
        (ORIGINATOR, ACK),
        (RESPONDER, ACK),
    ];
    assert_eq!(run(&segments), [OPENING, ESTABLISHED, ESTABLISHED, ESTABLISHED, ESTABLISHED, ESTABLISHED]);
}

#[test]
fn t2_a_half_open_connection_is_found_out_and_opened_anew() {
    // RFC 9293 §3.5.1: one end has forgotten the connection, asks, and resets what the other end answers.
    let segments = [
        (ORIGINATOR, SYN),
        (RESPONDER, SYN | ACK),
        (ORIGINATOR, SYN),
        (RESPONDER, ACK),
        (ORIGINATOR, RST),
        (ORIGINATOR, SYN),
        (RESPONDER, SYN | ACK),
    ];
    let expected = [OPENING, ESTABLISHED, ESTABLISHED, ESTABLISHED, TRANSITORY, OPENING, ESTABLISHED];
    assert_eq!(run(&segments), expected);
}

#[test]
fn t2_a_refused_connection_stays_short_lived() {
    assert_eq!(run(&[(ORIGINATOR, SYN), (RESPONDER, RST | ACK), (ORIGINATOR, SYN)]), [OPENING; 3]);
}

#[test]
fn t2_a_closed_connection_is_opened_again_from_either_end() {
    let used = [(ORIGINATOR, SYN), (RESPONDER, SYN | ACK), (ORIGINATOR, FIN | ACK), (RESPONDER, FIN | ACK)];
    let same = [(ORIGINATOR, SYN), (RESPONDER, SYN | ACK)];
    assert_eq!(run(&[&used[..], &same].concat())[3..], [CLOSING, OPENING, ESTABLISHED]);
    let other = [(RESPONDER, SYN), (ORIGINATOR, SYN | ACK), (RESPONDER, ACK)];
    assert_eq!(run(&[&used[..], &other].concat())[3..], [CLOSING, CLOSING, ESTABLISHED, ESTABLISHED]);
}

#[test]
fn n3_data_after_a_reset_makes_the_connection_established_again() {
    let segments = [(ORIGINATOR, SYN), (RESPONDER, SYN | ACK), (RESPONDER, RST), (RESPONDER, RST), (ORIGINATOR, ACK)];
    assert_eq!(run(&segments)[2..], [TRANSITORY, TRANSITORY, ESTABLISHED]);
}

#[test]
fn a_connection_seen_in_its_middle_is_established_by_both_ends() {
    assert_eq!(run(&[(ORIGINATOR, ACK), (ORIGINATOR, ACK), (RESPONDER, ACK)]), [MIDSTREAM, MIDSTREAM, ESTABLISHED]);
    assert_eq!(run(&[(ORIGINATOR, ACK), (RESPONDER, RST)]), [MIDSTREAM, MIDSTREAM]);
}

#[test]
fn n2_n10_each_state_has_its_own_timeout() {
    let timeouts = Timeouts { udp: 1, udp_one_way: 2, tcp_established: 3, tcp_opening: 4, tcp_closing: 5, icmp: 6 };
    let tcp = [
        (OPENING, 4),
        (MIDSTREAM, 4),
        (ESTABLISHED, 3),
        (ORIGINATOR_FIN, 3),
        (RESPONDER_FIN, 3),
        (CLOSING, 5),
        (TRANSITORY, 5),
    ];
    for (state, seconds) in tcp {
        for answered in [false, true] {
            assert_eq!(tcp::timeout(6, state, answered, &timeouts), seconds, "state {state}");
        }
    }
    for (protocol, answered, seconds) in
        [(17, true, 1), (17, false, 2), (1, true, 6), (1, false, 6), (47, true, 1), (47, false, 2)]
    {
        assert_eq!(tcp::timeout(protocol, NONE, answered, &timeouts), seconds, "protocol {protocol}");
    }
}

#[test]
fn n3_x8_a_reset_counts_within_the_window_only() {
    const WINDOW: u32 = 1 << 24;
    for acknowledged in [1, 65535, 65536, 0x8000_0000, u32::MAX] {
        let at = |distance: u32| tcp::may_reset(acknowledged.wrapping_add(distance), acknowledged);
        assert!(at(0) && at(1) && at(WINDOW - 1) && at(0u32.wrapping_sub(65535)));
        assert!(!at(WINDOW) && !at(1_000_000_000) && !at(0x8000_0000) && !at(0u32.wrapping_sub(65536)));
    }
    assert!([0, 1, 0x8000_0000, u32::MAX].into_iter().all(|sequence| tcp::may_reset(sequence, 0)));
}
