//! Rates: a limited guest is held at its rate, and a changed one is in force at once, for connections that go on.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use netpath::definitions::Zone;
use serde_json::Value;

use super::{
    applied,
    report::Report,
    site::{Guest, Host, Site},
};
use crate::guest::Load;

const PORT: u16 = 9000;
/// The rate that replaces an offering's.
const CHANGED: &str = "50Mbps";
const MBIT: u64 = 1_000_000;
/// The part of a rate that has to be reached: this machine may be building something. How exact rates are, others measure.
const MOST: f64 = 0.7;

/// A sender, a receiver, and the rate between them in bits per second.
#[derive(Clone, Copy)]
struct Pair<'s> {
    from: &'s Guest,
    to: &'s Guest,
    rate: u64,
}

pub(super) fn check(site: &Site, zone: &Zone, file: &Path, report: &mut Report) {
    let pairs = match limited_pairs(site) {
        Ok(pairs) => pairs,
        Err(error) => return report.row(site, "the limits in force", "they are shown", Err(error)),
    };
    for pair in &pairs {
        let what = format!("{}, TCP as fast as it gets", pair.title());
        report.row(site, &what, &held(pair.rate), pair.load().and_then(|load| pair.holds(&load)));
    }
    let Some(pair) = pairs.first() else { return };
    change(site, zone, file, pair, report);
    let host = site.host_of(pair.from);
    host.shown(&["show", "limits", "--network", &pair.from.network]);
    let what = format!("{}: show limits of {}, from it", host.name, pair.from.title());
    report.row(site, &what, "its rate, and packets dropped or delayed", shown(host, pair.from));
    host.shown(&["show", "usage", "--network", &pair.from.network]);
}

impl Pair<'_> {
    fn title(&self) -> String {
        format!("{} to {}", self.from.title(), self.to.instance)
    }

    fn load(&self) -> Result<Load> {
        let target = SocketAddr::from((self.to.kernel.station().ip, PORT));
        Load::tcp(self.from.kernel.ns(), self.to.kernel.ns(), target, 1)
    }

    /// Waits until the rate is what it should be.
    fn holds(&self, load: &Load) -> Result<String> {
        load.settle_above(self.rate, MOST).map(|_| held(self.rate)).with_context(|| self.title())
    }
}

fn held(rate: u64) -> String {
    format!("most of {} Mbit/s, and no more", rate / MBIT)
}

/// The first guest of each network that has a rate, with one on its own host and one on another.
fn limited_pairs(site: &Site) -> Result<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    for network in site.networks() {
        let Some(from) = site.guests_of(network).next() else { continue };
        let others = || site.guests_of(network).filter(|to| to.title() != from.title());
        let near = others().find(|to| to.host == from.host);
        for to in near.into_iter().chain(others().find(|to| to.host != from.host)) {
            let sends = rates(site.host_of(from), from, "from_guest")?;
            let receives = rates(site.host_of(to), to, "to_guest")?;
            if let Some(rate) = sends.into_iter().chain(receives).min() {
                pairs.push(Pair { from, to, rate });
            }
        }
    }
    Ok(pairs)
}

/// The rows of `show limits` that a guest is under, but for those of public addresses.
fn rows(host: &Host, guest: &Guest, direction: &str) -> Result<Vec<Value>> {
    let output = host.netpath.run(["show", "limits", "--network", &guest.network, "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&output.stdout)
        .with_context(|| format!("`netpath show limits -o json` says {}{}", output.stdout, output.stderr))?;
    let own = format!("{}/", guest.title());
    let is_over = |row: &Value| match row["object"].as_str() {
        Some("nic") => row["name"].as_str().is_some_and(|name| name.starts_with(&own)),
        Some("network" | "account") => true,
        _ => false,
    };
    Ok(rows.into_iter().filter(|row| row["direction"] == direction && is_over(row)).collect())
}

fn rates(host: &Host, guest: &Guest, direction: &str) -> Result<Vec<u64>> {
    let rows = rows(host, guest, direction)?;
    Ok(rows.iter().filter_map(|row| row["rate"].as_u64()).collect())
}

/// The guest's own row: what it has been held by.
fn shown(host: &Host, guest: &Guest) -> Result<String> {
    let rows = rows(host, guest, "from_guest")?;
    let row = rows.iter().find(|row| row["object"] == "nic").context("no row of the NIC")?;
    let held: u64 = ["dropped_packets", "delayed_packets"].iter().filter_map(|field| row[*field].as_u64()).sum();
    ensure!(row["rate"].as_u64().is_some() && held > 0, "{row}");
    Ok("its rate, and packets dropped or delayed".to_owned())
}

/// The offering gets another rate, and its own again, while one connection goes on.
fn change(site: &Site, zone: &Zone, file: &Path, pair: &Pair<'_>, report: &mut Report) {
    let seen = || -> Result<Option<[String; 2]>> {
        let Some(changed) = slower(site, zone, file, &pair.from.network)? else { return Ok(None) };
        let load = pair.load()?;
        pair.holds(&load)?;
        applied::apply(site, &changed)?;
        let slow = Pair { rate: 50 * MBIT, ..*pair }.holds(&load)?;
        applied::apply(site, file)?;
        Ok(Some([slow, pair.holds(&load)?]))
    };
    let what = format!("{}, its offering is changed to {CHANGED}", pair.title());
    let again = format!("{}, and back, still one connection", pair.title());
    match seen() {
        Ok(None) => {}
        Ok(Some([slow, back])) => {
            report.row(site, &what, &held(50 * MBIT), Ok(slow));
            report.row(site, &again, &held(pair.rate), Ok(back));
        }
        Err(error) => report.row(site, &what, &held(50 * MBIT), Err(error)),
    }
}

/// The definitions with another rate for the NICs of a network's offering; `None` where the offering has none on its line.
fn slower(site: &Site, zone: &Zone, file: &Path, network: &str) -> Result<Option<std::path::PathBuf>> {
    let network = zone.networks.iter().find(|known| known.name.as_str() == network).context("a known network")?;
    let offering =
        network.offering.as_ref().and_then(|name| zone.offerings.iter().find(|o| o.name.as_str() == name.as_str()));
    let Some(at) = offering.map(|offering| offering.name.at.line as usize) else { return Ok(None) };
    let text = fs::read_to_string(file)?;
    let line = text.lines().nth(at - 1).context("the offering's line")?;
    let Some((before, rest)) = line.split_once("network_rate: ") else { return Ok(None) };
    let after = rest.find([',', '}']).map_or("", |end| &rest[end..]);
    let changed = format!("{before}network_rate: {CHANGED}{after}");
    println!("\nline {at} of the definitions becomes {}", changed.trim());
    let lines: String = text
        .lines()
        .enumerate()
        .flat_map(|(number, line)| [if number + 1 == at { &changed } else { line }, "\n"])
        .collect();
    site.write("slower.yaml", &lines).map(Some)
}
