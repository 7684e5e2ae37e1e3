//! `netpath history show N`: a document as it was applied.

use serde::Serialize;

use super::{Row, row_of};
use crate::{
    cli::{Format, Global, output},
    error::Error,
    history::History,
};

/// Print the document of a revision, as it was applied
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The revision
    revision: u64,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    row: Row,
    /// The document.
    document: String,
}

pub(super) fn run(args: &Args, history: &History, global: &Global) -> Result<(), Error> {
    let revision = history.revision(args.revision)?;
    if global.output == Format::Table {
        return output::print_text(&revision.document);
    }
    let row = row_of(history, args.revision, revision.meta)?;
    output::print(global.output, &Shown { row, document: revision.document }, String::new)
}
