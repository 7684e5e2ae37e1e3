//! Faults of what the kernel has: pins, devices, full tables.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use netpath::{datapath, netlink};
use rustix::process::Signal;

use super::{
    Cost,
    lab::Lab,
    traffic::{COMER, TRANSLATED},
};
use crate::{
    agent::{Agent, until},
    guest::{
        PATIENCE,
        raw::{contains, marker},
    },
    monitor::Monitor,
    packet::{Endpoint, guest, mutate::Random},
    topology::internet::INTERNET,
};

/// Packets that are sent between two looks at what became of them.
const BATCH: usize = 500;
/// After this a packet that has not come out is sent again.
const SOON: Duration = Duration::from_millis(50);

/// The file system with all pins is unmounted, which ends the programs, and mounted again.
pub(super) fn bpffs_unmounted(lab: &Lab, random: &mut Random) -> Cost {
    lab.traffic.outage(&[]);
    lab.bpffs.unmount().expect("nobody holds the file system");
    until_programs_are_off(lab);
    let refused = lab.netpath.run(lab.netpath.apply_args(&lab.whole));
    assert!(refused.code == 1 && refused.stderr.contains("mount -t bpf"), "{refused:?}");
    lab.bpffs.mount().expect("it can be mounted again");
    if random.below(2) == 0 {
        lab.kill_apply(&lab.whole, random);
    }
    Cost::Tables
}

/// The pins of the links are removed, which takes the programs off their devices.
pub(super) fn links_removed(lab: &Lab, _: &mut Random) -> Cost {
    lab.traffic.outage(&[]);
    remove(&lab.netpath.root().join("links"));
    until_programs_are_off(lab);
    Cost::Nothing
}

/// The pins of the programs are removed, which live on where they are attached.
pub(super) fn programs_removed(lab: &Lab, _: &mut Random) -> Cost {
    remove(&lab.version_folder().join("programs"));
    Cost::Nothing
}

/// The pins of the maps are removed, which live on in the programs that are attached.
pub(super) fn maps_removed(lab: &Lab, _: &mut Random) -> Cost {
    lab.traffic.outage(&[]);
    remove(&lab.version_folder().join("maps"));
    Cost::Tables
}

/// All pins are removed.
pub(super) fn root_removed(lab: &Lab, _: &mut Random) -> Cost {
    lab.traffic.outage(&[]);
    remove(lab.netpath.root());
    until_programs_are_off(lab);
    Cost::Tables
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("removing {}: {error}", folder.display()));
}

/// Waits until no guest's device has a program: the kernel takes those off whose links are gone one by one, when it finds the time,
/// and until then they look like those of another root.
fn until_programs_are_off(lab: &Lab) {
    until("the kernel has taken programs off", || {
        lab.topology.hosts[0].ns.run(|| {
            let devices = netlink::devices().expect("devices can be listed");
            let programs = |device| datapath::foreign_tcx(device, &[]).expect("programs can be listed");
            devices.iter().filter(|device| device.name.starts_with("vnet")).all(|device| programs(device).is_empty())
        })
    });
}

/// A device is deleted under traffic, and made again: an agent or an apply attaches it.
pub(super) fn device_deleted(lab: &Lab, random: &mut Random) -> Cost {
    lab.traffic.outage(&[COMER]);
    if random.below(2) == 0 {
        lab.follow(&lab.whole);
        let mut agent = Agent::in_force(&lab.netpath, &lab.followed);
        lab.delete_device();
        agent.until("its NIC waits", |agent| agent["last_apply"]["waiting"] == 1);
        lab.make_device();
        lab.traffic.flows_in(COMER);
        assert!(agent.end().success());
    } else {
        lab.delete_device();
        if random.below(2) == 0 {
            lab.netpath.apply(lab.either(random));
        }
        lab.make_device();
    }
    Cost::Nothing
}

