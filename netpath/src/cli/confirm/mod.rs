//! `netpath confirm`: keeps what was applied with `--confirm-within`.
//!
//! ```text
//! apply ── starts ─► await-confirmation (own session; holds awaiting-confirmation)
//!   │ ◄─ "ready" ──────┤
//!   edits              │
//!   ├─ "applied" ─────►│ waits: netpath confirm removes the file ──► ends
//!   │ ◄─ until ────────┤        the time is over ─────────────────► restores
//!   ├─ "taken back" ──►│ ends
//!   └─ killed ────────►│ restores at once
//! ```

mod guard;
mod restore;
mod wait;

use serde::Serialize;

pub(super) use self::{guard::Guard, restore::Before, wait::WaitArgs, wait::run as wait};
use super::{Exit, Global, agent_state::Agent, output};
use crate::{error::Error, history::History};

/// Keep what was applied with --confirm-within
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The revision that stays.
    revision: u64,
}

pub(super) fn run(_: &Args, global: &Global) -> Result<Exit, Error> {
    let history = History::open(&global.state_dir, &global.root);
    let nothing = || history.nothing_awaited(&global.root);
    history.awaited()?.ok_or_else(nothing)?;
    let writer = history.write()?;
    // Before the lock was free the time may have been over.
    let awaited = history.awaited()?.ok_or_else(nothing)?;
    writer.end_waiting().map_err(|source| history.unwritable(source))?;
    let document = history.revision(awaited.revision).map(|revision| revision.document);
    Agent::tell(&document.unwrap_or_default(), global);
    let report = Report { revision: awaited.revision };
    output::print(global.output, &report, || format!("revision {} is kept\n", report.revision))?;
    Ok(Exit::Done)
}
