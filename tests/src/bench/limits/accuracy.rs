//! How exact a NIC's limit is over ten seconds: by rate, protocol, flows, processors, super-packets and direction.
//!
//! Two hypervisors with netpath, a guest on each with a kernel's stack, and a limit on the first one's NIC that a live `apply`
//! changes from case to case. What counts is what arrives at the other guest. A case whose rate this machine does not reach
//! without a limit by a good margin says nothing about the limit, and is not judged. Low rates leave a machine idle: several of
//! them are measured at a time, each between hypervisors of its own.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use netpath::datapath::{Root, Tables};
use netpath_common::maps::{FROM_GUEST, TO_GUEST, meter_row, name_kind};
use serde_json::{Value, json};

use super::arrived::Arrived;
use crate::{
    bench::statistics::median,
    guest::{KernelGuest, Load, kernel::NIC, load::Shape},
    topology::{Link, TwoHypervisors, two_hypervisors::Attachment},
};

/// What every case's name begins with.
pub const NAME: &str = "accuracy:";
/// How far from its limit a rate may be.
const WITHIN: f64 = 0.05;
/// For so long a rate is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// The same without a limit.
const UNLIMITED_WINDOW: Duration = Duration::from_secs(2);
/// After so long credit is used up, and TCP has found its rate.
const SETTLING: Duration = Duration::from_secs(2);
/// How often it is asked whether a limit has refused anything.
const POLL: Duration = Duration::from_millis(1);
/// For so long it is waited for: one flow of TCP may go on for seconds without a loss.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without a limit a case must be as much faster.
const MARGIN: f64 = 1.2;
/// Windows of a case that the first one misses; their median is judged.
const WINDOWS: usize = 3;
/// The rates, in Mbit/s.
const RATES: [u64; 5] = [1, 10, 200, 1000, 5000];
/// From this rate on, frames that are handed on one by one are jumbo ones.
const HIGH: u64 = 5000;
/// The guests' MTU: Ethernet's, and that of jumbo frames.
const MTU: usize = 1500;
const JUMBO: usize = 9000;
/// Up to this rate every machine is idle, and cases are measured side by side.
const LOW: u64 = 10;
/// So many of them.
const SIDE_BY_SIDE: usize = 8;
/// More than any machine sends.
const FLAT_OUT: u64 = 1_000_000_000_000;
const PORT: u16 = 9000;
/// Datagrams of a super-packet, at most: 64 KiB.
const SEGMENTS: u64 = 45;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    FromGuest,
    ToGuest,
}

/// How a rate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    protocol: Protocol,
    flows: u16,
    cpus: usize,
    /// The sender's stack hands on super-packets.
    gso: bool,
    direction: Direction,
}

/// A way, and a rate in Mbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    rate: u64,
    way: Way,
}

impl Case {
    /// The guests' MTU.
    const fn mtu(self) -> usize {
        if self.rate >= HIGH && !self.way.gso { JUMBO } else { MTU }
    }
}

/// What was seen of a case.
#[derive(Clone, Debug)]
pub struct Row {
    case: Case,
    /// Bit/s without a limit; of low rates it is not asked.
    unlimited: Option<f64>,
    /// Bit/s with it, window by window; none where the rate is out of reach.
    windows: Vec<f64>,
    /// The same of what programs read, with its headers: of TCP, without what was sent again for nothing.
    goodput: Vec<f64>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |number, what| if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") };
        let protocol = if self.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
        let (flows, cpus) = (many(usize::from(self.flows), "flow"), many(self.cpus, "CPU"));
        let gso = if self.gso { "GSO" } else { "no GSO" };
        let direction = if self.direction == Direction::FromGuest { "from a guest" } else { "to a guest" };
        write!(f, "{protocol}, {flows}, {cpus}, {gso}, {direction}")
    }
}

impl Case {
    /// What it is asked for by.
    fn name(self) -> String {
        let rate =
            if self.rate < 1000 { format!("{} Mbit/s", self.rate) } else { format!("{} Gbit/s", self.rate / 1000) };
        let jumbo = if self.mtu() == JUMBO { ", jumbo frames" } else { "" };
        format!("{NAME} {rate}, {}{jumbo}", self.way)
    }
}

