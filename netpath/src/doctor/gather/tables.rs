//! How full maps are, and what the data path has learned.

use std::ops::ControlFlow;

use netpath_common::{
    clock::since,
    maps::{MapShape, flow_flags, shape},
    stage::tcp,
};

use crate::{
    compile::{Rows, Table},
    datapath::{self, DatapathError, Root, Tables},
    doctor::host::Fill,
};

/// Every map that refuses newcomers when it is full. Those that drop their oldest row instead are full as a rule.
pub(super) fn fills(root: &Root, tables: &Tables, existing: &Rows) -> Result<Vec<Fill>, DatapathError> {
    let mut fills = Vec::new();
    let mut add = |shape: &'static MapShape, rows: usize| -> Result<(), DatapathError> {
        let capacity = datapath::capacity(root, shape)?.into();
        fills.push(Fill { map: shape.name, field: shape.capacity_field, rows: rows as u64, capacity });
        Ok(())
    };
    for table in Table::ALL {
        add(table.shape(), existing.needed(*table))?;
    }
    add(&shape::FLOWS, live_flows(tables)?)?;
    add(&shape::BINDINGS, live_bindings(tables)?)?;
    add(&shape::DROPS, tables.drops.rows()?.len())?;
    Ok(fills)
}

/// Rows that have not been idle for longer than they may: the data path takes the place of the others.
fn live_flows(tables: &Tables) -> Result<usize, DatapathError> {
    let (gateways, now, mut live) = (tables.gateways.rows()?, now(), 0);
    tables.flows.visit::<DatapathError>(|key, flow| {
        let timeouts = gateways.get(flow.network as usize).copied().unwrap_or_default().timeouts;
        let is_answered = flow.flags & flow_flags::ANSWERED != 0;
        let timeout = tcp::timeout(key.protocol, flow.state, is_answered, &timeouts);
        live += usize::from(since(now, flow.last_seen) <= timeout);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(live)
}

fn live_bindings(tables: &Tables) -> Result<usize, DatapathError> {
    let (now, mut live) = (now(), 0);
    tables.bindings.visit::<DatapathError>(|_, binding| {
        live += usize::from(binding.expires > now);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(live)
}

/// Seconds since the router of a public link was last heard of.
pub(super) fn heard(tables: &Tables, link: u32) -> Result<Option<u32>, DatapathError> {
    let row = tables.upstream_macs.get(link)?.unwrap_or_default();
    Ok(row.known().map(|_| since(now(), row.confirmed)))
}

/// The data path's clock, in seconds.
fn now() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32
}
