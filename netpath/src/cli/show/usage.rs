//! `netpath show usage`: what was counted, all of it or since a time.

use std::{path::Path, time::SystemTime};

use super::Only;
use crate::{
    cli::{Global, applied::Applied, output, table::Table},
    error::Error,
    usage::{Count, Samples, Usage},
    when,
};

/// What of it is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Since {
    /// Only what belongs to this account (usage)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only what was counted since then: an RFC 3339 time, an age like 1h, or a saved `show usage -o json` (usage)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, since: &Since, global: &Global) -> Result<(), Error> {
    let samples = Samples::of(&global.state_dir, &global.root);
    let now = Usage::read(applied)?;
    samples.add_asked(&now);
    let mut usage = match &since.since {
        None => now,
        Some(when) => {
            let before = before(when, &now, &samples)?;
            now.since(before)
        }
    };
    let not_found = |what, name: &str| {
        let next = "`netpath show usage` has all that is counted here".to_owned();
        Error::NotFound { what, name: name.to_owned(), next }
    };
    if let Some(name) = only.0.filter(|name| usage.networks.iter().all(|row| row.network != *name)) {
        return Err(not_found("network", name));
    }
    if let Some(name) = since.account.as_deref().filter(|name| usage.accounts.iter().all(|row| row.account != *name)) {
        return Err(not_found("account", name));
    }
    usage.only(only.0, since.account.as_deref());
    output::print(global.output, &usage, || render(&usage))
}

/// Part of the time asked for that a reading may be older than its beginning without a warning: a tenth.
const TOLERANCE: u64 = 10;

/// The reading to compare with: a saved one, or the newest that is as old as that.
fn before(when: &str, now: &Usage, samples: &Samples) -> Result<Usage, Error> {
    let missing = |next: String| Error::NotFound { what: "reading of the counters", name: when.to_owned(), next };
    let Some(time) = when::parse(when, SystemTime::now()) else {
        if !Path::new(when).is_file() {
            return Err(missing(
                "give a time like 2026-11-29T06:45:00Z, an age like 15m, 1h or 7d, or a file with `show usage -o json`"
                    .into(),
            ));
        }
        let path = Path::new(when).to_owned();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::State { path, source })?;
        let before: Usage = serde_json::from_str(&text)
            .map_err(|error| missing(format!("the file is no `show usage -o json`: {error}")))?;
        let hosts = before.host.as_deref().zip(now.host.as_deref());
        return match hosts.filter(|(its, this)| its != this) {
            Some((its, this)) => Err(missing(format!("the file is host {its}'s, and this is {this}"))),
            None => Ok(before),
        };
    };
    let wanted = when::seconds(time);
    let of = |text: &str| when::parse(text, SystemTime::UNIX_EPOCH).map_or(u64::MAX, when::seconds);
    if wanted <= of(&now.counted_since) {
        // Nothing was counted before.
        return Ok(Usage { at: now.counted_since.clone(), ..Usage::default() });
    }
    let found = samples.newest_at(wanted, &now.counted_since)?;
    if let Some(sample) = &found.sample {
        let (before, after) = (wanted.saturating_sub(of(&sample.at)), of(&now.at).saturating_sub(wanted));
        if before * TOLERANCE > after {
            tracing::warn!("counted from {}, {before} s before {when}: there is no later reading", sample.at);
        }
    }
    found.sample.ok_or_else(|| {
        let oldest = found.oldest.unwrap_or_else(|| now.at.clone());
        let (path, began) = (samples.path(), &now.counted_since);
        let known = format!("the oldest in {} is of {oldest}, and all was counted since {began}", path.display());
        missing(format!("{known}; every `show usage` keeps one, an apply and the agent one a minute at most"))
    })
}

fn render(usage: &Usage) -> String {
    let columns = [">FROM GUEST", ">BYTES", ">TO GUEST", ">BYTES"];
    let table = |headings: &[&'static str]| Table::new(&[headings, &columns].concat());
    let cells = |names: Vec<String>, count: &Count| {
        let numbers = [count.from_guest_packets, count.from_guest_bytes, count.to_guest_packets, count.to_guest_bytes];
        names.into_iter().chain(numbers.map(|number| number.to_string()))
    };
    let owner = |account: &Option<String>| account.clone().unwrap_or_else(|| "-".into());
    let (mut nics, mut networks) = (table(&["NETWORK", "INSTANCE"]), table(&["NETWORK", "ACCOUNT"]));
    let (mut accounts, mut addresses) = (table(&["ACCOUNT"]), table(&["ADDRESS", "NETWORK"]));
    for row in &usage.nics {
        nics.row(cells(vec![row.network.clone(), row.instance.clone()], &row.count));
    }
    for row in &usage.networks {
        networks.row(cells(vec![row.network.clone(), owner(&row.account)], &row.count));
    }
    for row in &usage.accounts {
        accounts.row(cells(vec![row.account.clone()], &row.count));
    }
    for row in &usage.addresses {
        addresses.row(cells(vec![row.address.clone(), row.network.clone()], &row.count));
    }
    let since = usage.since.as_ref().unwrap_or(&usage.counted_since);
    let tables = [nics, networks, accounts, addresses].map(|table| table.render()).join("\n");
    format!("from {since} to {}\n\n{tables}", usage.at)
}
