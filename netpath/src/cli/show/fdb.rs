//! `netpath show fdb`.

use netpath_common::maps::{Destination, FdbKey, LEARNED_IDLE_NS};
use serde::Serialize;

use super::Only;
use crate::{
    cli::{Global, applied::Applied, output, table::Table, terms},
    error::Error,
};

/// Where a station lives.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Station {
    /// Its network.
    network: String,
    /// Its MAC address.
    mac: String,
    /// `local`, `tunnel`, `uplink` or `gateway`.
    kind: &'static str,
    /// The device, or the tunnel's far end as physical network/host.
    target: String,
    /// `defined` or `learned`.
    origin: &'static str,
    /// Seconds since a learned station was last seen.
    idle_seconds: Option<u64>,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, global: &Global) -> Result<(), Error> {
    let mut stations = Vec::new();
    for (key, destination) in applied.tables.fdb.rows()? {
        stations.extend(station(applied, only, &key, &destination, None));
    }
    let now = terms::now_ns();
    for (key, learned) in applied.tables.learned.rows()? {
        let idle = now.saturating_sub(learned.last_seen_ns);
        // An idle row counts as absent.
        if idle < LEARNED_IDLE_NS {
            stations.extend(station(applied, only, &key, &learned.destination, Some(idle / 1_000_000_000)));
        }
    }
    stations.sort();
    output::print(global.output, &stations, || {
        let mut table = Table::new(&["NETWORK", "MAC", "WHERE", "TARGET", "ORIGIN", ">IDLE"]);
        for station in &stations {
            let idle = station.idle_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s"));
            table.row([
                station.network.clone(),
                station.mac.clone(),
                station.kind.to_owned(),
                station.target.clone(),
                station.origin.to_owned(),
                idle,
            ]);
        }
        table.render()
    })
}

fn station(
    applied: &Applied,
    only: Only<'_>,
    key: &FdbKey,
    destination: &Destination,
    idle_seconds: Option<u64>,
) -> Option<Station> {
    let network = applied.names.network(key.network);
    let (kind, target) = applied.names.destination(destination);
    let origin = if idle_seconds.is_some() { "learned" } else { "defined" };
    let wanted = only.wants(&network);
    wanted.then(|| Station { network, mac: key.mac.to_string(), kind, target, origin, idle_seconds })
}
