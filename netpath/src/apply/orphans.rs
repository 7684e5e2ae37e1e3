//! What is in force and needed by nothing: found, told, and taken away without anything being added.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use netpath_common::{
    Mac,
    maps::{Destination, UplinkKey, destination_kind, uplink_flags},
};

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
    /// What apply has changed on uplinks, and only the rows that go remember.
    restored: Vec<Step>,
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
        if plan.has_renamed || !datapath::renamed(root, &plan.devices)?.is_empty() {
            // The document does not find them, so that all that leads through them looks needless: it is in use.
            return Ok(Self::default());
        }
        let devices = names(&plan.devices);
        let uplinks = Uplinks {
            are_moving: !plan.make.is_empty() || plan.on.iter().any(is_on_uplink),
            // The document may well mean the one that is in use, and has its name wrong.
            are_missing: plan.uplinks().iter().any(|uplink| uplink.device.is_some() && uplink.ifindex.is_none()),
        };
        let whole = reconcile::whole_removals(&plan.edits, &plan.existing, plan.desired(), &devices);
        let guests = InUse::of_plan(plan, &devices);
        let is_needless = |row: &Row| leads(row, uplinks) && !guests.has(row);
        let edits: Vec<Edit> =
            whole.into_iter().filter(|edit| edit.before.as_ref().is_some_and(is_needless)).cloned().collect();
        let is_forgotten = |step: &&Step| is_forgotten(step, &plan.existing, &edits);
        let is_orphan = |step: &&Step| is_orphan(step, uplinks) && !guests.is_on(step, &devices);
        let steps = plan.off.iter().chain(&plan.delete).filter(is_orphan);
        Ok(Self {
            steps: steps.cloned().collect(),
            restored: plan.off.iter().filter(is_forgotten).cloned().collect(),
            edits,
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
            restored: Vec::new(),
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
        self.steps.iter().chain(&self.restored).map(Step::to_string).chain(rows).collect()
    }
}

fn is_on_uplink(step: &Step) -> bool {
    matches!(step, Step::Attach { hook: Hook::FromUplink | Hook::FromUplinkXdp, .. })
}

/// What keeps that in use which leads through uplinks.
#[derive(Debug, Clone, Copy)]
struct Uplinks {
    /// Frames will be taken on other devices, and are not yet.
    are_moving: bool,
    /// The document names some for this host that do not exist.
    are_missing: bool,
}

impl Uplinks {
    fn are_kept(self) -> bool {
        self.are_moving || self.are_missing
    }
}

/// Devices in use of NICs that the document has on others, which are not there: it may well mean these, and has their names wrong.
#[derive(Debug, Default)]
struct InUse {
    devices: HashSet<u32>,
    macs: HashSet<Mac>,
}

impl InUse {
    fn of_plan(plan: &Plan, devices: &HashMap<u32, String>) -> Self {
        let waiting: HashSet<&str> = plan.waiting.iter().map(|nic| nic.mac.as_str()).collect();
        let ports = plan.existing.ports.values();
        let in_use = ports
            .filter(|port| devices.contains_key(&port.ifindex) && waiting.contains(port.mac.to_string().as_str()))
            .map(|port| (port.ifindex, port.mac));
        let (devices, macs) = in_use.unzip();
        Self { devices, macs }
    }

    /// Whether a row is of such a NIC.
    fn has(&self, row: &Row) -> bool {
        match row {
            Row::Ports(ifindex, _) => self.devices.contains(ifindex),
            Row::Addresses(key, _) => self.devices.contains(&key.ifindex),
            Row::Fdb(_, to) | Row::Floods(_, to) => {
                to.kind == destination_kind::LOCAL && self.devices.contains(&to.target)
            }
            Row::Neighbours(_, neighbour) => self.macs.contains(&neighbour.mac),
            _ => false,
        }
    }

    /// Whether a step takes a program off such a device.
    fn is_on(&self, step: &Step, names: &HashMap<u32, String>) -> bool {
        match step {
            Step::Detach { device, .. } => {
                self.devices.iter().any(|index| names.get(index).is_some_and(|name| name == device))
            }
            _ => false,
        }
    }
}

fn is_orphan(step: &Step, uplinks: Uplinks) -> bool {
    match step {
        Step::Detach { hook: Hook::FromGuest, .. } => true,
        Step::Detach { .. } | Step::DeleteTunnel(_) => !uplinks.are_kept(),
        _ => false,
    }
}

/// Does the step give back what no row would remember when these edits are made? On an uplink that stays it is the next apply's.
fn is_forgotten(step: &Step, existing: &Rows, edits: &[Edit]) -> bool {
    let (index, flag) = match step {
        Step::Rxvlan { ifindex, on: true, .. } => (*ifindex, uplink_flags::RESTORE_RXVLAN),
        Step::Promiscuity { ifindex, on: false, .. } => (*ifindex, uplink_flags::RESTORE_PROMISCUITY),
        Step::DefaultQueue { ifindex, .. } => (*ifindex, uplink_flags::RESTORE_QDISC),
        _ => return false,
    };
    let goes =
        |key: &UplinkKey| edits.iter().any(|edit| matches!(&edit.before, Some(Row::Uplinks(going, _)) if going == key));
    let remember = existing.uplinks.iter().filter(|(key, row)| key.ifindex == index && row.flags & flag != 0);
    let keys: Vec<&UplinkKey> = remember.map(|(key, _)| key).collect();
    !keys.is_empty() && keys.into_iter().all(goes)
}

