//! `netpath validate`: checks a definitions file and touches nothing.

use std::path::PathBuf;

use serde_json::json;

use super::{Exit, Format, Global, output};
use crate::{
    definitions::{self, DefinitionsError},
    error::Error,
};

/// Check a definitions file and report every error in it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The definitions of the zone, YAML or JSON: a file, or a folder of files
    #[arg(short, long, value_name = "FILE|DIR")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let file = args.file.display().to_string();
    match definitions::load(&args.file) {
        Ok(zone) => {
            let counts = zone.counts();
            let report = json!({"file": file, "valid": true, "findings": [], "zone": zone.zone.value.to_string(), "counts": counts});
            output::print(global.output, &report, || format!("{file}: valid: zone {}, {counts}\n", *zone.zone))?;
            Ok(Exit::Done)
        }
        Err(DefinitionsError::Findings { findings, .. }) if global.output != Format::Table => {
            let report = json!({"file": file, "valid": false, "findings": findings});
            output::print(global.output, &report, String::new)?;
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    }
}
