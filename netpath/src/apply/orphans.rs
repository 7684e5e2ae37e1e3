//! What is in force and needed by nothing: found, told, and taken away without anything being added.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use netpath_common::maps::{Destination, destination_kind};

use super::{Plan, epochs, plan, rows, steps::Step};
use crate::{
    compile::{Row, Rows},
    datapath::{self, DatapathError, Hook, Root, Tables},
    definitions::Zone,
    error::Error,
    netlink::{self, Device},
    preflight::Look,
    reconcile::{self, Edit},
};

/// Rows, programs and devices that are needed by nothing.
#[derive(Debug, Default)]
pub struct Orphans {
    edits: Vec<Edit>,
    steps: Vec<Step>,
    /// Names of ifindices.
    devices: HashMap<u32, String>,
    existing: Rows,
}

impl Orphans {
    /// What a plan would take away of objects of which it keeps nothing. What the document has changed or moved is no orphan:
    /// the old one is in use until the new one is in force.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn of_plan(root: &Root, plan: &Plan) -> Result<Self, DatapathError> {
        if !datapath::renamed(root, &plan.devices)?.is_empty() {
            // The document does not find them, so that all that leads through them looks needless: it is in use.
            return Ok(Self::default());
        }
        let devices = names(&plan.devices);
        let is_moving = !plan.make.is_empty() || plan.on.iter().any(is_on_uplink);
        let whole = reconcile::whole_removals(&plan.edits, &plan.existing, plan.desired(), &devices);
        let edits = whole.into_iter().filter(|edit| edit.before.as_ref().is_some_and(|row| leads(row, is_moving)));
        let is_orphan = |step: &&Step| match step {
            Step::Detach { hook: Hook::FromGuest, .. } => true,
            Step::Detach { .. } | Step::DeleteTunnel(_) => !is_moving,
            _ => false,
        };
        let steps = plan.off.iter().chain(&plan.delete).filter(is_orphan);
        Ok(Self {
            edits: edits.cloned().collect(),
            steps: steps.cloned().collect(),
            devices,
            existing: plan.existing.clone(),
        })
    }

    /// What stands for devices that are gone: their programs' pins, and rows that lead there.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn of_gone_devices(root: &Root, existing: &Rows, devices: &[Device]) -> Result<Self, DatapathError> {
        let there: HashSet<u32> = devices.iter().map(|device| device.index).collect();
        let named: HashSet<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let is_gone = |index: u32| !there.contains(&index);
        let mut kept = existing.clone();
        kept.ports.retain(|ifindex, _| !is_gone(*ifindex));
        kept.addresses.retain(|key, _| !is_gone(key.ifindex));
        let arrives = |row: &Destination| row.kind != destination_kind::LOCAL || !is_gone(row.target);
        kept.fdb.retain(|_, row| arrives(row));
        kept.floods.retain(|_, row| arrives(row));
        kept.uplinks.retain(|key, _| !is_gone(key.ifindex));
        kept.segments.retain(|key, _| !is_gone(key.ifindex));
        let renamed = datapath::renamed(root, devices)?;
        let is_gone = |name: &str| !named.contains(name) && !renamed.contains_key(name);
        let pins = root.link_pins()?.into_iter().filter(|pin| is_gone(&pin.device));
        Ok(Self {
            edits: reconcile::reconcile(existing, &kept),
            steps: pins.map(|pin| Step::Detach { device: pin.device, hook: pin.hook }).collect(),
            devices: names(devices),
            existing: existing.clone(),
        })
    }

    /// Programs and devices: what they are on, and what they are.
    pub fn attached(&self) -> impl Iterator<Item = (String, String)> {
        self.steps.iter().map(|step| match step {
            Step::Detach { device, hook } => (format!("device {device}"), format!("program {hook}")),
            step => (step.to_string(), "it".to_owned()),
        })
    }

    /// What rows are of, and how many there are.
    pub fn objects(&self) -> impl Iterator<Item = (String, usize)> {
        let groups = reconcile::group(&self.edits, &self.existing, &Rows::default(), &self.devices);
        groups.into_iter().map(|group| (group.object, group.edits.len()))
    }

    /// Each as a line of a plan.
    fn lines(&self) -> Vec<String> {
        let rows = self.objects().map(|(object, rows)| format!("{object}: {rows} rows"));
        self.steps.iter().map(Step::to_string).chain(rows).collect()
    }
}

fn is_on_uplink(step: &Step) -> bool {
    matches!(step, Step::Attach { hook: Hook::FromUplink | Hook::FromUplinkXdp, .. })
}

/// Does the row take frames, or send them somewhere? Names, rules, limits and tunnels are only pointed at, possibly by what
/// stays: the next apply removes them.
fn leads(row: &Row, is_moving: bool) -> bool {
    match row {
        Row::Uplinks(..) | Row::Segments(..) => !is_moving,
        Row::Ports(..) | Row::Addresses(..) | Row::Fdb(..) | Row::Floods(..) | Row::Neighbours(..) => true,
        Row::Networks(..) | Row::Gateways(..) | Row::Routes(..) => true,
        Row::PublicAddress(..) | Row::StaticNat(..) | Row::Forwards(..) => true,
        _ => false,
    }
}

/// Takes away what nothing needs: with a document, what is in no definition; without, what stands for devices that are gone.
/// Returns a line for each.
///
/// # Errors
/// When something cannot be taken away; what was until then is, and the next call goes on.
pub fn release(root: &Path, document: Option<(&Zone, &str)>) -> Result<Vec<String>, Error> {
    let root = match Root::open(root) {
        Err(DatapathError::NothingApplied { .. }) => return Ok(Vec::new()),
        root => root?,
    };
    let _lock = root.lock()?;
    let mut tables = Tables::open(&root)?;
    let orphans = match document {
        Some((zone, host)) => Orphans::of_plan(&root, &plan(zone, host, root.path(), Look::Errors)?)?,
        None => Orphans::of_gone_devices(&root, &rows::read(&tables)?, &netlink::devices()?)?,
    };
    take_away(&root, &mut tables, &orphans)?;
    Ok(orphans.lines())
}

/// In the order of an apply: programs, rows, epochs, tunnel devices.
fn take_away(root: &Root, tables: &mut Tables, orphans: &Orphans) -> Result<(), Error> {
    let (tunnels, others): (Vec<&Step>, Vec<&Step>) = orphans.steps.iter().partition(|step| step.is_of_tunnel());
    let gateways = epochs::begin(tables, &orphans.edits)?;
    others.into_iter().try_for_each(|step| step.take_off(root))?;
    orphans.edits.iter().try_for_each(|edit| rows::make(tables, edit))?;
    epochs::finish(tables, &gateways)?;
    tunnels.into_iter().try_for_each(|step| step.take_off(root))
}

fn names(devices: &[Device]) -> HashMap<u32, String> {
    devices.iter().map(|device| (device.index, device.name.clone())).collect()
}
