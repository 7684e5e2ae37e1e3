//! The agent of a root, as other verbs see it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Global, plan::count, terms::duration};
use crate::{
    agent::record::{LastApply, LastError, Record},
    datapath::{Holder, Root},
};

/// An agent that runs. Times are in seconds of the Unix epoch.
#[derive(Debug, Serialize)]
pub(super) struct Agent {
    /// Its process.
    pub(super) pid: u32,
    /// When it began; unknown, as the rest is, where its note in the state folder cannot be read.
    since: Option<u64>,
    /// The definitions that it follows.
    pub(super) definitions: Option<PathBuf>,
    /// What it has applied last.
    last_apply: Option<LastApply>,
    /// What is wrong now.
    last_error: Option<LastError>,
}

impl Agent {
    /// The agent of the root that is meant.
    pub(super) fn of(global: &Global) -> Option<Self> {
        let Holder { pid, .. } = Root::agent(&global.root)?;
        let note = Record::of(&Record::path(&global.state_dir, &global.root), pid);
        Some(match note {
            Some(Record { pid, since, definitions, last_apply, last_error }) => {
                Self { pid, since: Some(since), definitions: Some(definitions), last_apply, last_error }
            }
            None => Self { pid, since: None, definitions: None, last_apply: None, last_error: None },
        })
    }

    /// A line each for what it is, what it did, and what is wrong.
    pub(super) fn render(&self, now: u64) -> String {
        let ago = |at: u64| duration(now.saturating_sub(at));
        let mut text = format!("agent     process {}", self.pid);
        if let Some(since) = self.since {
            text += &format!(", for {}", ago(since));
        }
        if let Some(definitions) = &self.definitions {
            text += &format!(", follows {}", definitions.display());
        }
        text.push('\n');
        if let Some(LastApply { at, edits, steps, milliseconds, .. }) = &self.last_apply {
            let (rows, steps) = (count(*edits, "row"), count(*steps, "step"));
            text += &format!("applied   {} ago, {rows} and {steps} in {milliseconds} ms\n", ago(*at));
        }
        if let Some(LastError { at, message }) = &self.last_error {
            let mut lines = message.lines();
            text += &format!("error     {} ago: {}\n", ago(*at), lines.next().unwrap_or_default());
            text.extend(lines.map(|line| format!("          {line}\n")));
        }
        text
    }
}
