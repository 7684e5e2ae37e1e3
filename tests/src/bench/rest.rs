//! What an agent takes while nothing happens, on a host of ten thousand NICs with a million connections.

use std::{thread, time::Duration};

use anyhow::Result;
use netpath::datapath::{Root, Tables};

use super::{
    appear::Host,
    apply,
    experiment::{Comparison, Experiment, Variant},
    lab::UPLINK,
    show,
};
use crate::process;

/// Its name begins so.
pub const ASKED: &str = "an agent";
/// The experiment.
pub const NAME: &str = "an agent at rest, 10 000 NICs, 1 M connections";
const METRICS: &[&str] = &["resident, MiB", "of a core"];
/// Each is two rows.
const CONNECTIONS: u32 = 1 << 20;
/// It walks through all connections once in less than this.
const WATCHED: Duration = Duration::from_secs(220);

/// The host, with an agent.
pub struct Rest(Host);

impl Rest {
    /// Applies the zone and fills the flow table.
    ///
    /// # Errors
    /// When a device or the document is refused.
    pub fn new() -> Result<Self> {
        let capacities = format!("{UPLINK}}}, capacities: {{flows: {}}}}}", 2 * CONNECTIONS);
        let zone = apply::zone(false, |_| 1).replacen(&format!("{UPLINK}}}}}"), &capacities, 1);
        let host = Host::with(1, &zone)?;
        let mut tables = Tables::open(&Root::open(host.root.path())?)?;
        show::fill(&mut tables, "net0", CONNECTIONS)?;
        Ok(Self(host))
    }

    /// The experiment.
    pub fn experiment(&self) -> Experiment<'_> {
        let most = |name, metric, bound| Comparison::at_most(name, metric, "netpath", bound);
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![Variant::with_metrics("netpath", || self.rests())],
            comparisons: vec![most("resident, MiB", 0, 30.0), most("of a core", 1, 0.01)],
        }
    }

    fn rests(&self) -> Result<Vec<f64>> {
        let pid = self.0.agent.pid();
        let before = process::cpu(pid)?;
        thread::sleep(WATCHED);
        let cpu = process::cpu(pid)? - before;
        Ok(vec![process::resident(pid)? as f64 / 1024.0, cpu.as_secs_f64() / WATCHED.as_secs_f64()])
    }
}
