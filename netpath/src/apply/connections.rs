//! Connections, bindings and claimed ports of what goes.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
};

use netpath_common::maps::{
    BLOCKS, Binding, BindingKey, Flow, FlowKey, Gateway, GatewayState, POOL_PROTOCOLS, PUBLIC_SIDE, PublicKey,
    gateway_flags,
};

use crate::{
    compile::Row,
    datapath::{DatapathError, Programs, Reaper, Tables},
    reconcile::Edit,
};

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Indices of networks.
    pub(super) networks: HashSet<u32>,
    /// Indices of public links.
    pub(super) links: HashSet<u32>,
    /// Public addresses that a network gives ports out of no longer, by network and side.
    pub(super) addresses: HashSet<(u32, u32, [u8; 4])>,
}

impl Gone {
    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.links.is_empty() && self.addresses.is_empty()
    }

    fn side(&self, side: u32) -> bool {
        match side & PUBLIC_SIDE {
            0 => self.networks.contains(&side),
            _ => self.links.contains(&(side & !PUBLIC_SIDE)),
        }
    }

    fn flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.networks.contains(&flow.network) || self.side(key.side) || self.side(flow.out)
    }

    /// The row of the inside end tells for both.
    fn binding(&self, key: &BindingKey, binding: &Binding) -> bool {
        let (network, side, address) = match key.side & PUBLIC_SIDE {
            0 => (key.side, binding.side, binding.address),
            _ => (binding.side, key.side, key.address),
        };
        self.side(network) || self.side(side) || self.addresses.contains(&(network, side, address))
    }
}

/// The addresses that networks which stay give no ports out of any more.
pub(super) fn addresses_left(edits: &[Edit]) -> HashSet<(u32, u32, [u8; 4])> {
    let mut left = HashSet::new();
    for edit in edits {
        if let (Some(Row::Gateways(index, before)), Some(Row::Gateways(_, after))) = (&edit.before, &edit.after) {
            let pool = |row: &Gateway| {
                let used = row.pool.iter().take(row.pool_count as usize);
                used.map(|address| (*index, address.side, address.address)).collect::<HashSet<_>>()
            };
            left.extend(pool(before).difference(&pool(after)));
        }
    }
    left
}

/// The networks whose bindings let in whoever sends to them from now on.
fn opened(edits: &[Edit]) -> HashSet<u32> {
    // An apply that was killed in between has not come to it.
    let was_open = |row: &Gateway| row.is_open() && row.flags & gateway_flags::CHANGING == 0;
    let opens = |edit: &Edit| {
        let was_open = matches!(&edit.before, Some(Row::Gateways(_, before)) if was_open(before));
        match &edit.after {
            Some(Row::Gateways(index, after)) if !was_open && after.is_open() => Some(*index),
            _ => None,
        }
    };
    edits.iter().filter_map(opens).collect()
}

