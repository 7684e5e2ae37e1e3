//! `netpath show usage`: what was counted, all of it or since a time.

use std::{path::Path, time::SystemTime};

use super::Only;
use crate::{
    cli::{Global, applied::Applied, output, table::Table},
    error::Error,
    usage::{Count, Filter, Samples, Usage},
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
    let filter = Filter::of(only.0, since.account.as_deref());
    // An age is counted from before the reading, which then is not older.
    let asked_at = SystemTime::now();
    let now = Usage::read(applied)?;
    samples.add_asked(&now);
    let mut usage = match &since.since {
        None => now,
        Some(when) => {
            let before = match when::parse(when, asked_at) {
                Some(time) => sampled(when, time, &now, &samples)?,
                None => saved(when, &now, filter.as_ref())?,
            };
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
    usage.only(filter);
    output::print(global.output, &usage, || render(&usage))
}

/// Part of the time asked for that a reading may be older than its beginning without a warning: a tenth.
const TOLERANCE: u64 = 10;

fn missing(when: &str, next: String) -> Error {
    Error::NotFound { what: "reading of the counters", name: when.to_owned(), next }
}

/// The reading that a file has.
fn saved(file: &str, now: &Usage, filter: Option<&Filter>) -> Result<Usage, Error> {
    let path = Path::new(file);
    if !path.is_file() {
        let next =
            "give a time like 2026-11-29T06:45:00Z, an age like 15m, 1h or 7d, or a file with `show usage -o json`";
        return Err(missing(file, next.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::State { path: path.to_owned(), source })?;
    let unusable = |why| Error::Baseline { path: path.to_owned(), why };
    let before: Usage = serde_json::from_str(&text)
        .map_err(|error| unusable(format!("it is no document of `netpath show usage -o json`: {error}")))?;
    match before.baseline_problem(now, filter) {
        Some(why) => Err(unusable(why)),
        None => Ok(before),
    }
}

/// The newest reading of those kept that is as old as that.
fn sampled(when: &str, time: SystemTime, now: &Usage, samples: &Samples) -> Result<Usage, Error> {
    let wanted = when::seconds(time);
    let of = |text: &str| when::parse(text, SystemTime::UNIX_EPOCH).map_or(u64::MAX, when::seconds);
    if wanted > of(&now.at) {
        return Err(missing(when, format!("that is in the future, it is {} now: name a time that has been", now.at)));
    }
    if wanted <= of(&now.counted_since) {
        // Nothing was counted before.
        return Ok(Usage { at: now.counted_since.clone(), ..Usage::default() });
    }
    let found = samples.newest_at(wanted, &now.counted_since)?;
    if let Some(sample) = &found.sample {
        let (before, after) = (wanted.saturating_sub(of(&sample.at)), of(&now.at).saturating_sub(wanted));
        if before * TOLERANCE > after {
            tracing::warn!("{}", early(&sample.at, before, when));
        }
    }
    found.sample.ok_or_else(|| {
        let oldest = found.oldest.unwrap_or_else(|| now.at.clone());
        let (path, began) = (samples.path(), &now.counted_since);
        let known = format!("the oldest in {} is of {oldest}, and all was counted since {began}", path.display());
        missing(when, format!("{known}; every `show usage` keeps one, an apply and the agent one a minute at most"))
    })
}

/// What is said where the reading is much older than was asked for.
fn early(at: &str, seconds: u64, when: &str) -> String {
    format!("counted from {at}, {seconds} s before {when}: no reading was kept between the two")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Usage {
        Usage { at: time.into(), counted_since: "2026-11-01T00:00:00Z".into(), ..Usage::default() }
    }

    #[test]
    fn a_time_that_has_not_come_is_refused_and_this_moment_is_not() {
        let folder = std::env::temp_dir().join(format!("netpath-future-{}", std::process::id()));
        let samples = Samples::of(&folder, Path::new("/sys/fs/bpf/netpath"));
        let now = at("2026-11-29T06:45:00Z");
        samples.add_asked(&now);
        let ask = |when: &str| sampled(when, when::parse(when, SystemTime::UNIX_EPOCH).unwrap(), &now, &samples);
        assert_eq!(ask("2026-11-29T06:45:00Z").unwrap(), now);
        let error = ask("2026-11-29T06:45:01Z").unwrap_err().to_string();
        assert!(error.contains("that is in the future, it is 2026-11-29T06:45:00Z now"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_reading_that_is_too_old_is_said_to_be_the_last_before_the_time_and_not_the_last_of_all() {
        assert_eq!(
            early("2026-11-29T06:00:00Z", 900, "2026-11-29T06:15:00Z"),
            "counted from 2026-11-29T06:00:00Z, 900 s before 2026-11-29T06:15:00Z: no reading was kept between the two"
        );
    }

    #[test]
    fn a_file_that_is_no_reading_is_named_with_why() {
        let file = std::env::temp_dir().join(format!("netpath-no-reading-{}", std::process::id()));
        std::fs::write(&file, "[]").unwrap();
        let error = saved(file.to_str().unwrap(), &at("2026-11-29T06:45:00Z"), None).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(error.starts_with(&format!("{} cannot be counted from: it is no document", file.display())), "{error}");
    }
}
