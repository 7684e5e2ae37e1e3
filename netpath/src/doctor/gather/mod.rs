//! Looks at the host: pins and maps, devices, files under /proc and /sys, and probes to other hosts and routers. Nothing is
//! changed.

mod arp;
mod echo;
mod guests;
mod links;
mod rows;
mod rules;
pub(super) mod system;
mod tables;
mod unpinned;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::host::{Document, Host, Orphan, Pins};
use crate::{
    apply::{self, Fallback, Orphans},
    compile::{CompileError, Rows, TunnelDevice},
    datapath::{self, DEFAULT_ROOT, DatapathError, Hook, Programs, Root, Tables},
    definitions::Zone,
    error::Error,
    netlink::{self, Device, XdpSupport, address, route},
    preflight::Look,
};

pub(crate) use self::guests::{bypassed, guests};

/// What devices count is looked at twice, so far apart at least.
const INTERVAL: Duration = Duration::from_millis(500);

/// A document, and which part of it is meant.
#[derive(Debug)]
pub(crate) struct Definitions {
    /// Where it is.
    pub(crate) file: PathBuf,
    /// What it says.
    pub(crate) zone: Zone,
    /// The host.
    pub(crate) host: String,
}

/// Everything that checks look at.
///
/// # Errors
/// When the kernel cannot be asked, or does not let the caller ask.
pub(crate) fn gather(root: &Path, definitions: Option<&Definitions>) -> Result<Host, Error> {
    let mut host = Host {
        root: root.to_owned(),
        apply: command("apply", root, definitions, " -f FILE"),
        release: command("doctor --release", root, definitions, ""),
        ..Host::default()
    };
    host.devices = netlink::devices()?;
    host.addresses = address::by_device()?;
    let names: Vec<&str> = host.devices.iter().map(|device| device.name.as_str()).collect();
    host.system = system::read(Path::new("/"), &names);
    let applied = open(root, &mut host)?;
    if matches!(host.pins, Pins::Missing(_)) {
        // Which host was applied is not known any more.
        host.apply = command("apply", root, definitions, " -f FILE --host HOST");
    }
    host.name = match (definitions, &applied) {
        (Some(definitions), _) => definitions.host.clone(),
        (None, Some(applied)) => datapath::applied_host(&applied.tables)?.unwrap_or_default(),
        (None, None) => String::new(),
    };
    let existing = applied.as_ref().map(|applied| apply::rows_in_force(&applied.tables)).transpose()?;
    if let (Some(applied), Some(existing)) = (&applied, &existing) {
        attached(applied, &mut host)?;
        host.unpinned = unpinned::unpinned(applied, existing, &host)?;
        host.unjoined = rows::unjoined(existing, &host.devices, &address::memberships()?);
        filled(applied, existing, &mut host)?;
    }
    let (begun, portless) = (Instant::now(), applied.as_ref().map(|applied| tables::portless(&applied.tables)));
    let portless = portless.transpose()?.unwrap_or_default();
    let rows = match definitions {
        Some(definitions) => compare(root, definitions, &mut host)?,
        None => None,
    };
    match (&rows, &existing) {
        (Some(rows), _) => describe(rows, &mut host, applied.as_ref())?,
        (None, Some(rows)) => {
            in_force(root, rows, &mut host)?;
            describe(rows, &mut host, applied.as_ref())?;
        }
        (None, None) => {}
    }
    look(&mut host);
    if let (Some(applied), Some(existing)) = (&applied, &existing) {
        let (now, seconds) = (tables::portless(&applied.tables)?, begun.elapsed().as_secs_f64());
        host.portless = tables::portless_since(existing, &portless, &now, seconds);
    }
    Ok(host)
}

/// How full maps are, and networks.
fn filled(applied: &Applied, existing: &Rows, host: &mut Host) -> Result<(), DatapathError> {
    let live = tables::live_flows(&applied.tables)?;
    host.fills = tables::fills(&applied.root, &applied.tables, existing, &live)?;
    host.connections = tables::connections(existing, &live);
    Ok(())
}

/// What is pinned, open.
struct Applied {
    root: Root,
    tables: Tables,
}