/// Has bindings that there are let in whoever sends to them, where the edits say so for the first time. Those that are made from now
/// on do. One that this does not come to, because it is killed, does with its guest's next packet.
pub(super) fn open(tables: &Tables, programs: &Programs, edits: &[Edit]) -> Result<(), DatapathError> {
    let networks = opened(edits);
    if networks.is_empty() {
        return Ok(());
    }
    let mut keys = Vec::new();
    tables.bindings.visit::<DatapathError>(|key, _| {
        if networks.contains(&key.side) {
            keys.push(*key);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let opened = Reaper::of(programs)?.open_bindings(&keys)? as usize;
    if opened < keys.len() {
        let (left, all) = (keys.len() - opened, keys.len());
        tracing::warn!(
            "{left} of {all} bindings have ended, or let everybody in only after their guests' next packets"
        );
    }
    Ok(())
}

/// Deletes what there is of it. The ports of `pools` are free again, and so are those of deleted bindings elsewhere.
pub(super) fn clear(
    tables: &mut Tables,
    programs: &Programs,
    gone: &Gone,
    pools: &HashSet<u32>,
) -> Result<(), DatapathError> {
    if gone.is_empty() && pools.is_empty() {
        return Ok(());
    }
    let mut counts: HashMap<u32, u64> = HashMap::new();
    if !(gone.networks.is_empty() && gone.links.is_empty()) {
        clear_flows(tables, gone, &mut counts)?;
        clear_learned(tables, gone)?;
    }
    clear_bindings(tables, programs, gone, pools)?;
    for index in &gone.networks {
        tables.gateway_state.put(*index, &GatewayState::default())?;
        counts.remove(index);
    }
    for (network, count) in counts {
        // A number that the data path counts up at this very moment is lost; it is off by one then.
        if let Some(state) = tables.gateway_state.get(network)? {
            tables.gateway_state.put(network, &GatewayState { flows: state.flows.saturating_sub(count), ..state })?;
        }
    }
    for pool in pools {
        for word in pool * POOL_PROTOCOLS * BLOCKS..(pool + 1) * POOL_PROTOCOLS * BLOCKS {
            tables.port_blocks.put(word, &0)?;
        }
    }
    Ok(())
}

fn clear_flows(tables: &mut Tables, gone: &Gone, counts: &mut HashMap<u32, u64>) -> Result<(), DatapathError> {
    let mut found = Vec::new();
    tables.flows.visit::<DatapathError>(|key, flow| {
        if gone.flow(key, flow) {
            found.push((*key, flow.network));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (key, network) in found {
        // What the data path has removed in the meantime it has counted.
        if tables.flows.take(&key)? {
            *counts.entry(network).or_default() += 1;
        }
    }
    Ok(())
}

/// Fragments on their way, and who has which address on a public link.
fn clear_learned(tables: &mut Tables, gone: &Gone) -> Result<(), DatapathError> {
    for (key, _) in tables.fragments.rows()? {
        if gone.side(key.side) {
            tables.fragments.delete(&key)?;
        }
    }
    for link in &gone.links {
        tables.upstream_macs.put(*link, &Default::default())?;
    }
    for (key, _) in tables.on_link.rows()? {
        let PublicKey { side, .. } = key;
        if gone.side(side) {
            tables.on_link.delete(&key)?;
        }
    }
    Ok(())
}

/// Has the data path take bindings away, which counts them and gives their ports back.
fn clear_bindings(
    tables: &mut Tables,
    programs: &Programs,
    gone: &Gone,
    pools: &HashSet<u32>,
) -> Result<(), DatapathError> {
    /// One that is renewed at the very moment stays, and is met again.
    const PASSES: usize = 4;
    // Another address may get the index of a pool that goes, and its ports must not be given back for bindings of this one's.
    let is_of_pool =
        |binding: &Binding| u32::from(binding.pool).checked_sub(1).is_some_and(|pool| pools.contains(&pool));
    let goes = |key: &BindingKey, binding: &Binding| gone.binding(key, binding) || is_of_pool(binding);
    for _ in 0..PASSES {
        let (mut bindings, mut outside) = (Vec::new(), Vec::new());
        tables.bindings.visit::<DatapathError>(|key, binding| {
            let (side, address, port) = (binding.side, binding.address, binding.port);
            match key.side & PUBLIC_SIDE {
                _ if !goes(key, binding) => {}
                0 => bindings.push([*key, BindingKey { side, address, port, ..*key }]),
                _ => outside.push(*key),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if bindings.is_empty() && outside.is_empty() {
            break;
        }
        Reaper::of(programs)?.release(&bindings)?;
        for key in outside {
            // Most have gone with their inside end, and some other guest may have the port by now.
            if tables.bindings.get(&key)?.is_some_and(|binding| goes(&key, &binding)) {
                tables.bindings.delete(&key)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::PoolAddress;

    use super::*;

    const PUBLIC: u32 = PUBLIC_SIDE | 3;
    const X: [u8; 4] = [198, 51, 100, 7];

    #[test]
    fn a_binding_goes_with_its_network_its_link_or_its_address() {
        let inside = BindingKey { side: 5, address: [10, 0, 0, 9], port: 40000, protocol: 6, pad: 0 };
        let public = BindingKey { side: PUBLIC, address: X, port: 40000, protocol: 6, pad: 0 };
        let end = |of: BindingKey| Binding { side: of.side, address: of.address, port: of.port, ..Binding::default() };
        let gone = |gone: Gone| (gone.binding(&inside, &end(public)), gone.binding(&public, &end(inside)));
        assert_eq!(gone(Gone { networks: [5].into(), ..Gone::default() }), (true, true));
        assert_eq!(gone(Gone { links: [3].into(), ..Gone::default() }), (true, true));
        assert_eq!(gone(Gone { addresses: [(5, PUBLIC, X)].into(), ..Gone::default() }), (true, true));
        assert_eq!(gone(Gone { addresses: [(6, PUBLIC, X)].into(), ..Gone::default() }), (false, false));
        assert_eq!(gone(Gone { networks: [3].into(), links: [5].into(), ..Gone::default() }), (false, false));
    }

    #[test]
    fn a_network_that_opens_its_bindings_is_noticed_once() {
        let row = |flags| Some(Row::Gateways(5, Box::new(Gateway { flags, ..Gateway::default() })));
        let open = gateway_flags::ROUTES | gateway_flags::ENDPOINT_INDEPENDENT;
        let edit = |before, after| [Edit { before, after }];
        assert_eq!(opened(&edit(row(gateway_flags::ROUTES), row(open))), [5].into());
        assert_eq!(opened(&edit(row(open), row(open))), [].into());
        assert_eq!(opened(&edit(row(open), row(gateway_flags::ROUTES))), [].into());
        assert_eq!(opened(&edit(None, row(open))), [5].into(), "it may have been a network without a gateway");
        assert_eq!(opened(&edit(row(open | gateway_flags::CHANGING), row(open))), [5].into(), "killed in between");
    }

    #[test]
    fn an_address_that_leaves_a_pool_is_noticed() {
        let row = |pool: &[[u8; 4]]| {
            let mut gateway = Gateway { pool_count: pool.len() as u32, ..Gateway::default() };
            for (place, address) in gateway.pool.iter_mut().zip(pool) {
                *place = PoolAddress { side: PUBLIC, address: *address, pool: 0 };
            }
            Some(Row::Gateways(5, Box::new(gateway)))
        };
        let edit = Edit { before: row(&[X, [198, 51, 100, 8]]), after: row(&[[198, 51, 100, 8]]) };
        assert_eq!(addresses_left(&[edit]), [(5, PUBLIC, X)].into());
    }
}
