//! How processors run, and how packets are spread over them.

use std::collections::BTreeSet;

use super::{Fault, Host, host::Link};

/// From so many processors on, one queue is too few.
const MANY: usize = 4;

pub(super) fn cpu_governor(host: &Host) -> Vec<Fault> {
    let slow: Vec<_> = host.system.governors.iter().filter(|(name, _)| name.as_str() != "performance").collect();
    if slow.is_empty() {
        return Vec::new();
    }
    let found: Vec<String> = slow.iter().map(|(name, count)| format!("{count} with {name}")).collect();
    let fault = Fault::warning("processors", format!("their governor is not performance: {}", found.join(", ")))
        .because("a processor that has to speed up first adds tens of microseconds to the first packets of each burst")
        .mend("`cpupower frequency-set -g performance`, and by a unit at boot");
    vec![fault]
}

pub(super) fn rx_queues(host: &Host) -> Vec<Fault> {
    let processors = host.system.processors;
    let fault = |link: &Link| {
        let queues = link.queues.filter(|queues| link.is_hardware && queues.used == 1 && processors >= MANY)?;
        let (device, most) = (&link.device, queues.most);
        let object = format!("uplink {device}");
        let found = format!("it receives on one queue, and there are {processors} processors");
        let fault = match most {
            0 | 1 => Fault::note(object, found).mend(format!(
                "the NIC has no more; `echo ff > /sys/class/net/{device}/queues/rx-0/rps_cpus` spreads what TC takes"
            )),
            _ => Fault::warning(object, found)
                .mend(format!("`ethtool -L {device} combined {}`", (most as usize).min(processors))),
        };
        Some(fault.because("one processor takes every packet of every guest, and is the limit of all of them"))
    };
    host.links.iter().filter_map(fault).collect()
}

pub(super) fn irq_spread(host: &Host) -> Vec<Fault> {
    let fault = |link: &Link| {
        let own = host.system.interrupts.iter().filter(|interrupt| is_of(&interrupt.name, &link.device));
        let own: Vec<_> = own.collect();
        let places: BTreeSet<&str> = own.iter().map(|interrupt| interrupt.processors.as_str()).collect();
        let [place] = Vec::from_iter(places)[..] else { return None };
        let is_one = place.parse::<u32>().is_ok();
        (own.len() > 1 && is_one && host.system.processors >= MANY).then(|| {
            let numbers: Vec<String> = own.iter().map(|interrupt| interrupt.number.to_string()).collect();
            let found = format!("its {} interrupts ({}) all go to processor {place}", own.len(), numbers.join(", "));
            Fault::warning(format!("uplink {}", link.device), found)
                .because("its queues are for nothing: one processor takes every packet")
                .mend("`systemctl start irqbalance`, or a processor each: `echo N > /proc/irq/IRQ/smp_affinity_list`")
        })
    };
    host.links.iter().filter_map(fault).collect()
}

/// Is the interrupt one of the device: `eth1`, `eth1-TxRx-0`, `i40e-eth1-TxRx-0`, and not `eth10-TxRx-0`?
fn is_of(interrupt: &str, device: &str) -> bool {
    interrupt.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).any(|word| word == device)
}