/// A command as it would be called for this root and document; `otherwise` is said where there is no document.
fn command(verb: &str, root: &Path, definitions: Option<&Definitions>, otherwise: &str) -> String {
    let root = match root == Path::new(DEFAULT_ROOT) {
        true => String::new(),
        false => format!(" --root {}", root.display()),
    };
    match definitions {
        Some(Definitions { file, host, .. }) => format!("netpath{root} {verb} -f {} --host {host}", file.display()),
        None => format!("netpath{root} {verb}{otherwise}"),
    }
}

/// Opens what is pinned, and says what it is.
fn open(root: &Path, host: &mut Host) -> Result<Option<Applied>, Error> {
    if !Root::is_on_bpffs(root)? {
        host.pins = Pins::NotBpffs;
        return Ok(None);
    }
    let opened = Root::open(root).and_then(|root| Ok((Tables::open(&root)?, root)));
    let (pins, applied) = match opened {
        Ok((tables, root)) => {
            let is_current = matches!(Programs::pinned(&root), Ok(Some(_)));
            (Pins::Applied { is_current }, Some(Applied { root, tables }))
        }
        Err(DatapathError::NothingApplied { .. }) => (without_maps(root)?, None),
        Err(DatapathError::OtherAbi { found, .. }) => (Pins::OtherAbi(found), None),
        Err(DatapathError::Unfinished { found, .. }) => (Pins::BetweenAbis(found), None),
        Err(error @ DatapathError::MapLayout { .. }) => (Pins::Unusable(error.to_string()), None),
        Err(error) => return Err(error.into()),
    };
    host.pins = pins;
    Ok(applied)
}

/// What there is where not every map is pinned: programs that are, or nothing that counts.
fn without_maps(root: &Path) -> Result<Pins, Error> {
    let root = Root::at(root);
    if root.link_pins()?.is_empty() {
        return Ok(Pins::Nothing);
    }
    let missing = root.missing_maps();
    // An apply may have made them since.
    Ok(if missing.is_empty() { Pins::Unknown } else { Pins::Missing(missing) })
}

/// What is attached, against what devices run.
fn attached(applied: &Applied, host: &mut Host) -> Result<(), Error> {
    let programs = Programs::pinned(&applied.root).ok().flatten();
    host.attachments = datapath::attachments(&applied.root, programs.as_ref(), &host.devices)?;
    host.renamed = datapath::renamed(&applied.root, &host.devices)?;
    let is_lost = |name: &str| host.named(name).is_none() && !host.renamed.contains_key(name);
    let uplinks = host.attachments.iter().filter(|attachment| attachment.hook == Hook::FromUplink);
    host.lost_uplinks = uplinks.map(|a| a.device.clone()).filter(|name| is_lost(name)).collect();
    Ok(())
}

/// What the document wants; `None` where that cannot be told.
fn compare(root: &Path, definitions: &Definitions, host: &mut Host) -> Result<Option<Rows>, Error> {
    if !matches!(host.pins, Pins::Applied { .. } | Pins::Nothing | Pins::Missing(_)) {
        return Ok(None);
    }
    let plan = match apply::plan(&definitions.zone, &definitions.host, root, Look::Errors) {
        Err(Error::Compile(CompileError::UnknownHost { known, .. })) => {
            host.document = Some(Document::UnknownHost(known));
            return Ok(None);
        }
        Err(error @ (Error::Compile(_) | Error::Datapath(DatapathError::MapCapacity { .. }))) => {
            host.document = Some(Document::Unfit(error.to_string()));
            return Ok(None);
        }
        // The kernel is another check's.
        Err(Error::Datapath(DatapathError::KernelTooOld { .. })) => return Ok(None),
        plan => plan?,
    };
    host.document = Some(Document::Compared { edits: plan.edits.len(), steps: plan.steps().count() });
    if !matches!(host.pins, Pins::Missing(_)) {
        host.orphans = described(&Orphans::of_plan(&Root::at(root), &plan)?, "in no definition");
    }
    host.uplinks = plan.uplinks().to_vec();
    host.fallbacks = plan.fallbacks().to_vec();
    host.unpaced = plan.unpaced().to_vec();
    host.tunnels = plan.tunnels().clone();
    // One that the document is the first to want is missing in what is applied, and not gone.
    host.tunnels.retain(|port, device| *device != TunnelDevice::Planned || plan.had_tunnel(*port));
    Ok(Some(plan.into_desired()))
}

