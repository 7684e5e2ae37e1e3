//! `netpath history diff A [B]`: what changed between two documents.

use serde::Serialize;

use crate::{
    cli::{Global, output},
    error::Error,
    history::{History, HistoryError, Revision, unified},
};

/// Compare the documents of two revisions, as a unified diff
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// From this revision
    from: u64,
    /// To this one; the newest by default
    to: Option<u64>,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Difference {
    from: u64,
    to: u64,
    /// The documents are not the same.
    changes: bool,
    /// The unified diff.
    diff: String,
}

pub(super) fn run(args: &Args, history: &History, global: &Global) -> Result<(), Error> {
    let from = history.revision(args.from)?;
    let to = match args.to {
        Some(number) => history.revision(number)?,
        None => {
            let none = || HistoryError::NothingBefore { folder: history.folder().to_owned() };
            history.newest()?.ok_or_else(none)?
        }
    };
    let label = |revision: &Revision| format!("{} ({})", revision.name(), revision.meta.time);
    let diff = unified((&label(&from), &from.document), (&label(&to), &to.document));
    let report = Difference { from: from.meta.number, to: to.meta.number, changes: from.document != to.document, diff };
    output::print(global.output, &report, || report.diff.clone())
}
