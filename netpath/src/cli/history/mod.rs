//! `netpath history`: the documents that were applied.

mod diff;
mod show;

use clap::Subcommand;
use serde::Serialize;

use super::{Exit, Global, output, table::Table};
use crate::{
    error::Error,
    history::{Cause, Entry, History, Meta, Outcome},
};

/// List the documents that were applied, the newest last; show or compare them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to do with them, instead of listing them.
#[derive(Debug, Subcommand)]
enum What {
    Show(show::Args),
    Diff(diff::Args),
}

/// One revision, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    number: u64,
    /// `applied`, `unconfirmed`, `failed`, `interrupted`, `pending`, `damaged`.
    outcome: &'static str,
    time: Option<String>,
    user: Option<String>,
    uid: Option<u32>,
    host: Option<String>,
    source: Option<String>,
    cause: Option<Cause>,
    rollback_of: Option<u64>,
    unconfirmed: Option<u64>,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// What is wrong with its file.
    damage: Option<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let history = History::open(&global.state_dir, &global.root);
    match &args.what {
        None => {
            let rows: Vec<_> = history.list()?.into_iter().map(Row::from).collect();
            output::print(global.output, &rows, || render(&rows))?;
        }
        Some(What::Show(args)) => show::run(args, &history, global)?,
        Some(What::Diff(args)) => diff::run(args, &history, global)?,
    }
    Ok(Exit::Done)
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        let Entry { number, outcome, meta } = entry;
        match meta {
            Ok(meta) => Self::of(outcome.name(), meta),
            Err(damage) => Self { damage: Some(damage.to_string()), ..Self::unknown(number) },
        }
    }
}

impl Row {
    fn of(outcome: &'static str, meta: Meta) -> Self {
        Self {
            number: meta.number,
            outcome,
            time: Some(meta.time),
            user: Some(meta.user),
            uid: Some(meta.uid),
            host: Some(meta.host),
            source: Some(meta.source),
            cause: Some(meta.cause),
            rollback_of: meta.rollback_of,
            unconfirmed: meta.unconfirmed,
            bytes: Some(meta.bytes),
            sha256: Some(meta.sha256),
            damage: None,
        }
    }

    fn unknown(number: u64) -> Self {
        Self {
            number,
            outcome: "damaged",
            time: None,
            user: None,
            uid: None,
            host: None,
            source: None,
            cause: None,
            rollback_of: None,
            unconfirmed: None,
            bytes: None,
            sha256: None,
            damage: None,
        }
    }

    /// What is special about it, in words.
    fn note(&self) -> String {
        let back = self.rollback_of.map(|of| format!("rollback of {of}"));
        let unconfirmed = self.unconfirmed.map(|number| format!("{number} unconfirmed"));
        let agent = (self.cause == Some(Cause::Agent)).then(|| "agent".to_owned());
        [back, unconfirmed, agent, self.damage.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn render(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing was applied yet\n".to_owned();
    }
    /// As many digits of a checksum as tell a hundred documents apart.
    const SHORT: usize = 8;
    let mut table = Table::new(&[">REVISION", "TIME", "USER", "HOST", "OUTCOME", "SHA-256", "NOTE"]);
    for row in rows {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let mut sha256 = text(&row.sha256);
        sha256.truncate(SHORT);
        table.row([
            row.number.to_string(),
            text(&row.time),
            text(&row.user),
            text(&row.host),
            row.outcome.to_owned(),
            sha256,
            row.note(),
        ]);
    }
    table.render()
}

/// A revision with its document, for `show`.
fn row_of(history: &History, number: u64, meta: Meta) -> Result<Row, Error> {
    let entries = history.list()?;
    let outcome = entries.iter().find(|entry| entry.number == number).map_or(Outcome::Applied, |entry| entry.outcome);
    Ok(Row::of(outcome.name(), meta))
}
