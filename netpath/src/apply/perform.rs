//! Does what a plan says, and takes it back when a step fails.

use std::path::Path;

use super::{
    Plan, announce, epochs,
    expedited::Expedited,
    plan, retire, rows,
    steps::{Step, is_gone},
};
use crate::{
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
}

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
    let is_first = !Root::holds_maps(root)?;
    if is_first {
        // What is wrong with the host is known before its root is made.
        refuse(&plan(zone, host, root, Look::Errors)?.findings)?;
    }
    let root = Root::create(root)?;
    let _lock = root.lock()?;
    let mut first = plan(zone, host, root.path(), look)?;
    refuse(&first.findings)?;
    let capacities = |field: &str| zone.host(host).and_then(|host| host.capacities.get(field));
    let takeover = first.takeover.take();
    let prepared = prepare(&root, &capacities, takeover.as_ref());
    let (programs, loading, tables) = match (prepared, &takeover) {
        (Err(error), Some(takeover)) => {
            takeover.give_back()?;
            return Err(error.into());
        }
        (prepared, _) => prepared?,
    };
    let mut work = Work { tables, root, programs, takeover, done: Vec::new(), gateways: Vec::new(), look, progress };
    let result = work.run(zone, host, first);
    match result {
        Ok((plan, made)) => {
            announce::announce(&mut work.tables, &plan);
            work.programs.drop_others()?;
            // All is in force: from here on there is nothing to take back.
            work.takeover.iter().try_for_each(Takeover::end)?;
            Ok(Outcome { plan, made, loading })
        }
        Err((failed, source)) => {
            let mut left = work.undo();
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
        if let Some(step) = plan.make.first() {
            // Rows must not be written with an index that stands for a device that is not there.
            return Err((format!("{} {step}", step.sign()), missing(step)));
        }
        let (removals, writes): (Vec<&Edit>, Vec<&Edit>) = plan.edits.iter().partition(|edit| edit.after.is_none());
        self.gateways = epochs::begin(&mut self.tables, &plan.edits).map_err(epoch_failed)?;
        self.steps(&plan.queues, &plan)?;
        self.rows(&writes)?;
        self.take_over("copy what another ABI's programs have written", Takeover::switch)?;
        self.steps(&plan.on, &plan)?;
        self.steps(&plan.off, &plan)?;
        self.take_over("copy what another ABI's programs have written last", Takeover::complete)?;
        let names = removals.iter().position(|edit| is_name(edit)).unwrap_or(removals.len());
        let (rows, names) = removals.split_at(names);
        // A list of rules that is not asked any more may still be walked: it goes when its outcome counts no more.
        let (rules, rows): (Vec<&Edit>, Vec<&Edit>) = rows.iter().partition(|edit| is_rule(edit));
        self.rows(&rows)?;
        epochs::finish(&mut self.tables, &self.gateways).map_err(epoch_failed)?;
        self.rows(&rules)?;
        self.steps(&plan.delete, &plan)?;
        retire::retire(&mut self.tables, &plan.existing, &plan.edits)
            .map_err(|error| ("clear what was counted and learned of what is removed".to_owned(), error.into()))?;
        self.rows(names)?;
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

fn missing(step: &Step) -> Error {
    let operation = format!("find {step} after it was made");
    netlink::NetlinkError::Refused { operation, source: rustix::io::Errno::NODEV.into() }.into()
}

fn is_name(edit: &Edit) -> bool {
    matches!(edit.before, Some(crate::compile::Row::Names(..)))
}

fn is_rule(edit: &Edit) -> bool {
    matches!(edit.before, Some(crate::compile::Row::Rules(..)))
}

fn row_words(edit: &Edit) -> String {
    let row = edit.after.as_ref().or(edit.before.as_ref());
    let name = row.map_or("no map", |row| row.table().shape().name);
    format!("{} row of {name}", edit.sign())
}
