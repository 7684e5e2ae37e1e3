//! Restoring what was in force before a revision that nobody confirmed.

use serde::Serialize;

use super::super::{
    Global,
    change::{self, Made},
    detach, plan,
};
use crate::{
    apply,
    definitions::{self, Zone},
    error::Error,
    history::{Cause, Draft, History, Keep, Recorded, Restores, Revision, Writer},
    preflight::Look,
};

/// What was in force before, read while it can be.
#[derive(Debug)]
pub(in crate::cli) enum Before {
    /// A revision.
    Revision(Box<(Revision, Zone)>),
    /// Nothing was attached.
    Detached,
    /// Nothing was there.
    Nothing,
}

/// What restoring did, as `-o json` prints it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum Restored {
    Made(Box<Made>),
    Detached(detach::Report),
}

impl Before {
    /// Reads what is to be restored.
    pub(in crate::cli) fn read(history: &History, restores: Restores) -> Result<Self, Error> {
        Ok(match restores {
            Restores::Revision(number) => {
                let revision = history.revision(number)?;
                let zone = definitions::parse_applied(&revision.name(), &revision.document)?;
                Self::Revision(Box::new((revision, zone)))
            }
            Restores::Detached => Self::Detached,
            Restores::Nothing => Self::Nothing,
        })
    }

    /// The document that is restored; empty where everything is taken off.
    pub(in crate::cli) fn document(&self) -> &str {
        match self {
            Self::Revision(before) => &before.0.document,
            Self::Detached | Self::Nothing => "",
        }
    }

    /// What restoring it would do, for people.
    pub(in crate::cli) fn plan(&self, unconfirmed: u64, global: &Global) -> Result<String, Error> {
        let Self::Revision(before) = self else {
            return Ok(format!("nothing was in force before revision {unconfirmed}: everything is taken off\n"));
        };
        let (revision, zone) = &**before;
        let plan = apply::plan(zone, &revision.meta.host, &global.root, Look::All)?;
        let plan = plan::Report::of(zone, &plan, &[]).render(false);
        Ok(format!("revision {unconfirmed} is not confirmed; back to revision {}:\n{plan}\n", revision.meta.number))
    }

    /// Restores it; the history says so, where it can be written.
    pub(in crate::cli) fn restore(
        &self,
        writer: Option<&Writer<'_>>,
        unconfirmed: u64,
        cause: Cause,
        global: &Global,
    ) -> Result<Restored, Error> {
        let restored = match self {
            Self::Revision(before) => {
                let (revision, zone) = &**before;
                let meta = &revision.meta;
                let draft = Draft {
                    rollback_of: Some(meta.number),
                    unconfirmed: Some(unconfirmed),
                    ..Draft::new(&revision.document, &meta.host, &meta.source, cause)
                };
                let work = |_| apply::apply(zone, &meta.host, global.instance(), Look::All, &change::show_progress);
                let recorded = match writer {
                    Some(writer) => writer.record(&draft, Keep::IfPossible, work)?,
                    None => Recorded { outcome: work(None)?, revision: None, is_new: false },
                };
                Restored::Made(Box::new(Made::of(zone, &draft, &recorded, None)))
            }
            Self::Detached => Restored::Detached(detach::take_down(false, global)?),
            Self::Nothing => Restored::Detached(detach::take_down(true, global)?),
        };
        if let Some(Err(error)) = writer.map(|writer| writer.mark_unconfirmed(unconfirmed)) {
            tracing::warn!("the history does not say that revision {unconfirmed} was not confirmed: {error}");
        }
        Ok(restored)
    }
}

impl Restored {
    pub(in crate::cli) fn render(&self, global: &Global) -> String {
        match self {
            Self::Made(made) => made.render_revision(),
            Self::Detached(report) => report.render(global),
        }
    }
}
