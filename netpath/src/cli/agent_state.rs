//! The agent of a root, as other verbs see it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Global, plan::count, terms::duration};
use crate::{
    agent::record::{LastApply, LastError, Record},
    datapath::{Holder, Root},
    definitions,
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
    /// The revision that it keeps in force, where that is not the definitions as they are.
    keeps: Option<u64>,
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
            Some(Record { pid, since, definitions, keeps, last_apply, last_error }) => {
                Self { pid, since: Some(since), definitions: Some(definitions), keeps, last_apply, last_error }
            }
            None => Self { pid, since: None, definitions: None, keeps: None, last_apply: None, last_error: None },
        })
    }

    /// Tells of the agent where its definitions are another document than the one that was brought into force beside it.
    pub(super) fn tell(document: &str, global: &Global) {
        let Some(Self { pid, definitions, .. }) = Self::of(global) else { return };
        let own = definitions.as_ref().and_then(|path| definitions::read(path).ok());
        if !own.is_some_and(|own| definitions::is_same_text(&own, document)) {
            let follows =
                definitions.map_or_else(|| "its own definitions".to_owned(), |path| path.display().to_string());
            tracing::warn!("the agent (process {pid}) follows {follows}, and applies that as soon as it changes");
        }
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
        if let Some(number) = self.keeps {
            text += &format!("keeps     revision {number} in force until the definitions change\n");
        }
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
