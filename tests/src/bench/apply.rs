//! `netpath apply` on a host of a large zone: 10 000 NICs in 1 000 networks on ten hosts, a NIC of every network here.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    experiment::{Comparison, Experiment, Variant},
    lab::UPLINK,
    stations::HERE,
    subject,
};
use crate::{
    runner::Netpath,
    topology::{Link, NetNs, Scratch},
};

/// The experiment.
pub const NAME: &str = "apply, 10 000 NICs in 1 000 networks";
const METRICS: &[&str] =
    &["from empty, s", "no change, s", "one NIC more, s", "of it for the change, s", "rows edited", "peak memory, MiB"];
/// Its networks.
pub const NETWORKS: usize = 1000;
/// The NICs of each.
pub const NICS: usize = 10;
const HOSTS: usize = 10;
/// The NIC that is added, in the first network and on this host.
pub const ADDED: &str = "added";
/// What a local NIC is: its port, its name, its place in the FDB, its address, its membership in floods, and the
/// network's number of members.
const ROWS_OF_A_NIC: f64 = 6.0;

/// The host with its devices, made once.
pub struct Apply {
    hypervisor: NetNs,
    _far: NetNs,
}

impl Apply {
    /// Makes a device for every local NIC.
    ///
    /// # Errors
    /// When a device is refused.
    pub fn new() -> Result<Self> {
        let (hypervisor, far) = (NetNs::new("apply")?, NetNs::new("far")?);
        hypervisor.run(|| -> Result<()> {
            let uplink = Link::veth(UPLINK, UPLINK, &far)?;
            uplink.mtu(1600)?;
            uplink.up()?;
            uplink.address(HERE, 24)?;
            for name in (0..NETWORKS).map(device).chain([ADDED.to_owned()]) {
                Link::veth(&name, &name, &far)?.up()?;
            }
            Ok(())
        })?;
        Ok(Self { hypervisor, _far: far })
    }

    /// The experiment; its one variant is the whole sequence.
    pub fn experiment(&self) -> Experiment<'_> {
        let most = |name, metric, bound| Comparison::at_most(name, metric, "netpath", bound);
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![Variant::with_metrics("netpath", || self.sequence())],
            comparisons: vec![
                most("from empty, s", 0, 2.0),
                most("no change, s", 1, 0.5),
                most("one NIC more, beyond no change, s", 3, 0.1),
                most("rows edited for one NIC", 4, ROWS_OF_A_NIC),
            ],
        }
    }

    fn sequence(&self) -> Result<Vec<f64>> {
        let scratch = Scratch::new()?;
        let netpath = subject::instance(&scratch, &self.hypervisor)?;
        let file = scratch.write("zone.yaml", &zone(false, spread))?;
        let more = scratch.write("more.yaml", &zone(true, spread))?;
        let report = scratch.path().join("report.json");
        let empty = apply(&netpath, &file, &report)?;
        let same = apply(&netpath, &file, &report)?;
        ensure!(rows(&report)? == 0.0, "a second apply edits rows");
        let added = apply(&netpath, &more, &report)?;
        let rows = rows(&report)?;
        let detached = netpath.run(["detach", "--purge"]);
        ensure!(detached.code == 0, "netpath detach: {}", detached.stderr);
        let seconds = |run: &Run| run.elapsed.as_secs_f64();
        let change = (seconds(&added) - seconds(&same)).max(0.0);
        let peak = [&empty, &same, &added].iter().map(|run| run.peak_kib).max().unwrap_or(0);
        Ok(vec![seconds(&empty), seconds(&same), seconds(&added), change, rows, peak as f64 / 1024.0])
    }
}

struct Run {
    elapsed: Duration,
    peak_kib: i64,
}

/// One `apply`, its report written to a file.
fn apply(netpath: &Netpath, definitions: &Path, report: &PathBuf) -> Result<Run> {
    let mut arguments = netpath.apply_args(definitions);
    arguments.extend(["-o".to_owned(), "json".to_owned()]);
    let mut command = netpath.command(&arguments);
    command.stdout(File::create(report)?);
    let start = Instant::now();
    let (status, peak_kib) = run(&mut command)?;
    let elapsed = start.elapsed();
    ensure!(status.success(), "netpath apply ended with {status}");
    Ok(Run { elapsed, peak_kib })
}

/// Runs a command to its end, and answers the most memory it held, in KiB.
fn run(command: &mut Command) -> Result<(ExitStatus, i64)> {
    use std::os::unix::process::ExitStatusExt as _;
    let child = command.spawn().context("starting netpath")?;
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are written by the call, and the child is this process's own and not waited for elsewhere.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    ensure!(waited > 0, "waiting for netpath: {}", io::Error::last_os_error());
    Ok((ExitStatus::from_raw(status), usage.ru_maxrss))
}

fn rows(report: &Path) -> Result<f64> {
    let report: Value = serde_json::from_str(&fs::read_to_string(report)?).context("the report of apply")?;
    report["edits"].as_f64().context("the report of apply has no `edits`")
}

/// The device of the first NIC in a network, which is on this host.
fn device(network: usize) -> String {
    format!("n{network}")
}

/// The device of any NIC.
pub fn device_of(network: usize, number: usize) -> String {
    if number == 0 { device(network) } else { format!("v{network}-{number}") }
}

/// The number of the host of a network's NIC, where each host has one.
fn spread(number: usize) -> usize {
    number + 1
}

/// The zone, with or without one NIC more; `host` says where a network's NICs are.
pub fn zone(more: bool, host: impl Fn(usize) -> usize) -> String {
    let mut text = "zone: zone1\nphysical_networks:\n  - {name: guest, isolation: vxlan, vnis: 5000-9999, traffic: [guest]}\nhosts:\n".to_owned();
    for host in 0..HOSTS {
        let (number, last) = (host + 1, 11 + host);
        let _ =
            writeln!(text, "  - {{name: hv{number}, tunnel_address: 192.0.2.{last}, uplinks: {{guest: {UPLINK}}}}}");
    }
    text += "offerings:\n  - {name: standard, egress_default: allow}\nnetworks:\n";
    for network in 0..NETWORKS {
        let segment = 5000 + network;
        let _ = write!(
            text,
            "  - name: net{network}\n    account: account{network}\n    physical_network: guest\n    segment: {segment}\n    cidr: 10.1.1.0/24\n    gateway: 10.1.1.1\n    offering: standard\n    nics:\n"
        );
        for number in 0..NICS {
            nic(&mut text, network, number, host(number), &device_of(network, number));
        }
        if more && network == 0 {
            nic(&mut text, network, NICS, 1, ADDED);
        }
    }
    text
}

fn nic(text: &mut String, network: usize, number: usize, host: usize, device: &str) {
    let (high, low, last) = (network >> 8, network & 0xff, 11 + number);
    let _ = writeln!(
        text,
        "      - {{instance: i{network}-{number}, mac: \"02:00:{high:02x}:{low:02x}:00:{number:02x}\", ip: 10.1.1.{last}, host: hv{host}, device: {device}}}"
    );
}
