//! Works out what apply would do, and touches nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use netpath_common::maps::{PublicAddress, PublicKey, Upstream, tunnel_flags, uplink_flags};

use super::{
    attachments::{self, Fallback, UplinkFacts},
    is_own_tunnel, listeners,
    pacing::{self, Unpaced},
    promiscuity, rows, shared,
    steps::Step,
};
use crate::{
    compile::{
        self, Compiled, PLANNED_DEVICE, Role, Rows, Surroundings, TunnelDevice, UplinkUse, Waiting, tunnel_device_name,
        tunnel_devices,
    },
    datapath::{self, AttachState, Attachment, Hook, Kernel, Programs, Root, Takeover},
    definitions::{Isolation, Zone},
    error::Error,
    netlink::{
        self, Device, address,
        ethtool::{self, Offload},
        vxlan::{self, OwnVxlan},
    },
    preflight::{self, Finding, Look, Observed, Severity},
    reconcile::{self, Edit, Group},
};

/// What apply would do, in the order in which it would.
#[derive(Debug)]
pub struct Plan {
    /// The host whose part it is.
    pub host: String,
    /// Tunnel devices to make. While there are some, rows stand for them with an index that is not theirs yet.
    pub make: Vec<Step>,
    /// Queueing disciplines that are there before rows rely on them.
    pub queues: Vec<Step>,
    /// Rows to add, change and remove, in this order.
    pub edits: Vec<Edit>,
    /// Offloads, groups and programs, after rows are added and before any is removed: on.
    pub on: Vec<Step>,
    /// The same: off.
    pub off: Vec<Step>,
    /// Tunnel devices to delete, last, and then their programs' pins.
    pub delete: Vec<Step>,
    /// NICs whose device does not exist yet.
    pub waiting: Vec<Waiting>,
    /// What was found on the host that matters.
    pub findings: Vec<Finding>,
    /// Memory that the maps take, in bytes.
    pub memory: u64,
    pub(super) devices: Vec<Device>,
    pub(super) existing: Rows,
    /// What another ABI's build has applied.
    pub(super) takeover: Option<Takeover>,
    /// Devices have another name than when programs were attached to them.
    pub(super) has_renamed: bool,
    desired: Rows,
    uplinks: Vec<UplinkUse>,
    tunnels: BTreeMap<u16, TunnelDevice>,
    fallbacks: Vec<(String, Fallback)>,
    unpaced: Vec<(String, Unpaced)>,
}

impl Plan {
    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.steps().next().is_none()
    }

    /// Everything but rows.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.make.iter().chain(&self.queues).chain(&self.on).chain(&self.off).chain(&self.delete)
    }

    /// The uplinks that its networks use.
    pub(crate) fn uplinks(&self) -> &[UplinkUse] {
        &self.uplinks
    }

    /// What listens on the UDP ports in use.
    pub(crate) fn tunnels(&self) -> &BTreeMap<u16, TunnelDevice> {
        &self.tunnels
    }

    /// Whether what is in force has a tunnel device of netpath's own on a UDP port.
    pub(crate) fn had_tunnel(&self, port: u16) -> bool {
        let mut uplinks = self.existing.uplinks.iter();
        uplinks.any(|(key, row)| key.udp_port == u32::from(port) && row.flags & uplink_flags::TUNNEL_DEVICE != 0)
    }

    /// Uplinks that do not take XDP though they could be asked to.
    pub(crate) fn fallbacks(&self) -> &[(String, Fallback)] {
        &self.fallbacks
    }

    /// Uplinks on which packets above a rate are dropped though the definitions ask for fq.
    pub(crate) fn unpaced(&self) -> &[(String, Unpaced)] {
        &self.unpaced
    }

    /// The rows that there shall be.
    pub(super) fn desired(&self) -> &Rows {
        &self.desired
    }

    /// The same, without the rest of the plan.
    pub(crate) fn into_desired(self) -> Rows {
        self.desired
    }

    /// The public links that there shall be.
    pub(super) fn upstreams(&self) -> &BTreeMap<u32, Upstream> {
        &self.desired.upstreams
    }

    /// The public addresses that there shall be.
    pub(super) fn public_addresses(&self) -> &BTreeMap<PublicKey, PublicAddress> {
        &self.desired.public_address
    }

    /// The edits by object, for people.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut devices: HashMap<u32, String> = self.devices.iter().map(|d| (d.index, d.name.clone())).collect();
        if let [Step::MakeTunnel(planned)] = &self.make[..] {
            devices.insert(PLANNED_DEVICE, planned.name.clone());
        }
        reconcile::group(&self.edits, &self.existing, &self.desired, &devices)
    }
}

