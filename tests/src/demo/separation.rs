//! Tenants with equal addresses do not meet.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    report::Report,
    site::{Guest, Site},
};
use crate::guest::PATIENCE;

/// Where the guests listen for "who are you?".
const WHO: u16 = 4711;
/// Where they listen for broadcasts.
const CALL: u16 = 4712;
/// How long a guest waits for an answer that must not come.
const SILENCE: Duration = Duration::from_secs(1);

pub(super) fn check(site: &Site, report: &mut Report) {
    for asker in &site.guests {
        let shared = site.guests.iter().find(|other| is_double_abroad(site, asker, other));
        // One question from each network tells it all.
        if let Some(other) = shared
            && site.guests_of(&asker.network).next().is_some_and(|first| first.title() == asker.title())
        {
            let ip = other.kernel.station().ip;
            let expected = format!("{}/{}", asker.network, name_behind(site, asker, ip));
            let what = format!("{} asks {ip} for its name", asker.title());
            report.row(site, &what, &expected, who_is(site, asker, ip));
        }
    }
    only_here(site, report);
    broadcasts(site, report);
}

/// Whether `other`, in another network, has an address that a neighbour of `asker` has too.
fn is_double_abroad(site: &Site, asker: &Guest, other: &Guest) -> bool {
    let ip = other.kernel.station().ip;
    let neighbours = site.guests_of(&asker.network).filter(|near| near.title() != asker.title());
    other.network != asker.network && neighbours.into_iter().any(|near| near.kernel.station().ip == ip)
}

fn name_behind<'s>(site: &'s Site, asker: &'s Guest, ip: Ipv4Addr) -> &'s str {
    site.guests_of(&asker.network).find(|near| near.kernel.station().ip == ip).map_or("?", |near| &near.instance)
}

/// Everybody who has the address listens; whoever gets the question answers with its name.
fn who_is(site: &Site, asker: &Guest, ip: Ipv4Addr) -> Result<String> {
    let owners = site.guests.iter().filter(|guest| guest.kernel.station().ip == ip);
    let listeners = owners.map(|owner| Ok((owner, owner.kernel.udp(WHO)?))).collect::<Result<Vec<_>>>()?;
    for (_, socket) in &listeners {
        socket.set_nonblocking(true)?;
    }
    let socket = asker.kernel.udp(0)?;
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    socket.send_to(b"who are you?", (ip, WHO))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 256];
    while Instant::now() < deadline {
        for (owner, listener) in &listeners {
            if let Ok((_, from)) = listener.recv_from(&mut buffer) {
                listener.send_to(owner.title().as_bytes(), from)?;
            }
        }
        if let Ok((got, _)) = socket.recv_from(&mut buffer) {
            return Ok(String::from_utf8_lossy(&buffer[..got]).into_owned());
        }
    }
    bail!("{ip} answered nothing within {PATIENCE:?}")
}

/// An address that one tenant has and its double has not.
fn only_here(site: &Site, report: &mut Report) {
    let lonely = site.guests.iter().find_map(|owner| {
        let ip = owner.kernel.station().ip;
        let doubles = site.guests.iter().filter(|guest| guest.network != owner.network);
        let mut doubles = doubles.filter(|guest| shares_an_address(site, owner, guest));
        doubles.find(|guest| site.guests_of(&guest.network).all(|near| near.kernel.station().ip != ip)).zip(Some(owner))
    });
    let Some((stranger, owner)) = lonely else { return };
    let ip = owner.kernel.station().ip;
    let answered = stranger.kernel.reaches(ip, SILENCE);
    let seen = if answered { "answered" } else { "no answer" };
    let what = format!("{} pings {ip}, {}'s alone", stranger.title(), owner.network);
    report.row(site, &what, "no answer", Ok(seen.to_owned()));
}

/// Whether the networks of two guests have an address in common.
fn shares_an_address(site: &Site, a: &Guest, b: &Guest) -> bool {
    let has = |ip| site.guests_of(&b.network).any(|guest| guest.kernel.station().ip == ip);
    site.guests_of(&a.network).any(|guest| has(guest.kernel.station().ip))
}

/// The first guest of each network calls everybody; who hears it?
fn broadcasts(site: &Site, report: &mut Report) {
    let ears: Result<Vec<_>> = site.guests.iter().map(|guest| Ok((guest, ear(guest)?))).collect();
    let ears = match ears {
        Ok(ears) => ears,
        Err(error) => return report.row(site, "guests listen for broadcasts", "they do", Err(error)),
    };
    for network in site.networks() {
        let Some(caller) = site.guests_of(network).next() else { continue };
        let own = site.guests_of(network).count() - 1;
        let what = format!("{} calls all: heard by its own, by others", caller.title());
        report.row(site, &what, &format!("{own} of {own}, 0"), call(caller, &ears, own));
    }
}

fn ear(guest: &Guest) -> Result<UdpSocket> {
    let socket = guest.kernel.ns().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CALL)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn call(caller: &Guest, ears: &[(&Guest, UdpSocket)], own: usize) -> Result<String> {
    let [a, b, c, _] = caller.kernel.station().ip.octets();
    let socket = caller.kernel.udp(0)?;
    socket.set_broadcast(true)?;
    socket.send_to(caller.network.as_bytes(), (Ipv4Addr::new(a, b, c, 255), CALL)).context("broadcasting")?;
    let deadline = Instant::now() + PATIENCE;
    let (mut near, mut far) = (0, 0);
    let mut buffer = [0; 256];
    while near < own && Instant::now() < deadline {
        for (guest, ear) in ears.iter().filter(|(guest, _)| guest.title() != caller.title()) {
            let Ok((got, _)) = ear.recv_from(&mut buffer) else { continue };
            // A caller hears itself, from its own stack: that may still lie in an earlier caller's ear.
            let heard = &buffer[..got];
            near += usize::from(heard == caller.network.as_bytes() && guest.network == caller.network);
            far += usize::from(heard != guest.network.as_bytes());
        }
        std::thread::yield_now();
    }
    Ok(format!("{near} of {own}, {far}"))
}
