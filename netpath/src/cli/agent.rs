//! `netpath agent`: keeps this host at what its part of the definitions says.

use std::path::PathBuf;

use super::{Exit, Global, host};
use crate::{
    agent::{self, Options},
    error::Error,
};

/// Follow the definitions and the host's devices, and keep what they say in force
///
/// Applies at start, whenever the definitions change, and whenever a device that they are about comes, changes or goes.
/// SIGHUP reads the definitions again, SIGTERM ends it and leaves everything in force.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone, YAML or JSON: a file, or a folder of files
    #[arg(short, long, value_name = "FILE|DIR")]
    file: PathBuf,
    /// The host whose part is meant; the one applied before by default, else the host name
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The form of the log, on standard error
    #[arg(long, value_enum, default_value_t = LogForm::Human)]
    pub(super) log: LogForm,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogForm {
    /// Text for people; the journal adds the time
    Human,
    /// A JSON object a line, with its time
    Json,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    match (follow(args, global), args.log) {
        // Whoever reads JSON reads nothing else.
        (Err(error), LogForm::Json) => {
            tracing::error!("{}", agent::described(&error));
            Ok(Exit::Failed)
        }
        (ended, _) => ended,
    }
}

fn follow(args: &Args, global: &Global) -> Result<Exit, Error> {
    let definitions = std::path::absolute(&args.file)
        .map_err(|source| Error::Agent { operation: format!("find {}", args.file.display()), source })?;
    agent::run(Options {
        definitions,
        host: host::chosen(args.host.as_deref(), global)?,
        root: global.root.clone(),
        state_dir: global.state_dir.clone(),
    })?;
    Ok(Exit::Done)
}
