//! What the firewall refuses: nothing comes of it, and the reason is counted.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Result;
use netpath::definitions::{Network, Protocol, Zone};

use super::{has, inward::lets_out};
use crate::{
    demo::{
        report::Report,
        site::{Outside, Site},
    },
    topology::NetNs,
};

/// How long a caller waits for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(500);
/// Mail, telnet: one of them is closed.
const PORTS: [u16; 2] = [25, 23];

pub(super) fn check(site: &Site, zone: &Zone, outside: &Outside, report: &mut Report) {
    let internet = outside.host.station().ip;
    for network in zone.networks.iter().filter(|network| !network.source_nat.is_empty()) {
        let Some(guest) = site.guests.iter().find(|guest| guest.network == network.name.as_str()) else { continue };
        if let Some(port) = PORTS.into_iter().find(|port| !lets_out(zone, network, *port)) {
            let what = format!("{} opens {internet}:{port}", guest.title());
            row(site, report, &what, (network, "egress_denied"), guest.kernel.ns(), (internet, port));
        }
        let closed = |public: Ipv4Addr| {
            let mut rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
            !rules.any(|rule| {
                let with_ports = matches!(*rule.protocol, Protocol::Tcp | Protocol::All);
                *rule.public == public && with_ports && has(rule.ports.as_deref(), 23)
            })
        };
        if let Some(nat) = network.static_nat.iter().find(|nat| closed(*nat.public)) {
            let what = format!("{internet} opens {}:23", *nat.public);
            row(site, report, &what, (network, "ingress_denied"), outside.host.ns(), (*nat.public, 23));
        }
        if let [public] = network.source_nat[..] {
            let what = format!("{internet} opens {}:23, which leads nowhere", *public);
            row(site, report, &what, (network, "unsolicited"), outside.host.ns(), (*public, 23));
        }
    }
    for host in &site.hosts {
        host.shown(&["show", "drops"]);
    }
}

fn row(site: &Site, report: &mut Report, what: &str, why: (&Network, &str), from: &NetNs, to: (Ipv4Addr, u16)) {
    let (network, reason) = (why.0.name.as_str(), why.1);
    let expected = format!("no connection, {reason} counted");
    let seen = counted(site, network, reason, || Ok(opens(from, SocketAddr::from(to))));
    report.row(site, what, &expected, seen);
}

/// Tries something, and says what came of it and whether `reason` was counted for `network` meanwhile.
pub(super) fn counted(
    site: &Site,
    network: &str,
    reason: &str,
    attempt: impl FnOnce() -> Result<&'static str>,
) -> Result<String> {
    let before = site.dropped(network, reason)?;
    let came = attempt()?;
    let count = if site.dropped(network, reason)? > before { "counted" } else { "not counted" };
    Ok(format!("{came}, {reason} {count}"))
}

/// What comes of opening a connection that must not be.
fn opens(from: &NetNs, to: SocketAddr) -> &'static str {
    match from.run(|| TcpStream::connect_timeout(&to, SILENCE)) {
        Ok(_) => "connected",
        Err(error) if error.kind() == ErrorKind::TimedOut => "no connection",
        Err(_) => "an answer",
    }
}
