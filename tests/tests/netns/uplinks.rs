//! What is changed on uplinks, and given back when they are uplinks no more.

use netpath::netlink::{
    self,
    fq::{self, Discipline},
    tc,
};
use netpath_tests::{
    agent::until,
    packet::guest,
    runner::Netpath,
    skip_unless,
    topology::{Link, NetNs, TwoHypervisors, two_hypervisors::UPLINK},
};
use serde_json::Value;

use crate::scene::{A, B, delivers, in_mode};

/// What an apply may change on an uplink.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    has_rxvlan: bool,
    is_promiscuous: bool,
    discipline: Discipline,
}

fn changed(ns: &NetNs) -> Changed {
    ns.run(|| {
        let devices = netlink::devices().unwrap();
        let uplink = devices.iter().find(|device| device.name == UPLINK).unwrap();
        Changed {
            has_rxvlan: Link::named(UPLINK).offload_is_on("rx-vlan-hw-parse").unwrap(),
            is_promiscuous: uplink.is_promiscuous,
            discipline: fq::discipline(uplink.index, &tc::every_qdisc().unwrap()),
        }
    })
}

/// Networks on VLANs, of which an apply changes all on its uplinks.
fn definitions(topology: &TwoHypervisors, mode: &str) -> Value {
    let mut definitions = in_mode(topology.vlan_definitions(), mode);
    for host in definitions["hosts"].as_array_mut().unwrap() {
        host["pacing"] = "fq".into();
    }
    definitions
}

#[test]
fn what_was_changed_on_an_uplink_is_given_back_when_its_rows_are_released() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    let before = changed(&host.ns);
    let mut document = definitions(&topology, "xdp");
    host.netpath.apply(&topology.write("zone.yaml", &document));
    let has_fq = host.ns.run(|| fq::is_known().unwrap());
    let during = changed(&host.ns);
    assert!(!during.has_rxvlan && during.is_promiscuous, "{during:?}");
    assert_eq!(matches!(during.discipline, Discipline::Own(_)), has_fq);
    let release = |document: &Value| {
        let file = topology.write("less.yaml", document).display().to_string();
        host.netpath.run(["doctor", "-f", &file, "--host", host.netpath.host(), "--release"]);
    };
    // It is an uplink still.
    let green = document["networks"].as_array_mut().unwrap().pop().unwrap();
    release(&document);
    assert_eq!(changed(&host.ns), during);
    document["networks"] = Value::Array(vec![green]);
    document["networks"][0]["nics"].as_array_mut().unwrap().retain(|nic| nic["host"] != "hv1");
    release(&document);
    assert_eq!(changed(&host.ns), before);
}

/// Blue's guests of hv1 served by one root, and green's by another, on one uplink; hv2 serves green's. Below Linux 6.6 a device has one root's
/// programs, and there is no such thing.
struct TwoRoots {
    topology: TwoHypervisors,
    roots: [Netpath; 2],
    documents: [Value; 2],
    /// The uplink before anything was applied, and since.
    before: Changed,
    during: Changed,
}

impl TwoRoots {
    fn new() -> Option<Self> {
        let topology = TwoHypervisors::builder().build().unwrap();
        let documents = [1, 0].map(|other| {
            let mut document = definitions(&topology, "tc");
            document["networks"].as_array_mut().unwrap().remove(other);
            document
        });
        let roots = [topology.hosts[0].netpath.clone(), topology.instance(0, "other")];
        let before = changed(&topology.hosts[0].ns);
        let files = ["blue.yaml", "green.yaml"].map(String::from);
        let files: Vec<_> =
            files.iter().zip(&documents).map(|(name, document)| topology.write(name, document)).collect();
        roots[0].apply(&files[0]);
        let second = roots[1].run(roots[1].apply_args(&files[1]));
        if second.stderr.contains("under another root") {
            return None;
        }
        assert_eq!(second.code, 0, "{}", second.stderr);
        topology.hosts[1].netpath.apply(&files[1]);
        let during = changed(&topology.hosts[0].ns);
        assert!(during.is_promiscuous, "{during:?}");
        let both = Self { topology, roots, documents, before, during };
        both.serves_green();
        Some(both)
    }

    fn uplink(&self) -> Changed {
        changed(&self.topology.hosts[0].ns)
    }

    #[track_caller]
    fn serves_green(&self) {
        delivers(self.topology.raw("green", 12), self.topology.raw("green", 11), &guest(B).to(A));
    }
}

#[test]
fn an_uplink_that_another_root_has_as_well_is_given_back_when_that_one_is_detached_too() {
    let both = TwoRoots::new();
    skip_unless!(both.is_some(), "two roots on one device");
    let both = both.unwrap();
    let [one, other] = &both.roots;
    let said = one.succeed(["detach"]).stderr;
    assert!(said.contains("another root"), "{said}");
    assert_eq!(both.uplink(), both.during);
    both.serves_green();
    other.succeed(["detach"]);
    // The kernel takes a program off a moment after its pin is gone.
    until("the uplink is as it was", || {
        one.succeed(["detach"]);
        both.uplink() == both.before
    });
}

#[test]
fn an_apply_that_drops_an_uplink_takes_nothing_from_another_root_that_has_it() {
    let both = TwoRoots::new();
    skip_unless!(both.is_some(), "two roots on one device");
    let mut both = both.unwrap();
    let nics = both.documents[0]["networks"][0]["nics"].as_array_mut().unwrap();
    nics.retain(|nic| nic["host"] != "hv1");
    let file = both.topology.write("without.yaml", &both.documents[0]);
    both.roots[0].apply(&file);
    assert!(both.roots[0].is_converged(&file));
    assert_eq!(both.uplink(), both.during);
    both.serves_green();
}
