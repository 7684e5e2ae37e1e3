//! A rule is taken out of the definitions: `apply` stops the connections that only it let in, and no others.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use netpath::definitions::{Network, Zone};

use super::{
    has,
    inward::{self, Door, lets_out},
    refused::counted,
    visit::{accept, connect},
};
use crate::{
    demo::{
        applied::apply,
        report::Report,
        site::{Outside, Site},
    },
    guest::bind_when_free,
    topology::NetNs,
};

/// How long the end of a stopped connection waits for an answer.
const SILENCE: Duration = Duration::from_secs(1);
const HTTP: u16 = 80;

pub(super) fn check(site: &Site, zone: &Zone, file: &Path, outside: &Outside, report: &mut Report) {
    let found = zone.networks.iter().find_map(|network| {
        let door = inward::doors(site, network).into_iter().next()?;
        let line = rule(network, door.public)?;
        lets_out(zone, network, HTTP).then_some((network, door, line))
    });
    let Some((network, door, line)) = found else { return };
    let (stopped, kept) = match across(site, (file, line), network, outside, &door) {
        Ok((stopped, kept)) => (Ok(stopped), Ok(kept)),
        Err(error) => (Err(error), Ok("not tried".to_owned())),
    };
    let what = format!("{} after its rule is revoked: the connection", door.public);
    report.row(site, &what, "silent, ingress_denied counted", stopped);
    let what = format!("{}'s own connection to {}", door.guest.title(), outside.host.station().ip);
    report.row(site, &what, "goes on through every apply", kept);
}

/// The line of the ingress rule that opens a public port.
fn rule(network: &Network, public: SocketAddr) -> Option<usize> {
    let rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
    let mut rules = rules.filter(|rule| public.ip() == *rule.public && has(rule.ports.as_deref(), public.port()));
    rules.next().map(|rule| rule.public.at.line as usize)
}

/// Two connections of a guest; one loses the rule that lets it in.
fn across(
    site: &Site,
    rule: (&Path, usize),
    network: &Network,
    outside: &Outside,
    door: &Door<'_>,
) -> Result<(String, String)> {
    let guest = &door.guest.kernel;
    let mut revoked = Pair::open(outside.host.ns(), door.public, guest.ns(), (guest.station().ip, door.port).into())?;
    let web = SocketAddr::from((outside.host.station().ip, HTTP));
    let mut kept = Pair::open(guest.ns(), web, outside.host.ns(), web)?;
    revoked.exchange()?;
    let (file, line) = rule;
    let changed = without(site, file, line)?;
    let (stop, exchanged) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let goes_on = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                kept.exchange()?;
                exchanged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let stopped = apply(site, &changed)
            .and_then(|()| counted(site, network.name.as_str(), "ingress_denied", || revoked.is_silent()))
            .and_then(|stopped| apply(site, file).map(|()| stopped));
        stop.store(true, Ordering::Relaxed);
        let kept = goes_on.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        kept.context("the connection that no rule is revoked of")?;
        let kept = if exchanged.load(Ordering::Relaxed) > 1 { "goes on through every apply" } else { "nothing passed" };
        Ok((stopped?, kept.to_owned()))
    })
}

/// The definitions without a line, as a file of their own.
fn without(site: &Site, file: &Path, line: usize) -> Result<PathBuf> {
    let text = fs::read_to_string(file)?;
    let rule = text.lines().nth(line - 1).context("the rule's line")?;
    println!("\nthe definitions lose line {line}: {}", rule.trim());
    let rest = text.lines().enumerate().filter(|(number, _)| number + 1 != line);
    site.write("revoked.yaml", &rest.flat_map(|(_, line)| [line, "\n"]).collect::<String>())
}

/// A connection with both its ends.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    /// Opens a connection to `to`, which leads to `at`.
    fn open(from: &NetNs, to: SocketAddr, there: &NetNs, at: SocketAddr) -> Result<Self> {
        let listener =
            there.run(|| bind_when_free(|| TcpListener::bind(at))).with_context(|| format!("listening at {at}"))?;
        let client = from.run(|| connect(to))?;
        Ok(Self { client, server: accept(&listener)? })
    }

    /// One byte there, and one back.
    fn exchange(&mut self) -> Result<()> {
        let mut byte = [0];
        self.client.write_all(b"?")?;
        self.server.read_exact(&mut byte).context("the question did not arrive")?;
        self.server.write_all(b"!")?;
        self.client.read_exact(&mut byte).context("the answer did not arrive")
    }

    /// What comes of a byte that must not arrive.
    fn is_silent(&mut self) -> Result<&'static str> {
        self.server.set_read_timeout(Some(SILENCE))?;
        self.client.write_all(b"?")?;
        match self.server.read(&mut [0]) {
            Ok(0) => Ok("closed"),
            Ok(_) => Ok("goes on"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok("silent"),
            Err(error) => Err(error).context("waiting for a byte that must not come"),
        }
    }
}
