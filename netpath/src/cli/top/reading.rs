//! What is known at a time, and the rows of it that a view shows.

use serde::Serialize;

use super::{
    connections::{Connections, FlowRow},
    rates::{NetworkRow, NicRow, Sample, between},
    rows::{Lines, arrange},
    sample::Sampler,
    state::{State, View},
};
use crate::{cli::Global, error::Error};

/// Rows of networks and NICs with their rates, and connections while they are looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    pub(super) host: String,
    pub(super) networks: Vec<NetworkRow>,
    pub(super) nics: Vec<NicRow>,
    pub(super) flows: Vec<FlowRow>,
    /// Why it is not of now.
    pub(super) problem: Option<String>,
}

/// The rows of a view.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Rows {
    Networks(Vec<NetworkRow>),
    Nics(Vec<NicRow>),
    Flows(Vec<FlowRow>),
}

impl Rows {
    pub(super) fn lines(&self) -> Lines {
        match self {
            Self::Networks(rows) => Lines::of(rows),
            Self::Nics(rows) => Lines::of(rows),
            Self::Flows(rows) => Lines::of(rows),
        }
    }
}

impl Reading {
    /// What the view shows, the first `most` of it.
    pub(super) fn rows(&self, state: &State, most: usize) -> Rows {
        let (filter, sort) = (&state.filter, state.sort());
        let is_wanted = |network: &str| state.network.as_deref().is_none_or(|only| only == network);
        match state.view {
            View::Networks => {
                let rows = self.networks.iter().filter(|row| is_wanted(&row.network)).cloned().collect();
                Rows::Networks(arrange(rows, filter, sort, most))
            }
            View::Nics => {
                let rows = self.nics.iter().filter(|row| is_wanted(&row.network)).cloned().collect();
                Rows::Nics(arrange(rows, filter, sort, most))
            }
            View::Flows => Rows::Flows(arrange(self.flows.clone(), filter, sort, most)),
        }
    }
}

/// Readings of what is applied, one after the other.
pub(super) struct Readings<'g> {
    sampler: Sampler<'g>,
    before: Option<Sample>,
    connections: Option<Connections>,
    pub(super) last: Reading,
}

impl<'g> Readings<'g> {
    pub(super) fn begin(global: &'g Global) -> Result<Self, Error> {
        let sampler = Sampler::open(global)?;
        Ok(Self { sampler, before: None, connections: None, last: Reading::default() })
    }

    /// Counts anew; the rates are those since the last time.
    pub(super) fn count(&mut self) -> Result<(), Error> {
        let now = self.sampler.sample()?;
        (self.last.networks, self.last.nics) = between(self.before.as_ref().unwrap_or(&now), &now);
        self.last.host = self.sampler.host().to_owned();
        self.before = Some(now);
        Ok(())
    }

    /// Where connections are looked at, goes on with the walk over their table by `most` rows, or to its end; else forgets
    /// them.
    pub(super) fn walk(&mut self, state: &State, most: usize) -> Result<(), Error> {
        if state.view != View::Flows {
            (self.connections, self.last.flows) = (None, Vec::new());
            return Ok(());
        }
        let scope = self.sampler.scope(state.network.as_deref(), state.nic.as_deref())?;
        if self.connections.as_ref().is_none_or(|connections| *connections.scope() != scope) {
            self.sampler.rewind();
            self.connections = Some(Connections::new(scope));
        }
        if let Some(connections) = &mut self.connections {
            self.sampler.walk(connections, most)?;
            self.last.flows = self.sampler.flows(connections)?;
        }
        Ok(())
    }
}
