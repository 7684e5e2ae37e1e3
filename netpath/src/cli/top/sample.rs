//! Reading the maps that `show` reads, as little of them as a view needs.

use std::{collections::HashMap, fs, net::IpAddr, os::unix::fs::MetadataExt as _};

use netpath_common::maps::{Gateway, GatewayState, name_kind, shape};

use super::{
    connections::{Connections, FlowRow, Scope},
    rates::{NetworkCount, NicCount, Sample},
};
use crate::{
    cli::{Global, applied::Applied, terms},
    datapath::Place,
    error::Error,
};

/// Rows of the flow table that are read at a time.
const BATCH: usize = 4096;

/// The maps, open.
pub(super) struct Sampler<'g> {
    global: &'g Global,
    applied: Applied,
    /// The inode of a map's pin, which is another one after a purge.
    made: Option<u64>,
    /// Where the walk over the flow table is.
    place: Place,
}

impl<'g> Sampler<'g> {
    pub(super) fn open(global: &'g Global) -> Result<Self, Error> {
        let applied = Applied::open(&global.root)?;
        Ok(Self { global, made: made(&applied), applied, place: Place::default() })
    }

    /// The host that was applied.
    pub(super) fn host(&self) -> &str {
        self.applied.names.host().unwrap_or("-")
    }

    /// Reads the counters of networks and NICs: a few batches, however many there are.
    pub(super) fn sample(&mut self) -> Result<Sample, Error> {
        if made(&self.applied) != self.made {
            *self = Self::open(self.global)?;
        }
        let ports = self.applied.tables.ports.rows()?;
        self.applied.refresh(ports.iter().map(|(_, port)| port.ifindex))?;
        let Applied { tables, names, .. } = &self.applied;
        let devices: HashMap<u32, u32> = ports.iter().map(|(_, port)| (port.slot, port.ifindex)).collect();
        let all = names.all(name_kind::PORT);
        let counters = tables.counters.first_sums(beyond(&all))?;
        let at_ns = terms::now_ns();
        let nics = all.into_iter().map(|(slot, name)| NicCount {
            name: name.into(),
            device: devices.get(&slot).map(|ifindex| names.device(*ifindex)),
            counters: counters.get(slot as usize).copied().unwrap_or_default(),
        });
        let nics = nics.collect();
        let all = names.all(name_kind::NETWORK);
        let states = tables.gateway_state.first_rows(beyond(&all))?;
        let mut drops: HashMap<u32, u64> = HashMap::new();
        for (key, packets) in tables.drops.rows()? {
            *drops.entry(key.network).or_default() += packets;
        }
        let networks = all.into_iter().map(|(index, name)| NetworkCount {
            name: name.into(),
            flows: states.get(index as usize).map_or(0, |state| state.flows),
            drops: drops.get(&index).copied().unwrap_or(0),
        });
        Ok(Sample { at_ns, networks: networks.collect(), nics })
    }

    /// Which connections are those of a network or a NIC.
    pub(super) fn scope(&self, network: Option<&str>, nic: Option<&str>) -> Result<Scope, Error> {
        let Applied { tables, names, .. } = &self.applied;
        let Some(network) = network else { return Ok(Scope::All) };
        let found = names.all(name_kind::NETWORK).into_iter().find(|(_, name)| *name == network);
        // What has gone has no connections: no network has the index 0.
        let network = found.map_or(0, |(index, _)| index);
        let Some(nic) = nic else { return Ok(Scope::Network(network)) };
        let slot = names.all(name_kind::PORT).into_iter().find(|(_, name)| *name == nic).map(|(slot, _)| slot);
        let rows = tables.ports.rows()?;
        let port = rows.into_iter().map(|(_, port)| port).find(|port| Some(port.slot) == slot);
        let mut addresses = Vec::new();
        if let Some(port) = port {
            addresses.push(port.ip4);
            let more = tables.addresses.rows()?.into_iter().filter(|(key, _)| key.ifindex == port.ifindex);
            addresses.extend(more.filter_map(|(key, _)| match key.address.into() {
                IpAddr::V4(address) => Some(address.octets()),
                IpAddr::V6(_) => None,
            }));
        }
        Ok(Scope::Nic(network, addresses))
    }

    /// Goes on with the walk over the flow table by `most` rows, or to its end.
    pub(super) fn walk(&mut self, connections: &mut Connections, most: usize) -> Result<(), Error> {
        let flows = &self.applied.tables.flows;
        connections.set_rows(self.flow_rows()?);
        let mut read = 0;
        while read < most {
            let now = terms::now_ns();
            let is_more = flows.visit_some(&mut self.place, BATCH, |key, flow| {
                read += 1;
                connections.meet(key, flow, now);
            })?;
            if !is_more {
                connections.end_walk(terms::now_ns());
                break;
            }
        }
        Ok(())
    }

    /// Begins a walk at the table's beginning.
    pub(super) fn rewind(&mut self) {
        self.place = Place::default();
    }

    /// The connections that have been met, with their rates.
    pub(super) fn flows(&self, connections: &Connections) -> Result<Vec<FlowRow>, Error> {
        let Applied { tables, names, .. } = &self.applied;
        let gateways: Vec<Gateway> = tables.gateways.first_rows(beyond(&names.all(name_kind::NETWORK)))?;
        Ok(connections.rows(names, &gateways, terms::now_seconds()))
    }

    /// Rows of the flow table, as the data path counts them.
    fn flow_rows(&self) -> Result<u64, Error> {
        let Applied { tables, names, .. } = &self.applied;
        let states: Vec<GatewayState> = tables.gateway_state.first_rows(beyond(&names.all(name_kind::NETWORK)))?;
        Ok(states.iter().map(|state| state.flows).sum())
    }
}

fn made(applied: &Applied) -> Option<u64> {
    fs::metadata(applied.root.map(shape::COUNTERS.name)).ok().map(|data| data.ino())
}

/// How many rows there are up to the last that has a name.
fn beyond(names: &[(u32, &str)]) -> usize {
    names.last().map_or(0, |(index, _)| *index as usize + 1)
}