/// The flow table is full: newcomers are refused, and let in again when those have expired that nobody has answered.
pub(super) fn flows_full(lab: &Lab, random: &mut Random) -> Cost {
    // Static NAT: no binding, two rows of FLOWS each.
    let far = fill(lab, random, 13, "flow_table_full");
    lab.netpath.apply(&lab.fewer);
    // To another port: those that are in the table are let in anyway.
    let_in(lab, 13, (1024..=u16::MAX).cycle(), far + 1);
    Cost::Nothing
}

/// The table of bindings is full: newcomers are refused, and whoever has a public port may go on opening connections from it.
/// (Ports rest for two minutes, so it may still be full when the next fault comes.)
pub(super) fn bindings_full(lab: &Lab, random: &mut Random) -> Cost {
    let far = fill(lab, random, 18, "binding_table_full");
    let_in(lab, 17, std::iter::repeat(TRANSLATED), far);
    lab.netpath.apply(&lab.fewer);
    Cost::Nothing
}

/// Opens connections from a NIC of green's until one is refused for this reason; gives the port that they are to.
fn fill(lab: &Lab, random: &mut Random, nic: u8, reason: &str) -> u16 {
    let far = 1024 + random.below(50_000) as u16;
    let refused = || lab.netpath.drops().iter().filter(|((_, why), _)| why == reason).map(|(_, n)| n).sum::<u64>();
    let (before, deadline) = (refused(), Instant::now() + PATIENCE);
    let mut ports = (1024..=u16::MAX).cycle();
    while refused() == before {
        assert!(Instant::now() < deadline, "nothing is refused with {reason}");
        ports.by_ref().take(BATCH).for_each(|port| open(lab, nic, port, far, b"one of many"));
    }
    far
}

/// Opens connections from these ports until one is let in.
fn let_in(lab: &Lab, nic: u8, from: impl Iterator<Item = u16>, to: u16) {
    let router = lab.topology.internet().raw_router();
    let deadline = Instant::now() + PATIENCE;
    for port in from {
        let payload = marker();
        open(lab, nic, port, to, &payload);
        if router.until(Instant::now() + SOON, |frame| contains(frame, &payload)).is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "no connection is let in: {:?}", lab.netpath.drops());
    }
}

/// A datagram of a NIC of green's to the world.
pub(super) fn open(lab: &Lab, nic: u8, from: u16, to: u16, payload: &[u8]) {
    let packet = guest(Endpoint::numbered(nic)).to_mac(lab.gateway).to_ip(INTERNET.ip).udp(from, to);
    lab.topology.raw("green", nic).send(packet.payload(payload).build());
}

/// The ring of events is full while whoever reads it is stopped.
pub(super) fn ring_full(lab: &Lab, _: &mut Random) -> Cost {
    let mut monitor = Monitor::begin(&lab.netpath, &["monitor", "--drops", "--rate", "10000000"]);
    monitor.signal(Signal::STOP);
    let spoofed = guest(Endpoint::numbered(18)).from_mac([0x02, 0, 0, 0, 0, 99]).to(Endpoint::numbered(17));
    let spoofed = spoofed.udp(1, 2).payload([0x5a; 200]).build();
    let (before, deadline) = (lost_events(lab), Instant::now() + PATIENCE);
    while lost_events(lab) == before {
        assert!(Instant::now() < deadline, "the ring does not become full");
        (0..BATCH).for_each(|_| lab.topology.raw("green", 18).send(&spoofed));
    }
    monitor.signal(Signal::CONT);
    monitor.signal(Signal::INT);
    let (status, said) = monitor.ends_saying();
    assert!(status.success() && said.contains("found no room"), "{status}: {said}");
    Cost::Nothing
}

/// Events that found the ring full, on all processors.
fn lost_events(lab: &Lab) -> u64 {
    let rows = lab.netpath.json(["map", "dump", "WATCHED"]);
    let processors = rows[0]["values"].as_array();
    processors.into_iter().flatten().map(|told| told["lost"].as_u64().expect("a count")).sum()
}
