//! A build of another ABI takes over under traffic, and gives back: no connection is reset or mapped anew, no packet is lost, and
//! counters only grow.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use netpath_tests::{
    pace::paced,
    runner::{Build, Netpath},
    topology::{Link, TwoHypervisors, internet::PUBLIC_UPLINK},
};

use super::{
    live::{acquainted, all_in, all_out, exchange_until, gateway_of},
    raw_online,
};
use crate::{
    lifecycle::is_converged,
    scene::{UPLINK_MODES, in_mode},
};

/// The program as it is after an upgrade.
fn next(netpath: &Netpath) -> Netpath {
    netpath.of(Build::Next)
}

/// Frames that passed NIC 11 of a tenant, both ways.
fn passed(netpath: &Netpath, tenant: &str) -> u64 {
    let counters = netpath.json(["show", "counters"]);
    let ports = counters["ports"].as_array().expect("ports have counters");
    let row = ports.iter().find(|row| row["instance"] == format!("{tenant}-11"));
    let row = row.unwrap_or_else(|| panic!("no NIC 11 of {tenant} in {counters}"));
    row["from_guest_packets"].as_u64().unwrap() + row["to_guest_packets"].as_u64().unwrap()
}

/// Ends the traffic of a test, also of one that fails.
struct Ends<'s>(&'s AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps ten thousand connections of blue's alive, and asserts that they are as they were.
struct Connections<'t> {
    topology: &'t TwoHypervisors,
    gateway: netpath_tests::packet::Mac,
    hv: netpath_tests::packet::Mac,
    ports: Vec<u16>,
    publics: std::collections::BTreeMap<u16, u16>,
}

impl<'t> Connections<'t> {
    fn open(topology: &'t TwoHypervisors) -> Self {
        let router = topology.internet().raw_router();
        let gateway = acquainted(topology, &router);
        let hv = topology.hosts[0].ns.run(|| Link::named(PUBLIC_UPLINK).read_mac()).unwrap();
        let ports: Vec<u16> = (20_000..20_000 + paced(10_000) as u16).collect();
        let a = topology.raw("blue", 11);
        let publics = all_out(a, &router, gateway, 0x02, &ports);
        all_in(a, &router, hv, 0x12, &publics);
        assert_eq!(all_out(a, &router, gateway, 0x10, &ports), publics);
        Self { topology, gateway, hv, ports, publics }
    }

    /// A segment of each, both ways.
    #[track_caller]
    fn live(&self, flags: u8) {
        // A socket that nobody reads from meanwhile would be full of other traffic.
        let (a, router) = (self.topology.raw("blue", 11), self.topology.internet().raw_router());
        assert_eq!(all_out(a, &router, self.gateway, flags, &self.ports), self.publics);
        all_in(a, &router, self.hv, flags, &self.publics);
    }
}

#[test]
fn ten_thousand_connections_live_through_an_upgrade_and_a_downgrade() {
    for mode in UPLINK_MODES {
        let topology = raw_online(|definitions| in_mode(definitions, mode));
        let file = topology.write("same.yaml", &in_mode(topology.gateway_definitions(), mode));
        let host = &topology.hosts[0];
        let connections = Connections::open(&topology);
        let green = gateway_of(&topology, "green");
        let (stop, exchanged) = (AtomicBool::new(false), AtomicU64::new(0));
        let since = |netpath: &Netpath| netpath.json(["show", "usage"])["counted_since"].clone();
        let began = since(&host.netpath);
        let before = [passed(&host.netpath, "blue"), passed(&host.netpath, "green")];
        thread::scope(|scope| {
            let traffic = scope.spawn(|| exchange_until(&topology, "green", green, &stop, &exchanged));
            let ends = Ends(&stop);
            let upgraded = next(&host.netpath).apply(&file);
            assert!(upgraded.stdout.contains("takes over in place"), "{}", upgraded.stdout);
            connections.live(0x18);
            assert!(is_converged(&next(&host.netpath), &file));
            assert_eq!(since(&next(&host.netpath)), began);
            let refused = host.netpath.run(["show", "nat"]);
            assert!(refused.code == 1 && refused.stderr.contains("ABI v1003"), "{refused:?}");
            host.netpath.apply(&file);
            connections.live(0x10);
            assert!(is_converged(&host.netpath, &file));
            drop(ends);
            traffic.join().unwrap();
        });
        let after = [passed(&host.netpath, "blue"), passed(&host.netpath, "green")];
        let moved = exchanged.load(Ordering::Relaxed);
        assert!(moved > 20, "{moved} datagrams in {mode}");
        assert_eq!(after[1] - before[1], moved, "datagrams counted in {mode}");
        assert_eq!(after[0] - before[0], 4 * connections.ports.len() as u64, "segments counted in {mode}");
        assert_eq!(folders(host.netpath.root()), ["links", "v3"], "what is left in {mode}");
    }
}

fn folders(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
