//! What one, two and three levels of limits cost a small packet, against netpath without; and what Linux pays for its own.
//!
//! Rates are far above what comes, so nothing is dropped. One host stays, and only what is limited changes between runs: by a
//! live `apply`, as an operator changes it.

use std::{cell::Cell, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    PLENTY,
    shaper::{self, Shaper},
};
use crate::{
    bench::{
        bridge,
        experiment::{Bound, Comparison, Experiment, Variant},
        lab::{Action, GUEST_DEVICE, LONG, Lab, SHORT, Source, UPLINK},
        subject::{Subject, UplinkMode},
    },
    topology::Link,
};

/// Packets that guests send.
pub const FROM_GUEST: &str = "limits: from a guest, 60-byte UDP";
/// Packets for guests.
pub const TO_GUEST: &str = "limits: to a guest, 60-byte UDP";
/// Frames of one run.
const FRAMES: u32 = 1_000_000;
/// What a NIC's limit may add.
const MOST: f64 = 1.06;

/// How many levels have a limit; each has those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Level {
    Nothing,
    Nic,
    Network,
    Account,
}

impl Level {
    /// Writes its limits into definitions.
    fn limit(self, zone: &mut Value) {
        if self >= Self::Nic {
            zone["networks"][0]["nics"][0]["network_rate"] = PLENTY.into();
        }
        if self >= Self::Network {
            zone["networks"][0]["aggregate_rate"] = PLENTY.into();
        }
        if self >= Self::Account {
            zone["accounts"] = json!([{"name": zone["networks"][0]["account"], "aggregate_rate": PLENTY}]);
        }
    }
}

/// netpath and a bridge at work, whose limits change from run to run.
pub struct Cost {
    name: &'static str,
    netpath: Lab,
    subject: Subject,
    level: Cell<Level>,
    bridge: Lab,
    shaper: Cell<Shaper>,
    /// Where the bridge's packets leave the host.
    leaves_by: &'static str,
}

impl Cost {
    /// Builds both. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path, source: Source) -> Result<Self> {
        let (name, action, counted, leaves_by) = match source {
            Source::Guest => (FROM_GUEST, Action::Receive, LONG, UPLINK),
            Source::Wire => (TO_GUEST, Action::Send, SHORT, GUEST_DEVICE),
        };
        let netpath = Lab::new(floor, source, action, counted)?;
        netpath.count(source == Source::Wire)?;
        let subject = Subject::apply(&netpath.hypervisor, UplinkMode::Xdp)?;
        let bridge = Lab::new(floor, source, action, counted)?;
        bridge.count(false)?;
        bridge.hypervisor.run(|| -> Result<()> {
            // Without XDP, a veth's driver receives what XDP sends to it only with GRO on.
            Link::named(UPLINK).offload("rx-gro", true)?;
            bridge::build(GUEST_DEVICE)
        })?;
        let (level, shaper) = (Cell::new(Level::Nothing), Cell::new(Shaper::None));
        Ok(Self { name, netpath, subject, level, bridge, shaper, leaves_by })
    }

    /// The experiment over all of it.
    pub fn experiment(&self) -> Experiment<'_> {
        let [none, nic, network, account] =
            ["netpath", "netpath, NIC", "netpath, NIC and network", "netpath, NIC, network, account"];
        let [bare, htb, nft] = ["bridge + vxlan", "bridge + vxlan, HTB", "bridge + vxlan, nft limit"];
        let netpath = |name, level| Variant::new(name, move || self.run(level));
        let linux = |name, shaper| Variant::new(name, move || self.run_linux(shaper));
        let ratio = |name, numerator, denominator, bound| Comparison {
            name,
            metric: 0,
            numerator,
            denominator: Some(denominator),
            bound,
        };
        Experiment {
            name: self.name,
            metrics: &["ns/packet"],
            variants: vec![
                netpath(none, Level::Nothing),
                netpath("netpath again", Level::Nothing),
                netpath(nic, Level::Nic),
                netpath(network, Level::Network),
                netpath(account, Level::Account),
                linux(bare, Shaper::None),
                linux(htb, Shaper::Htb),
                linux(nft, Shaper::Nft),
            ],
            comparisons: vec![
                ratio("cost of a NIC's limit", nic, none, Bound::AtMost(MOST)),
                ratio("cost of a NIC's and its network's", network, none, Bound::Shown),
                ratio("cost of a NIC's, network's and account's", account, none, Bound::Shown),
                ratio("netpath against itself", "netpath again", none, Bound::Shown),
                ratio("cost of HTB for the bridge", htb, bare, Bound::Shown),
                ratio("cost of an nft limit for the bridge", nft, bare, Bound::Shown),
                ratio("three limits, times bridge + vxlan, HTB", htb, account, Bound::Shown),
            ],
        }
    }

    fn run(&self, level: Level) -> Result<f64> {
        if self.level.replace(level) != level {
            self.subject.change(|zone| level.limit(zone))?;
            let limits = self.subject.json(&["show", "limits"])?;
            let rows = limits.as_array().map_or(0, Vec::len);
            ensure!(rows == 2 * level as usize, "{level:?} has {rows} rows of limits: {limits}");
        }
        self.netpath.run(FRAMES).with_context(|| self.subject.drops())
    }

    fn run_linux(&self, shaper: Shaper) -> Result<f64> {
        let before = self.shaper.replace(shaper);
        if before != shaper {
            let change =
                || shaper::remove(before, self.leaves_by).and_then(|()| shaper::install(shaper, self.leaves_by));
            self.bridge.hypervisor.run(change)?;
        }
        self.bridge.run(FRAMES)
    }
}