impl Row {
    /// The rate seen, in parts of the one configured; `None` where it is out of reach.
    fn ratio(&self) -> Option<f64> {
        (!self.windows.is_empty()).then(|| median(&self.windows) / (self.case.rate * 1_000_000) as f64)
    }

    /// What became of it, in one word or two.
    pub fn outcome(&self) -> &'static str {
        match self.ratio() {
            None => "out of reach",
            Some(ratio) if (ratio - 1.0).abs() <= WITHIN => "held",
            Some(_) => "MISSED",
        }
    }

    /// Whether the machine reaches its rate, so that something is known.
    pub fn is_judged(&self) -> bool {
        self.ratio().is_some()
    }

    /// Whether it is further off than it may be.
    pub fn is_missed(&self) -> bool {
        self.outcome() == "MISSED"
    }

    /// The name of its case.
    pub fn name(&self) -> String {
        self.case.name()
    }

    /// As JSON: rates in bit/s.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name(),
            "configured": self.case.rate * 1_000_000,
            "unlimited": self.unlimited,
            "windows": self.windows,
            "goodput": self.goodput,
            "ratio": self.ratio(),
            "outcome": self.outcome(),
        })
    }

    fn line(&self) -> String {
        let seen = self.ratio().map_or_else(
            || format!("not judged: {:.2} Gbit/s without a limit", self.unlimited.unwrap_or_default() / 1e9),
            |ratio| {
                let goodput = median(&self.goodput) / (self.case.rate * 1_000_000) as f64;
                let [arrived, read] = [ratio, goodput].map(|part| (part - 1.0) * 100.0);
                format!("{arrived:+6.2} %  {:<7}  read {read:+6.2} %", self.outcome())
            },
        );
        format!("  {:<62} {seen}", self.name())
    }
}

/// Every case; those of one way follow each other.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for direction in [Direction::FromGuest, Direction::ToGuest] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (flows, cpus) in [(1, 1), (1, 2), (8, 1), (8, 2)] {
                for gso in [true, false] {
                    let way = Way { protocol, flows, cpus, gso, direction };
                    all.extend(RATES.map(|rate| Case { rate, way }));
                }
            }
        }
    }
    all
}

/// Runs the cases that are wanted, and prints each as it is done.
///
/// # Errors
/// When the topology cannot be built, or nothing arrives.
pub fn run(wants: impl Fn(&str) -> bool) -> Result<Vec<Row>> {
    let wanted = cases().into_iter().filter(|case| wants(&case.name()));
    let (low, high): (Vec<Case>, Vec<Case>) = wanted.partition(|case| case.rate <= LOW);
    let count = low.len() + high.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let about = (SETTLING + WINDOW) * (low.len().div_ceil(SIDE_BY_SIDE) + high.len()) as u32
        + (SETTLING + UNLIMITED_WINDOW) * ways(&high).count() as u32;
    println!("\naccuracy: {count} cases, {} s and more; what arrives, against the limit", about.as_secs());
    let mut rows = side_by_side(low)?;
    let (jumbo, high): (Vec<Case>, Vec<Case>) = high.into_iter().partition(|case| case.mtu() == JUMBO);
    rows.extend(one_by_one(&high, MTU)?);
    rows.extend(one_by_one(&jumbo, JUMBO)?);
    let judged: Vec<f64> = rows.iter().filter_map(Row::ratio).map(|ratio| (ratio - 1.0).abs() * 100.0).collect();
    let worst = judged.iter().copied().fold(0.0, f64::max);
    let close = judged.iter().filter(|off| **off <= 2.0).count();
    println!("  {} judged of {count}: {close} within 2 %, the furthest {worst:.2} % off", judged.len());
    Ok(rows)
}

/// Those of each way.
fn ways(cases: &[Case]) -> impl Iterator<Item = (Way, &[Case])> {
    cases.chunk_by(|one, next| one.way == next.way).map(|cases| (cases[0].way, cases))
}

/// Measures cases that leave the machine idle, several at a time.
fn side_by_side(cases: Vec<Case>) -> Result<Vec<Row>> {
    let workers = cases.len().min(SIDE_BY_SIDE);
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<Row>> {
        let (site, mut rows) = (Site::new(MTU)?, Vec::new());
        while let Some(case) = next() {
            site.segmentation(case.way)?;
            rows.push(site.row(case, None)?);
        }
        Ok(rows)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut rows = Vec::new();
        for worker in workers {
            rows.extend(worker.join().map_err(|_| anyhow!("a thread that measures has panicked"))??);
        }
        Ok(rows)
    })
}

