//! What a traced packet met, in sentences.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason,
    maps::{
        Destination, Event, Flow, Gateway, PUBLIC_SIDE, RuleList, event_action, event_hook, event_kind, event_step,
        gateway_flags,
    },
};

use crate::{
    cli::{applied::Applied, terms, watch},
    error::Error,
};

/// Something that a packet met: which part of the data path, and what it said.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Step {
    /// `program`, `station`, `rule`, `flow`, `connection`, `copy`, `refusal`, `exit`.
    pub(super) step: &'static str,
    /// In a sentence.
    pub(super) says: String,
}

/// The events of a trace, step by step.
pub(super) fn of(applied: &Applied, events: &[Event]) -> Result<Vec<Step>, Error> {
    let gateways = applied.tables.gateways.rows()?;
    events.iter().filter_map(|event| step(applied, &gateways, event).transpose()).collect()
}

fn step(applied: &Applied, gateways: &[Gateway], event: &Event) -> Result<Option<Step>, Error> {
    let names = &applied.names;
    let (step, says) = match (event.kind, event.action) {
        (event_kind::STEP, event_step::PROGRAM) => ("program", program(event)),
        (event_kind::STEP, event_step::STATION) => ("station", station(applied, event)),
        (event_kind::STEP, event_step::RULE) => ("rule", rule(applied, gateways, event)?),
        (event_kind::STEP, event_step::FLOW) => {
            ("flow", format!("a known connection: {}", translation(applied, event)))
        }
        (event_kind::STEP, event_step::COPY) => {
            ("copy", format!("a copy would go out of {}", names.device(event.target)))
        }
        (event_kind::CONNECTION, _) => ("connection", new_connection(applied, event)),
        (event_kind::DROP | event_kind::EXHAUSTION, _) => ("refusal", refusal(event)),
        (event_kind::EXIT, event_action::REFUSED) => return Ok(None),
        (event_kind::EXIT, action) => ("exit", exit(applied, event, action)),
        _ => return Ok(None),
    };
    Ok(Some(Step { step, says }))
}

/// What a program does, as the first thing that is known of it.
fn program(event: &Event) -> String {
    let does = match event.hook {
        event_hook::FROM_GUEST => "the port, the frame's headers, and whether the guest may send from where it says",
        event_hook::FROM_UPLINK_XDP | event_hook::FROM_UPLINK => "whose frame from the wire it is",
        event_hook::FROM_TUNNEL => "whose frame from the tunnel device it is",
        event_hook::GATEWAY => "the gateway: is there a connection, and where does it lead",
        event_hook::CONNECT | event_hook::CONNECT_XDP => "no connection is known: rules, routes and NAT are asked",
        event_hook::ICMP_ERROR => "an ICMP error: which connection is it about",
        event_hook::ANSWER => "the gateway answers",
        event_hook::SWEEP => "no room: idle connections would be removed",
        event_hook::FLOOD => "a copy for each member",
        event_hook::ADMIT => "routed by another host: its connection would be noted",
        _ => "",
    };
    format!("{}: {does}", watch::hook(event))
}

fn station(applied: &Applied, event: &Event) -> String {
    let place = Destination { kind: event.reason as u8, target: event.target, ..Destination::default() };
    let network = applied.names.network(event.network);
    match applied.names.destination(&place) {
        _ if event.reason == 0 => format!("no station of {network} is known by that MAC address"),
        ("gateway", _) => format!("the station is the gateway of {network}"),
        ("local", device) => format!("the station is a guest of {network} on this host, {device}"),
        ("tunnel", tunnel) => format!("the station is on another host of {network}, by the tunnel {tunnel}"),
        (_, device) => format!("the station is on the wire of {network}, by {device}"),
    }
}

/// A rule that matched, by the list that has its row.
fn rule(applied: &Applied, gateways: &[Gateway], event: &Event) -> Result<String, Error> {
    let verdict = if event.reason != 0 { "let pass" } else { "refused" };
    let number = applied.tables.rules.get(event.target)?.map_or(0, |rule| rule.number);
    let of = list(applied, gateways, event.target)?;
    Ok(format!("rule {number} of {of} matches: {verdict}"))
}

/// Whose list it is: the same rules of several are one list.
fn list(applied: &Applied, gateways: &[Gateway], row: u32) -> Result<String, Error> {
    let has = |list: RuleList| row.wrapping_sub(list.start) < list.count;
    let mut owners = Vec::new();
    for (index, gateway) in
        gateways.iter().enumerate().filter(|(_, gateway)| gateway.flags & gateway_flags::ROUTES != 0)
    {
        let network = applied.names.network(index as u32);
        let lists =
            [("egress", gateway.egress), ("acl_ingress", gateway.acl_ingress), ("acl_egress", gateway.acl_egress)];
        owners.extend(lists.into_iter().filter(|(_, list)| has(*list)).map(|(name, _)| format!("{name} of {network}")));
    }
    for (key, public) in applied.tables.public_address.rows()? {
        if has(public.ingress) {
            let network = applied.names.network(public.network);
            owners.push(format!("ingress of {} ({network})", Ipv4Addr::from(key.address)));
        }
    }
    owners.sort();
    match owners.is_empty() {
        true => Ok("the sources of a forwarded port".to_owned()),
        false => Ok(owners.join(", ")),
    }
}

fn translation(applied: &Applied, event: &Event) -> String {
    let flow = Flow { hop: event.hop, target: event.target, ..Flow::default() };
    let (hop, target) = terms::next_hop(&flow, &applied.names);
    let end = |address, port| terms::endpoint(address, port);
    let (from, to) = (end(event.source, event.source_port), end(event.destination, event.destination_port));
    format!("it leaves as {from} > {to}, way out {hop} {target}")
}

fn new_connection(applied: &Applied, event: &Event) -> String {
    let would = format!("a connection would be noted: {}", translation(applied, event));
    match event.out & PUBLIC_SIDE {
        0 => would,
        _ => format!("{would}; a port of source NAT is chosen when the packet is sent, this one is free now"),
    }
}

fn refusal(event: &Event) -> String {
    match DropReason::from_code(event.reason) {
        Some(reason) => format!("{}: {}", reason.label(), reason.sentence()),
        None => format!("reason {}", event.reason),
    }
}

fn exit(applied: &Applied, event: &Event, action: u8) -> String {
    let program = watch::hook(event);
    match action {
        event_action::REDIRECT => format!("{program} sends it out of {}", applied.names.device(event.target)),
        event_action::REDIRECT_NEIGHBOUR => {
            format!(
                "{program} sends it out of {}, to whom the kernel's neighbours say",
                applied.names.device(event.target)
            )
        }
        event_action::CONSUMED => format!("{program} is done with it"),
        _ => format!("{program} passes it"),
    }
}