/// Compares what `host`'s part of `zone` wants with what is under `root` and on the devices.
///
/// # Errors
/// When the definitions do not fit the host, or something cannot be read. What merely ought to be known is in
/// [`Plan::findings`], as far as it is looked at, and so are the errors that stop an apply.
pub fn plan(zone: &Zone, host: &str, root: &Path, look: Look) -> Result<Plan, Error> {
    Kernel::probe()?;
    let capacities = |field: &str| zone.host(host).and_then(|host| host.capacities.get(field));
    let in_force = datapath::in_force(root, Some(&capacities))?;
    let opened = in_force.as_ref().map(|found| found.root.clone());
    let (tables, takeover) = in_force.map_or((None, None), |found| (found.tables, found.takeover));
    let existing = tables.as_ref().map(rows::read).transpose()?.unwrap_or_default();
    let devices = netlink::devices()?;
    let own = Root::at(root);
    let has_tables = tables.is_some();
    let programs = match tables {
        Some(_) => Programs::pinned(&own)?,
        // Programs and links outlive maps that somebody has removed: they are replaced, with the maps.
        None => None,
    };
    let actual = datapath::attachments(&own, programs.as_ref(), &devices)?;
    let has_renamed = actual.iter().any(|attachment| attachment.former.is_some());
    let tunnels = tunnel_devices(zone, host, &devices, |device| is_own_tunnel(root, device));
    let host_addresses = address::addresses()?;
    // Walking the host's sockets takes long, and matters only where an address is the host's and a network's.
    let is_public = |address| zone.public_ranges.iter().any(|range| range.cidr.contains(address));
    let (reserved, ephemeral) = match host_addresses.iter().any(is_public) {
        true => (listeners::listeners(&host_addresses)?, Some(listeners::ephemeral()?)),
        false => (Vec::new(), None),
    };
    // What was changed on uplinks is known also where other maps are lost.
    let changed = match has_tables {
        true => existing.uplinks.clone(),
        false => datapath::pinned_uplinks(&own)?.into_iter().collect(),
    };
    let changed = Rows { uplinks: changed, ..Rows::default() };
    let uplinks = pacing::Uplinks::observe(zone, host, &devices, &changed)?;
    let surroundings = Surroundings {
        devices: &devices,
        tunnel_devices: &tunnels,
        existing: &existing,
        host_addresses: &host_addresses,
        reserved: &reserved,
        ephemeral,
        fair_queues: &uplinks.fair_queues,
    };
    let mut compiled = compile::compile(zone, host, surroundings)?;
    let planner = Planner { root, opened: opened.as_ref(), devices: &devices, tunnels: &tunnels, actual: &actual };
    let taken = planner.uplinks(&compiled)?;
    remember_rxvlan(&changed, &mut compiled.rows);
    let mut on = planner.offloads_off(&mut compiled, &taken.xdp)?;
    let (promiscuity_on, promiscuity_off) = promiscuity::steps(&changed, &mut compiled, &devices);
    on.extend(promiscuity_on);
    on.extend(planner.joins(&compiled)?);
    let wanted = attachments::wanted(&compiled.attachments, &taken.xdp);
    let (attach, off) = attachments::steps(&wanted, &actual);
    // A tunnel device keeps its program for as long as it receives.
    let (tunnels_off, mut off): (Vec<_>, Vec<_>) =
        off.into_iter().partition(|step| matches!(step, Step::Detach { hook: Hook::FromTunnel, .. }));
    let make = planner.make();
    // A tunnel device is made with its program on it.
    let comes_along = |step: &Step| {
        let made = |device: &str| make.iter().any(|made| matches!(made, Step::MakeTunnel(own) if own.name == device));
        matches!(step, Step::Attach { device, hook: Hook::FromTunnel } if made(device))
    };
    on.extend(attach.into_iter().filter(|step| !comes_along(step)));
    let (queues, queues_off) = uplinks.steps(&compiled, &devices);
    off.extend(queues_off);
    off.extend(promiscuity_off);
    off.extend(planner.offloads_on(&changed, &compiled.rows));
    off.extend(planner.leaves(&existing, &compiled)?);
    let off = shared::unshared(off, &devices, &actual)?;
    let unpaced = uplinks.unpaced(&compiled);
    let observed = Observed {
        root,
        devices: &devices,
        tunnels: &tunnels,
        actual: &actual,
        fallbacks: &taken.fallbacks,
        unpaced: &unpaced,
    };
    let mut findings = preflight::check(host, &compiled, &observed, look)?;
    findings.extend(takeover.as_ref().map(|takeover| taken_over(root, takeover)));
    Ok(Plan {
        host: host.to_owned(),
        make,
        queues,
        edits: reconcile::reconcile(&existing, &compiled.rows),
        on,
        off,
        delete: planner.delete().into_iter().chain(tunnels_off).collect(),
        findings,
        memory: datapath::memory(&capacities, datapath::cpus()?),
        waiting: compiled.waiting,
        desired: compiled.rows,
        uplinks: compiled.uplinks,
        fallbacks: taken.fallbacks,
        unpaced,
        tunnels,
        devices,
        existing,
        takeover,
        has_renamed,
    })
}

