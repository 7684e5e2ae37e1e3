//! Who has an address on a public link, second by second.

use netpath_common::Mac;
use netpath_common::maps::Resolved;
use netpath_common::stage::neighbour::{FRESH, advance, confirm, is_awaited, is_fresh, state};

const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const START: u32 = 1000;

fn known() -> Resolved {
    let mut row = Resolved::default();
    confirm(&mut row, Resolved::word(ROUTER), START);
    row
}

#[test]
fn an_answer_is_used_for_thirty_seconds_without_asking() {
    let row = known();
    assert!(is_fresh(&row, START) && is_fresh(&row, START + FRESH - 1));
    assert!(!is_fresh(&row, START + FRESH));
    assert_eq!(row.known(), Some(ROUTER));
}

#[test]
fn an_old_answer_is_used_and_asked_for_once_a_second() {
    let mut row = known();
    let now = START + FRESH;
    assert_eq!([advance(&mut row, now), advance(&mut row, now)], [state::REFRESH, state::READY]);
    assert_eq!([advance(&mut row, now + 1), advance(&mut row, now + 1)], [state::SEEK, state::READY]);
    assert!(is_awaited(&row, now + 4) && !is_awaited(&row, now + 5));
}

#[test]
fn an_answer_that_is_not_confirmed_for_a_minute_is_forgotten() {
    let mut row = known();
    assert_eq!(advance(&mut row, START + FRESH), state::REFRESH);
    for now in START + FRESH + 1..=START + 60 {
        assert_eq!(advance(&mut row, now), state::SEEK);
    }
    assert_eq!(advance(&mut row, START + 61), state::ASK);
    assert_eq!(row.known(), None);
}

#[test]
fn an_old_answer_survives_a_lost_question_and_a_long_silence() {
    let mut row = known();
    assert_eq!(advance(&mut row, START + 100), state::REFRESH);
    assert_eq!(advance(&mut row, START + 200), state::SEEK);
    assert_eq!(row.known(), Some(ROUTER));
}

#[test]
fn everybody_is_asked_for_one_who_did_not_answer_however_far_apart_packets_are() {
    for apart in [2, 5, 29, 31, 600] {
        let mut row = known();
        assert_eq!(advance(&mut row, START + FRESH), state::REFRESH);
        assert_eq!(advance(&mut row, START + FRESH + apart), state::SEEK, "{apart} s apart");
        confirm(&mut row, Resolved::word(ROUTER), START + FRESH + apart);
        assert_eq!(advance(&mut row, START + 2 * FRESH + apart), state::REFRESH, "after an answer, {apart} s apart");
    }
}

#[test]
fn r13_whoever_does_not_answer_for_three_seconds_is_unreachable_and_asked_again_later() {
    let mut row = Resolved::default();
    let seen: Vec<u8> = (START..START + 9).map(|now| advance(&mut row, now)).collect();
    let (ask, unreachable) = (state::ASK, state::UNREACHABLE);
    assert_eq!(seen, [ask, ask, ask, ask, unreachable, unreachable, unreachable, ask, ask]);
    assert_eq!(advance(&mut row, START + 8), state::WAIT);
    confirm(&mut row, Resolved::word(ROUTER), START + 8);
    assert!(is_fresh(&row, START + 8));
}

#[test]
fn nobody_is_awaited_who_was_never_asked() {
    assert!(!is_awaited(&Resolved::default(), 2));
}
