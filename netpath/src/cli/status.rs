//! `netpath status`: what is applied here, and whether it works.

use netpath_common::maps::{ABI_VERSION, name_kind, uplink_flags};
use serde::Serialize;

use super::{Exit, Global, agent_state::Agent, applied::Applied, output, table::Table};
use crate::{
    agent::record::now,
    datapath::{self, AttachState, DatapathError, Hook, Programs, Root},
    error::Error,
    history::{Awaited, History, Restores, rfc3339},
};

/// Show what is applied on this host: programs on devices, and whether each works
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Status {
    /// The pin root.
    root: String,
    /// Version of the maps' layouts.
    abi: u32,
    /// The host whose part was applied.
    host: Option<String>,
    /// The kernel's release.
    kernel: String,
    /// TC programs attach by tcx links, not by clsact filters.
    tcx: bool,
    /// This build's programs are loaded.
    programs_current: bool,
    /// Networks with a member on this host.
    networks: usize,
    /// Guest ports in force.
    ports: usize,
    /// Guest ports that wait for their device, as network/instance/mac.
    waiting: Vec<String>,
    /// Programs on devices.
    attachments: Vec<Row>,
    /// netpath's own tunnel devices.
    tunnel_devices: Vec<String>,
    /// The revision that awaits `netpath confirm`.
    confirmation: Option<Confirmation>,
    /// The agent, where one runs.
    agent: Option<Agent>,
}

/// What `-o json` prints where nothing is applied, and an agent runs.
#[derive(Debug, Serialize)]
struct Waiting {
    root: String,
    agent: Agent,
}

#[derive(Debug, Serialize)]
struct Confirmation {
    revision: u64,
    /// Until when; null while it is being applied.
    until: Option<String>,
    /// The revision that is restored otherwise; null: everything is taken off.
    restores: Option<u64>,
    /// The process that restores it lives.
    watched: bool,
    /// Why it could not be restored.
    failure: Option<String>,
}

impl From<Awaited> for Confirmation {
    fn from(awaited: Awaited) -> Self {
        let restores = match awaited.restores {
            Restores::Revision(number) => Some(number),
            Restores::Detached | Restores::Nothing => None,
        };
        let Awaited { revision, until, is_watched: watched, failure, .. } = awaited;
        Self { revision, until: until.map(rfc3339), restores, watched, failure }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    device: String,
    hook: Hook,
    state: AttachState,
    program: u32,
}

impl Confirmation {
    fn in_words(&self) -> String {
        let Self { revision, until, restores, watched, failure } = self;
        let before = restores.map_or_else(|| "nothing".to_owned(), |number| format!("revision {number}"));
        if let Some(failure) = failure {
            let again = if *watched { ", which is tried again" } else { "" };
            return format!(
                "revision {revision} was not confirmed, and {before} could not be restored{again}: {failure}"
            );
        }
        match until {
            _ if !watched => format!(
                "revision {revision} was not confirmed, and nobody waits to restore {before}: `netpath confirm` or \
                 `netpath rollback`"
            ),
            Some(until) => format!("revision {revision} until {until} with `netpath confirm`; else back to {before}"),
            None => format!("revision {revision} is being applied; back to {before} unless it is confirmed then"),
        }
    }
}

pub(super) fn run(_: &Args, global: &Global) -> Result<Exit, Error> {
    let agent = Agent::of(global);
    let (applied, agent) = match (Applied::open(&global.root), agent) {
        (Err(Error::Datapath(DatapathError::NothingApplied { .. })), Some(agent)) => {
            let waiting = Waiting { root: global.root.display().to_string(), agent };
            let text = || format!("nothing is applied under {} yet\n{}", waiting.root, waiting.agent.render(now()));
            output::print(global.output, &waiting, text)?;
            return Ok(Exit::Failed);
        }
        (applied, agent) => (applied?, agent),
    };
    let status = Status { agent, confirmation: confirmation(global), ..read(&applied)? };
    output::print(global.output, &status, || render(&status))?;
    let works = status.attachments.iter().all(|row| row.state != AttachState::Broken);
    Ok(if works { Exit::Done } else { Exit::Failed })
}

fn read(applied: &Applied) -> Result<Status, Error> {
    let programs = Programs::pinned(&applied.root)?;
    let attachments = attachments(&applied.root, programs.as_ref(), applied)?;
    let ports = applied.tables.ports.rows()?;
    let in_force = ports.iter().filter(|(_, port)| applied.is_in_force(port)).count();
    let present: std::collections::HashSet<_> = ports.iter().map(|(_, port)| port.slot).collect();
    let all = applied.names.all(name_kind::PORT);
    let waiting = all.iter().filter(|(slot, _)| !present.contains(slot)).map(|(_, name)| (*name).to_owned());
    let own = applied.tables.uplinks.rows()?;
    let own = own.iter().filter(|(_, uplink)| uplink.flags & uplink_flags::TUNNEL_DEVICE != 0);
    Ok(Status {
        root: applied.root.path().display().to_string(),
        abi: ABI_VERSION,
        host: applied.names.host().map(str::to_owned),
        kernel: datapath::release(),
        tcx: datapath::Kernel::probe()?.has_tcx,
        programs_current: programs.is_some(),
        networks: applied.names.all(name_kind::NETWORK).len(),
        ports: in_force,
        waiting: waiting.collect(),
        attachments,
        tunnel_devices: own.map(|(key, _)| applied.names.device(key.ifindex)).collect(),
        confirmation: None,
        agent: None,
    })
}

/// What awaits confirmation; a history that cannot be read is no reason to show nothing else.
fn confirmation(global: &Global) -> Option<Confirmation> {
    match History::open(&global.state_dir, &global.root).awaited() {
        Ok(awaited) => awaited.map(Confirmation::from),
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
    }
}

fn attachments(root: &Root, programs: Option<&Programs>, applied: &Applied) -> Result<Vec<Row>, Error> {
    let found = datapath::attachments(root, programs, &applied.devices)?;
    let row = |a: datapath::Attachment| Row { device: a.device, hook: a.hook, state: a.state, program: a.program };
    Ok(found.into_iter().map(row).collect())
}

fn render(status: &Status) -> String {
    let Status { root, abi, kernel, networks, ports, .. } = status;
    let mut text = format!("host      {}\n", status.host.as_deref().unwrap_or("-"));
    text += &format!("root      {root} (ABI v{abi})\n");
    text += &format!("kernel    {kernel}, {}\n", if status.tcx { "tcx links" } else { "clsact filters" });
    let build =
        if status.programs_current { "of this build" } else { "of another build: the next apply replaces them" };
    text += &format!("programs  {build}\n");
    text += &format!("networks  {networks}\nports     {ports} in force, {} waiting\n", status.waiting.len());
    if !status.tunnel_devices.is_empty() {
        text += &format!("tunnels   {}\n", status.tunnel_devices.join(", "));
    }
    if let Some(confirmation) = &status.confirmation {
        text += &format!("confirm   {}\n", confirmation.in_words());
    }
    if let Some(agent) = &status.agent {
        text += &agent.render(now());
    }
    text.push('\n');
    let mut table = Table::new(&["DEVICE", "HOOK", "STATE", ">PROGRAM"]);
    for row in &status.attachments {
        let state = match row.state {
            AttachState::Current => "current",
            AttachState::Outdated => "outdated: the next apply replaces it",
            AttachState::Broken => "broken: device gone or program taken off; the next apply mends it",
        };
        table.row([row.device.clone(), row.hook.to_string(), state.to_owned(), row.program.to_string()]);
    }
    text + &table.render()
}
