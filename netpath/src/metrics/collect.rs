//! Reading the maps for one scrape.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    path::Path,
    time::Instant,
};

use netpath_common::{
    DropReason,
    maps::{ABI_VERSION, BLOCKS, Counters, MapShape, POOL_PROTOCOLS, gateway_flags, name_kind, shape},
};

use super::{
    exposition::Exposition,
    family::{self, Family},
};
use crate::{
    datapath::{
        self, ArrayTable, AttachState, DatapathError, HashTable, Hook, Pod, Programs, Root, Tables, add, name_text,
    },
    error::Error,
    netlink,
};

/// The samples of what is applied under `root`, in the text format of Prometheus.
///
/// # Errors
/// When maps or devices cannot be read. That nothing is applied is a sample.
pub fn collect(root: &Path) -> Result<String, Error> {
    let begun = Instant::now();
    let mut exposition = Exposition::default();
    exposition.add(family::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &ABI_VERSION.to_string()], 1.0);
    let opened = Root::open(root).and_then(|root| Ok((Tables::open(&root)?, root)));
    match opened {
        Err(DatapathError::NothingApplied { .. }) => exposition.add(family::APPLIED, &[], 0.0),
        Err(error) => return Err(error.into()),
        Ok((tables, root)) => {
            exposition.add(family::APPLIED, &[], 1.0);
            let names = names(&tables)?;
            let mut reader = Reader { root, tables, names, exposition: &mut exposition };
            reader.networks()?;
            reader.attachments()?;
            reader.drops()?;
            reader.pools()?;
            reader.maps()?;
            reader.addresses()?;
            // Last, so that what is left out of a large host is of NICs.
            reader.ports()?;
            reader.limits()?;
        }
    }
    exposition.add(family::COLLECT_SECONDS, &[], begun.elapsed().as_secs_f64());
    Ok(exposition.into_text())
}

/// Names by kind and index.
type Names = HashMap<(u32, u32), String>;

fn names(tables: &Tables) -> Result<Names, DatapathError> {
    Ok(tables.names.rows()?.iter().map(|(key, name)| ((key.kind, key.index), name_text(name))).collect())
}

/// The maps, and what they have made so far.
pub(super) struct Reader<'e> {
    root: Root,
    pub(super) tables: Tables,
    names: Names,
    pub(super) exposition: &'e mut Exposition,
}