/// What is said of an apply that takes over from another ABI.
fn taken_over(root: &Path, takeover: &Takeover) -> Finding {
    Finding { severity: Severity::Note, object: format!("root {}", root.display()), message: takeover.describe() }
}

struct Planner<'p> {
    root: &'p Path,
    opened: Option<&'p Root>,
    devices: &'p [Device],
    tunnels: &'p BTreeMap<u16, TunnelDevice>,
    actual: &'p [Attachment],
}

/// How uplinks' frames are taken.
struct Taken {
    /// Ifindices of uplinks that take XDP.
    xdp: BTreeSet<u32>,
    /// Uplinks that do not though they could be asked to.
    fallbacks: Vec<(String, Fallback)>,
}

impl Planner<'_> {
    fn own_tunnel(&self, port: u16) -> OwnVxlan {
        let mac = vxlan::own_mac(&self.root.to_string_lossy());
        OwnVxlan { name: tunnel_device_name(port), port, mac }
    }

    /// Tunnel devices that are missing, or were left incomplete.
    fn make(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (port, device) in self.tunnels {
            let own = self.own_tunnel(*port);
            match device {
                TunnelDevice::Planned => steps.push(Step::MakeTunnel(own)),
                TunnelDevice::Own(_) if !self.devices.iter().any(|device| own.is_complete(device)) => {
                    steps.push(Step::CompleteTunnel(own));
                }
                TunnelDevice::Own(_) | TunnelDevice::Foreign(_) => {}
            }
        }
        steps
    }

    /// Own tunnel devices of ports that are not used any more.
    fn delete(&self) -> Vec<Step> {
        let own = self.devices.iter().filter(|device| is_own_tunnel(self.root, device));
        let unused = own.filter_map(|device| {
            let port = device.vxlan.map(|vxlan| vxlan.port)?;
            let is_used = self.tunnels.contains_key(&port) && device.name == tunnel_device_name(port);
            (!is_used).then(|| OwnVxlan { name: device.name.clone(), ..self.own_tunnel(port) })
        });
        unused.map(Step::DeleteTunnel).collect()
    }

    /// Chooses XDP or TC for each uplink.
    fn uplinks(&self, compiled: &Compiled) -> Result<Taken, Error> {
        let mut taken = Taken { xdp: BTreeSet::new(), fallbacks: Vec::new() };
        for attachment in &compiled.attachments {
            let Role::Uplink(mode) = attachment.role else { continue };
            let Some(device) = self.device(attachment.ifindex) else { continue };
            let is_vlan = compiled
                .uplinks
                .iter()
                .any(|used| used.ifindex == Some(attachment.ifindex) && used.isolation == Isolation::Vlan);
            let own = |a: &Attachment| {
                a.device == device.name && a.hook == Hook::FromUplinkXdp && a.state != AttachState::Broken
            };
            let facts = UplinkFacts {
                device,
                mode,
                isolation: if is_vlan { Isolation::Vlan } else { Isolation::Vxlan },
                rxvlan: rxvlan(device),
                was_refused: self.opened.is_some_and(|root| root.xdp_refusal(&device.name).exists()),
                is_free: device.xdp_program.is_none() || self.actual.iter().any(own),
            };
            match attachments::takes_xdp(facts) {
                Ok(true) => drop(taken.xdp.insert(device.index)),
                Ok(false) => {}
                Err(fallback) => taken.fallbacks.push((device.name.clone(), fallback)),
            }
        }
        Ok(taken)
    }

    /// XDP sees no tag that the NIC has taken out: `rxvlan` goes off on uplinks with XDP and on their slaves, and
    /// UPLINKS remembers, before it does, that it was on.
    fn offloads_off(&self, compiled: &mut Compiled, xdp: &BTreeSet<u32>) -> Result<Vec<Step>, Error> {
        let receives =
            |device: &&Device| xdp.contains(&device.index) || device.master.is_some_and(|master| xdp.contains(&master));
        let rows = &mut compiled.rows.uplinks;
        let mut steps = Vec::new();
        for device in self.devices.iter().filter(receives) {
            let mut rows = rows.iter_mut().filter(|(key, _)| key.ifindex == device.index).peekable();
            let offload = rxvlan(device);
            if rows.peek().is_none() || !offload.is_on || !offload.is_switchable {
                continue;
            }
            rows.for_each(|(_, row)| row.flags |= uplink_flags::RESTORE_RXVLAN);
            steps.push(Step::Rxvlan { device: device.name.clone(), ifindex: device.index, on: false });
        }
        Ok(steps)
    }

    /// `rxvlan` goes on again where it was, on devices that are no uplink any more.
    fn offloads_on(&self, existing: &Rows, desired: &Rows) -> Vec<Step> {
        let kept: HashSet<u32> = desired.uplinks.keys().map(|key| key.ifindex).collect();
        let changed = existing
            .uplinks
            .iter()
            .filter(|(key, row)| row.flags & uplink_flags::RESTORE_RXVLAN != 0 && !kept.contains(&key.ifindex));
        let devices: BTreeSet<u32> = changed.map(|(key, _)| key.ifindex).collect();
        let devices = devices.into_iter().filter_map(|index| self.device(index));
        devices.map(|d| Step::Rxvlan { device: d.name.clone(), ifindex: d.index, on: true }).collect()
    }

    fn joins(&self, compiled: &Compiled) -> Result<Vec<Step>, Error> {
        let actual: HashSet<_> = address::memberships()?.into_iter().collect();
        let missing = compiled.memberships.iter().filter(|membership| !actual.contains(membership));
        Ok(missing.copied().map(Step::Join).collect())
    }

    /// Groups of tunnels in force that are not wanted any more.
    fn leaves(&self, existing: &Rows, compiled: &Compiled) -> Result<Vec<Step>, Error> {
        let tunnels = existing.tunnels.values().filter(|tunnel| tunnel.flags & tunnel_flags::GROUP != 0);
        let own: HashSet<[u8; 4]> = tunnels.map(|tunnel| tunnel.remote).collect();
        let actual = address::memberships()?.into_iter();
        let unwanted = actual.filter(|m| own.contains(&m.group.octets()) && !compiled.memberships.contains(m));
        Ok(unwanted.map(Step::Leave).collect())
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.index == index)
    }
}

