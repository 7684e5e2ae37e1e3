//! `netpath apply`: brings this host to what its part of the definitions says.

use std::path::PathBuf;

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
    let outcome = apply::apply(&zone, &host, &global.root)?;
    let report = Report::of(&zone, &outcome.plan, &outcome.made);
    output::print(global.output, &report, || report.render(false))?;
    Ok(Exit::Done)
}
