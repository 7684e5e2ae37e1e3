//! New connections: every packet is the first of one.

use anyhow::{Context, Result};

use super::{
    Gateway, ratio,
    site::{Direction, FIRST_BATCH, Load, again},
};
use crate::bench::experiment::{Bound, Experiment, Variant};

/// The experiment.
pub const NAME: &str = "gateway: new connections";
/// New connections of a run.
const CONNECTIONS: u32 = 1 << 17;

impl Gateway {
    /// New connections by UDP, with empty tables before each run.
    pub fn fresh(&self) -> Experiment<'_> {
        let load = Load { batch: FIRST_BATCH, ..Load::new(Direction::Out, CONNECTIONS, CONNECTIONS) };
        let netpath = move || {
            let run = || self.netpath.forget().and_then(|()| self.netpath.site.attempt(&load, false));
            rate(again(run).with_context(|| self.netpath.drops())?)
        };
        let linux = move || rate(again(|| self.linux.forget().and_then(|()| self.linux.site.attempt(&load, false)))?);
        Experiment {
            name: NAME,
            metrics: &["ns/connection", "connections/s"],
            variants: vec![
                Variant::with_metrics("netpath", netpath),
                Variant::with_metrics("netpath again", netpath),
                Variant::with_metrics("Linux", linux),
            ],
            comparisons: vec![
                ratio("new connections, times Linux", "Linux", "netpath", Bound::AtLeast(1.5)),
                ratio("netpath against itself", "netpath again", "netpath", Bound::Shown),
            ],
        }
    }
}

fn rate(ns: f64) -> Result<Vec<f64>> {
    Ok(vec![ns, 1e9 / ns])
}
