//! Rules: what they cost a connection's first packet, and the others.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    peer::{Filter, Peer},
    ratio,
    site::{Direction, Load, Site, again},
    subject::{Definition, Subject},
};
use crate::bench::{
    experiment::{Bound, Comparison, Experiment, Variant},
    subject::UplinkMode,
};

/// The experiment.
pub const NAME: &str = "gateway: rules";
/// Connections that are opened in a run.
const CONNECTIONS: u32 = 1 << 13;
/// Packets of an established one, in each of several short runs, of which the least disturbed counts: a hundredth of
/// their time is asked about.
const FRAMES: u32 = 1 << 17;
const RUNS: usize = 5;

/// Gateways with rules that concern no packet, and so are all asked.
pub struct Rules {
    one: Subject,
    hundred: Subject,
    ten_thousand: Subject,
    linux_set: Peer,
    linux_linear: Peer,
}

impl Rules {
    /// Builds them. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device, a program or a rule is refused.
    pub fn new(floor: &Path) -> Result<Self> {
        let netpath = |rules| Subject::new(floor, Definition { mode: UplinkMode::Xdp, rules, connections: 1 << 16 });
        Ok(Self {
            one: netpath(1)?,
            hundred: netpath(100)?,
            ten_thousand: netpath(10_000)?,
            linux_set: Peer::new(floor, Filter::Set(10_000))?,
            linux_linear: Peer::new(floor, Filter::Linear(10_000))?,
        })
    }

    /// Established connections, and first packets.
    pub fn experiment(&self) -> Experiment<'_> {
        let subject = |name, subject| Variant::with_metrics(name, move || run_netpath(subject));
        let linux = |name, peer| Variant::with_metrics(name, move || run_linux(peer));
        Experiment {
            name: NAME,
            metrics: &["established, ns/packet", "new, ns/connection"],
            variants: vec![
                subject("netpath, 1 rule", &self.one),
                subject("netpath, 1 rule, again", &self.one),
                subject("netpath, 100 rules", &self.hundred),
                subject("netpath, 10 000 rules", &self.ten_thousand),
                linux("Linux, a set of 10 000", &self.linux_set),
                linux("Linux, 10 000 rules", &self.linux_linear),
            ],
            comparisons: comparisons(),
        }
    }
}

fn comparisons() -> Vec<Comparison> {
    const ONE: &str = "netpath, 1 rule";
    const HUNDRED: &str = "netpath, 100 rules";
    const TEN_THOUSAND: &str = "netpath, 10 000 rules";
    let new =
        |name, numerator, denominator| Comparison { metric: 1, ..ratio(name, numerator, denominator, Bound::Shown) };
    vec![
        ratio("established, 100 rules over 1", HUNDRED, ONE, Bound::Shown),
        ratio("established, 10 000 rules over 1", TEN_THOUSAND, ONE, Bound::AtMost(1.02)),
        ratio("established, against itself", "netpath, 1 rule, again", ONE, Bound::Shown),
        new("new, 100 rules over 1", HUNDRED, ONE),
        new("new, 10 000 rules over 1", TEN_THOUSAND, ONE),
        new("new, 10 000 rules, times Linux's set", "Linux, a set of 10 000", TEN_THOUSAND),
        new("new, 10 000 rules, times Linux's rules", "Linux, 10 000 rules", TEN_THOUSAND),
    ]
}

fn run_netpath(subject: &Subject) -> Result<Vec<f64>> {
    both(&subject.site, || subject.forget()).with_context(|| subject.drops())
}

fn run_linux(peer: &Peer) -> Result<Vec<f64>> {
    both(&peer.site, || peer.forget())
}

fn both(site: &Site, forget: impl Fn() -> Result<()>) -> Result<Vec<f64>> {
    // Ten thousand rules take 0.1 ms and more.
    let load = Load { batch: 8, ..Load::new(Direction::Out, CONNECTIONS, CONNECTIONS) };
    let new = again(|| forget().and_then(|()| site.attempt(&load, false)))?;
    let mut established = f64::MAX;
    for _ in 0..RUNS {
        established = established.min(site.run(&Load::new(Direction::Out, 1, FRAMES))?);
    }
    Ok(vec![established, new])
}
