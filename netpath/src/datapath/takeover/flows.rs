//! Connections that two ABIs' programs have seen at the same time.

use std::{collections::BTreeMap, ops::ControlFlow};

use netpath_common::{
    carry::Row,
    maps::{Flow, GatewayState, PUBLIC_SIDE, flow_flags, flow_state, shape},
};

use super::super::{DatapathError, Tables, carry::Carrier};

/// How often connections are counted, to find a moment at which none begins or ends.
const ATTEMPTS: usize = 4;

/// One row of two; `None` where what is there is right.
///
/// Each program has counted and noted in its own row since the first was copied. Of counts the higher one stays: what passed in
/// the milliseconds in between is missing in the lower one, and the copied part is in both.
pub(super) fn merged(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let (old, new): (Flow, Flow) = (bytemuck::pod_read_unaligned(old), bytemuck::pod_read_unaligned(new));
    let merged = merge(&old, &new);
    (merged != new).then(|| bytemuck::bytes_of(&merged).to_vec())
}

fn merge(old: &Flow, new: &Flow) -> Flow {
    if old.created != new.created {
        // The ports were used again: the later connection is the one that lives.
        return if old.created > new.created { *old } else { *new };
    }
    let is_later = |a: u32, b: u32| (a.wrapping_sub(b) as i32) > 0;
    let later = |a: u32, b: u32| if is_later(a, b) { a } else { b };
    Flow {
        bytes: old.bytes.max(new.bytes),
        packets: later(old.packets, new.packets),
        last_seen: later(old.last_seen, new.last_seen),
        acknowledged: later(old.acknowledged, new.acknowledged),
        flags: new.flags | old.flags & flow_flags::ANSWERED,
        state: further(old.state, new.state),
        ..*new
    }
}

/// The state that a connection has come to of which one program saw the one half and one the other.
fn further(a: u8, b: u8) -> u8 {
    use flow_state::{CLOSING, ESTABLISHED, MIDSTREAM, NONE, OPENING, ORIGINATOR_FIN, RESPONDER_FIN, TRANSITORY};
    let rank = |state| match state {
        NONE => 0,
        OPENING | MIDSTREAM => 1,
        ESTABLISHED => 2,
        ORIGINATOR_FIN | RESPONDER_FIN => 3,
        CLOSING => 4,
        // Data that follows makes it established again.
        TRANSITORY => 5,
        _ => 0,
    };
    match (a, b) {
        (ORIGINATOR_FIN, RESPONDER_FIN) | (RESPONDER_FIN, ORIGINATOR_FIN) => CLOSING,
        _ if rank(a) > rank(b) => a,
        _ => b,
    }
}

/// Makes the data path's own counts of connections and bindings right again: rows that both programs made were counted
/// twice, and rows that were removed from the old map may be in the new one.
pub(super) fn recount(tables: &Tables, carrier: &Carrier) -> Result<(), DatapathError> {
    let mut corrections: BTreeMap<u32, [i64; 2]> = BTreeMap::new();
    for _ in 0..ATTEMPTS {
        let before = counted(tables)?;
        let rows = present(tables)?;
        let after = counted(tables)?;
        for (network, before) in &before {
            let rows = rows.get(network).copied().unwrap_or_default();
            let after = after.get(network).copied().unwrap_or(*before);
            let correction = corrections.entry(*network).or_insert([i64::MIN; 2]);
            for (place, (rows, counted)) in correction.iter_mut().zip(rows.iter().zip(before.iter().zip(after))) {
                // Counted too high refuses the last few connections of a network at its limit, too low all of them when it has
                // none: of several attempts the one that takes the least away.
                *place = (*place).max(*rows as i64 - (*counted.0).min(counted.1) as i64);
            }
        }
        if before == after {
            break;
        }
    }
    let wrong = corrections.into_iter().filter(|(_, correction)| *correction != [0; 2]);
    let rows: Vec<Row> = wrong
        .map(|(network, [flows, bindings])| {
            let mut row = Row { key: [network, 0], ..Row::default() };
            row.words[..2].copy_from_slice(&[flows as u64, bindings as u64]);
            row
        })
        .collect();
    carrier.add(&shape::GATEWAY_STATE, &rows)
}

/// What the data path has counted of connections and bindings, by network.
fn counted(tables: &Tables) -> Result<BTreeMap<u32, [u64; 2]>, DatapathError> {
    let mut counted = BTreeMap::new();
    tables.gateway_state.visit(|network, state| {
        if *state != GatewayState::default() {
            counted.insert(network, [state.flows, state.bindings]);
        }
    })?;
    Ok(counted)
}

/// What there is of them. A binding is the row of its inside end, which is of its network.
fn present(tables: &Tables) -> Result<BTreeMap<u32, [u64; 2]>, DatapathError> {
    let mut present: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
    tables.flows.visit::<DatapathError>(|_, flow| {
        present.entry(flow.network).or_default()[0] += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    tables.bindings.visit::<DatapathError>(|key, _| {
        if key.side & PUBLIC_SIDE == 0 {
            present.entry(key.side).or_default()[1] += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(present)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: Flow = Flow { network: 5, created: 100, last_seen: 200, packets: 10, bytes: 1000, ..zero() };

    const fn zero() -> Flow {
        // SAFETY: a struct of integers and integer arrays; zero is a value of each.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn of_a_connection_that_both_saw_the_later_parts_stay() {
        let old = Flow { last_seen: 203, packets: 12, bytes: 1200, state: flow_state::ESTABLISHED, epoch: 1, ..FLOW };
        let new = Flow { state: flow_state::OPENING, epoch: 2, ..FLOW };
        let merged = merge(&old, &new);
        assert_eq!(merged, Flow { epoch: 2, ..old });
        assert_eq!(merge(&new, &old), old);
    }

    #[test]
    fn a_fin_that_each_saw_closes_and_ports_that_are_used_again_are_the_later_connections() {
        let old = Flow { state: flow_state::ORIGINATOR_FIN, ..FLOW };
        let new = Flow { state: flow_state::RESPONDER_FIN, ..FLOW };
        assert_eq!(merge(&old, &new).state, flow_state::CLOSING);
        let again = Flow { created: 205, state: flow_state::OPENING, ..FLOW };
        assert_eq!(merge(&again, &new), again);
        assert_eq!(merge(&old, &again), again);
    }

    #[test]
    fn what_is_there_stays_untouched_where_nothing_is_to_be_added() {
        let bytes = bytemuck::bytes_of(&FLOW);
        assert_eq!(merged(bytes, bytes), None);
    }
}
