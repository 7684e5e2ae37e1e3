//! Looking at a million connections: how long until `show flows` says something, and what `top` takes.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netpath::datapath::{Root, Tables, name_text};
use netpath_common::maps::{Flow, FlowKey, GatewayState, flow_flags, flow_state, name_kind};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    lab::UPLINK,
    stations::{GUEST, HERE, REMOTE},
    subject,
};
use crate::{
    pty::Pty,
    runner::Netpath,
    topology::{
        Link, NetNs, Scratch, definitions,
        two_hypervisors::{Attachment, Nic, TENANTS},
    },
};

/// The experiment.
pub const NAME: &str = "show, 1 M rows of connections";
const METRICS: &[&str] =
    &["first row, s", "all, s", "first of a network's two, s", "top flows --once, s", "top flows, of a core"];
/// Connections of the first network; each is two rows.
const CONNECTIONS: u32 = 1 << 19;
/// How long the live view is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// Those of the second.
const FEW: u32 = 2;

/// A host whose flow table is full of connections that nobody has made.
pub struct Show {
    netpath: Netpath,
    _scratch: Scratch,
    _hypervisor: NetNs,
    _far: NetNs,
}

impl Show {
    /// Applies two tenants and fills the table.
    ///
    /// # Errors
    /// When netpath or the kernel refuses.
    pub fn new() -> Result<Self> {
        let (hypervisor, far) = (NetNs::new("show")?, NetNs::new("far")?);
        hypervisor.run(|| -> Result<()> {
            let uplink = Link::veth(UPLINK, UPLINK, &far)?;
            uplink.mtu(1600)?;
            uplink.up()?;
            uplink.address(HERE, 24)
        })?;
        let scratch = Scratch::new()?;
        let netpath = subject::instance(&scratch, &hypervisor)?;
        let nics: Vec<Nic> = TENANTS
            .iter()
            .flat_map(|tenant| {
                [(GUEST, 0), (REMOTE, 1)].map(|(station, host)| Nic {
                    tenant,
                    number: station.mac[5],
                    host,
                    attachment: Attachment::Veth,
                })
            })
            .collect();
        let mut zone = definitions::vxlan(2, &nics);
        zone["hosts"][0]["capacities"] = json!({"flows": 2 * (CONNECTIONS + FEW)});
        let output = netpath.run(netpath.apply_args(&scratch.write("zone.yaml", &zone.to_string())?));
        ensure!(output.code == 0, "netpath apply: {}{}", output.stdout, output.stderr);
        let mut tables = Tables::open(&Root::open(netpath.root())?)?;
        for (tenant, count) in TENANTS.iter().zip([CONNECTIONS, FEW]) {
            fill(&mut tables, &format!("{tenant}-web"), count)?;
        }
        Ok(Self { netpath, _scratch: scratch, _hypervisor: hypervisor, _far: far })
    }

    /// The experiment; its one variant is every look after the other.
    pub fn experiment(&self) -> Experiment<'_> {
        let value = |name, metric, bound| Comparison { name, metric, numerator: "netpath", denominator: None, bound };
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![Variant::with_metrics("netpath", || self.looks())],
            comparisons: vec![value("show flows: first row, s", 0, Bound::AtMost(0.2))],
        }
    }

    fn looks(&self) -> Result<Vec<f64>> {
        let all = self.flows(&["show", "flows"], CONNECTIONS + FEW)?;
        let few = self.flows(&["show", "flows", "--network", &format!("{}-web", TENANTS[1])], FEW)?;
        let start = Instant::now();
        let top = self.netpath.run(["top", "flows", "--once", "--interval", "100ms"]);
        ensure!(top.code == 0, "netpath top: {}", top.stderr);
        Ok(vec![all[0], all[1], few[0], start.elapsed().as_secs_f64(), self.live()?])
    }

    /// The part of a core that a live view of connections takes, a reading a second.
    fn live(&self) -> Result<f64> {
        let mut top = Pty::start(self.netpath.command(["top", "flows"]), 80, 24)?;
        top.wait("connection", |screen| screen.lines()[3].contains(" > 192.0.2.1:443 "))?;
        let (before, start) = (top.cpu()?, Instant::now());
        top.watch(WATCHED)?;
        Ok((top.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64())
    }

    /// Seconds until the first connection is there, and until all of so many are.
    fn flows(&self, arguments: &[&str], count: u32) -> Result<[f64; 2]> {
        let start = Instant::now();
        let mut child = self.netpath.command(arguments).stdout(Stdio::piped()).spawn().context("starting netpath")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let mut line = String::new();
        // The heading, and the two lines of a connection.
        for _ in 0..3 {
            ensure!(lines.read_line(&mut line)? > 0, "netpath show flows: {line}");
        }
        let first = start.elapsed().as_secs_f64();
        let mut rest = Vec::new();
        lines.read_to_end(&mut rest)?;
        ensure!(child.wait()?.success(), "netpath show flows failed");
        let shown = rest.iter().filter(|byte| **byte == b'\n').count() / 2 + 1;
        ensure!(shown == count as usize, "{shown} connections are shown, of {count}");
        Ok([first, start.elapsed().as_secs_f64()])
    }
}

/// Rows of established connections between stations of a network, as the data path would write and count them.
pub fn fill(tables: &mut Tables, network: &str, count: u32) -> Result<()> {
    let names = tables.names.rows()?;
    let found = names.iter().find(|(key, name)| key.kind == name_kind::NETWORK && name_text(name) == network);
    let index = found.with_context(|| format!("no network {network}"))?.0.index;
    let now = clock_gettime(ClockId::Monotonic).tv_sec as u32;
    for number in 0..count {
        let [_, a, b, c] = number.to_be_bytes();
        let key = FlowKey {
            side: index,
            source: [10, a, b, c],
            destination: [192, 0, 2, 1],
            source_port: 40_000,
            destination_port: 443,
            protocol: 6,
            pad: [0; 3],
        };
        let flow = Flow {
            network: index,
            bytes: number.into(),
            packets: 1,
            created: now,
            last_seen: now,
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            out: index,
            flags: flow_flags::ANSWERED,
            state: flow_state::ESTABLISHED,
            ..Flow::default()
        };
        let back = Flow {
            source: flow.destination,
            destination: flow.source,
            source_port: flow.destination_port,
            destination_port: flow.source_port,
            flags: flow.flags | flow_flags::REPLY,
            ..flow
        };
        tables.flows.put(&key, &flow)?;
        tables.flows.put(&key.opposite(&flow), &back)?;
    }
    let state = GatewayState { flows: u64::from(count) * 2, ..GatewayState::default() };
    Ok(tables.gateway_state.put(index, &state)?)
}
