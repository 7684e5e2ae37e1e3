//! netpath itself: the definitions put in force, looked at, and taken back.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    report::Report,
    site::{Host, Site},
};
use crate::runner::Output;

/// How long a guest waits for an answer that must not come.
const SILENCE: Duration = Duration::from_secs(1);

/// `validate`, `plan` and `apply` on every host.
pub(super) fn validate_and_apply(site: &Site, file: &Path, report: &mut Report) {
    let file = file.display().to_string();
    for (number, host) in site.hosts.iter().enumerate() {
        if number == 0 {
            let output = host.shown(&["validate", "-f", &file]);
            report.row(site, "the definitions", "valid", ended(&output, 0, "valid"));
            let output = host.shown(&["plan", "-f", &file, "--host", &host.name, "--detailed-exitcode"]);
            let what = format!("{}: plan before apply", host.name);
            report.row(site, &what, "edits (exit code 2)", ended(&output, 2, "edits (exit code 2)"));
        }
        let output = host.shown(&["apply", "-f", &file, "--host", &host.name]);
        report.row(site, &format!("{}: apply", host.name), "done (0)", ended(&output, 0, "done (0)"));
    }
}

/// Applies definitions on every host.
pub(super) fn apply(site: &Site, file: &Path) -> Result<()> {
    for host in &site.hosts {
        let output = host.shown(&["apply", "-f", &file.display().to_string(), "--host", &host.name]);
        ended(&output, 0, "done").with_context(|| format!("{}: apply", host.name))?;
    }
    Ok(())
}

/// Nothing is left to do, and what is in force can be looked at.
pub(super) fn plan_and_show(site: &Site, file: &Path, report: &mut Report) {
    let file = file.display().to_string();
    for host in &site.hosts {
        let output = host.shown(&["plan", "-f", &file, "--detailed-exitcode"]);
        let what = format!("{}: plan after apply", host.name);
        report.row(site, &what, "no edits (exit code 0)", ended(&output, 0, "no edits (exit code 0)"));
    }
    let Some(host) = site.hosts.first() else { return };
    let shows: [&[&str]; 12] = [
        &["status"],
        &["show", "networks"],
        &["show", "ports"],
        &["show", "fdb"],
        &["show", "counters"],
        &["show", "drops"],
        &["show", "nat"],
        &["show", "flows"],
        &["show", "rules"],
        &["show", "limits"],
        &["show", "usage"],
        &["map", "list"],
    ];
    let failed: Vec<_> = shows.iter().filter(|args| host.shown(args).code != 0).map(|args| args.join(" ")).collect();
    let seen = if failed.is_empty() { "all answer".to_owned() } else { format!("{} failed", failed.join(", ")) };
    report.row(site, &format!("{}: status, show, map", host.name), "all answer", Ok(seen));
}

/// Programs off, devices as before, and the wire is silent: nothing else joins the guests.
pub(super) fn detach(site: &Site, report: &mut Report) {
    for host in &site.hosts {
        let output = host.shown(&["detach", "--purge"]);
        let what = format!("{}: detach --purge", host.name);
        report.row(
            site,
            &what,
            "done, nothing left",
            ended(&output, 0, "done").and_then(|done| leftovers(host, &done)),
        );
    }
    let across = site.guests.iter().find_map(|a| site.guests_of(&a.network).find(|b| b.host != a.host).map(|b| (a, b)));
    let Some((a, b)) = across else { return };
    let seen = if a.kernel.reaches(b.kernel.station().ip, SILENCE) { "answered" } else { "no answer" };
    let what = format!("{} pings {} after detach", a.title(), b.instance);
    report.row(site, &what, "no answer", Ok(seen.to_owned()));
}

/// What netpath should have taken with it.
fn leftovers(host: &Host, done: &str) -> Result<String> {
    let mut left = host.devices()?;
    left.retain(|device| !host.devices_before.contains(device));
    for entry in fs::read_dir(host.netpath.root()).into_iter().flatten().flatten() {
        left.push(entry.path().display().to_string());
    }
    if left.is_empty() { Ok(format!("{done}, nothing left")) } else { bail!("left behind: {}", left.join(", ")) }
}

fn ended(output: &Output, code: i32, seen: &str) -> Result<String> {
    if output.code != code {
        bail!("exit code {}, expected {code}", output.code);
    }
    Ok(seen.to_owned())
}