impl Reader<'_> {
    /// Every name of a kind, by index.
    pub(super) fn named(&self, wanted: u32) -> Vec<(u32, String)> {
        let all = self.names.iter().filter(|((kind, _), _)| *kind == wanted);
        let mut all: Vec<_> = all.map(|((_, index), name)| (*index, name.clone())).collect();
        all.sort_unstable();
        all
    }

    /// A name; what has none any more is its number.
    pub(super) fn name(&self, kind: u32, index: u32) -> String {
        self.names.get(&(kind, index)).cloned().unwrap_or_else(|| format!("#{index}"))
    }

    /// Levels of each network, and of all of them.
    fn networks(&mut self) -> Result<(), Error> {
        let networks = self.named(name_kind::NETWORK);
        self.exposition.add(family::NETWORKS, &[], networks.len() as f64);
        for (index, name) in &networks {
            let routes = |flags: u32| flags & gateway_flags::ROUTES != 0;
            let Some(gateway) = self.tables.gateways.get(*index)?.filter(|gateway| routes(gateway.flags)) else {
                continue;
            };
            let state = self.tables.gateway_state.get(*index)?.unwrap_or_default();
            self.exposition.add(family::FLOWS, &[name], state.flows as f64);
            self.exposition.add(family::FLOW_LIMIT, &[name], gateway.flow_limit.into());
            self.exposition.add(family::BINDINGS, &[name], state.bindings as f64);
        }
        Ok(())
    }

    /// What each NIC carried, each network with those that it had, and each account.
    fn ports(&mut self) -> Result<(), Error> {
        let networks = self.named(name_kind::NETWORK);
        let mut totals: HashMap<String, Counters> = HashMap::new();
        let retired = self.tables.retired.first_rows(beyond(&networks))?;
        for (index, name) in &networks {
            totals.insert(name.clone(), retired.get(*index as usize).copied().unwrap_or_default());
        }
        let (mut ports, named) = (Vec::new(), self.named(name_kind::PORT));
        let counted = self.tables.counters.first_sums(beyond(&named))?;
        for (slot, name) in named {
            let counters = counted.get(slot as usize).copied().unwrap_or_default();
            let network = name.split('/').next().unwrap_or_default();
            if let Some(total) = totals.get_mut(network) {
                *total = add(total, &counters);
            }
            ports.push((name, counters));
        }
        for (_, name) in &networks {
            let total = totals.get(name).copied().unwrap_or_default();
            for (family, value) in NETWORK.into_iter().zip(values(&total)) {
                self.exposition.add(family, &[name], value);
            }
        }
        self.accounts(&totals)?;
        for (name, counters) in &ports {
            let (network, rest) = name.split_once('/').unwrap_or((name, ""));
            let (instance, mac) = rest.rsplit_once('/').unwrap_or((rest, ""));
            for (family, value) in PORT.into_iter().zip(values(counters)) {
                self.exposition.add_bounded(family, &[network, instance, mac], value);
            }
        }
        Ok(())
    }

    /// Programs on devices, and guest ports that one is for.
    fn attachments(&mut self) -> Result<(), Error> {
        let programs = Programs::pinned(&self.root)?;
        let devices = netlink::devices()?;
        let attachments = datapath::attachments(&self.root, programs.as_ref(), &devices)?;
        for (state, name) in
            [(AttachState::Current, "current"), (AttachState::Outdated, "outdated"), (AttachState::Broken, "broken")]
        {
            let count = attachments.iter().filter(|attachment| attachment.state == state).count();
            self.exposition.add(family::ATTACHMENTS, &[name], count as f64);
        }
        let guarded: HashSet<&str> = attachments
            .iter()
            .filter(|attachment| attachment.hook == Hook::FromGuest && attachment.state != AttachState::Broken)
            .map(|attachment| attachment.device.as_str())
            .collect();
        let guarded: HashSet<u32> =
            devices.iter().filter(|device| guarded.contains(&*device.name)).map(|device| device.index).collect();
        let all = self.named(name_kind::PORT).len();
        let in_force = self.tables.ports.rows()?.iter().filter(|(_, port)| guarded.contains(&port.ifindex)).count();
        self.exposition.add(family::PORTS, &["in_force"], in_force as f64);
        self.exposition.add(family::PORTS, &["waiting"], all.saturating_sub(in_force) as f64);
        Ok(())
    }

    fn drops(&mut self) -> Result<(), Error> {
        let mut rows = self.tables.drops.rows()?;
        rows.sort_unstable_by_key(|(key, _)| (key.network, key.reason));
        for (key, packets) in rows {
            let network = if key.network == 0 { String::new() } else { self.name(name_kind::NETWORK, key.network) };
            let reason = DropReason::from_code(key.reason);
            let reason = reason.map_or_else(|| key.reason.to_string(), |reason| reason.label().to_owned());
            self.exposition.add(family::DROPS, &[&network, &reason], packets as f64);
        }
        Ok(())
    }

    /// Ports that source NAT has given out, of each public address.
    fn pools(&mut self) -> Result<(), Error> {
        const PROTOCOLS: [&str; POOL_PROTOCOLS as usize] = ["tcp", "udp", "icmp"];
        let mut used: HashMap<(u32, u32), u32> = HashMap::new();
        self.tables.port_blocks.visit(|index, word| {
            if *word != 0 {
                let key = (index / (POOL_PROTOCOLS * BLOCKS), index / BLOCKS % POOL_PROTOCOLS);
                *used.entry(key).or_default() += word.count_ones();
            }
        })?;
        for (pool, name) in self.named(name_kind::PORT_POOL) {
            for (number, protocol) in (0..).zip(PROTOCOLS) {
                let used = used.get(&(pool, number)).copied().unwrap_or(0);
                self.exposition.add(family::NAT_PORTS_USED, &[&name, protocol], used.into());
            }
        }
        Ok(())
    }

    /// How full the maps are. The two that may have a million rows are counted by the data path.
    fn maps(&mut self) -> Result<(), Error> {
        let Tables { gateway_state, gateways, routes, forwards, drops, .. } = &self.tables;
        let (mut flows, mut bindings, mut of_network) = (0, 0, HashMap::new());
        gateway_state.visit(|network, state| {
            flows += state.flows;
            bindings += state.bindings;
            of_network.insert(network, state.bindings);
        })?;
        gateways.visit(|network, gateway| {
            // Two rows each where strangers come in by them.
            if gateway.is_open() {
                bindings += of_network.get(&network).copied().unwrap_or(0);
            }
        })?;
        let rows: [(&MapShape, u64); 19] = [
            (&shape::PORTS, count(&self.tables.ports)?),
            (&shape::ADDRESSES, count(&self.tables.addresses)?),
            (&shape::NETWORKS, used(&self.tables.networks)?),
            (&shape::UPLINKS, count(&self.tables.uplinks)?),
            (&shape::SEGMENTS, count(&self.tables.segments)?),
            (&shape::ENDPOINTS, count(&self.tables.endpoints)?),
            (&shape::FDB, count(&self.tables.fdb)?),
            (&shape::LEARNED, count(&self.tables.learned)?),
            (&shape::NEIGHBOURS, count(&self.tables.neighbours)?),
            (&shape::TUNNELS, used(&self.tables.tunnels)?),
            (&shape::FLOODS, count(&self.tables.floods)?),
            (&shape::NAMES, count(&self.tables.names)?),
            (&shape::DROPS, drops.rows()?.len() as u64),
            (&shape::FLOWS, flows),
            (&shape::BINDINGS, bindings),
            (&shape::RULES, used(&self.tables.rules)?),
            (&shape::ROUTES, routes.rows()?.len() as u64),
            (&shape::PUBLIC_ADDRESS, count(&self.tables.public_address)?),
            (&shape::FORWARDS, forwards.rows()?.len() as u64),
        ];
        for (shape, rows) in rows {
            self.exposition.add(family::MAP_ROWS, &[shape.name], rows as f64);
            let capacity = datapath::capacity(&self.root, shape)?;
            self.exposition.add(family::MAP_CAPACITY, &[shape.name], capacity.into());
        }
        Ok(())
    }
}

