//! How exact a NIC's limit is over ten seconds: by rate, protocol, flows, processors, super-packets and direction.
//!
//! Two hypervisors with netpath, a guest on each with a kernel's stack, and a limit on the first one's NIC that a live `apply`
//! changes from case to case. What counts is what arrives at the other guest. A case whose rate this machine does not reach
//! without a limit by a good margin says nothing about the limit, and is not judged.

use std::{
    fmt, fs,
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    bench::statistics::median,
    guest::{
        KernelGuest, Load,
        kernel::NIC,
        load::{DATAGRAM, DATAGRAM_HEADERS, Shape},
    },
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
/// Without a limit a case must be as much faster.
const MARGIN: f64 = 1.2;
/// Windows of a case that the first one misses; their median is judged.
const WINDOWS: usize = 3;
/// The rates, in Mbit/s.
const RATES: [u64; 5] = [1, 10, 200, 1000, 5000];
/// More than any machine sends.
const FLAT_OUT: u64 = 1_000_000_000_000;
const PORT: u16 = 9000;
/// Datagrams of a super-packet, at most: 64 KiB.
const SEGMENTS: u64 = 45;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
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

/// What was seen of a case.
#[derive(Clone, Debug)]
pub struct Row {
    case: Case,
    /// Bit/s without a limit.
    unlimited: f64,
    /// Bit/s with it, window by window; none where the rate is out of reach.
    windows: Vec<f64>,
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
        format!("{NAME} {rate}, {}", self.way)
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
            "ratio": self.ratio(),
            "outcome": self.outcome(),
        })
    }

    fn line(&self) -> String {
        let seen = self.ratio().map_or_else(
            || format!("not judged: {:.2} Gbit/s without a limit", self.unlimited / 1e9),
            |ratio| format!("{:+6.2} %  {}", (ratio - 1.0) * 100.0, self.outcome()),
        );
        format!("  {:<62} {seen}", self.name())
    }
}

/// Every case, those of one way together.
fn cases() -> Vec<(Way, [Case; RATES.len()])> {
    let mut all = Vec::new();
    for direction in [Direction::FromGuest, Direction::ToGuest] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (flows, cpus) in [(1, 1), (1, 2), (8, 1), (8, 2)] {
                for gso in [true, false] {
                    let way = Way { protocol, flows, cpus, gso, direction };
                    all.push((way, RATES.map(|rate| Case { rate, way })));
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
    let wanted = cases().into_iter().map(|(way, cases)| {
        let cases: Vec<Case> = cases.into_iter().filter(|case| wants(&case.name())).collect();
        (way, cases)
    });
    let wanted: Vec<_> = wanted.filter(|(_, cases)| !cases.is_empty()).collect();
    let count: usize = wanted.iter().map(|(_, cases)| cases.len()).sum();
    if count == 0 {
        return Ok(Vec::new());
    }
    let once = SETTLING + WINDOW;
    let about = once * count as u32 + (SETTLING + UNLIMITED_WINDOW) * wanted.len() as u32;
    println!("\naccuracy: {count} cases, {} s and more; what arrives, against the limit", about.as_secs());
    let site = Site::new()?;
    let mut rows = Vec::new();
    for (way, cases) in wanted {
        let unlimited = site.unlimited(way).with_context(|| format!("{way}, without a limit"))?;
        for case in cases {
            let row = site.measure(case, unlimited).with_context(|| case.name())?;
            println!("{}", row.line());
            std::io::stdout().flush()?;
            rows.push(row);
        }
    }
    let judged: Vec<f64> = rows.iter().filter_map(Row::ratio).map(|ratio| (ratio - 1.0).abs() * 100.0).collect();
    let worst = judged.iter().copied().fold(0.0, f64::max);
    let close = judged.iter().filter(|off| **off <= 2.0).count();
    println!("  {} judged of {count}: {close} within 2 %, the furthest {worst:.2} % off", judged.len());
    Ok(rows)
}

/// The two hypervisors.
struct Site {
    topology: TwoHypervisors,
    definitions: Value,
}

impl Site {
    fn new() -> Result<Self> {
        let topology = TwoHypervisors::builder().attached(Attachment::Veth).build()?;
        let definitions = topology.vxlan_definitions();
        topology.apply(&definitions);
        let site = Self { topology, definitions };
        let [here, there] = site.guests(Direction::FromGuest);
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
        // A super-packet is at most a hundredth of what passes in a window.
        let most = megabits.map_or(SEGMENTS, |rate| rate * 12_500 / (DATAGRAM + DATAGRAM_HEADERS) as u64);
        let segments = if way.gso { most.clamp(1, SEGMENTS) as usize } else { 1 };
        let shape = Shape { flows: way.flows, cpus: Some(way.cpus), segments };
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
        let _ = load.rate(SETTLING);
        self.arriving(&load, way, UNLIMITED_WINDOW)
    }

    fn measure(&self, case: Case, unlimited: f64) -> Result<Row> {
        let mut row = Row { case, unlimited, windows: Vec::new() };
        if unlimited < (case.rate * 1_000_000) as f64 * MARGIN {
            return Ok(row);
        }
        self.limit(case.rate)?;
        let load = self.load(case.way, Some(case.rate))?;
        let _ = load.rate(SETTLING);
        row.windows.push(self.arriving(&load, case.way, WINDOW)?);
        while row.is_missed() && row.windows.len() < WINDOWS {
            row.windows.push(self.arriving(&load, case.way, WINDOW)?);
        }
        Ok(row)
    }

    /// Bit/s that arrive at the receiving guest; what its socket had no room for has arrived, too.
    fn arriving(&self, load: &Load, way: Way, window: Duration) -> Result<f64> {
        let [_, receiver] = self.guests(way.direction);
        let full = || receiver.ns().run(datagrams_without_room);
        let (before, start) = (full()?, Instant::now());
        let rate = load.rate(window);
        let bytes = (full()? - before) * (DATAGRAM + DATAGRAM_HEADERS) as u64;
        let seen = rate + bytes as f64 * 8.0 / start.elapsed().as_secs_f64();
        ensure!(seen > 0.0, "nothing arrives");
        Ok(seen)
    }
}

/// Datagrams for which sockets of this namespace had no room.
fn datagrams_without_room() -> Result<u64> {
    const FILE: &str = "/proc/thread-self/net/snmp";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        anyhow::bail!("{FILE} says nothing of UDP");
    };
    let mut both = names.split(' ').zip(values.split(' '));
    let found = both.find(|(name, _)| *name == "RcvbufErrors").context("UDP has no RcvbufErrors")?;
    found.1.parse().with_context(|| format!("RcvbufErrors of {FILE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<String> = cases().iter().flat_map(|(_, cases)| cases.map(Case::name)).collect();
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
        let case = cases()[0].1[1];
        let outcome = |windows: &[f64]| Row { case, unlimited: 1e9, windows: windows.to_vec() }.outcome();
        assert_eq!(outcome(&[10_490_000.0]), "held");
        assert_eq!(outcome(&[10_510_000.0]), "MISSED");
        assert_eq!(outcome(&[9_000_000.0, 9_900_000.0, 10_000_000.0]), "held");
        assert_eq!(outcome(&[]), "out of reach");
    }
}
