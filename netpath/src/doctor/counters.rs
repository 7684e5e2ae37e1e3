//! What uplinks could not take, and how fast that grows.

use super::{Fault, Host, host::Link};
use crate::netlink::link::Received;

/// A share of frames that is dropped for being of no use to anybody (LLDP, IPv6 where there is none) is normal.
const DROPPED_SHARE: u64 = 1000;
/// And so are a few in the time of a look.
const DROPPED_FEW: u64 = 10;

/// One counter: what it is called, and where it is.
struct Counter {
    what: &'static str,
    of: fn(&Received) -> u64,
    why: &'static str,
    mend: &'static str,
}

pub(super) fn rx_crc_errors(host: &Host) -> Vec<Fault> {
    let counter = Counter {
        what: "frames with a wrong check sequence (CRC)",
        of: |received| received.crc_errors,
        why: "a cable, a transceiver or a port is failing: each is a packet that somebody sends again",
        mend: "clean or change cable and transceiver (`ethtool -m DEV`), try another port of the switch",
    };
    faults(host, &counter)
}

pub(super) fn rx_missed(host: &Host) -> Vec<Fault> {
    let counter = Counter {
        what: "frames that came when the NIC's ring was full (missed)",
        of: |received| received.missed,
        why: "the processors do not keep up: bursts of guests' packets are lost before anybody sees them",
        mend: "`ethtool -G DEV rx 4096`, more queues (`ethtool -L DEV combined N`), their interrupts on more processors",
    };
    faults(host, &counter)
}

pub(super) fn rx_errors(host: &Host) -> Vec<Fault> {
    let counter = Counter {
        what: "frames with other errors",
        of: |received| received.errors.saturating_sub(received.crc_errors + received.missed),
        why: "they are lost before netpath sees them",
        mend: "`ethtool -S DEV` says which of the driver's counters grows",
    };
    faults(host, &counter)
}

/// Those that grow, against all that come: a few are of no use to anybody.
pub(super) fn rx_dropped(host: &Host) -> Vec<Fault> {
    let grown = host.links.iter().filter_map(|link| {
        let (before, after) = &link.received;
        let dropped = after.dropped.saturating_sub(before.dropped);
        let came = after.packets.saturating_sub(before.packets);
        (dropped > DROPPED_FEW && dropped.saturating_mul(DROPPED_SHARE) > came).then_some((link, dropped, came))
    });
    let fault = |(link, dropped, came): (&Link, u64, u64)| {
        let Link { device, seconds, .. } = link;
        let rate = rate(dropped, *seconds);
        Fault::warning(
            format!("uplink {device}"),
            format!("{dropped} of {came} frames were dropped in {seconds:.1} s ({rate} a second)"),
        )
        .because("the kernel had no room for them, or nobody on this host takes their kind")
        .mend(format!("`ethtool -S {device}`; `dropwatch` or `perf record -e skb:kfree_skb` say where"))
    };
    grown.map(fault).collect()
}

/// The driver's own counters of loss, while they grow: what they count differs, and some count for ever.
pub(super) fn rx_driver_loss(host: &Host) -> Vec<Fault> {
    let fault = |link: &Link| {
        let (before, after) = &link.lost;
        let grown = after.iter().filter_map(|(name, now)| {
            let grown = now.saturating_sub(*before.get(name)?);
            (grown > DROPPED_FEW).then(|| format!("{name} by {grown} ({} a second)", rate(grown, link.seconds)))
        });
        let grown: Vec<String> = grown.collect();
        let Link { device, driver, .. } = link;
        (!grown.is_empty()).then(|| {
            Fault::warning(
                format!("uplink {device}"),
                format!("counters of its driver ({driver}) grow: {}", grown.join(", ")),
            )
            .because("frames are lost in the NIC or its driver, where no program sees them")
            .mend(format!("`ethtool -S {device}`; `ethtool -G {device} rx 4096` where there is no buffer for them"))
        })
    };
    host.links.iter().filter_map(fault).collect()
}

/// A warning while it grows, a note of what has been.
fn faults(host: &Host, counter: &Counter) -> Vec<Fault> {
    let fault = |link: &Link| {
        let (before, after) = ((counter.of)(&link.received.0), (counter.of)(&link.received.1));
        let object = format!("uplink {}", link.device);
        let (what, all) = (counter.what, after);
        let fault = match after.saturating_sub(before) {
            _ if all == 0 => return None,
            0 => Fault::note(object, format!("{all} {what} since the device was made, none now")),
            grown => Fault::warning(object, format!("{all} {what}, {} a second now", rate(grown, link.seconds))),
        };
        Some(fault.because(counter.why).mend(counter.mend.replace("DEV", &link.device)))
    };
    host.links.iter().filter_map(fault).collect()
}

fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(0.001)).round() as u64
}
