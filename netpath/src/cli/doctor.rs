//! `netpath doctor`: what is wrong with this host, why it matters, and what mends it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Exit, Global, host, output, table::wrap};
use crate::{
    apply, definitions,
    doctor::{self, Finding, Severity, gather},
    error::Error,
};

/// Find what is wrong with this host, and say what mends it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone; without them, what is in force is looked at
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The host whose part is meant; the one applied before by default, else the host name
    #[arg(long, value_name = "HOST", requires = "file")]
    host: Option<String>,
    /// Take away what nothing needs: what is in no definition (with -f), or is for a device that is gone
    #[arg(long)]
    release: bool,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The host.
    host: Option<String>,
    /// The pin root.
    root: String,
    /// Nothing was found, or notes alone.
    healthy: bool,
    /// What was taken away.
    released: Vec<String>,
    /// What was found, errors first.
    findings: Vec<Finding>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let definitions = args.file.as_ref().map(|file| -> Result<_, Error> {
        let zone = definitions::load(file)?;
        let host = chosen(args, global)?;
        Ok(gather::Definitions { file: file.clone(), zone, host })
    });
    let definitions = definitions.transpose()?;
    let released = match args.release {
        true => {
            let document = definitions.as_ref().map(|definitions| (&definitions.zone, definitions.host.as_str()));
            apply::release(&global.root, document)?
        }
        false => Vec::new(),
    };
    let host = gather::gather(&global.root, definitions.as_ref())?;
    let findings = doctor::examine(&host);
    let report = Report {
        host: Some(host.name).filter(|name| !name.is_empty()),
        root: global.root.display().to_string(),
        healthy: findings.iter().all(|finding| finding.severity == Severity::Note),
        released,
        findings,
    };
    output::print(global.output, &report, || render(&report))?;
    Ok(if report.healthy { Exit::Done } else { Exit::Failed })
}

/// The host that is meant, also where pins say nothing that this build understands: that is for a check to tell.
fn chosen(args: &Args, global: &Global) -> Result<String, Error> {
    match host::chosen(args.host.as_deref(), global) {
        Err(Error::Datapath(_)) => host::own_name(),
        chosen => chosen,
    }
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.released {
        text += &format!("- {line}\n");
    }
    for finding in &report.findings {
        let Finding { id, severity, object, found, why, mend } = finding;
        text += &format!("{:<8} {id}: {object}\n", severity.word());
        for (label, words) in [("", found.as_str()), ("why: ", why), ("mend: ", mend)] {
            text += &wrap(&format!("{label}{words}"), 9);
        }
    }
    text + &summary(report)
}

fn summary(report: &Report) -> String {
    let of = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let words = |(severity, plural): (Severity, &str)| match of(severity) {
        0 => None,
        1 => Some(format!("1 {}", severity.word())),
        count => Some(format!("{count} {plural}")),
    };
    let kinds = [(Severity::Error, "errors"), (Severity::Warning, "warnings"), (Severity::Note, "notes")];
    let counts: Vec<String> = kinds.into_iter().filter_map(words).collect();
    let host = report.host.as_deref().unwrap_or("this host");
    let verdict = if report.healthy { "healthy" } else { "not healthy" };
    match counts.is_empty() {
        true => format!("{host} is {verdict}: nothing was found\n"),
        false => format!("{host} is {verdict}: {}\n", counts.join(", ")),
    }
}
