//! `netpath monitor`: refusals and new connections as they happen, one line each.

use std::net::{IpAddr, Ipv4Addr};

use netpath_common::{
    DropReason,
    maps::{EVENT_BYTES, Event, Flow, Watch, event_kind},
};
use serde::Serialize;

use super::{
    Exit, Global,
    applied::Applied,
    sink::{Session, Sink},
    terms,
    watch::{self, Only, Until},
};
use crate::{error::Error, headers::Headers};

/// Watch refused packets and new connections as they happen, each with its reason
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    only: Only,
    /// Only packets refused for this reason, as `show drops` names it
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only what has this address on either side, before or after translation
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Only what has this port or ICMP identifier on either side
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Refused packets only
    #[arg(long, conflicts_with = "flows")]
    drops: bool,
    /// New connections only
    #[arg(long, conflicts_with = "reason")]
    flows: bool,
    #[command(flatten)]
    until: Until,
}

/// Most events of each processor in a second, unless said otherwise.
const RATE: u32 = 1000;

/// What happened.
#[derive(Debug, Serialize)]
struct Happened {
    /// RFC 3339, in UTC.
    time: String,
    /// `drop`, `connection`, `exhaustion`.
    kind: &'static str,
    /// `null` where the packet was refused before its network was known.
    network: Option<String>,
    /// Where the packet came in.
    device: String,
    /// The program.
    hook: &'static str,
    /// The reason's label, and its sentence.
    reason: Option<&'static str>,
    explanation: Option<&'static str>,
    /// The packet's length in bytes.
    length: u32,
    /// What the packet says.
    packet: Headers,
    /// What becomes of a connection's packets.
    translated: Option<Translated>,
}

/// How a connection's packets leave.
#[derive(Debug, Serialize)]
struct Translated {
    source: Ipv4Addr,
    source_port: u16,
    destination: Ipv4Addr,
    destination_port: u16,
    /// `local`, `tunnel`, `uplink`, `upstream`, `on_link`, `again`.
    hop: &'static str,
    /// A device, a tunnel, a public link.
    target: String,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let mut applied = Applied::open(&global.root)?;
    let wanted = Watch {
        kinds: args.kinds(),
        reason: args.reason.as_deref().map_or(Ok(0), reason)?,
        rate: args.until.rate.unwrap_or(RATE),
        bytes: EVENT_BYTES as u32,
        ..args.only.watch(&applied)?
    };
    let mut session = Session::begin(&applied.root, wanted, &args.until)?;
    tracing::info!("watching");
    let offset = watch::clock_offset();
    session.run(&mut Sink::stdout()?, |sink, event, bytes| {
        let happened = args.happened(&mut applied, wanted.network, event, bytes, offset)?;
        happened.iter().try_for_each(|happened| sink.put(global.output, happened, Happened::line))?;
        Ok(happened.is_some())
    })?;
    session.end(None)?;
    Ok(Exit::Done)
}

/// The code of a reason by its label.
fn reason(label: &str) -> Result<u32, Error> {
    let found = DropReason::ALL.iter().find(|reason| reason.label() == label);
    found.map(|reason| *reason as u32).ok_or_else(|| {
        let labels: Vec<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        Error::NotFound {
            what: "reason",
            name: label.to_owned(),
            next: format!("the reasons are {}", labels.join(", ")),
        }
    })
}

impl Args {
    fn kinds(&self) -> u32 {
        let (drops, flows) = (1 << event_kind::DROP | 1 << event_kind::EXHAUSTION, 1 << event_kind::CONNECTION);
        match (self.drops || self.reason.is_some(), self.flows) {
            (true, _) => drops,
            (_, true) => flows,
            _ => drops | flows,
        }
    }

    /// The event in words, if it is one that is asked for.
    fn happened(
        &self,
        applied: &mut Applied,
        only: u32,
        event: &Event,
        bytes: &[u8],
        offset: u64,
    ) -> Result<Option<Happened>, Error> {
        let network = watch::network_of(applied, event)?;
        applied.keep_up(network, event.ifindex)?;
        let packet = Headers::tagged(bytes, event.tag, &applied.tunnel_ports);
        let translated = (event.kind == event_kind::CONNECTION).then(|| Translated::of(applied, event));
        if only != 0 && network != only || !self.wants(&packet, translated.as_ref()) {
            return Ok(None);
        }
        let reason = DropReason::from_code(event.reason);
        Ok(Some(Happened {
            time: watch::timestamp(event.time_ns + offset),
            kind: match event.kind {
                event_kind::CONNECTION => "connection",
                event_kind::EXHAUSTION => "exhaustion",
                _ => "drop",
            },
            network: (network != 0).then(|| applied.names.network(network)),
            device: applied.names.device(event.ifindex),
            hook: watch::hook(event),
            reason: reason.map(DropReason::label),
            explanation: reason.map(DropReason::sentence),
            length: event.len,
            packet,
            translated,
        }))
    }

    fn wants(&self, packet: &Headers, translated: Option<&Translated>) -> bool {
        let has_address =
            |ip: IpAddr| packet.has_address(ip) || translated.is_some_and(|to| ip == to.source || ip == to.destination);
        let has_port = |port: u16| {
            packet.has_port(port) || translated.is_some_and(|to| port == to.source_port || port == to.destination_port)
        };
        self.address.is_none_or(has_address) && self.port.is_none_or(has_port)
    }
}

impl Translated {
    fn of(applied: &Applied, event: &Event) -> Self {
        let flow = Flow { hop: event.hop, target: event.target, ..Flow::default() };
        let (hop, target) = terms::next_hop(&flow, &applied.names);
        Self {
            source: event.source.into(),
            source_port: event.source_port,
            destination: event.destination.into(),
            destination_port: event.destination_port,
            hop,
            target,
        }
    }
}

impl Happened {
    fn line(&self) -> String {
        let (network, time) = (self.network.as_deref().unwrap_or("-"), &self.time[11..23]);
        let what = match (&self.translated, self.explanation) {
            (Some(to), _) => {
                let from = terms::endpoint(to.source.octets(), to.source_port);
                let to_end = terms::endpoint(to.destination.octets(), to.destination_port);
                format!("new connection, as {from} > {to_end} to {} {}", to.hop, to.target)
            }
            (None, Some(sentence)) => format!("{}: {sentence}", self.reason.unwrap_or_default()),
            (None, None) => "refused for a reason that this build does not know".to_owned(),
        };
        format!("{time} {network} {} {}  {what}\n", self.device, self.packet)
    }
}