/// That `rxvlan` was on is remembered by any row of the device, and outlives a change of its UDP port.
fn remember_rxvlan(existing: &Rows, desired: &mut Rows) {
    let changed: HashSet<u32> = existing
        .uplinks
        .iter()
        .filter(|(_, row)| row.flags & uplink_flags::RESTORE_RXVLAN != 0)
        .map(|(key, _)| key.ifindex)
        .collect();
    for (_, row) in desired.uplinks.iter_mut().filter(|(key, _)| changed.contains(&key.ifindex)) {
        row.flags |= uplink_flags::RESTORE_RXVLAN;
    }
}

/// The switch's state; a driver that cannot be asked has none.
fn rxvlan(device: &Device) -> Offload {
    ethtool::offload(device.index, ethtool::RX_VLAN).unwrap_or(Offload { is_on: false, is_switchable: false })
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{Uplink, UplinkKey};

    use super::*;

    #[test]
    fn an_uplink_whose_port_changes_still_gets_its_offload_back() {
        let row = |udp_port, flags| (UplinkKey { ifindex: 3, udp_port }, Uplink { local: [192, 0, 2, 11], flags });
        let existing = Rows { uplinks: [row(4789, uplink_flags::RESTORE_RXVLAN)].into(), ..Rows::default() };
        let mut desired = Rows { uplinks: [row(8472, 0)].into(), ..Rows::default() };
        remember_rxvlan(&existing, &mut desired);
        assert_eq!(desired.uplinks, [row(8472, uplink_flags::RESTORE_RXVLAN)].into());
    }
}