/// Measures cases that may take all of the machine.
fn one_by_one(cases: &[Case], mtu: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if cases.is_empty() {
        return Ok(rows);
    }
    let site = Site::new(mtu)?;
    for (way, cases) in ways(cases) {
        let unlimited = site.unlimited(way).with_context(|| format!("{way}, without a limit"))?;
        for case in cases {
            rows.push(site.row(*case, Some(unlimited))?);
        }
    }
    Ok(rows)
}

/// The two hypervisors.
struct Site {
    topology: TwoHypervisors,
    /// The guests'.
    mtu: usize,
    definitions: Value,
    /// Of the hypervisor that limits.
    tables: Tables,
}

impl Site {
    fn new(mtu: usize) -> Result<Self> {
        let builder = TwoHypervisors::builder().attached(Attachment::Veth).whole_on_the_wire();
        let topology = builder.underlay_mtu(mtu as u32 + 100).build()?;
        let mut definitions = topology.vxlan_definitions();
        definitions["networks"][0]["mtu"] = mtu.into();
        for (host, nic) in topology.hosts.iter().zip(0..) {
            let nic = &definitions["networks"][0]["nics"][nic];
            let device = nic["device"].as_str().context("a NIC has a device")?;
            host.ns.run(|| Link::named(device).mtu(mtu as u32))?;
        }
        topology.apply(&definitions);
        let tables = Tables::open(&Root::open(topology.hosts[0].netpath.root())?)?;
        let site = Self { topology, mtu, definitions, tables };
        let [here, there] = site.guests(Direction::FromGuest);
        for guest in [here, there] {
            guest.ns().run(|| Link::named(NIC).mtu(mtu as u32))?;
        }
        here.ping(there.station().ip)?;
        Ok(site)
    }

    /// The sender and the receiver.
    fn guests(&self, direction: Direction) -> [&KernelGuest; 2] {
        let [here, there] = [11, 12].map(|number| self.topology.kernel("blue", number));
        if direction == Direction::FromGuest { [here, there] } else { [there, here] }
    }

    /// Puts a limit in force for the NIC on the first hypervisor; 0 for none.
    fn limit(&self, megabits: u64) -> Result<()> {
        let mut definitions = self.definitions.clone();
        let nics = definitions["networks"][0]["nics"].as_array_mut().context("a network has NICs")?;
        let nic = nics.iter_mut().find(|nic| nic["instance"] == "blue-11").context("there is a NIC 11")?;
        nic["network_rate"] = megabits.into();
        let file = self.topology.write("zone.yaml", &definitions);
        let netpath = &self.topology.hosts[0].netpath;
        let output = netpath.run(netpath.apply_args(&file));
        ensure!(output.code == 0, "netpath apply: {}{}", output.stdout, output.stderr);
        Ok(())
    }

    /// Has the sender's stack send super-packets, or not.
    fn segmentation(&self, way: Way) -> Result<()> {
        let [sender, _] = self.guests(way.direction);
        sender.ns().run(|| {
            let features = ["tx-generic-segmentation", "tx-tcp-segmentation", "tx-udp-segmentation"];
            features.into_iter().try_for_each(|feature| Link::named(NIC).offload(feature, way.gso))
        })
    }

    fn load(&self, way: Way, megabits: Option<u64>) -> Result<Load> {
        let [sender, receiver] = self.guests(way.direction);
        let target = SocketAddr::from((receiver.station().ip, PORT));
        let mut shape = Shape { flows: way.flows, cpus: Some(way.cpus), segments: 1, mtu: self.mtu };
        if way.gso {
            // A super-packet is at most a hundredth of what passes in a window.
            let most = megabits.map_or(SEGMENTS, |rate| rate * 12_500 / shape.datagram_frame() as u64);
            shape.segments = most.clamp(1, SEGMENTS) as usize;
        }
        match way.protocol {
            Protocol::Tcp => Load::tcp_in(shape, sender.ns(), receiver.ns(), target),
            Protocol::Udp => {
                let offered = megabits.map_or(FLAT_OUT, |rate| rate * 1_250_000);
                Load::udp_in(shape, sender.ns(), receiver.ns(), target, offered)
            }
        }
    }

