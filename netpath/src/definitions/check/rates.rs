//! Rates: each burst has a rate to be a burst of, and is one; each rate is about something that there is.

use std::collections::{HashMap, HashSet};

use netpath_common::stage::meter;

use super::{
    super::{
        decode::At,
        findings::Findings,
        model::{Network, Zone},
        values::{Burst, Rate},
    },
    Seen,
};

/// A burst is at most what passes in this time: beyond that it would be another rate.
const LONGEST_BURST_SECONDS: u64 = 60;

pub(super) fn check(zone: &Zone, findings: &mut Findings) {
    for offering in &zone.offerings {
        burst("network_rate", &offering.network_rate, &offering.network_burst, findings);
        burst("aggregate_rate", &offering.aggregate_rate, &offering.aggregate_burst, findings);
    }
    for account in &zone.accounts {
        burst("aggregate_rate", &account.aggregate_rate, &account.aggregate_burst, findings);
    }
    let mut addresses = Seen::default();
    for network in &zone.networks {
        burst("network_rate", &network.network_rate, &network.network_burst, findings);
        burst("aggregate_rate", &network.aggregate_rate, &network.aggregate_burst, findings);
        for nic in &network.nics {
            burst("network_rate", &nic.network_rate, &nic.network_burst, findings);
        }
        for rate in &network.public_rates {
            burst("rate", &Some(rate.rate), &rate.burst, findings);
            let what = "a second rate of this public address";
            addresses.once(*rate.public, &rate.public, what, "give an address one rate", findings);
            of_network(zone, network, &rate.public, findings);
        }
    }
    accounts(zone, findings);
}

/// A burst stands beside a rate, and is not larger than makes sense with it.
fn burst(field: &str, rate: &Option<At<Rate>>, burst: &Option<At<Burst>>, findings: &mut Findings) {
    let Some(burst) = burst.as_ref().filter(|burst| burst.is_written()) else { return };
    match rate {
        None => {
            let expected = format_args!("add `{field}` beside it, or leave the burst out");
            findings.add(burst.at, findings.written(burst.at), "a burst without a rate", expected);
        }
        Some(rate) if !rate.is_written() => {}
        Some(rate) => match rate.value {
            Rate::Unlimited => {
                findings.add(
                    burst.at,
                    findings.written(burst.at),
                    "the burst of an unlimited rate",
                    "leave the burst out",
                );
            }
            Rate::BitsPerSecond(bits) => {
                let most = (bits / 8).saturating_mul(LONGEST_BURST_SECONDS).max(meter::LEAST_BURST);
                if burst.bytes() > most {
                    let problem =
                        format_args!("a burst of more than {LONGEST_BURST_SECONDS} s at its rate of {}", rate.value);
                    findings.add(
                        burst.at,
                        findings.written(burst.at),
                        problem,
                        format_args!("use at most {most} bytes"),
                    );
                }
            }
        },
    }
}

/// A rate is of an address that the network uses.
fn of_network(zone: &Zone, network: &Network, public: &At<std::net::Ipv4Addr>, findings: &mut Findings) {
    if !public.is_written() || uses(network, public) {
        return;
    }
    let name = &network.name.value;
    let expected = "name an address of its source_nat, static_nat or port_forwarding";
    match zone.networks.iter().find(|other| uses(other, public)) {
        Some(other) => {
            let problem = format_args!("an address of network {}, not of network {name}", other.name.value);
            findings.add(public.at, public.value, problem, expected);
        }
        None => findings.add(public.at, public.value, format_args!("an address that network {name} has not"), expected),
    }
}

fn uses(network: &Network, public: &At<std::net::Ipv4Addr>) -> bool {
    network.source_nat.iter().any(|address| address.value == public.value)
        || network.static_nat.iter().any(|nat| *nat.public == public.value)
        || network.port_forwarding.iter().any(|forward| *forward.public == public.value)
}

/// An account may be without networks yet. One that differs from that of a network only in how it is written is a slip, which
/// would leave the network's account unlimited.
fn accounts(zone: &Zone, findings: &mut Findings) {
    let owners: HashMap<String, &str> = zone
        .networks
        .iter()
        .filter_map(|network| network.account.as_ref())
        .map(|account| (bare(account), account.as_str()))
        .collect();
    let listed: HashSet<&str> = zone.accounts.iter().map(|account| account.name.as_str()).collect();
    for account in zone.accounts.iter().filter(|account| account.name.is_written()) {
        let Some(likely) = owners.get(&bare(&account.name)) else { continue };
        if *likely != account.name.as_str() && !listed.contains(likely) {
            let (at, name) = (account.name.at, &account.name.value);
            findings.add(at, name, "the account of no network", format_args!("did you mean `{likely}`?"));
        }
    }
}

/// A name without what slips are made of: case and punctuation.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
