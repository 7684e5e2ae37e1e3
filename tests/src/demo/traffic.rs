//! Guests of one network talk: on one host, and across hosts.

use anyhow::Result;

use super::{
    report::Report,
    site::{Guest, Site},
};

/// How much one TCP connection carries.
const MEGABYTES: usize = 64;

pub(super) fn check(site: &Site, report: &mut Report) {
    for network in site.networks() {
        let guests: Vec<_> = site.guests_of(network).collect();
        let pairs = || guests.iter().flat_map(|a| guests.iter().map(move |b| (*a, *b)));
        let on_one_host = pairs().find(|(a, b)| a.title() != b.title() && a.host == b.host);
        let across = pairs().find(|(a, b)| a.host != b.host);
        for (a, b) in on_one_host.into_iter().chain(across) {
            pair(site, report, a, b);
        }
    }
}

fn pair(site: &Site, report: &mut Report, a: &Guest, b: &Guest) {
    let between = if a.host == b.host {
        format!("on {}", site.host_of(a).name)
    } else {
        format!("{} to {}", site.host_of(a).name, site.host_of(b).name)
    };
    let title = format!("{} {} to {}, {between}", a.network, a.instance, b.instance);
    let (from, to) = (&a.kernel, &b.kernel);
    let seen = |done: Result<()>, what: &str| done.map(|()| what.to_owned());
    report.row(site, &format!("{title}: ping"), "answered", seen(from.ping(to.station().ip), "answered"));
    if a.has_ipv6 && b.has_ipv6 {
        report.row(site, &format!("{title}: ping, IPv6"), "answered", seen(from.ping(to.station().ip6), "answered"));
    }
    let udp = from.exchanges_udp(to, b"netpath demo");
    report.row(site, &format!("{title}: UDP"), "echoed", seen(udp, "echoed"));
    let bytes = format!("{MEGABYTES} MiB, all bytes equal");
    let tcp = from.sends_tcp(to, MEGABYTES, false);
    report.row(site, &format!("{title}: TCP"), &bytes, seen(tcp, &bytes));
}
