//! How much a zone holds, in one line.

use std::fmt;

use serde::Serialize;

use super::model::Zone;

/// The numbers of a zone's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Hypervisors.
    pub hosts: usize,
    /// Physical networks.
    pub physical_networks: usize,
    /// Tenant networks.
    pub networks: usize,
    /// Guests' interfaces in all networks.
    pub nics: usize,
    /// Public ranges.
    pub public_ranges: usize,
}

impl Zone {
    /// Counts its objects.
    pub fn counts(&self) -> Counts {
        Counts {
            hosts: self.hosts.len(),
            physical_networks: self.physical_networks.len(),
            networks: self.networks.len(),
            nics: self.networks.iter().map(|network| network.nics.len()).sum(),
            public_ranges: self.public_ranges.len(),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            (self.hosts, "host"),
            (self.physical_networks, "physical network"),
            (self.networks, "network"),
            (self.nics, "NIC"),
            (self.public_ranges, "public range"),
        ];
        for (i, (count, what)) in rows.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{comma}{count} {what}{plural}")?;
        }
        Ok(())
    }
}
