//! `netpath trace`: one packet through the real programs over the live tables, without consequences.

mod outside;
mod packet;
mod steps;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use netpath_common::{
    DropReason, Mac,
    maps::{Event, NeighbourKey, Port, event_action, event_hook, event_kind, event_step, uplink_flags},
};
use serde::Serialize;

use self::{packet::Spec, steps::Step};
use super::{Exit, Global, applied::Applied, output, watch};
use crate::{
    datapath::{AttachState, Hook, Programs, Ran, Trace, attachments},
    error::Error,
    headers::Headers,
    pcap::{self, Mended},
};

/// Show what would become of a packet: every step, the rule that matched, the packet before and after
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The device that it comes in on: a guest's, or an uplink
    #[arg(long, value_name = "DEVICE")]
    from: String,
    /// The packet: 'tcp 10.1.1.11:40000 -> 198.51.100.7:443', 'udp …', 'icmp A -> B', 'proto N A -> B', 'arp who-has A tell B'
    #[arg(value_name = "PACKET", required_unless_present = "pcap", conflicts_with = "pcap")]
    packet: Vec<String>,
    /// Of a packet from an uplink: its network, where several have the same addresses
    #[arg(long, value_name = "NAME", conflicts_with = "pcap")]
    network: Option<String>,
    /// A capture file with the frame, pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Which frame of the file, from 1
    #[arg(long = "packet", value_name = "N", default_value_t = 1, requires = "pcap",
          value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
}

/// What would become of the packet.
#[derive(Debug, Serialize)]
struct Report {
    /// Where it comes in.
    device: String,
    /// The programs of this build are those in force.
    programs_current: bool,
    /// What the capture lacks of it; `null` where all is there.
    cut: Option<Cut>,
    /// As it comes.
    before: Headers,
    /// What it meets.
    steps: Vec<Step>,
    /// `forwarded`, `answered`, `flooded`, `passed`, `dropped`.
    verdict: &'static str,
    /// Why it is dropped.
    reason: Option<&'static str>,
    /// The reason's sentence.
    explanation: Option<&'static str>,
    /// The device that it leaves by.
    out: Option<String>,
    /// What is behind that: a guest (`network/instance/mac`), a tunnel, or a public link's router.
    to: Option<String>,
    /// Devices that copies leave by.
    copies: Vec<String>,
    /// As it leaves; of a refused packet whose sender is told, the answer.
    after: Option<Headers>,
}

/// A frame that a capture has not kept all of.
#[derive(Debug, Serialize)]
struct Cut {
    /// Bytes that are there.
    kept: usize,
    /// Bytes that there were.
    length: usize,
    /// `padded`, `shortened`.
    how: Mended,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let applied = Applied::open(&global.root)?;
    let ifindex = watch::device(&applied, &args.from)?;
    let (hooks, programs_current) = hooks(&applied, &args.from)?;
    let (frame, cut) = match &args.pcap {
        Some(path) => captured(&applied, ifindex, path, args.number)?,
        None => {
            let text = args.packet.join(" ");
            let spec: Spec = text.parse().map_err(|why| Error::Packet { why })?;
            (frame(&applied, ifindex, &spec, args.network.as_deref())?, None)
        }
    };
    let mut trace = Trace::load(&applied.root)?;
    let mut ran = trace.run(hooks[0], ifindex, &frame)?;
    for hook in &hooks[1..] {
        if !is_passed(&ran) {
            break;
        }
        let next = trace.run(*hook, ifindex, &ran.frame)?;
        ran.events.extend(next.events);
        ran.drops.extend(next.drops);
        (ran.action, ran.frame) = (next.action, next.frame);
    }
    let report = Report { cut, ..report(&applied, args, programs_current, ifindex, &frame, &ran)? };
    output::print(global.output, &report, || report.text())?;
    Ok(Exit::Done)
}

