//! The machine: files under /proc and /sys, statistics, queues.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{assert_found, healthy, only};
use crate::{
    doctor::{
        Host, Severity, examine, gather,
        host::{Connections, Fill, Guest, Interrupt, Link, Portless},
    },
    netlink::{ethtool::ReceiveQueues, link::Received},
};

/// A folder that stands for `/`, removed again on drop.
pub(super) struct Fake(PathBuf);

impl Fake {
    /// A machine that nothing is wrong with, but for what `files` say.
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let fake = Self(std::env::temp_dir().join(format!("netpath-machine-{}-{name}", std::process::id())));
        fake.write("proc/sys/kernel/osrelease", "6.12.0");
        fake.write("sys/devices/system/cpu/online", "0-7");
        files.iter().for_each(|(path, text)| fake.write(path, text));
        fake
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A host at work on it.
    fn host(&self) -> Host {
        Host { system: gather::system::read(Path::new(&self.0), &["eth1", "np4789"]), ..healthy() }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_governor_that_is_not_performance_is_found_with_its_processors() {
    let governor = |cpu: u32| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let fake = Fake::with("governor", &[(&governor(0), "powersave\n"), (&governor(1), "performance\n")]);
    assert_found(&fake.host(), "cpu_governor", Severity::Warning, &["1 with powersave", "cpupower"]);
    fake.write(&governor(0), "performance\n");
    assert_eq!(examine(&fake.host()), []);
}

#[test]
fn what_the_kernel_lets_bpf_do_is_looked_at() {
    let sysctl = |name: &str| format!("proc/sys/{name}");
    for (name, bad, good, id, severity) in [
        ("net/core/bpf_jit_enable", "0", "1", "jit_off", Severity::Warning),
        ("net/core/bpf_jit_harden", "2", "1", "jit_hardened", Severity::Note),
        ("kernel/unprivileged_bpf_disabled", "0", "2", "unprivileged_bpf", Severity::Note),
    ] {
        let fake = Fake::with(id, &[(&sysctl(name), bad)]);
        assert_found(&fake.host(), id, severity, &[&name.replace('/', "."), "sysctl -w"]);
        fake.write(&sysctl(name), good);
        assert_eq!(examine(&fake.host()), [], "{id}");
    }
}

#[test]
fn kernels_below_what_is_needed_are_told_apart() {
    let of = |release: &str| Fake::with(release, &[("proc/sys/kernel/osrelease", release)]).host();
    assert_found(&of("5.15.0-91-generic"), "kernel_too_old", Severity::Error, &["5.15", "5.18"]);
    assert_found(&of("6.1.0-18-amd64"), "tc_clsact", Severity::Note, &["6.1", "clsact"]);
    assert_eq!(examine(&of("6.6.0")), []);
    let mut host = of("5.10.0");
    host.system.memlock = Some(64 << 10);
    assert!(examine(&host).iter().any(|finding| finding.id == "memlock_limit"));
    host.system.memlock = None;
    assert!(!examine(&host).iter().any(|finding| finding.id == "memlock_limit"));
}

#[test]
fn taps_without_vhost_are_found() {
    let fake = Fake::with("vhost", &[]);
    let with_tap = || {
        let mut host = fake.host();
        host.guests.push(Guest { device: "vnet0".into(), is_tap: true, ..Guest::default() });
        host
    };
    assert_found(&with_tap(), "vhost_net_missing", Severity::Warning, &["taps of guests: 1", "modprobe vhost_net"]);
    fake.write("dev/vhost-net", "");
    assert_eq!(examine(&with_tap()), []);
}

/// A host whose uplink is this.
fn with_link(link: Link) -> Host {
    let mut host = healthy();
    host.system.processors = 8;
    host.links = vec![Link { index: 2, device: "eth1".into(), is_hardware: true, seconds: 0.5, ..link }];
    host
}

#[test]
fn frames_that_could_not_be_taken_are_warnings_while_they_grow_and_notes_afterwards() {
    let counted = |before: Received, after: Received| with_link(Link { received: (before, after), ..Link::default() });
    let crc = |count| Received { packets: 1000, errors: count, crc_errors: count, ..Received::default() };
    let missed = |count| Received { packets: 1000, errors: count, missed: count, ..Received::default() };
    let other = |count| Received { packets: 1000, errors: count, ..Received::default() };
    for (id, of) in [("rx_crc_errors", &crc as &dyn Fn(u64) -> Received), ("rx_missed", &missed), ("rx_errors", &other)]
    {
        assert_eq!(examine(&counted(of(0), of(0))), [], "{id}");
        assert_found(&counted(of(7), of(7)), id, Severity::Note, &["uplink eth1", "7 frames", "none now"]);
        assert_found(&counted(of(7), of(17)), id, Severity::Warning, &["17 frames", "20 a second now"]);
    }
}

#[test]
fn drops_count_where_they_are_many_of_what_comes() {
    let dropped = |packets, dropped| {
        let received = (Received::default(), Received { packets, dropped, ..Received::default() });
        with_link(Link { received, ..Link::default() })
    };
    assert_eq!(examine(&dropped(100_000, 50)), []);
    assert_eq!(examine(&dropped(100, 2)), [], "a few frames that nobody has a use for");
    assert_found(&dropped(10_000, 50), "rx_dropped", Severity::Warning, &["50 of 10000 frames", "100 a second"]);
}

#[test]
fn counters_of_a_driver_that_tell_of_loss_matter_while_they_grow() {
    let with = |after| {
        let lost = |count| [("rx_out_of_buffer".to_owned(), count)].into();
        with_link(Link { driver: "mlx5_core".into(), lost: (lost(100), lost(after)), ..Link::default() })
    };
    assert_eq!(examine(&with(100)), []);
    let words = ["mlx5_core", "rx_out_of_buffer by 50 (100 a second)", "ethtool -S eth1"];
    assert_found(&with(150), "rx_driver_loss", Severity::Warning, &words);
}

#[test]
fn one_queue_on_a_machine_of_many_processors_is_found() {
    let queues = |used, most| with_link(Link { queues: Some(ReceiveQueues { used, most }), ..Link::default() });
    assert_found(&queues(1, 16), "rx_queues", Severity::Warning, &["8 processors", "ethtool -L eth1 combined 8"]);
    assert_found(&queues(1, 1), "rx_queues", Severity::Note, &["rps_cpus"]);
    assert_eq!(examine(&queues(8, 16)), []);
    let mut small = queues(1, 16);
    small.system.processors = 2;
    assert_eq!(examine(&small), []);
}

#[test]
fn interrupts_that_all_go_to_one_processor_are_found() {
    let with = |places: [&str; 2], name: &str| {
        let mut host = with_link(Link::default());
        host.system.interrupts = (24..)
            .zip(places)
            .map(|(number, place)| Interrupt {
                number,
                name: format!("{name}-TxRx-{number}"),
                processors: place.into(),
            })
            .collect();
        host
    };
    let found = with(["3", "3"], "eth1");
    assert_found(&found, "irq_spread", Severity::Warning, &["2 interrupts (24, 25)", "processor 3", "irqbalance"]);
    assert_found(&with(["3", "3"], "i40e-eth1"), "irq_spread", Severity::Warning, &[]);
    for spread in [with(["3", "4"], "eth1"), with(["0-7", "0-7"], "eth1"), with(["3", "3"], "eth10")] {
        assert_eq!(examine(&spread), []);
    }
}

#[test]
fn a_map_is_told_of_above_eighty_percent_and_is_urgent_above_ninety_five() {
    let with = |rows| Host { fills: vec![Fill { map: "FLOWS", field: "flows", rows, capacity: 100 }], ..healthy() };
    assert_eq!(examine(&with(80)), []);
    assert_found(&with(81), "map_fill", Severity::Warning, &["map FLOWS", "81 of 100 rows", "capacities.flows"]);
    assert_found(&with(95), "map_fill", Severity::Warning, &[]);
    assert_found(&with(96), "map_fill", Severity::Error, &["96 %"]);
}

#[test]
fn a_network_is_told_of_from_eighty_percent_of_its_connections_on() {
    let with = |live| {
        let of = Connections { network: "web".into(), live, limit: 200 };
        Host { connections: vec![of], ..healthy() }
    };
    assert_eq!(examine(&with(159)), []);
    let words = ["network web", "160 of the 200 connections", "80 %", "raise `connection_limit`", "netpath apply"];
    assert_found(&with(160), "connection_limit", Severity::Warning, &words);
    assert!(!only(&with(199)).found.contains("refused"));
    assert_found(&with(200), "connection_limit", Severity::Warning, &["every new one is refused"]);
}

#[test]
fn a_network_whose_guests_find_no_free_public_port_is_found() {
    let of = Portless { network: "web".into(), packets: 7, seconds: 0.52 };
    let words = ["network web", "7 packets", "in 0.5 s", "`source_nat`"];
    assert_found(&Host { portless: vec![of], ..healthy() }, "ports_exhausted", Severity::Warning, &words);
}
