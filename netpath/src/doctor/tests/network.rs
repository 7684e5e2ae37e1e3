//! Devices, tunnels and what is in force.

use netpath_common::maps;

use super::{assert_found, device, healthy, uplink};
use crate::{
    apply::Fallback,
    compile::TunnelDevice,
    datapath::Hook,
    definitions::{Isolation, UplinkMode},
    doctor::{
        Guest, Host, Severity, before_apply, examine,
        host::{Document, Echo, Link, Orphan, OwnSegment, Peer, Pins, PublicLink, VlanDevice},
    },
    netlink::{Device, VxlanSettings, ethtool::Offload},
    preflight,
};

#[test]
fn an_underlay_that_is_too_small_is_an_error_with_both_numbers_and_both_ways_out() {
    let mut host = healthy();
    host.devices[0].mtu = 1500;
    let words = ["its MTU is 1500", "needs 1550", "ip link set eth1 mtu 1550", "`mtu: 1450`"];
    assert_found(&host, "underlay_mtu", Severity::Error, &words);
    let finding = before_apply(&host).pop().map(preflight::Finding::from).unwrap();
    assert!(words.iter().all(|word| finding.message.contains(word)), "an apply is stopped: {finding:?}");
    host.uplinks[0] = uplink(Some(2), Isolation::Vlan);
    assert_eq!(examine(&host), []);
}

#[test]
fn an_uplink_that_is_missing_is_an_error_once() {
    let mut host = Host { devices: Vec::new(), uplinks: vec![uplink(None, Isolation::Vxlan)], ..healthy() };
    host.lost_uplinks = vec!["eth1".into()];
    assert_found(&host, "uplink_missing", Severity::Error, &["uplink eth1", "kvm1", "guest", "netpath apply"]);
}

#[test]
fn a_slave_of_a_bond_is_no_uplink() {
    let mut host = healthy();
    host.devices[0].master = Some(9);
    host.devices.push(Device { kind: Some("bond".into()), ..device(9, "bond0") });
    assert_found(&host, "uplink_enslaved", Severity::Error, &["slave of bond0"]);
}

#[test]
fn a_foreign_holder_of_the_port_is_a_warning_that_names_it() {
    let holder = |device| Host { tunnels: [(8472, device)].into(), ..healthy() };
    let foreign = holder(TunnelDevice::Foreign("vxlan5".into()));
    assert_found(&foreign, "vxlan_port_shared", Severity::Warning, &["UDP port 8472", "vxlan5"]);
    assert_found(&holder(TunnelDevice::Planned), "tunnel_device", Severity::Error, &["np8472", "gone"]);
}

#[test]
fn a_multicast_group_that_was_left_is_an_error_that_names_the_network_and_the_device() {
    let unjoined = vec![("web".to_owned(), [239, 0, 19, 137].into(), "eth1".to_owned())];
    let words = ["network web", "239.0.19.137", "on eth1", "netpath apply"];
    assert_found(&Host { unjoined, ..healthy() }, "group_not_joined", Severity::Error, &words);
}

#[test]
fn a_fallback_from_xdp_is_a_note_unless_it_was_asked_for() {
    let mut host = Host { fallbacks: vec![("eth1".into(), Fallback::NoDriver)], ..healthy() };
    assert_found(&host, "xdp_fallback", Severity::Note, &["its driver has no XDP"]);
    host.uplinks[0].mode = UplinkMode::Xdp;
    host.links = vec![Link { device: "eth1".into(), driver: "tg3".into(), ..Link::default() }];
    assert_found(&host, "xdp_fallback", Severity::Warning, &["driver tg3", "though uplink_mode asks for XDP"]);
}

#[test]
fn generic_xdp_is_found() {
    let link = Link { device: "eth1".into(), takes_xdp: true, xdp_is_generic: true, ..Link::default() };
    assert_found(&Host { links: vec![link], ..healthy() }, "xdp_generic", Severity::Warning, &["uplink_mode: tc"]);
}

/// A segment of an uplink.
fn own(udp_port: u16, id: u32) -> OwnSegment {
    OwnSegment { device: 2, udp_port, id, owner: "network web".into(), is_shared: false }
}

#[test]
fn a_vlan_device_with_a_networks_vlan_is_a_conflict_on_its_uplink_only() {
    let with = |parent, id| {
        let mut host = healthy();
        host.segments = vec![own(0, 101)];
        host.vlan_devices = vec![VlanDevice { name: "eth1.101".into(), parent, id }];
        host
    };
    assert_found(&with(2, 101), "vlan_conflict", Severity::Error, &["eth1.101", "VLAN 101 on eth1", "network web"]);
    assert_eq!(examine(&with(2, 102)), []);
    assert_eq!(examine(&with(3, 101)), []);
    let mut shared = with(2, 101);
    shared.segments[0].is_shared = true;
    assert_eq!(examine(&shared), [], "the device has what netpath has no use for");
}

