//! `netpath doctor` on hypervisors at work: nothing is found, then a fault is made and found, then mended and gone.

mod applied;
mod guests;
mod orphans;
mod pinned;
mod public;
mod tunnels;
mod underlay;
mod uplinks;

use std::{collections::BTreeSet, path::Path};

use netpath_tests::{
    runner::Netpath,
    topology::{
        Link, TwoHypervisors,
        internet::PUBLIC_UPLINK,
        two_hypervisors::{Attachment, UPLINK},
    },
};
use serde_json::Value;

/// What a host of the topology may be told without being ill: its kernel, and that its uplinks are veths.
const EXPECTED: [&str; 4] = ["xdp_fallback", "tc_clsact", "jit_hardened", "unprivileged_bpf"];
/// What the machine that runs the tests may have, whatever the namespaces are like.
const OF_THE_MACHINE: [&str; 2] = ["cpu_governor", "jit_off"];

/// A finding's id and object.
type Found = (String, String);

/// What the doctor says, but for what the machine is like.
#[track_caller]
fn doctor(netpath: &Netpath, args: &[&str]) -> (i32, BTreeSet<Found>) {
    let all = ["doctor", "-o", "json"].iter().chain(args);
    let output = netpath.run(all);
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", output.stdout, output.stderr));
    let findings = report["findings"].as_array().unwrap();
    let severities: BTreeSet<&str> = findings.iter().filter_map(|finding| finding["severity"].as_str()).collect();
    let healthy = !severities.contains("error") && !severities.contains("warning");
    assert_eq!((output.code == 0, report["healthy"] == true), (healthy, healthy), "{report:#}");
    for finding in findings {
        for field in ["id", "severity", "object", "found", "why", "mend"] {
            assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {finding}");
        }
    }
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let found = findings.iter().map(|finding| (text(finding, "id"), text(finding, "object")));
    (output.code, found.filter(|(id, _)| !OF_THE_MACHINE.contains(&id.as_str())).collect())
}

/// The faults that are found, notes that every host here has aside.
#[track_caller]
fn faults(netpath: &Netpath, args: &[&str]) -> BTreeSet<Found> {
    let (_, found) = doctor(netpath, args);
    found.into_iter().filter(|(id, _)| !EXPECTED.contains(&id.as_str())).collect()
}

#[track_caller]
fn assert_nothing(netpath: &Netpath, args: &[&str]) {
    assert_eq!(faults(netpath, args), BTreeSet::new(), "doctor {}", args.join(" "));
}

/// That exactly this is found.
#[track_caller]
fn assert_finds(netpath: &Netpath, args: &[&str], wanted: &[(&str, &str)]) {
    let wanted: BTreeSet<Found> = wanted.iter().map(|(id, object)| ((*id).to_owned(), (*object).to_owned())).collect();
    assert_eq!(faults(netpath, args), wanted, "doctor {}", args.join(" "));
}

/// That this is found, whatever else comes of the fault.
#[track_caller]
fn assert_among(netpath: &Netpath, args: &[&str], id: &str, object: &str) {
    let found = faults(netpath, args);
    assert!(found.contains(&(id.to_owned(), object.to_owned())), "{id} of {object} is not in {found:?}");
}

/// What is found of this, in words.
#[track_caller]
fn words(netpath: &Netpath, args: &[&str], id: &str, object: &str) -> String {
    let output = netpath.run(["doctor", "-o", "json"].iter().chain(args));
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let mut findings = report["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["id"] == id && finding["object"] == object);
    found.unwrap_or_else(|| panic!("{id} of {object} is not in {report:#}"))["found"].as_str().unwrap().to_owned()
}

/// Kernel guests behind veths, with gateways and a public side; uplinks merge what they receive, as NICs do.
fn hypervisors() -> TwoHypervisors {
    let topology = TwoHypervisors::builder().attached(Attachment::Veth).with_internet().build().unwrap();
    for host in &topology.hosts {
        host.ns.run(|| [UPLINK, PUBLIC_UPLINK].map(|name| Link::named(name).offload("rx-gro", true).unwrap()));
    }
    topology
}

/// The same, the first of them at work: the other one answers echo requests as it is.
fn at_work() -> TwoHypervisors {
    let topology = hypervisors();
    apply(&topology, &topology.gateway_definitions());
    topology
}

/// Applies a document on the first hypervisor.
fn apply(topology: &TwoHypervisors, document: &Value) {
    topology.hosts[0].netpath.apply(&topology.write("zone.yaml", document));
}

/// The arguments that name a document for a host.
fn with_file<'a>(file: &'a Path, host: &'a str) -> [&'a str; 4] {
    ["-f", file.to_str().unwrap(), "--host", host]
}
