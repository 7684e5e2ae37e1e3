//! `netpath schema`: the definitions' JSON Schema, for editors.

use super::{Exit, Format, Global, output};
use crate::{definitions, error::Error};

/// Print the JSON Schema of the definitions, for an editor to check and complete them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, global: &Global) -> Result<Exit, Error> {
    // A table of a schema helps nobody: JSON is the default here.
    let format = if global.output == Format::Table { Format::Json } else { global.output };
    output::print(format, &definitions::schema(), String::new)?;
    Ok(Exit::Done)
}
