//! `netpath plan`: what `apply` would do, and nothing else.

use std::path::PathBuf;

use serde::Serialize;

use super::{Exit, Global, host, output};
use crate::{
    apply::{self, Plan, Step},
    compile::Waiting,
    definitions::{self, Zone, not_in_force},
    error::Error,
    preflight::{Finding, Look, Severity},
    reconcile::{self, Group},
};

/// Print what `apply` would change on this host, and touch nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone, YAML or JSON: a file, or a folder of files
    #[arg(short, long, value_name = "FILE|DIR")]
    file: PathBuf,
    /// The host whose part is meant; the one applied before by default, else the host name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Exit with 2 when there are changes, with 0 when there are none
    #[arg(long)]
    detailed_exitcode: bool,
    /// Print every row, not only what it belongs to
    #[arg(long)]
    rows: bool,
}

/// What `-o json` prints, of `plan` and of `apply`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The host.
    pub(super) host: String,
    /// There is something to do, or was.
    pub(super) changes: bool,
    /// Rows added, changed and removed.
    pub(super) edits: usize,
    /// The edits by object.
    pub(super) objects: Vec<Group>,
    /// Programs, tunnel devices, offloads and multicast groups.
    pub(super) steps: Vec<StepLine>,
    /// NICs that wait for their device.
    pub(super) waiting: Vec<Waiting>,
    /// What was found on the host.
    pub(super) findings: Vec<Finding>,
    /// Parts of the definitions that this version does not act upon.
    pub(super) not_in_force: Vec<String>,
    /// Memory that the maps take, in bytes.
    pub(super) map_memory: u64,
}

/// One step beside rows.
#[derive(Debug, Serialize)]
pub(super) struct StepLine {
    sign: char,
    step: String,
}

impl From<&Step> for StepLine {
    fn from(step: &Step) -> Self {
        Self { sign: step.sign(), step: step.to_string() }
    }
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let zone = definitions::load(&args.file)?;
    let host = host::chosen(args.host.as_deref(), global)?;
    let plan = apply::plan(&zone, &host, &global.root, Look::All)?;
    let report = Report::of(&zone, &plan, &[]);
    output::print(global.output, &report, || report.render(args.rows))?;
    let is_refused = plan.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(match plan.is_empty() {
        _ if is_refused => Exit::Failed,
        false if args.detailed_exitcode => Exit::Changes,
        _ => Exit::Done,
    })
}

impl Report {
    /// The report of a plan; `made` are steps that were done before it was worked out.
    pub(super) fn of(zone: &Zone, plan: &Plan, made: &[Step]) -> Self {
        Self {
            host: plan.host.clone(),
            changes: !plan.is_empty() || !made.is_empty(),
            edits: plan.edits.len(),
            objects: plan.groups(),
            steps: made.iter().chain(plan.steps()).map(StepLine::from).collect(),
            waiting: plan.waiting.clone(),
            findings: plan.findings.clone(),
            not_in_force: not_in_force(zone),
            map_memory: plan.memory,
        }
    }

    /// The changes as `+ ~ -` lines, then what is worth knowing; with `rows`, each row as well.
    pub(super) fn render(&self, rows: bool) -> String {
        let mut text = reconcile::render(&self.objects, rows);
        for StepLine { sign, step } in &self.steps {
            text += &format!("{sign} {step}\n");
        }
        if self.changes {
            let (rows, steps) = (count(self.edits, "row"), count(self.steps.len(), "step"));
            text += &format!("{rows} and {steps} for host {}", self.host);
            text += &format!("; the maps take {} MiB\n", self.map_memory.div_ceil(1 << 20));
        } else {
            text += &format!("nothing to change on host {}\n", self.host);
        }
        text + &self.notes()
    }

    /// What is worth knowing beside the changes.
    fn notes(&self) -> String {
        let mut text = String::new();
        for nic in &self.waiting {
            let device = nic.device.as_ref().map_or_else(|| "its tap".to_owned(), |device| format!("device {device}"));
            text += &format!("waiting: {}/{} {} for {device}\n", nic.network, nic.instance, nic.mac);
        }
        for finding in &self.findings {
            text += &format!("{}: {}: {}\n", finding.severity.word(), finding.object, finding.message);
        }
        for part in &self.not_in_force {
            text += &format!("not yet in force: {part}\n");
        }
        text
    }
}

/// A number of things.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
