//! `netpath rollback`: brings an earlier document back into force.

use super::{Exit, Format, Global, agent_state::Agent, change, confirm::Before, output, plan::Report};
use crate::{
    apply, definitions,
    error::Error,
    history::{Awaited, Cause, Draft, History, Revision},
    preflight::Look,
};

/// Bring an earlier revision back into force: the previous one, unless another is named
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The revision, as `netpath history` numbers them
    revision: Option<u64>,
    #[command(flatten)]
    options: change::Options,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let history = History::open(&global.state_dir, &global.root);
    let awaited = history.awaited()?.filter(|awaited| awaited.is_watched);
    if let (None, Some(awaited)) = (args.revision, awaited) {
        return take_back(&history, &awaited, global);
    }
    let revision = match args.revision {
        Some(number) => history.revision(number)?,
        None => history.previous()?,
    };
    let Revision { meta, document } = &revision;
    let zone = definitions::parse_applied(&revision.name(), document)?;
    if global.output == Format::Table {
        let plan = apply::plan(&zone, &meta.host, &global.root, Look::All)?;
        let from = format!("revision {}, of {} by {}, for host {}", meta.number, meta.time, meta.user, meta.host);
        output::print_text(&format!("{from}:\n{}\n", Report::of(&zone, &plan, &[]).render(false)))?;
    }
    let draft =
        Draft { rollback_of: Some(meta.number), ..Draft::new(document, &meta.host, &meta.source, Cause::Rollback) };
    let made = change::bring_into_force(&zone, &draft, &args.options, global)?;
    Agent::tell(document, global);
    output::print(global.output, &made, || made.render_revision())?;
    Ok(Exit::Done)
}

/// What awaits confirmation is taken back now.
fn take_back(history: &History, awaited: &Awaited, global: &Global) -> Result<Exit, Error> {
    let before = Before::read(history, awaited.restores)?;
    if global.output == Format::Table {
        output::print_text(&before.plan(awaited.revision, global)?)?;
    }
    let writer = history.write()?;
    if history.awaited()?.as_ref().map(|now| now.pid) != Some(awaited.pid) {
        return Err(history.nothing_awaited(&global.root).into());
    }
    let restored = before.restore(Some(&writer), awaited.revision, Cause::Rollback, global)?;
    if let Err(error) = writer.end_waiting() {
        tracing::warn!("it is restored, though the history does not say so: {error}");
    }
    Agent::tell(before.document(), global);
    output::print(global.output, &restored, || restored.render(global))?;
    Ok(Exit::Done)
}
