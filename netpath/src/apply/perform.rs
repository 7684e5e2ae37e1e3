//! Does what a plan says, and takes it back when a step fails.

use std::{collections::HashSet, path::Path};

use netpath_common::maps::name_kind;

use super::{
    Plan, announce, connections, counts, epochs,
    expedited::Expedited,
    plan, retire, rows,
    steps::{Step, is_gone},
};
use crate::{
    compile::Row,
    datapath::{self, Capacities, DatapathError, Loading, Programs, Root, Tables, Takeover},
    definitions::Zone,
    error::Error,
    netlink,
    preflight::{Finding, Look, Severity},
    reconcile::Edit,
    usage,
};

/// What an apply did.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub plan: Plan,
    /// Tunnel devices that were made before the rest was planned.
    pub made: Vec<Step>,
    /// Whether programs were loaded.
    pub loading: Loading,
    /// Nothing is left of what was in force before; otherwise the next apply sees to it.
    pub is_put_away: bool,
}

/// How often names of devices are followed that change while an apply looks at them.
const RENAMES: usize = 3;

/// Told, while steps are made, how many are done of how many.
pub type Progress<'p> = &'p dyn Fn(usize, usize);

/// What was done so far, to be taken back.
enum Done {
    Row(Edit),
    Step(Step),
}

/// Where an instance of netpath has what is its own.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    /// Its pins.
    pub root: &'a Path,
    /// What it keeps for people; nothing of the data path is read from there.
    pub state_dir: &'a Path,
}

/// Brings the host to what its part of the zone says, and keeps a sample of what is counted. `look` is what the outcome's findings
/// are for.
///
/// # Errors
/// [`Error::Preflight`] before anything is touched; [`Error::Apply`] when a step failed, after the steps made were taken
/// back.
pub fn apply(zone: &Zone, host: &str, at: Instance<'_>, look: Look, progress: Progress<'_>) -> Result<Outcome, Error> {
    let outcome = bring(zone, host, at.root, look, progress)?;
    usage::sample(at.state_dir, at.root);
    Ok(outcome)
}

fn bring(zone: &Zone, host: &str, root: &Path, look: Look, progress: Progress<'_>) -> Result<Outcome, Error> {
    if !Root::holds_maps(root)? {
        // What is wrong with the host is known before its root is made.
        refuse(&plan(zone, host, root, Look::Errors)?.findings)?;
    }
    let root = Root::create(root)?;
    let _lock = root.lock()?;
    // Asked under the lock: another apply may have been the first.
    let is_first = !Root::holds_maps(root.path())?;
    let mut first = plan(zone, host, root.path(), look)?;
    refuse(&first.findings)?;
    for _ in 0..RENAMES {
        if !first.has_renamed {
            break;
        }
        datapath::follow_names(&root, &first.devices)?;
        first = plan(zone, host, root.path(), look)?;
        refuse(&first.findings)?;
    }
    let capacities = |field: &str| zone.host(host).and_then(|host| host.capacities.get(field));
    let takeover = first.takeover.take();
    let has_lost_maps = takeover.is_none() && root.has_lost_maps()?;
    if has_lost_maps {
        // What the others hold is numbered otherwise than the new ones' rows will be: nothing of it may be taken for theirs.
        root.remove_version()?;
    }
    let prepared = prepare(&root, &capacities, takeover.as_ref());
    let (programs, loading, tables) = match (prepared, &takeover) {
        (Err(error), Some(takeover)) => {
            takeover.give_back()?;
            return Err(error.into());
        }
        (Err(error), None) => {
            // Maps that were made would have their capacities held against the next document.
            if is_first {
                root.purge()?;
            }
            return Err(error.into());
        }
        (Ok(prepared), _) => prepared,
    };
    let mut work = Work { tables, root, programs, takeover, done: Vec::new(), gateways: Vec::new(), look, progress };
    let result = work.run(zone, host, first);
    match result {
        Ok((plan, made)) => {
            announce::announce(&mut work.tables, &plan);
            // All is in force: from here on there is nothing to take back, and nothing has failed.
            let put_away = [work.programs.drop_others(), work.takeover.iter().try_for_each(Takeover::end)];
            let is_put_away = put_away.iter().all(Result::is_ok);
            for error in put_away.into_iter().filter_map(Result::err) {
                tracing::warn!("what was in force before is still there, and the next apply puts it away: {error}");
            }
            Ok(Outcome { plan, made, loading, is_put_away })
        }
        Err((failed, source)) => {
            // There is nothing to go back to where programs had lost their maps: what is on the new ones by now goes on with them.
            let mut left = match has_lost_maps {
                true => vec!["what was done: maps had been lost, and the next apply completes this one".to_owned()],
                false => work.undo(),
            };
            if let Some(takeover) = work.takeover.filter(|_| left.is_empty())
                && let Err(error) = takeover.give_back()
            {
                left.push(format!("what was taken over from another ABI: {error}"));
            }
            if is_first && left.is_empty() {
                work.root.purge()?;
            }
            Err(Error::Apply { failed, left, source: Box::new(source) })
        }
    }
}

