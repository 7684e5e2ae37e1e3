//! How long an agent takes from a guest's device to its program, on a host of ten thousand NICs.
//!
//! ```text
//! a tap is made ─► netlink ─► agent: plan, rows, program ─► its link's pin is there     nothing but this is timed
//! ```

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netpath::datapath::{Hook, Root};

use super::{
    apply::{self, ADDED, NETWORKS},
    experiment::{Comparison, Experiment, Variant},
    lab::UPLINK,
    stations::HERE,
    subject,
};
use crate::{
    agent::Agent,
    guest::PATIENCE,
    topology::{Link, NetNs, Offloads, Scratch, Tap},
};

/// The experiment.
pub const NAME: &str = "a device appears, 10 000 NICs";
const METRICS: &[&str] = &["median, ms", "slowest, ms", "taken off, median, ms"];
const WAIT: &str = "10 000 others wait";
const THERE: &str = "1 000 others are there";
/// Devices that appear, and go again, in a run.
const APPEARANCES: usize = 20;
/// How often is looked whether the program is there.
const LOOK: Duration = Duration::from_micros(200);

/// Two hosts with an agent each.
pub struct Appear {
    wait: Host,
    there: Host,
}

/// A host with an agent that follows a zone of which all NICs are here.
pub struct Host {
    /// The agent.
    pub agent: Agent,
    /// What it keeps.
    pub root: Root,
    hypervisor: NetNs,
    _far: NetNs,
    _scratch: Scratch,
}

impl Appear {
    /// Makes the hosts.
    ///
    /// # Errors
    /// When a device or the document is refused.
    pub fn new() -> Result<Self> {
        let zone = apply::zone(true, |_| 1);
        Ok(Self { wait: Host::with(0, &zone)?, there: Host::with(1, &zone)? })
    }

    /// The experiment.
    pub fn experiment(&mut self) -> Experiment<'_> {
        let most = |name, variant| Comparison::at_most(name, 1, variant, 100.0);
        let Self { wait, there } = self;
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![
                Variant::with_metrics(WAIT, || wait.appearances()),
                Variant::with_metrics(THERE, || there.appearances()),
            ],
            comparisons: vec![
                most("slowest of 20, others wait, ms", WAIT),
                most("slowest of 20, others there, ms", THERE),
            ],
        }
    }
}

impl Host {
    /// With the devices of so many NICs of each network of [`apply::zone`].
    ///
    /// # Errors
    /// When a device or the document is refused.
    pub fn with(there: usize, zone: &str) -> Result<Self> {
        let (hypervisor, far) = (NetNs::new("appear")?, NetNs::new("far")?);
        hypervisor.run(|| -> Result<()> {
            let uplink = Link::veth(UPLINK, UPLINK, &far)?;
            uplink.mtu(1600)?;
            uplink.up()?;
            uplink.address(HERE, 24)?;
            for (network, number) in (0..NETWORKS).flat_map(|network| (0..there).map(move |number| (network, number))) {
                let name = apply::device_of(network, number);
                Link::veth(&name, &name, &far)?.up()?;
            }
            Ok(())
        })?;
        let scratch = Scratch::new()?;
        let netpath = subject::instance(&scratch, &hypervisor)?;
        let definitions = scratch.write("zone.yaml", zone)?;
        let agent = Agent::in_force(&netpath, &definitions);
        let root = Root::open(netpath.root())?;
        Ok(Self { agent, root, hypervisor, _far: far, _scratch: scratch })
    }

    /// Has a device appear and go: the times until its program is there, and until it is not, in milliseconds.
    fn appearances(&mut self) -> Result<Vec<f64>> {
        let pin = self.root.link(ADDED, Hook::FromGuest);
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..APPEARANCES {
            let start = Instant::now();
            let tap = self.hypervisor.run(|| Tap::new(ADDED, Offloads::None))?;
            came.push(self.until(&pin, true, start)?);
            let start = Instant::now();
            drop(tap);
            gone.push(self.until(&pin, false, start)?);
        }
        came.sort_by(f64::total_cmp);
        gone.sort_by(f64::total_cmp);
        Ok(vec![came[APPEARANCES / 2], came[APPEARANCES - 1], gone[APPEARANCES / 2]])
    }

    fn until(&self, pin: &Path, is_there: bool, start: Instant) -> Result<f64> {
        while pin.exists() != is_there {
            ensure!(start.elapsed() < PATIENCE, "the agent does not see a device\n{}", self.agent.log());
            thread::sleep(LOOK);
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}
