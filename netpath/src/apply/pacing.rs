//! Which uplinks keep packets until their time of departure, and what is to be done so that they do.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::maps::uplink_flags;

use super::steps::Step;
use crate::{
    compile::{Compiled, FairQueues, Rows},
    definitions::{Pacing, Zone},
    error::Error,
    netlink::{
        Device,
        fq::{self, Discipline},
        tc,
    },
};

/// Why packets above a rate are dropped on an uplink, though the definitions ask for fq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unpaced {
    /// The kernel has no fq.
    NoFq,
    /// The device has a queueing discipline of its operator's, of this kind.
    Foreign(String),
}

/// What the uplinks of a host have.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    mode: Option<Pacing>,
    disciplines: BTreeMap<u32, Discipline>,
    /// What compiling wants to know.
    pub(super) fair_queues: FairQueues,
}

impl Uplinks {
    /// Looks at the uplinks of the host, and at those that had fq from netpath.
    pub(super) fn observe(zone: &Zone, host: &str, devices: &[Device], existing: &Rows) -> Result<Self, Error> {
        let Some(host) = zone.host(host) else { return Ok(Self::default()) };
        let mode = host.pacing.value;
        let named: BTreeSet<&str> = host.uplinks.iter().map(|(_, device)| device.as_str()).collect();
        let restored = existing.uplinks.iter().filter(|(_, row)| row.flags & uplink_flags::RESTORE_QDISC != 0);
        let restored: BTreeSet<u32> = restored.map(|(key, _)| key.ifindex).collect();
        let qdiscs = tc::every_qdisc()?;
        let ours = devices.iter().filter(|device| named.contains(&*device.name) || restored.contains(&device.index));
        let disciplines: BTreeMap<_, _> =
            ours.map(|device| (device.index, fq::discipline(device.index, &qdiscs))).collect();
        let is_default = |found: &Discipline| matches!(found, Discipline::Default(_));
        let knows_fq = mode == Pacing::Fq && disciplines.values().any(is_default) && fq::is_known()?;
        let having = |is_wanted: &dyn Fn(&Discipline) -> bool| {
            disciplines.iter().filter(|(_, found)| is_wanted(found)).map(|(index, _)| *index).collect()
        };
        let fair_queues = FairQueues {
            present: having(&|found| mode != Pacing::Off && *found == Discipline::Fq),
            possible: having(&|found| {
                mode == Pacing::Fq && (matches!(found, Discipline::Own(_)) || knows_fq && is_default(found))
            }),
        };
        Ok(Self { mode: Some(mode), disciplines, fair_queues })
    }

    /// What is done before rows say that packets are paced, and what after they say so no more.
    pub(super) fn steps(&self, compiled: &Compiled, devices: &[Device]) -> (Vec<Step>, Vec<Step>) {
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for (index, found) in &self.disciplines {
            let Some(device) = devices.iter().find(|device| device.index == *index) else { continue };
            let step = |queues| Step::FairQueue { device: device.name.clone(), ifindex: *index, queues };
            match (compiled.fair_queues.contains(index), found) {
                (true, Discipline::Default(queues)) => on.push(step(*queues)),
                (false, Discipline::Own(queues)) => {
                    off.push(Step::DefaultQueue { device: device.name.clone(), ifindex: *index, queues: *queues });
                }
                _ => {}
            }
        }
        (on, off)
    }

    /// The uplinks in use on which packets above a rate are dropped though fq is asked for.
    pub(super) fn unpaced(&self, compiled: &Compiled) -> Vec<(String, Unpaced)> {
        if self.mode != Some(Pacing::Fq) || compiled.rows.limits.is_empty() {
            return Vec::new();
        }
        let used = compiled.uplinks.iter().filter_map(|uplink| Some((uplink.ifindex?, uplink.device.clone()?)));
        let why = |index: u32| match self.disciplines.get(&index)? {
            Discipline::Foreign(kind) => Some(Unpaced::Foreign(kind.clone())),
            Discipline::Default(_) if !self.fair_queues.possible.contains(&index) => Some(Unpaced::NoFq),
            _ => None,
        };
        used.filter_map(|(index, device)| Some((device, why(index)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::XdpSupport;

    fn uplinks(disciplines: &[(u32, Discipline)]) -> Uplinks {
        Uplinks { mode: Some(Pacing::Fq), disciplines: disciplines.iter().cloned().collect(), ..Uplinks::default() }
    }

    fn device(index: u32) -> Device {
        Device { xdp: XdpSupport::Absent, ..Device::hardware(index, &format!("eth{index}")) }
    }

    #[test]
    fn fq_is_put_where_it_is_wanted_and_netpaths_own_taken_off_where_it_is_not() {
        let found = [
            (1, Discipline::Default(8)),
            (2, Discipline::Own(1)),
            (3, Discipline::Own(4)),
            (4, Discipline::Fq),
            (5, Discipline::Foreign("htb".into())),
        ];
        let compiled = Compiled { fair_queues: [1, 2].into(), ..Compiled::default() };
        let devices: Vec<Device> = (1..=5).map(device).collect();
        let (on, off) = uplinks(&found).steps(&compiled, &devices);
        assert_eq!(on, [Step::FairQueue { device: "eth1".into(), ifindex: 1, queues: 8 }]);
        assert_eq!(off, [Step::DefaultQueue { device: "eth3".into(), ifindex: 3, queues: 4 }]);
    }
}
