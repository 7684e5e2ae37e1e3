//! netpath as a NAT gateway between a tunnel and a public link, against Linux with nftables doing the same.

pub mod conntrack;
pub mod flood;
pub mod fresh;
pub mod peer;
pub mod plan;
pub mod rules;
pub mod site;
pub mod subject;

use std::path::Path;

use anyhow::Result;
use netpath_common::maps::shape;

use self::{
    peer::{Filter, Peer, Table},
    plan::PUBLIC_UPLINK,
    site::{Direction, Load, Site, Work},
    subject::{Definition, Subject},
};
use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    lab::UPLINK,
    subject::UplinkMode,
};

/// The most connections at a time.
const MOST: u32 = 1 << 20;
/// What a generated packet may cost, in nanoseconds, before it hides what is compared.
const GENERATOR_NS: f64 = 200.0;
const METRICS: &[&str] = &["ns/packet"];
/// Memory for a connection and a binding.
pub const MEMORY: &str = "gateway: memory";

/// A measurement of established connections.
#[derive(Clone, Copy, Debug)]
pub struct Established {
    /// What it is called.
    pub name: &'static str,
    direction: Direction,
    connections: u32,
    frames: u32,
    times_linux: Bound,
}

/// Established connections, few first: tables only grow.
pub const ESTABLISHED: [Established; 6] = [
    established("gateway: out, 1 connection", Direction::Out, 1, Bound::AtLeast(3.5)),
    established("gateway: back, 1 connection", Direction::Back, 1, Bound::AtLeast(3.5)),
    established("gateway: out, 64 k connections", Direction::Out, 1 << 16, Bound::Shown),
    established("gateway: back, 64 k connections", Direction::Back, 1 << 16, Bound::Shown),
    established("gateway: out, 1 M connections", Direction::Out, MOST, Bound::AtLeast(2.0)),
    established("gateway: back, 1 M connections", Direction::Back, MOST, Bound::AtLeast(2.0)),
];

const fn established(name: &'static str, direction: Direction, connections: u32, times_linux: Bound) -> Established {
    Established { name, direction, connections, frames: if connections == MOST { MOST } else { 1 << 19 }, times_linux }
}

/// Whether anything of this is asked for.
pub fn is_wanted(wants: impl Fn(&str) -> bool) -> bool {
    let others = [fresh::NAME, rules::NAME, flood::NAME, MEMORY];
    ESTABLISHED.iter().map(|measurement| measurement.name).chain(others).any(wants)
}

/// The sites, built once and used in every round.
pub struct Gateway {
    generator: Site,
    /// By direction: in XDP, in TC.
    floors: [[Site; 2]; 2],
    netpath: Subject,
    netpath_tc: Subject,
    linux: Peer,
    _table: Table,
}

impl Gateway {
    /// Builds them. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path) -> Result<Self> {
        let definition = Definition { mode: UplinkMode::Xdp, rules: 1, connections: 2 * MOST };
        let small = Definition { mode: UplinkMode::Tc, connections: 1 << 16, ..definition };
        Ok(Self {
            generator: Site::new(floor, Work::Nothing, Direction::Out)?,
            floors: [floors(floor, Direction::Out)?, floors(floor, Direction::Back)?],
            _table: Table::with_room(MOST)?,
            netpath: Subject::new(floor, definition)?,
            netpath_tc: Subject::new(floor, small)?,
            linux: Peer::new(floor, Filter::Set(1))?,
        })
    }

    /// Packets of connections that are known.
    pub fn established(&self, measurement: &Established) -> Experiment<'_> {
        let Established { name, direction, connections, frames, times_linux } = *measurement;
        let load = Load::new(direction, connections, frames);
        let [xdp, tc] = &self.floors[usize::from(direction == Direction::Back)];
        let mut variants = vec![
            Variant::new("generator", move || self.generator.run(&load)),
            Variant::new("XDP redirect", move || xdp.run(&load)),
            Variant::new("TC redirect", move || tc.run(&load)),
            Variant::new("netpath", move || self.netpath.run(&load)),
            Variant::new("netpath again", move || self.netpath.run(&load)),
            Variant::new("Linux", move || self.linux.run(&load)),
        ];
        let mut comparisons = vec![
            ratio("netpath, times Linux", "Linux", "netpath", times_linux),
            ratio("cost of netpath over bare XDP redirect", "netpath", "XDP redirect", Bound::Shown),
            ratio("cost of netpath over bare TC redirect", "netpath", "TC redirect", Bound::Shown),
            ratio("netpath against itself", "netpath again", "netpath", Bound::Shown),
            value("the generator, ns/packet", 0, "generator", Bound::AtMost(GENERATOR_NS)),
        ];
        if connections == 1 {
            let name = "netpath, uplink_mode tc";
            variants.push(Variant::new(name, move || self.netpath_tc.run(&load)));
            comparisons.push(ratio("uplink_mode tc, times Linux", "Linux", name, Bound::Shown));
            comparisons.push(ratio("uplink_mode tc, cost over bare TC redirect", name, "TC redirect", Bound::Shown));
        }
        Experiment { name, metrics: METRICS, variants, comparisons }
    }

    /// Memory of the kernel's for each connection and each binding.
    pub fn memory(&self) -> Experiment<'_> {
        let run = || {
            Ok(vec![self.netpath.bytes_of_two_rows(&shape::FLOWS)?, self.netpath.bytes_of_two_rows(&shape::BINDINGS)?])
        };
        Experiment {
            name: MEMORY,
            metrics: &["bytes/connection", "bytes/binding"],
            variants: vec![Variant::with_metrics("netpath", run)],
            comparisons: vec![
                value("bytes of both directions of a connection", 0, "netpath", Bound::AtMost(320.0)),
                value("bytes of a binding with rows of both ends", 1, "netpath", Bound::AtMost(200.0)),
            ],
        }
    }
}

/// Bare redirects from one link to the other.
fn floors(floor: &Path, direction: Direction) -> Result<[Site; 2]> {
    let from = if direction == Direction::Out { UPLINK } else { PUBLIC_UPLINK };
    let xdp = Site::new(floor, Work::Redirect, direction)?;
    xdp.xdp("redirect_xdp", &xdp.host, &[from])?;
    xdp.count(true)?;
    let tc = Site::new(floor, Work::Redirect, direction)?;
    tc.polls()?;
    tc.tc("redirect_tc", &tc.host, &[from])?;
    tc.count(false)?;
    Ok([xdp, tc])
}

fn ratio(name: &'static str, numerator: &'static str, denominator: &'static str, bound: Bound) -> Comparison {
    Comparison { name, metric: 0, numerator, denominator: Some(denominator), bound }
}

fn value(name: &'static str, metric: usize, numerator: &'static str, bound: Bound) -> Comparison {
    Comparison { name, metric, numerator, denominator: None, bound }
}
