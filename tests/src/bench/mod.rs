//! `cargo xtask bench`: netpath against a Linux bridge with a vxlan device, and against bare redirects.
//!
//! Every experiment runs its variants in shuffled rounds and judges the medians of paired ratios. `docs/performance.md`
//! says what is measured and how to read it.

pub mod appear;
pub mod apply;
pub mod bridge;
pub mod bulk;
pub mod experiment;
pub mod floor;
pub mod gateway;
pub mod lab;
pub mod latency;
pub mod limits;
pub mod machine;
pub mod options;
pub mod packets;
pub mod pair;
pub mod picture;
pub mod report;
pub mod rest;
pub mod show;
pub mod stations;
pub mod statistics;
pub mod subject;
pub mod tables;
pub mod watched;

use std::fs;

use anyhow::{Context, Result, ensure};

use self::{
    appear::Appear,
    apply::Apply,
    bulk::Bulk,
    experiment::{Experiment, Outcome, Results},
    gateway::{ESTABLISHED, Gateway, flood, fresh, rules},
    lab::Source,
    latency::Latency,
    limits::{
        accuracy,
        cost::{self, Cost},
        frames::{self, Exactness},
        many::{self, Many},
    },
    machine::Machine,
    options::Options,
    packets::Labs,
    rest::Rest,
    show::Show,
    statistics::Random,
    tables::FlowTables,
    watched::Watched,
};

/// Where shuffles start from; any number does.
const SEED: u64 = 0x6e65_7470_6174_6801;

/// Runs what was asked for, prints tables, and writes `bench.json` and `bench.svg`. Answers whether no
/// bound is missed.
///
/// # Errors
/// When an experiment could not be run: a device or program was refused, or a packet was lost.
pub fn run(options: &Options) -> Result<bool> {
    let machine = Machine::read()?;
    print!("{}", machine.describe());
    println!("{} rounds, every variant once in each, shuffled; one more before them is not counted", options.rounds);
    let mut bench = Bench { options, random: Random::new(SEED), results: Vec::new(), accuracy: Vec::new() };
    // First, while this process is small: the memory of a child counts from what it was when it was forked.
    if options.wants(apply::NAME) {
        bench.add(Apply::new()?.experiment())?;
    }
    if options.wants(appear::NAME) {
        bench.add(Appear::new()?.experiment())?;
    }
    if options.wants(packets::GUEST_TO_WIRE) {
        bench.add(Labs::from_guest(&options.floor)?.guest_to_wire())?;
    }
    if options.wants(packets::WIRE_TO_GUEST) {
        bench.add(Labs::from_wire(&options.floor)?.wire_to_guest())?;
    }
    for (name, source) in [(watched::GUEST_TO_WIRE, Source::Guest), (watched::WIRE_TO_GUEST, Source::Wire)] {
        if options.wants(name) {
            bench.add(Watched::new(&options.floor, source)?.experiment())?;
        }
    }
    if options.wants(bulk::NAME) {
        bench.add(Bulk::new(&options.floor)?.experiment())?;
    }
    if options.wants(latency::NAME) {
        bench.add(Latency::new(&options.floor)?.experiment())?;
    }
    for (name, source) in [(cost::FROM_GUEST, Source::Guest), (cost::TO_GUEST, Source::Wire)] {
        if options.wants(name) {
            bench.add(Cost::new(&options.floor, source)?.experiment())?;
        }
    }
    for (name, source) in [(frames::FROM_GUEST, Source::Guest), (frames::TO_GUEST, Source::Wire)] {
        if options.wants(name) {
            bench.add(Exactness::new(&options.floor, source)?.experiment())?;
        }
    }
    if options.wants(many::NAME) {
        bench.add(Many::new(&options.floor)?.experiment())?;
    }
    if options.wants(show::NAME) {
        bench.add(Show::new()?.experiment())?;
    }
    if options.wants(tables::NAME) {
        bench.add(FlowTables::new(&options.floor)?.experiment())?;
    }
    if gateway::is_wanted(|name| options.wants(name)) {
        bench.gateway()?;
    }
    // Minutes of it are not for whoever has not asked.
    if options.names(rest::ASKED) && options.wants(rest::NAME) {
        bench.add(Rest::new()?.experiment())?;
    }
    if options.names(accuracy::NAME) {
        bench.accuracy = accuracy::run(|name| options.wants(name))?;
    }
    ensure!(
        !bench.results.is_empty() || !bench.accuracy.is_empty(),
        "no experiment has such a name: docs/performance.md lists them"
    );
    fs::create_dir_all(&options.out)?;
    let json = serde_json::to_string(&report::json(&machine, options.rounds, &bench.results, &bench.accuracy))?;
    for (name, text) in [("bench.json", json), ("bench.svg", picture::svg(&machine, &bench.results))] {
        let path = options.out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(bench.verdict())
}

struct Bench<'a> {
    options: &'a Options,
    random: Random,
    results: Vec<Results>,
    accuracy: Vec<accuracy::Row>,
}

impl Bench<'_> {
    fn add(&mut self, mut experiment: Experiment<'_>) -> Result<()> {
        if !self.options.variants.is_empty() {
            experiment.keep(&self.options.variants);
        }
        let results = experiment.run(self.options.rounds, &mut self.random)?;
        print!("{}", report::table(&results));
        self.results.push(results);
        Ok(())
    }

    /// The NAT gateway: what is large goes before the next is built.
    fn gateway(&mut self) -> Result<()> {
        let options = self.options;
        let gateway = Gateway::new(&options.floor)?;
        if options.wants(gateway::MEMORY) {
            self.add(gateway.memory())?;
        }
        // Before a million connections: what they leave lies scattered over all of the table's memory.
        if options.wants(fresh::NAME) {
            self.add(gateway.fresh())?;
        }
        for measurement in ESTABLISHED.iter().filter(|measurement| options.wants(measurement.name)) {
            self.add(gateway.established(measurement))?;
        }
        if options.wants(flood::NAME) {
            self.add(gateway.flood())?;
        }
        drop(gateway);
        if options.wants(rules::NAME) {
            self.add(rules::Rules::new(&options.floor)?.experiment())?;
        }
        Ok(())
    }

    /// Says which bounds do not hold, and whether that is a failure.
    fn verdict(&self) -> bool {
        let findings =
            || self.results.iter().flat_map(|results| results.findings.iter().map(move |f| (results.name, f)));
        for (experiment, finding) in findings() {
            if matches!(finding.outcome(), Outcome::Missed | Outcome::Unproven) {
                println!("{}: {experiment}: {}", finding.outcome().word(), finding.comparison.name);
            }
        }
        let missed: Vec<_> = self.accuracy.iter().filter(|row| row.is_missed()).collect();
        missed.iter().for_each(|row| println!("{}: {}", row.outcome(), row.name()));
        let strict = self.options.strict;
        let is_judged = self.accuracy.is_empty() || self.accuracy.iter().any(accuracy::Row::is_judged);
        if !is_judged {
            println!("this machine reaches the rate of no case: nothing is known");
        }
        missed.is_empty()
            && is_judged
            && findings().all(|(_, f)| f.outcome() != Outcome::Missed && !(strict && f.outcome() == Outcome::Unproven))
    }
}
