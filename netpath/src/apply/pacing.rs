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
        fq::{self, Discipline, Room},
        tc,
    },
};

/// Why packets above a rate are dropped on an uplink, though the definitions ask for fq, or sooner than they might be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unpaced {
    /// The kernel has no fq.
    NoFq,
    /// The device has a queueing discipline of its operator's, of this kind.
    Foreign(String),
    /// The device has fq, but that has room for no more than this.
    Narrow(Room),
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
        let is_replaceable = |found: &Discipline| replaceable(found).is_some();
        let knows_fq = mode == Pacing::Fq && disciplines.values().any(is_replaceable) && fq::is_known()?;
        let is_possible = |found: &Discipline| {
            mode == Pacing::Fq && (matches!(found, Discipline::Own(_)) || knows_fq && is_replaceable(found))
        };
        let mut fair_queues = FairQueues::default();
        for (index, found) in &disciplines {
            match found {
                found if is_possible(found) => drop(fair_queues.possible.insert(*index)),
                Discipline::Fq if mode != Pacing::Off => drop(fair_queues.present.insert(*index, fq::wanted().bytes())),
                Discipline::Narrow { room, .. } if mode != Pacing::Off => {
                    fair_queues.present.insert(*index, room.bytes());
                }
                _ => {}
            }
        }
        Ok(Self { mode: Some(mode), disciplines, fair_queues })
    }

    /// What is done before rows say that packets are paced, and what after they say so no more.
    pub(super) fn steps(&self, compiled: &Compiled, devices: &[Device]) -> (Vec<Step>, Vec<Step>) {
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for (index, found) in &self.disciplines {
            let Some(device) = devices.iter().find(|device| device.index == *index) else { continue };
            let step = |queues| Step::FairQueue { device: device.name.clone(), ifindex: *index, queues };
            match (compiled.fair_queues.contains(index), found) {
                (true, found) => on.extend(replaceable(found).map(step)),
                (false, Discipline::Own(queues) | Discipline::Stale(queues)) => {
                    off.push(Step::DefaultQueue { device: device.name.clone(), ifindex: *index, queues: *queues });
                }
                _ => {}
            }
        }
        (on, off)
    }

    /// The uplinks in use on which packets above a rate are dropped though fq is asked for, or sooner than need be.
    pub(super) fn unpaced(&self, compiled: &Compiled) -> Vec<(String, Unpaced)> {
        if self.mode.is_none_or(|mode| mode == Pacing::Off) || compiled.rows.limits.is_empty() {
            return Vec::new();
        }
        let asks = self.mode == Some(Pacing::Fq);
        let used = compiled.uplinks.iter().filter_map(|uplink| Some((uplink.ifindex?, uplink.device.clone()?)));
        let why = |index: u32| match self.disciplines.get(&index)? {
            Discipline::Foreign(kind) if asks => Some(Unpaced::Foreign(kind.clone())),
            Discipline::Default(_) if asks && !self.fair_queues.possible.contains(&index) => Some(Unpaced::NoFq),
            Discipline::Narrow { room, .. } if !self.fair_queues.possible.contains(&index) => {
                Some(Unpaced::Narrow(*room))
            }
            _ => None,
        };
        used.filter_map(|(index, device)| Some((device, why(index)?))).collect()
    }
}

/// For how many queues netpath may put its fq in the place of what is there; `None` where it may not, or that is it.
fn replaceable(found: &Discipline) -> Option<u32> {
    match found {
        Discipline::Default(queues) | Discipline::Stale(queues) | Discipline::Narrow { queues: Some(queues), .. } => {
            Some(*queues)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::UplinkUse,
        definitions::{Isolation, UplinkMode},
        netlink::XdpSupport,
    };

    const NARROW: Room = Room { packets: 10_000, of_a_flow: 100 };

    fn uplink_use() -> UplinkUse {
        UplinkUse {
            physical_network: "guest".into(),
            isolation: Isolation::Vlan,
            device: None,
            ifindex: None,
            mode: UplinkMode::Auto,
            udp_port: None,
            local: None,
            largest: Default::default(),
        }
    }

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
            (6, Discipline::Narrow { room: NARROW, queues: Some(2) }),
        ];
        let compiled = Compiled { fair_queues: [1, 2, 6].into(), ..Compiled::default() };
        let devices: Vec<Device> = (1..=6).map(device).collect();
        let (on, off) = uplinks(&found).steps(&compiled, &devices);
        let put = |ifindex, queues| Step::FairQueue { device: format!("eth{ifindex}"), ifindex, queues };
        assert_eq!(on, [put(1, 8), put(6, 2)]);
        assert_eq!(off, [Step::DefaultQueue { device: "eth3".into(), ifindex: 3, queues: 4 }]);
    }

    #[test]
    fn an_fq_that_keeps_few_packets_is_told_of_unless_pacing_is_off() {
        let narrow = |queues| Discipline::Narrow { room: NARROW, queues };
        let found = [(1, narrow(None)), (2, narrow(Some(1))), (3, Discipline::Foreign("htb".into()))];
        let used = |index| UplinkUse { ifindex: Some(index), device: Some(format!("eth{index}")), ..uplink_use() };
        let mut compiled = Compiled { uplinks: (1..=3).map(used).collect(), ..Compiled::default() };
        compiled.rows.limits.insert(2, netpath_common::maps::Limit::default());
        let unpaced = |mode, possible: &[u32]| {
            let mut uplinks = Uplinks { mode: Some(mode), ..uplinks(&found) };
            uplinks.fair_queues.possible = possible.iter().copied().collect();
            uplinks.unpaced(&compiled)
        };
        let told = |index, why| (format!("eth{index}"), why);
        let [one, two] = [1, 2].map(|index| told(index, Unpaced::Narrow(NARROW)));
        assert_eq!(unpaced(Pacing::Auto, &[]), [one.clone(), two]);
        assert_eq!(unpaced(Pacing::Fq, &[2]), [one, told(3, Unpaced::Foreign("htb".into()))]);
        assert_eq!(unpaced(Pacing::Off, &[]), []);
    }
}