#[test]
fn a_vxlan_device_with_a_networks_vni_is_a_conflict_on_its_port_only() {
    let with = |port, vni| {
        let mut host = healthy();
        host.segments = vec![own(4789, 5001)];
        let vxlan = Some(VxlanSettings { port, vni, external: false });
        host.devices.push(Device { vxlan, ..device(7, "vxlan5001") });
        host
    };
    assert_found(&with(4789, 5001), "vni_conflict", Severity::Error, &["vxlan5001", "VNI 5001", "network web"]);
    assert_eq!(examine(&with(4789, 5002)), []);
    assert_eq!(examine(&with(8472, 5001)), []);
    let mut shared = with(4789, 5001);
    shared.segments[0].is_shared = true;
    assert_eq!(examine(&shared), []);
}

#[test]
fn a_path_is_as_wide_as_what_is_answered() {
    let with = |echo| {
        let peer = Peer {
            name: "guest/kvm2".into(),
            local: [192, 0, 2, 11].into(),
            remote: [192, 0, 2, 12].into(),
            uplink: Some(2),
            route: Some(2),
            needed: 1550,
            network: "web".into(),
            echo,
        };
        Host { peers: vec![peer], ..healthy() }
    };
    assert_eq!(examine(&with(Echo::Answered(1550))), []);
    assert_eq!(examine(&with(Echo::Unasked)), []);
    let words = ["1500 bytes pass", "1550 do not", "network web", "`mtu: 1450`"];
    assert_found(&with(Echo::Answered(1500)), "path_mtu", Severity::Error, &words);
    assert_found(&with(Echo::Silent), "peer_silent", Severity::Warning, &["tunnel guest/kvm2", "192.0.2.12"]);
}

#[test]
fn strict_reverse_path_filtering_matters_where_the_route_leaves_elsewhere() {
    let with = |route, all, device| {
        let mut host = healthy();
        host.system.rp_filter = [("all".to_owned(), all), ("eth1".to_owned(), device)].into();
        host.peers = vec![Peer {
            name: "guest/kvm2".into(),
            local: [192, 0, 2, 11].into(),
            remote: [192, 0, 2, 12].into(),
            uplink: Some(2),
            route: Some(route),
            needed: 1550,
            network: "web".into(),
            echo: Echo::Answered(1550),
        }];
        host
    };
    assert_found(&with(8, 1, 0), "rp_filter", Severity::Error, &["device eth1", "192.0.2.12", "rp_filter=2"]);
    for harmless in [with(2, 1, 1), with(8, 0, 0), with(8, 2, 1)] {
        assert_eq!(examine(&harmless), []);
    }
}

#[test]
fn tags_that_the_nic_takes_out_matter_under_xdp_with_vlans() {
    let with = |takes_xdp, is_on| {
        let rx_vlan = Some(Offload { is_on, is_switchable: true });
        let mut host = healthy();
        host.links = vec![Link { index: 2, device: "eth1".into(), takes_xdp, rx_vlan, ..Link::default() }];
        host.segments = vec![own(0, 101)];
        host
    };
    assert_found(&with(true, true), "rxvlan_on", Severity::Error, &["ethtool -K eth1 rxvlan off"]);
    assert_eq!(examine(&with(true, false)), []);
    assert_eq!(examine(&with(false, true)), []);
}

#[test]
fn a_nic_that_is_not_told_of_tunnels_is_noted_where_it_could_be() {
    let with = |is_on, is_switchable| {
        let tunnel_port = Some(Offload { is_on, is_switchable });
        let link = Link { device: "eth1".into(), has_tunnels: true, tunnel_port, ..Link::default() };
        Host { links: vec![link], ..healthy() }
    };
    assert_found(&with(false, true), "tunnel_offload_off", Severity::Note, &["rx-udp_tunnel-port-offload on"]);
    assert_eq!(examine(&with(true, true)), []);
    assert_eq!(examine(&with(false, false)), []);
}

#[test]
fn a_router_that_does_not_answer_is_a_warning_while_it_was_heard_of_lately() {
    let with = |answers, heard| {
        let (name, device) = ("public/900".into(), "eth3".into());
        let link = PublicLink { name, device, vlan: 900, router: [203, 0, 113, 1].into(), heard, answers };
        Host { public_links: vec![link], ..healthy() }
    };
    assert_eq!(examine(&with(true, None)), []);
    assert_found(&with(false, Some(20)), "upstream_silent", Severity::Warning, &["last heard of 20 s ago"]);
    let words = ["203.0.113.1", "VLAN 900 of eth3", "last heard of 90 s ago", "tcpdump -eni eth3 vlan 900 and arp"];
    assert_found(&with(false, Some(90)), "upstream_silent", Severity::Error, &words);
    assert_found(&with(false, None), "upstream_silent", Severity::Error, &["never heard of"]);
}