const PORT: [&Family; 4] = [
    family::PORT_TRANSMIT_PACKETS,
    family::PORT_TRANSMIT_BYTES,
    family::PORT_RECEIVE_PACKETS,
    family::PORT_RECEIVE_BYTES,
];
const NETWORK: [&Family; 4] = [
    family::NETWORK_TRANSMIT_PACKETS,
    family::NETWORK_TRANSMIT_BYTES,
    family::NETWORK_RECEIVE_PACKETS,
    family::NETWORK_RECEIVE_BYTES,
];

/// How many rows there are up to the last that has a name.
pub(super) fn beyond(names: &[(u32, String)]) -> usize {
    names.last().map_or(0, |(index, _)| *index as usize + 1)
}

/// As [`PORT`] and [`NETWORK`] have them, and all that is counted so.
pub(super) fn values(counters: &Counters) -> [f64; 4] {
    let Counters { from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes, .. } = *counters;
    [from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes].map(|number| number as f64)
}

fn count<K: Pod, V: Pod>(table: &HashTable<K, V>) -> Result<u64, DatapathError> {
    let mut rows = 0;
    table.visit(|_, _| {
        rows += 1;
        Ok::<_, DatapathError>(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// Rows of an array that are not all zero.
fn used<V: Pod + bytemuck::Pod>(table: &ArrayTable<V>) -> Result<u64, DatapathError> {
    let mut rows = 0;
    table.visit(|_, row| rows += u64::from(bytemuck::bytes_of(row).iter().any(|byte| *byte != 0)))?;
    Ok(rows)
}