    /// Bit/s without a limit.
    fn unlimited(&self, way: Way) -> Result<f64> {
        self.limit(0)?;
        self.segmentation(way)?;
        let load = self.load(way, None)?;
        thread::sleep(SETTLING);
        let (seen, _) = self.arriving(&load, way, || {
            thread::sleep(UNLIMITED_WINDOW);
            Ok(())
        })?;
        Ok(seen)
    }

    /// Measures a case, and prints it.
    fn row(&self, case: Case, unlimited: Option<f64>) -> Result<Row> {
        let row = self.measure(case, unlimited).with_context(|| case.name())?;
        println!("{}", row.line());
        Ok(row)
    }

    fn measure(&self, case: Case, unlimited: Option<f64>) -> Result<Row> {
        let mut row = Row { case, unlimited, windows: Vec::new(), goodput: Vec::new() };
        if unlimited.is_some_and(|reached| reached < (case.rate * 1_000_000) as f64 * MARGIN) {
            return Ok(row);
        }
        self.limit(case.rate)?;
        let load = self.load(case.way, Some(case.rate))?;
        thread::sleep(SETTLING);
        self.window(&mut row, &load)?;
        while row.is_missed() && row.windows.len() < WINDOWS {
            self.window(&mut row, &load)?;
        }
        Ok(row)
    }

    /// Measures one window more: from a moment in which the limit refuses to another, for then no credit is left. Between any
    /// two moments, what adds up while TCP waits for a timeout would count as lost, or as too much.
    fn window(&self, row: &mut Row, load: &Load) -> Result<()> {
        self.refusal()?;
        let (arriving, goodput) = self.arriving(load, row.case.way, || {
            thread::sleep(WINDOW);
            self.refusal()
        })?;
        row.windows.push(arriving);
        row.goodput.push(goodput);
        Ok(())
    }

    /// Waits until the limit refuses something. One that does not any more is not used up, which the rate then tells.
    fn refusal(&self) -> Result<()> {
        let (before, start) = (self.refused()?, Instant::now());
        while self.refused()? == before && start.elapsed() < PATIENCE {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Frames that the limit has refused.
    fn refused(&self) -> Result<u64> {
        let rows = self.tables.names.rows()?.into_iter().filter(|(key, _)| key.kind == name_kind::METER);
        let events = rows.flat_map(|(key, _)| [FROM_GUEST, TO_GUEST].map(|direction| meter_row(key.index, direction)));
        let dropped =
            events.map(|row| Ok(self.tables.meter_events.get(row)?.map_or(0, |events| events.dropped_packets)));
        dropped.sum()
    }

    /// Bit/s of frames that arrive at the receiving guest while something is waited for, and of those whose payload a program reads.
    fn arriving(&self, load: &Load, way: Way, wait: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
        let [_, receiver] = self.guests(way.direction);
        let counts = || -> Result<_> {
            let arrived = receiver.ns().run(Arrived::read)?;
            Ok((arrived.bytes(way.protocol), load.received(), Instant::now()))
        };
        let (before, read_before, start) = counts()?;
        wait()?;
        let (after, read_after, end) = counts()?;
        ensure!(after > before, "nothing arrives");
        let rate = |bytes| bytes as f64 * 8.0 / (end - start).as_secs_f64();
        Ok((rate(after - before), rate(read_after - read_before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<String> = cases().into_iter().map(Case::name).collect();
        assert_eq!(
            (names.len(), names[0].as_str()),
            (160, "accuracy: 1 Mbit/s, TCP, 1 flow, 1 CPU, GSO, from a guest")
        );
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 160);
    }

    #[test]
    fn a_row_is_judged_by_the_median_of_its_windows() {
        let case = cases()[1];
        let outcome = |windows: &[f64]| {
            Row { case, unlimited: Some(1e9), windows: windows.to_vec(), goodput: Vec::new() }.outcome()
        };
        assert_eq!(outcome(&[10_490_000.0]), "held");
        assert_eq!(outcome(&[10_510_000.0]), "MISSED");
        assert_eq!(outcome(&[9_000_000.0, 9_900_000.0, 10_000_000.0]), "held");
        assert_eq!(outcome(&[]), "out of reach");
    }
}