#[test]
fn guests_are_looked_at_where_they_are() {
    let with = |guest: Guest| Host { guests: vec![Guest { device: "vnet0".into(), ..guest }], ..healthy() };
    let passes = with(Guest { passes: true, ..Guest::default() });
    assert_found(&passes, "guest_bridgeless", Severity::Error, &["device vnet0", "on_miss: drop"]);
    let mut bridged = with(Guest { passes: true, is_bridge_port: true, ..Guest::default() });
    assert_eq!(examine(&bridged), []);
    bridged.system.bridge_calls = vec!["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];
    let words = [
        "bridge-nf-call-iptables and bridge-nf-call-ip6tables are on, and 1 guest device is a port of a bridge",
        "sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
    ];
    assert_found(&bridged, "bridge_netfilter", Severity::Warning, &words);
    bridged.system.bridge_calls.truncate(1);
    bridged.guests.push(bridged.guests[0].clone());
    let words = ["bridge-nf-call-iptables is on, and 2 guest devices are ports of bridges"];
    assert_found(&bridged, "bridge_netfilter", Severity::Warning, &words);
    let bypassed = Host { bypasses: vec![("vnet0".into(), vec!["queueing discipline htb".into()])], ..healthy() };
    assert_found(&bypassed, "guest_bypass", Severity::Warning, &["vnet0", "queueing discipline htb"]);
}

#[test]
fn many_orphans_are_told_in_a_few_lines() {
    let orphan = |n| Orphan { object: format!("nic web/{n:03}"), what: "2 rows".into(), is_attached: false };
    let host = Host { orphans: (0..50).map(orphan).collect(), ..healthy() };
    let findings = examine(&host);
    assert_eq!(findings.len(), 21);
    assert!(findings.iter().any(|finding| finding.object == "30 more"), "{findings:#?}");
}

#[test]
fn programs_of_another_build_and_pins_of_another_abi_are_told_apart() {
    let with = |pins| Host { pins, ..healthy() };
    assert_found(&with(Pins::Applied { is_current: false }), "programs_outdated", Severity::Warning, &["in place"]);
    assert_found(&with(Pins::OtherAbi("v1".into())), "pins_of_other_abi", Severity::Warning, &["ABI v1", "apply"]);
    assert_found(&with(Pins::BetweenAbis("v1".into())), "apply_unfinished", Severity::Error, &["ABI v1", "completes"]);
    assert_found(&with(Pins::Unusable("map PORTS".into())), "pins_unusable", Severity::Error, &["map PORTS"]);
    assert_found(&with(Pins::NotBpffs), "bpffs_missing", Severity::Error, &["mount -t bpf"]);
}

#[test]
fn a_program_whose_pin_is_gone_is_an_error_of_its_device_and_many_are_told_in_a_few_lines() {
    let with = |count: usize| {
        let unpinned = (0..count).map(|n| (format!("vnet{n}"), Hook::FromGuest)).collect();
        Host { unpinned, ..healthy() }
    };
    let words = ["device vnet0", "from_guest belongs on it", "nothing is pinned", "netpath apply -f zone.yaml"];
    assert_found(&with(1), "program_off", Severity::Error, &words);
    let findings = examine(&with(50));
    assert_eq!(findings.len(), 21);
    assert!(findings.iter().any(|finding| finding.object == "30 more"), "{findings:#?}");
}

#[test]
fn maps_whose_pins_are_gone_are_an_error_that_names_them() {
    let with = |missing| Host { pins: Pins::Missing(missing), ..healthy() };
    let mend = "netpath apply -f zone.yaml --host kvm1";
    assert_found(&with(vec!["STAGES"]), "pins_missing", Severity::Error, &["nothing is routed, flooded or translated"]);
    assert_found(&with(vec!["RULES"]), "pins_missing", Severity::Error, &["map RULES is not pinned", mend]);
    assert_found(&with(vec!["RULES", "FLOWS"]), "pins_missing", Severity::Error, &["maps RULES and FLOWS are not"]);
    let all = maps::ALL.iter().map(|shape| shape.name).collect();
    assert_found(&with(all), "pins_missing", Severity::Error, &["no map is pinned"]);
    let compared = Document::Compared { edits: 7, steps: 1 };
    let host = Host { document: Some(compared), ..with(vec!["RULES"]) };
    assert_found(&host, "pins_missing", Severity::Error, &["no command sees"]);
}

#[test]
fn what_differs_from_the_document_is_counted_in_words_that_agree() {
    let with = |edits, steps| Host { document: Some(Document::Compared { edits, steps }), ..healthy() };
    for (edits, steps, words) in
        [(0, 1, ": 1 step differs;"), (2, 0, ": 2 rows differ;"), (1, 3, ": 1 row and 3 steps differ;")]
    {
        assert_found(&with(edits, steps), "document_not_applied", Severity::Warning, &[words]);
    }
}
