//! `netpath detach`: takes every program off and gives devices back as they were.

use std::path::Path;

use netpath_common::maps::{Tunnel, uplink_flags};
use serde::Serialize;

use super::{Exit, Global, output};
use crate::{
    apply,
    datapath::{self, DatapathError, Hook, LinkPin, Root, Tables},
    error::Error,
    history::{History, Writer},
    netlink::{self, Device, address, ethtool, fq, link, vxlan::OwnVxlan},
};

/// Take every program off, restore what was changed on devices, delete netpath's own tunnel devices
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove the pinned maps and programs as well, and with them counters and names
    #[arg(long)]
    purge: bool,
}

/// What `-o json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Programs taken off, as device and hook.
    detached: Vec<String>,
    /// Devices whose `rxvlan` offload was turned on again.
    restored: Vec<String>,
    /// Devices that have the kernel's default queueing discipline again.
    unqueued: Vec<String>,
    /// Devices that take only frames for themselves again.
    unpromiscuous: Vec<String>,
    /// netpath's own devices that were deleted.
    deleted: Vec<String>,
    /// Multicast groups left.
    left: Vec<String>,
    /// The pins were removed.
    purged: bool,
    /// There was something under the root.
    #[serde(skip)]
    was_applied: bool,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let history = History::open(&global.state_dir, &global.root);
    if existing(global)?.is_some()
        && let Some(agent) = Root::agent(&global.root)
    {
        return Err(Error::AgentWouldAttach { agent });
    }
    let waiting = waiting(&history);
    let report = take_down(args.purge, global)?;
    if let Some(Err(error)) = waiting.map(|waiting| waiting.end_waiting()) {
        tracing::warn!("{}", history.unwritable(error));
    }
    output::print(global.output, &report, || report.render(global))?;
    Ok(Exit::Done)
}

/// What is taken off is not to be brought back by whoever waits for a confirmation. A history that fails keeps nothing from
/// being taken off.
fn waiting(history: &History) -> Option<Writer<'_>> {
    match history.awaited().and_then(|awaited| awaited.map(|_| history.write()).transpose()) {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::warn!("whether a revision awaits confirmation is not known: {error}");
            None
        }
    }
}