/// The same of what is in force, without a document.
fn in_force(root: &Path, rows: &Rows, host: &mut Host) -> Result<(), Error> {
    let root = Root::open(root)?;
    host.orphans = described(&Orphans::of_gone_devices(&root, rows, &host.devices)?, "for a device that is gone");
    host.uplinks = rows::uplinks(rows, &host.devices);
    host.tunnels = rows::tunnels(rows, &host.devices);
    let takes_xdp =
        |device: &Device| host.attachments.iter().any(|a| a.device == device.name && a.hook == Hook::FromUplinkXdp);
    let present = host.present_uplinks().map(|(_, device)| device);
    let without = present.filter(|device| device.xdp == XdpSupport::Absent && !takes_xdp(device));
    host.fallbacks = without.map(|device| (device.name.clone(), Fallback::NoDriver)).collect();
    host.fallbacks.dedup();
    Ok(())
}

/// Orphans in words.
fn described(orphans: &Orphans, why: &str) -> Vec<Orphan> {
    let attached =
        orphans.attached().map(|(object, what)| Orphan { object, what: format!("{what} is {why}"), is_attached: true });
    let mut found: Vec<Orphan> = attached.collect();
    for (object, rows) in orphans.objects() {
        let what = if rows == 1 { format!("1 row is {why}") } else { format!("{rows} rows are {why}") };
        found.push(Orphan { object, what, is_attached: false });
    }
    found
}

/// Guests, segments, peers and public links, as rows tell.
fn describe(rows: &Rows, host: &mut Host, applied: Option<&Applied>) -> Result<(), Error> {
    host.guests = guests(rows, &host.devices);
    // Without their maps programs are netpath's still.
    let attachments = match host.pins {
        Pins::Missing(_) => &datapath::attachments(&Root::at(&host.root), None, &host.devices)?,
        _ => &host.attachments,
    };
    (host.bypasses, host.rivals) = bypassed(&host.root, &host.guests, attachments, &host.devices, Look::All)?;
    host.segments = rows::segments(rows);
    host.gateways = rows::gateways(rows);
    host.peers = rows::peers(rows, &host.uplinks);
    for peer in &mut host.peers {
        peer.route = route::device_towards(peer.remote)?;
    }
    host.public_links = rows::public_links(rows, &host.devices);
    if let Some(applied) = applied {
        for (link, index) in host.public_links.iter_mut().zip(rows.upstreams.keys()) {
            link.heard = tables::heard(&applied.tables, *index)?;
        }
    }
    host.vlan_devices = links::vlan_devices(&host.devices);
    host.links = links::links(host);
    probe(host, rows)
}

/// Asks other hosts and routers.
fn probe(host: &mut Host, rows: &Rows) -> Result<(), Error> {
    let own = |peer: &super::host::Peer| host.addresses.iter().any(|(_, address)| address.addr() == peer.local);
    let asked: Vec<usize> = (0..host.peers.len()).filter(|place| own(&host.peers[*place])).collect();
    let targets: Vec<echo::Target> = asked.iter().map(|place| echo::Target::of(&host.peers[*place])).collect();
    for (place, answer) in asked.into_iter().zip(echo::ask(&targets)?) {
        host.peers[place].echo = answer;
    }
    for (link, row) in host.public_links.iter_mut().zip(rows.upstreams.values()) {
        // A device that is gone or down cannot ask; that is another check's.
        link.answers = arp::answers(row).unwrap_or(false);
    }
    Ok(())
}

/// Looks at what devices count, a second time.
fn look(host: &mut Host) {
    if let Some(begun) = host.links.iter().filter_map(|link| link.begun).max() {
        thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
    }
    links::look_again(&mut host.links);
}
