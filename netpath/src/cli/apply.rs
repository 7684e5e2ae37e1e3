//! `netpath apply`: brings this host to what its part of the definitions says.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use super::{Exit, Global, host, output, plan::Report};
use crate::{apply, definitions, error::Error};

/// Bring this host to what its part of the definitions says
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone, YAML or JSON
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The host whose part is meant; the one applied before by default, else the host name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let zone = definitions::load(&args.file)?;
    let host = host::chosen(args.host.as_deref(), global)?;
    let outcome = apply::apply(&zone, &host, &global.root, &show_progress)?;
    let report = Report::of(&zone, &outcome.plan, &outcome.made);
    output::print(global.output, &report, || report.render(false))?;
    Ok(Exit::Done)
}

/// Steps are a grace period of the kernel each: thousands of devices take a while, and a terminal is told.
fn show_progress(done: usize, all: usize) {
    const MANY: usize = 50;
    let mut stderr = io::stderr();
    if all < MANY || !stderr.is_terminal() {
        return;
    }
    let end = if done + 1 == all { "\r\x1b[K" } else { "" };
    // A terminal that is gone needs no telling.
    let _ = write!(stderr, "\rstep {done} of {all}{end}").and_then(|()| stderr.flush());
}