/// Makes maps and programs.
fn prepare(
    root: &Root,
    capacities: Capacities<'_>,
    takeover: Option<&Takeover>,
) -> Result<(Programs, Loading, Tables), DatapathError> {
    root.clear_left_overs()?;
    if let Some(takeover) = takeover {
        takeover.begin(capacities)?;
    }
    let (programs, loading) = datapath::load(root, capacities)?;
    Ok((programs, loading, Tables::open(root)?))
}

fn refuse(findings: &[Finding]) -> Result<(), Error> {
    let errors: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Error).cloned().collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Preflight { findings: errors }) }
}

/// What failed, in words, and why.
type Failure = (String, Error);

struct Work<'p> {
    root: Root,
    tables: Tables,
    programs: Programs,
    takeover: Option<Takeover>,
    done: Vec<Done>,
    /// Gateways whose epoch is to be counted up when all of it is done, or taken back.
    gateways: Vec<u32>,
    look: Look,
    progress: Progress<'p>,
}

impl Work<'_> {
    fn run(&mut self, zone: &Zone, host: &str, first: Plan) -> Result<(Plan, Vec<Step>), Failure> {
        let unnamed = |error| ("work out the edits".to_owned(), error);
        let (plan, made) = if first.make.is_empty() {
            (first, Vec::new())
        } else {
            self.steps(&first.make, &first)?;
            // Now the rows can have the new devices' indices.
            (plan(zone, host, self.root.path(), self.look).map_err(unnamed)?, first.make)
        };
        if plan.has_renamed {
            // Pins go by names: those of the plan's steps would be other devices'.
            return Err(unnamed(renamed()));
        }
        if let Some(step) = plan.make.first() {
            // Rows must not be written with an index that stands for a device that is not there.
            return Err((format!("{} {step}", step.sign()), missing(step)));
        }
        let Phases { writes, removals, names, owners } = Phases::of(&plan.edits);
        self.gateways = epochs::begin(&mut self.tables, &plan.edits).map_err(epoch_failed)?;
        self.steps(&plan.queues, &plan)?;
        self.rows(&writes)?;
        self.take_over("copy what another ABI's programs have written", Takeover::switch)?;
        self.steps(&plan.on, &plan)?;
        self.steps(&plan.off, &plan)?;
        self.take_over("copy what another ABI's programs have written last", Takeover::complete)?;
        // A list of rules that is not asked any more may still be walked: it goes when its outcome counts no more.
        let (rules, rows): (Vec<&Edit>, Vec<&Edit>) = removals.iter().partition(|edit| is_rule(edit));
        self.rows(&rows)?;
        connections::open(&self.tables, &self.programs, &plan.edits)
            .map_err(|error| ("let whoever sends to them in by bindings that there are".to_owned(), error.into()))?;
        epochs::finish(&mut self.tables, &self.gateways).map_err(epoch_failed)?;
        self.rows(&rules)?;
        counts::keep(&mut self.tables, &plan.existing, &plan.edits)
            .map_err(|error| ("keep what was counted of what is removed".to_owned(), error.into()))?;
        self.rows(&owners)?;
        retire::retire(&mut self.tables, &self.programs, &plan.edits)
            .map_err(|error| ("clear what was learned of what is removed".to_owned(), error.into()))?;
        self.rows(&names)?;
        // Last: a device that is made again to undo this has another index than the rows say.
        self.steps(&plan.delete, &plan)?;
        Ok((plan, made))
    }

    /// A part of taking over, where another ABI's build has applied what is in force.
    fn take_over(
        &self,
        what: &str,
        part: fn(&Takeover, &Programs) -> Result<(), DatapathError>,
    ) -> Result<(), Failure> {
        let Some(takeover) = &self.takeover else { return Ok(()) };
        part(takeover, &self.programs).map_err(|error| (what.to_owned(), error.into()))
    }

    fn rows(&mut self, edits: &[&Edit]) -> Result<(), Failure> {
        for edit in edits {
            rows::make(&mut self.tables, edit).map_err(|error| (row_words(edit), error.into()))?;
            self.done.push(Done::Row((*edit).clone()));
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step], plan: &Plan) -> Result<(), Failure> {
        let _expedited = Expedited::during(steps);
        for (number, step) in steps.iter().enumerate() {
            (self.progress)(number, steps.len());
            tracing::info!("{} {step}", step.sign());
            // Also what a failed step may have half done is undone.
            self.done.push(Done::Step(step.clone()));
            step.make(&self.root, &self.programs, &plan.devices)
                .map_err(|error| (format!("{} {step}", step.sign()), error))?;
        }
        Ok(())
    }

    /// Takes everything back, last first; returns what could not be.
    fn undo(&mut self) -> Vec<String> {
        let devices = netlink::devices().unwrap_or_default();
        let mut left = Vec::new();
        while let Some(done) = self.done.pop() {
            let (what, undone) = match &done {
                Done::Row(edit) => {
                    (row_words(edit), rows::make(&mut self.tables, &edit.inverse()).map_err(Error::from))
                }
                Done::Step(step) => (step.to_string(), step.undo(&self.root, &self.programs, &devices)),
            };
            match undone {
                Err(error) if !is_gone(&error) => left.push(format!("{what}: {error}")),
                _ => {}
            }
        }
        if let Err(error) = epochs::finish(&mut self.tables, &self.gateways) {
            left.push(format!("epochs of gateways: {error}"));
        }
        left
    }
}