/// Takes every program off, and with `purge` removes the pins.
pub(super) fn take_down(purge: bool, global: &Global) -> Result<Report, Error> {
    let Some(root) = existing(global)? else { return Ok(Report::default()) };
    let _lock = root.lock()?;
    let mut report = Report { was_applied: true, ..Report::default() };
    let mut pins = root.link_pins()?;
    pins.sort_by(|a, b| (b.hook, &a.device).cmp(&(a.hook, &b.device)));
    let own = own_programs(&root);
    // A tunnel device keeps its program until it is deleted: without one, tenants' frames would enter the host's stack.
    let (on_tunnels, others): (Vec<_>, Vec<_>) = pins.into_iter().partition(|pin| pin.hook == Hook::FromTunnel);
    take_off(&root, &others, &mut report)?;
    match Tables::open(&root) {
        Ok(mut tables) => give_back(root.path(), &mut tables, &own, &mut report)?,
        // Maps of another ABI, or removed by hand: there is nothing to learn from them.
        Err(DatapathError::NothingApplied { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    take_off(&root, &on_tunnels, &mut report)?;
    if purge {
        root.purge()?;
        report.purged = true;
    }
    Ok(report)
}

/// The ids of what is attached: the kernel lists a program for a moment after it was taken off.
fn own_programs(root: &Root) -> Vec<u32> {
    let attached = netlink::devices().map_err(Error::from).and_then(|devices| {
        let attached = datapath::attachments(root, None, &devices)?;
        Ok(attached.into_iter().map(|attachment| attachment.program).collect())
    });
    attached.unwrap_or_else(|error| {
        tracing::warn!("which programs are this root's is not known: {error}");
        Vec::new()
    })
}

fn take_off(root: &Root, pins: &[LinkPin], report: &mut Report) -> Result<(), Error> {
    for pin in pins {
        datapath::detach(root, &pin.device, pin.hook)?;
        report.detached.push(format!("{} from {}", pin.hook, pin.device));
    }
    Ok(())
}

fn existing(global: &Global) -> Result<Option<Root>, Error> {
    match Root::open(&global.root) {
        Ok(root) => Ok(Some(root)),
        Err(DatapathError::NothingApplied { .. }) => {
            // Maps may be gone while programs are attached.
            let root = Root::at(&global.root);
            Ok(if root.link_pins()?.is_empty() { None } else { Some(root) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Restores offloads and queueing disciplines, leaves multicast groups and deletes own devices, as UPLINKS and TUNNELS tell. What
/// another root's guests rely on stays, and UPLINKS goes on telling.
fn give_back(root: &Path, tables: &mut Tables, own: &[u32], report: &mut Report) -> Result<(), Error> {
    const SHARED: u32 = uplink_flags::RESTORE_QDISC | uplink_flags::RESTORE_PROMISCUITY;
    let devices = netlink::devices()?;
    for (key, mut uplink) in tables.uplinks.rows()? {
        let Some(device) = devices.iter().find(|device| device.index == key.ifindex) else { continue };
        if uplink.flags & uplink_flags::RESTORE_RXVLAN != 0 {
            ethtool::set_offload(device.index, ethtool::RX_VLAN, true)?;
            uplink.flags &= !uplink_flags::RESTORE_RXVLAN;
            tables.uplinks.put(&key, &uplink)?;
            report.restored.push(device.name.clone());
        }
        if uplink.flags & SHARED != 0 && apply::is_shared(device, own)? {
            tracing::warn!(
                "device {0}: its queueing discipline and promiscuous mode stay, for another root has it as well; detach this one again \
                 after that",
                device.name
            );
            continue;
        }
        if uplink.flags & uplink_flags::RESTORE_QDISC != 0 {
            fq::uninstall(device.index, &device.name)?;
            uplink.flags &= !uplink_flags::RESTORE_QDISC;
            tables.uplinks.put(&key, &uplink)?;
            report.unqueued.push(device.name.clone());
        }
        if uplink.flags & uplink_flags::RESTORE_PROMISCUITY != 0 {
            link::set_promiscuity(device.index, &device.name, false)?;
            uplink.flags &= !uplink_flags::RESTORE_PROMISCUITY;
            tables.uplinks.put(&key, &uplink)?;
            report.unpromiscuous.push(device.name.clone());
        }
    }
    for devices in [&mut report.restored, &mut report.unqueued, &mut report.unpromiscuous] {
        devices.sort();
        devices.dedup();
    }
    for device in devices.iter().filter(|device| apply::is_own_tunnel(root, device)) {
        let port = device.vxlan.map_or(0, |vxlan| vxlan.port);
        OwnVxlan { name: device.name.clone(), port, mac: device.mac.unwrap_or_default() }.delete()?;
        report.deleted.push(device.name.clone());
    }
    leave_groups(&tables.tunnels.rows()?, &devices, report)
}

fn leave_groups(tunnels: &[Tunnel], devices: &[Device], report: &mut Report) -> Result<(), Error> {
    for membership in address::memberships()? {
        let is_own = tunnels.iter().any(|tunnel| {
            let egress = devices.iter().find(|device| device.index == tunnel.egress);
            let on = egress.map(|device| layer3(device, devices).index);
            tunnel.remote == membership.group.octets() && on == Some(membership.device)
        });
        if is_own {
            address::leave(membership)?;
            report.left.push(membership.group.to_string());
        }
    }
    Ok(())
}

/// The device that has an uplink's IP addresses: itself, or the bridge or bond above it.
pub(super) fn layer3<'a>(device: &'a Device, devices: &'a [Device]) -> &'a Device {
    match device.master.and_then(|master| devices.iter().find(|above| above.index == master)) {
        Some(above) => layer3(above, devices),
        None => device,
    }
}

impl Report {
    pub(super) fn render(&self, global: &Global) -> String {
        if !self.was_applied {
            return format!("nothing is applied under {}\n", global.root.display());
        }
        let mut text = String::new();
        for line in &self.detached {
            text += &format!("- {line}\n");
        }
        for device in &self.restored {
            text += &format!("~ rxvlan offload of {device} is on again\n");
        }
        for device in &self.unqueued {
            text += &format!("- queueing discipline fq on {device}: the default is back\n");
        }
        for device in &self.unpromiscuous {
            text += &format!("~ promiscuous mode of {device} is off again\n");
        }
        for device in &self.deleted {
            text += &format!("- device {device}\n");
        }
        for group in &self.left {
            text += &format!("- multicast group {group}\n");
        }
        match self.purged {
            true => text += "maps and programs are removed\n",
            false => text += "maps keep their rows; `netpath apply` attaches again, `detach --purge` removes them\n",
        }
        text
    }
}
