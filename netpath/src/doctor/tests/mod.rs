//! Checks over hosts that are made up: what no namespace can have, and the registry against the documentation.

mod machine;
mod network;

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{CHECKS, Finding, Host, Severity, examine, host::Pins};
use crate::{
    compile::UplinkUse,
    definitions::{Isolation, UplinkMode},
    netlink::{Device, XdpSupport},
};

/// A device of hardware, up, with an MTU that VXLAN fits in.
fn device(index: u32, name: &str) -> Device {
    let xdp = XdpSupport::Native { transmits: true, fragments: true };
    Device { mtu: 1600, xdp, ..Device::hardware(index, name) }
}

fn uplink(ifindex: Option<u32>, isolation: Isolation) -> UplinkUse {
    UplinkUse {
        physical_network: "guest".into(),
        isolation,
        device: Some("eth1".into()),
        ifindex,
        mode: UplinkMode::Auto,
        udp_port: Some(4789),
        local: Some([192, 0, 2, 11].into()),
        largest: ("web".into(), 1500),
    }
}

/// A host at work, with nothing wrong.
fn healthy() -> Host {
    Host {
        name: "kvm1".into(),
        apply: "netpath apply -f zone.yaml --host kvm1".into(),
        pins: Pins::Applied { is_current: true },
        devices: vec![device(2, "eth1")],
        addresses: vec![(2, Ipv4Net::new_assert([192, 0, 2, 11].into(), 24))],
        uplinks: vec![uplink(Some(2), Isolation::Vxlan)],
        ..Host::default()
    }
}

/// The one finding of a host.
#[track_caller]
fn only(host: &Host) -> Finding {
    let findings = examine(host);
    let [finding] = &findings[..] else { panic!("one finding was expected: {findings:#?}") };
    finding.clone()
}

/// That what is found is of this check and severity, and says each of `words`.
#[track_caller]
fn assert_found(host: &Host, id: &str, severity: Severity, words: &[&str]) {
    let finding = only(host);
    assert_eq!((finding.id, finding.severity), (id, severity), "{finding:#?}");
    let text = format!("{}: {}; {}; {}", finding.object, finding.found, finding.why, finding.mend);
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!finding.why.is_empty() && !finding.mend.is_empty(), "{finding:#?}");
}

#[test]
fn nothing_is_found_on_a_healthy_host_and_on_one_that_nothing_is_known_of() {
    assert_eq!(examine(&healthy()), []);
    assert_eq!(examine(&Host::default()), []);
}

#[test]
fn every_check_has_an_id_of_its_own() {
    let ids: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len());
}

#[test]
fn the_documentation_has_every_check_and_no_other() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"));
    let section = text.split("\n## ").find(|section| section.starts_with("doctor\n")).unwrap();
    let documented: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(id, _)| id).collect();
    assert_eq!(documented, CHECKS.iter().map(|check| check.id).collect::<Vec<_>>());
}