/// The hooks that a frame on the device meets, in their order, and whether this build's programs are there.
fn hooks(applied: &Applied, device: &str) -> Result<(Vec<Hook>, bool), Error> {
    let programs = Programs::pinned(&applied.root)?;
    let found = attachments(&applied.root, programs.as_ref(), &applied.devices)?;
    let here: Vec<_> = found.into_iter().filter(|at| at.device == device && at.hook != Hook::FromTunnel).collect();
    let is_current = here.iter().all(|at| at.state == AttachState::Current);
    let order = [Hook::FromGuest, Hook::FromUplinkXdp, Hook::FromUplink];
    let hooks: Vec<_> = order.into_iter().filter(|hook| here.iter().any(|at| at.hook == *hook)).collect();
    if hooks.is_empty() {
        let next = "name a guest's device or an uplink, as `netpath status` prints them".to_owned();
        return Err(Error::NotFound { what: "program to trace on device", name: device.to_owned(), next });
    }
    Ok((hooks, is_current))
}

/// A frame of a file, and what had to be done where the file has not got all of it.
fn captured(applied: &Applied, ifindex: u32, path: &Path, number: u64) -> Result<(Vec<u8>, Option<Cut>), Error> {
    let frame = pcap::frame(path, number)?;
    let (kept, length) = (frame.bytes.len(), frame.length);
    let device = applied.devices.iter().find(|device| device.index == ifindex);
    let whole = pcap::whole(frame, device.map_or(0, |device| device.mtu), &applied.tunnel_ports);
    let (frame, how) = whole.ok_or_else(|| Error::CutShort { path: path.to_owned(), number, kept, length })?;
    Ok((frame, (how != Mended::Whole).then_some(Cut { kept, length, how })))
}

/// The frame of a packet, with the addresses that its sender would have put on it.
fn frame(applied: &Applied, ifindex: u32, spec: &Spec, network: Option<&str>) -> Result<Vec<u8>, Error> {
    match applied.tables.ports.get(&ifindex)? {
        Some(port) => Ok(spec.frame(port.mac, station(applied, &port, spec)?, 0)),
        None => outside::frame(applied, ifindex, spec, network),
    }
}

/// Whom a guest's stack would send it to: a neighbour that it knows of, or the gateway.
fn station(applied: &Applied, port: &Port, spec: &Spec) -> Result<Mac, Error> {
    if let Some(group) = spec.group() {
        return Ok(group);
    }
    let key = NeighbourKey { network: port.network, address: spec.destination.into() };
    let neighbour = applied.tables.neighbours.get(&key)?.map(|row| row.mac);
    let gateway = applied.tables.networks.get(port.network)?.map(|row| row.gateway_mac).filter(|mac| *mac != Mac::ZERO);
    // A virtual router that the definitions do not name may have been learned; who it is, only a capture tells.
    neighbour.or(gateway).ok_or_else(|| Error::Packet {
        why: format!(
            "{} is no station of the network, which has no gateway; trace a captured frame with --pcap",
            spec.destination
        ),
    })
}

/// The last program has left it to the next, or to the kernel.
fn is_passed(ran: &Ran) -> bool {
    last_exit(ran).is_some_and(|event| event.action == event_action::PASS)
}

fn last_exit(ran: &Ran) -> Option<&Event> {
    ran.events.iter().rev().find(|event| event.kind == event_kind::EXIT)
}

fn report(
    applied: &Applied,
    args: &Args,
    programs_current: bool,
    ifindex: u32,
    frame: &[u8],
    ran: &Ran,
) -> Result<Report, Error> {
    let copies = ran.events.iter().filter(|event| event.kind == event_kind::STEP && event.action == event_step::COPY);
    let copies: Vec<_> = copies.map(|event| applied.names.device(event.target)).collect();
    let (action, target) = last_exit(ran).map_or((event_action::CONSUMED, 0), |event| (event.action, event.target));
    // A copy that is refused, of several, is a step; the others have gone where they should.
    let is_flooded = action == event_action::CONSUMED && !copies.is_empty();
    let reason = ran.drops.last().map(|(_, reason)| *reason).filter(|_| !is_flooded);
    let is_gateways = last_exit(ran).is_some_and(|event| event.hook == event_hook::GATEWAY);
    let leaves = matches!(action, event_action::REDIRECT | event_action::REDIRECT_NEIGHBOUR);
    let verdict = match action {
        _ if reason.is_some() => "dropped",
        event_action::PASS => "passed",
        event_action::CONSUMED => "flooded",
        // The gateway sends a copy on where it asks the next hop anew, with the original.
        _ if !copies.is_empty() && !is_gateways => "flooded",
        _ if target == ifindex => "answered",
        _ => "forwarded",
    };
    let after = (leaves || verdict == "passed").then(|| Headers::of(&ran.frame, &applied.tunnel_ports));
    Ok(Report {
        device: args.from.clone(),
        programs_current,
        cut: None,
        before: Headers::of(frame, &applied.tunnel_ports),
        steps: steps::of(applied, &ran.events)?,
        verdict,
        reason: reason.map(DropReason::label),
        explanation: reason.map(DropReason::sentence),
        out: leaves.then(|| applied.names.device(target)),
        to: if leaves { behind(applied, target, after.as_ref())? } else { None },
        copies,
        after,
    })
}