/// Does the row take frames, or send them somewhere? Names, rules, limits and tunnels are only pointed at, possibly by what
/// stays: the next apply removes them. Without its uplink a document has no rows for public addresses and for what is beyond it.
fn leads(row: &Row, uplinks: Uplinks) -> bool {
    match row {
        Row::Uplinks(..) | Row::Segments(..) => !uplinks.are_kept(),
        Row::Ports(..) | Row::Addresses(..) | Row::Networks(..) | Row::Gateways(..) | Row::Routes(..) => true,
        Row::Fdb(_, to) | Row::Floods(_, to) => !uplinks.are_missing || to.kind == destination_kind::LOCAL,
        Row::Neighbours(..) | Row::PublicAddress(..) | Row::StaticNat(..) | Row::Forwards(..) => !uplinks.are_missing,
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

/// In the order of an apply: programs, what was changed on uplinks, rows, epochs, tunnel devices.
fn take_away(root: &Root, tables: &mut Tables, orphans: &Orphans) -> Result<(), Error> {
    let (tunnels, others): (Vec<&Step>, Vec<&Step>) = orphans.steps.iter().partition(|step| step.is_of_tunnel());
    let gateways = epochs::begin(tables, &orphans.edits)?;
    others.into_iter().chain(&orphans.restored).try_for_each(|step| step.take_off(root))?;
    orphans.edits.iter().try_for_each(|edit| rows::make(tables, edit))?;
    epochs::finish(tables, &gateways)?;
    tunnels.into_iter().try_for_each(|step| step.take_off(root))
}

fn names(devices: &[Device]) -> HashMap<u32, String> {
    devices.iter().map(|device| (device.index, device.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{FdbKey, PublicAddress, PublicKey, Segment, SegmentKey, Uplink};

    use super::*;

    const STEADY: Uplinks = Uplinks { are_moving: false, are_missing: false };
    const MOVING: Uplinks = Uplinks { are_moving: true, ..STEADY };
    const MISSING: Uplinks = Uplinks { are_missing: true, ..STEADY };

    fn off(device: &str, hook: Hook) -> Step {
        Step::Detach { device: device.into(), hook }
    }

    #[test]
    fn programs_of_uplinks_are_no_orphans_while_the_document_names_one_that_does_not_exist() {
        let uplink = off("eth2", Hook::FromUplink);
        assert_eq!([STEADY, MOVING, MISSING].map(|uplinks| is_orphan(&uplink, uplinks)), [true, false, false]);
        let guest = off("vnet0", Hook::FromGuest);
        assert!([STEADY, MOVING, MISSING].into_iter().all(|uplinks| is_orphan(&guest, uplinks)));
    }

    #[test]
    fn what_was_changed_on_an_uplink_is_given_back_with_the_last_row_that_remembers_it() {
        let uplink = |ifindex, udp_port, flags| (UplinkKey { ifindex, udp_port }, Uplink { local: [0; 4], flags });
        let (both, promiscuous) = (uplink_flags::RESTORE_RXVLAN, uplink_flags::RESTORE_PROMISCUITY);
        let rows = [uplink(2, 0, both | promiscuous), uplink(2, 4789, both), uplink(3, 0, 0)];
        let existing = Rows { uplinks: rows.into(), ..Rows::default() };
        let rxvlan = Step::Rxvlan { device: "eth2".into(), ifindex: 2, on: true };
        let promiscuity = |ifindex| Step::Promiscuity { device: "eth".into(), ifindex, on: false };
        let queue = Step::DefaultQueue { device: "eth2".into(), ifindex: 2, queues: 1 };
        let steps = [rxvlan, promiscuity(2), promiscuity(3), queue, off("eth2", Hook::FromUplink)];
        let forgotten = |going: &[usize]| {
            let edit = |place: &usize| Edit { before: Some(Row::Uplinks(rows[*place].0, rows[*place].1)), after: None };
            let edits: Vec<Edit> = going.iter().map(edit).collect();
            steps.clone().map(|step| is_forgotten(&step, &existing, &edits))
        };
        assert_eq!(forgotten(&[]), [false; 5]);
        assert_eq!(forgotten(&[0, 2]), [false, true, false, false, false], "it is an uplink still");
        assert_eq!(forgotten(&[0, 1, 2]), [true, true, false, false, false]);
    }

    #[test]
    fn rows_that_lead_through_uplinks_are_no_orphans_while_one_is_missing() {
        let to =
            |kind| Row::Fdb(FdbKey::new(1, netpath_common::Mac::ZERO), Destination { kind, ..Destination::default() });
        let of_uplinks = [
            to(destination_kind::UPLINK),
            Row::PublicAddress(PublicKey::default(), PublicAddress::default()),
            Row::Segments(SegmentKey { ifindex: 2, udp_port: 0, id: 900 }, Segment::default()),
        ];
        assert!(of_uplinks.iter().all(|row| leads(row, STEADY) && !leads(row, MISSING)));
        let of_guests = [to(destination_kind::LOCAL), Row::Ports(7, netpath_common::maps::Port::default())];
        assert!(of_guests.iter().all(|row| leads(row, MISSING)));
    }
}
