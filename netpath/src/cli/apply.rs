//! `netpath apply`: brings this host to what its part of the definitions says.

use std::path::PathBuf;

use super::{Exit, Global, agent_state::Agent, change, host, output};
use crate::{
    definitions,
    error::Error,
    history::{Cause, Draft},
};

/// Bring this host to what its part of the definitions says
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone, YAML or JSON: a file, or a folder of files
    #[arg(short, long, value_name = "FILE|DIR")]
    file: PathBuf,
    /// The host whose part is meant; the one applied before by default, else the host name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    options: change::Options,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let source = args.file.display().to_string();
    let document = definitions::read(&args.file)?;
    let zone = definitions::parse(&source, &document)?;
    let host = host::chosen(args.host.as_deref(), global)?;
    let draft = Draft::new(&document, &host, &source, Cause::Apply);
    let made = change::bring_into_force(&zone, &draft, &args.options, global)?;
    Agent::tell(&document, global);
    output::print(global.output, &made, || made.render())?;
    Ok(Exit::Done)
}