/// What is behind the device that a packet leaves by.
fn behind(applied: &Applied, ifindex: u32, after: Option<&Headers>) -> Result<Option<String>, Error> {
    if let Some(port) = applied.tables.ports.get(&ifindex)? {
        return Ok(Some(applied.names.port(port.slot)));
    }
    let uplinks = applied.tables.uplinks.rows()?;
    if uplinks.iter().any(|(key, row)| key.ifindex == ifindex && row.flags & uplink_flags::TUNNEL_DEVICE != 0) {
        return Ok(Some("the kernel's tunnel device, which resolves the other host's neighbour first".to_owned()));
    }
    let Some(after) = after else { return Ok(None) };
    if after.vni.is_some() {
        let rows = applied.tables.tunnels.rows()?;
        let index = rows.iter().position(|row| after.destination == Some(std::net::IpAddr::from(row.remote)));
        return Ok(index.map(|index| applied.names.tunnel(index as u32)));
    }
    let links = applied.tables.upstreams.rows()?;
    let vlan = after.vlans.first().copied().unwrap_or(0);
    let link = links.iter().position(|link| link.ifindex == ifindex && link.vlan == vlan);
    Ok(link.map(|index| format!("public:{}", applied.names.public_link(index as u32))))
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("in   {}  {}\n", self.device, self.before);
        for step in &self.steps {
            let _ = writeln!(text, "     {:<10} {}", step.step, step.says);
        }
        if let Some(after) = &self.after {
            let ttl = |headers: &Headers| headers.ttl.map_or(String::new(), |ttl| format!(", TTL {ttl}"));
            let _ = writeln!(text, "out  {}  {after}{}", self.out.as_deref().unwrap_or("-"), ttl(after));
        }
        let _ = writeln!(text, "{}", self.sentence());
        if let Some(Cut { kept, length, how }) = &self.cut {
            let _ = match how {
                Mended::Shortened if kept == length => {
                    writeln!(text, "{length} bytes are more than a run takes: it is traced as a shorter packet.")
                }
                Mended::Shortened => writeln!(
                    text,
                    "The file has {kept} of the frame's {length} bytes: it is traced as a shorter packet, of which all is there."
                ),
                _ => {
                    writeln!(text, "The file has {kept} of the frame's {length} bytes: zeros stand for the rest.")
                }
            };
        }
        if !self.programs_current {
            text.push_str(
                "The programs in force are another build's; these are this one's. `netpath apply` replaces them.\n",
            );
        }
        text
    }

    fn sentence(&self) -> String {
        let out = self.out.as_deref().unwrap_or("-");
        let to = self.to.as_ref().map_or(String::new(), |to| format!(", to {to}"));
        match (self.verdict, self.explanation) {
            ("dropped", Some(why)) => {
                let told = if self.after.is_some() { " An answer goes back, or a question out, in its place." } else { "" };
                format!("Dropped, {}: {why}{told}", self.reason.unwrap_or_default())
            }
            ("forwarded", _) if !self.copies.is_empty() => {
                format!("Forwarded out of {out}{to}; behind it the next hop would be asked for its MAC address again.")
            }
            ("forwarded", _) => format!("Forwarded out of {out}{to}."),
            ("answered", _) => format!("Answered, out of {out} again."),
            ("flooded", _) => format!("Copied to {} and, where there are members, out of {out}.", self.copies.join(", ")),
            _ if self.after.as_ref().is_some_and(|after| after.vni.is_some()) => {
                "Passed to the kernel's tunnel device, which judges what the programs cannot read (fragments, options of IP).".to_owned()
            }
            _ => "Passed: not netpath's, or a bridge's or the host's to deal with.".to_owned(),
        }
    }
}