fn epoch_failed(error: DatapathError) -> Failure {
    ("count the epochs of gateways up".to_owned(), error.into())
}

fn renamed() -> Error {
    let operation = "keep up with devices that change their names while they are looked at".to_owned();
    netlink::NetlinkError::Refused { operation, source: rustix::io::Errno::AGAIN.into() }.into()
}

fn missing(step: &Step) -> Error {
    let operation = format!("find {step} after it was made");
    netlink::NetlinkError::Refused { operation, source: rustix::io::Errno::NODEV.into() }.into()
}

/// The edits, by when they are made; each in its order.
struct Phases<'e> {
    /// Rows that are added or changed: before programs are attached.
    writes: Vec<&'e Edit>,
    /// Rows that go: after programs are taken off.
    removals: Vec<&'e Edit>,
    /// Names that go: when nothing is left of what they name.
    names: Vec<&'e Edit>,
    /// To which accounts networks belong that were there before: at once when what was counted has been kept for the old ones. A
    /// kill before that would give all of it to the next account.
    owners: Vec<&'e Edit>,
}

impl<'e> Phases<'e> {
    fn of(edits: &'e [Edit]) -> Self {
        let added = |kind| move |edit: &Edit| if edit.before.is_none() { named(edit, kind) } else { None };
        let new: HashSet<u32> = edits.iter().filter_map(added(name_kind::NETWORK)).collect();
        let changes_hands = |edit: &&Edit| named(edit, name_kind::OWNER).is_some_and(|network| !new.contains(&network));
        let (owners, edits): (Vec<_>, Vec<_>) = edits.iter().partition(changes_hands);
        let (removals, writes): (Vec<_>, Vec<_>) = edits.into_iter().partition(|edit| edit.after.is_none());
        let (names, removals) = removals.into_iter().partition(|edit| matches!(edit.before, Some(Row::Names(..))));
        Self { writes, removals, names, owners }
    }
}

/// The index of a name of this kind.
fn named(edit: &Edit, kind: u32) -> Option<u32> {
    match edit.after.as_ref().or(edit.before.as_ref()) {
        Some(Row::Names(key, _)) if key.kind == kind => Some(key.index),
        _ => None,
    }
}

fn is_rule(edit: &Edit) -> bool {
    matches!(edit.before, Some(Row::Rules(..)))
}

fn row_words(edit: &Edit) -> String {
    let row = edit.after.as_ref().or(edit.before.as_ref());
    let name = row.map_or("no map", |row| row.table().shape().name);
    format!("{} row of {name}", edit.sign())
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{NameKey, Network};

    use super::*;

    #[test]
    fn a_network_that_was_there_gets_its_owner_when_what_was_counted_is_kept_and_a_new_one_at_once() {
        let name = |kind, index, text: &str| Some(Row::Names(NameKey { kind, index }, text.into()));
        let network = || Some(Row::Networks(5, Network::default()));
        let edits = [
            Edit { before: None, after: name(name_kind::NETWORK, 6, "new") },
            Edit { before: name(name_kind::OWNER, 5, "acme"), after: name(name_kind::OWNER, 5, "globex") },
            Edit { before: None, after: name(name_kind::OWNER, 6, "globex") },
            Edit { before: None, after: name(name_kind::OWNER, 7, "globex") },
            Edit { before: None, after: network() },
            Edit { before: network(), after: None },
            Edit { before: name(name_kind::OWNER, 8, "acme"), after: None },
            Edit { before: name(name_kind::ACCOUNT, 1, "acme"), after: None },
        ];
        let Phases { writes, removals, names, owners } = Phases::of(&edits);
        assert_eq!(writes, [&edits[0], &edits[2], &edits[4]]);
        assert_eq!(removals, [&edits[5]]);
        assert_eq!(owners, [&edits[1], &edits[3], &edits[6]]);
        assert_eq!(names, [&edits[7]]);
    }
}
