//! The way between the hypervisors, and other devices that claim what is netpath's.

use netpath_tests::{
    agent::until,
    skip::has_vlan_devices,
    skip_unless,
    topology::{Link, NetNs, TwoHypervisors, Vxlan, netns::sysctl, two_hypervisors::UPLINK},
};

use super::{apply, assert_among, assert_finds, assert_nothing, at_work, faults, hypervisors, with_file};

#[test]
fn a_path_that_is_too_narrow_between_two_wide_ends_is_found() {
    let topology = at_work();
    let netpath = &topology.hosts[0].netpath;
    topology.narrow_wire(1, 1500);
    assert_finds(netpath, &[], &[("path_mtu", "tunnel guest/hv2")]);
    let said = netpath.run(["doctor"]).stdout;
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("packets of 1500 bytes pass, of 1550 do not"), "{said}");
    topology.narrow_wire(1, 1600);
    assert_nothing(netpath, &[]);
}

#[test]
fn a_peer_that_is_silent_and_an_uplink_that_is_too_narrow_are_found() {
    let topology = at_work();
    let (one, two) = (&topology.hosts[0], &topology.hosts[1]);
    two.ns.run(|| Link::named(UPLINK).down()).unwrap();
    assert_finds(&one.netpath, &[], &[("peer_silent", "tunnel guest/hv2")]);
    two.ns.run(|| Link::named(UPLINK).up()).unwrap();
    // The kernel asks for a neighbour three times, a second apart, and sends nothing meanwhile.
    until("it answers again", || faults(&one.netpath, &[]).is_empty());
    one.ns.run(|| Link::named(UPLINK).mtu(1500)).unwrap();
    assert_finds(&one.netpath, &[], &[("path_mtu", "tunnel guest/hv2"), ("underlay_mtu", "uplink eth1")]);
    one.ns.run(|| Link::named(UPLINK).mtu(1600)).unwrap();
    assert_nothing(&one.netpath, &[]);
}

#[test]
fn a_tunnel_address_that_no_device_has_is_found() {
    let topology = at_work();
    let host = &topology.hosts[0];
    host.ns.run(|| Link::named(UPLINK).remove_address(host.address, 24)).unwrap();
    assert_among(&host.netpath, &[], "tunnel_address_missing", "host hv1");
    host.ns.run(|| Link::named(UPLINK).address(host.address, 24)).unwrap();
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn strict_reverse_path_filtering_is_found_where_the_route_leaves_elsewhere() {
    let topology = at_work();
    let (host, elsewhere) = (&topology.hosts[0], NetNs::new("elsewhere").unwrap());
    let peer = topology.hosts[1].address;
    let strict = |value: &str| {
        host.ns.run(|| {
            sysctl("net/ipv4/conf/all/rp_filter", "0").unwrap();
            sysctl("net/ipv4/conf/eth1/rp_filter", value).unwrap();
        });
    };
    strict("1");
    assert_nothing(&host.netpath, &[]);
    host.ns.run(|| {
        let other = Link::veth("eth8", "eth0", &elsewhere).unwrap();
        other.up().unwrap();
        other.route(peer, 32, None).unwrap();
    });
    assert_among(&host.netpath, &[], "rp_filter", "device eth1");
    strict("2");
    let found = super::faults(&host.netpath, &[]);
    assert!(!found.iter().any(|(id, _)| id == "rp_filter"), "{found:?}");
    host.ns.run(|| Link::named("eth8").delete()).unwrap();
    assert_nothing(&host.netpath, &[]);
}

/// A vxlan device of the kernel's with a tenant's own VNI.
fn foreign_vxlan(topology: &TwoHypervisors) {
    let host = &topology.hosts[0];
    host.ns.run(|| {
        let device = Some(UPLINK.into());
        let settings = Vxlan { vni: 5001, port: 4789, local: host.address, remote: None, device, learning: true };
        Link::vxlan("vxlan5001", &settings).unwrap().up().unwrap();
    });
}

#[test]
fn a_kernel_device_with_a_tenants_vni_is_found_on_the_port_that_it_holds() {
    let topology = hypervisors();
    foreign_vxlan(&topology);
    let file = topology.write("zone.yaml", &topology.gateway_definitions());
    let host = &topology.hosts[0];
    apply(&topology, &topology.gateway_definitions());
    let wanted = [("vni_conflict", "device vxlan5001"), ("vxlan_port_shared", "UDP port 4789")];
    assert_finds(&host.netpath, &[], &wanted);
    assert_finds(&host.netpath, &with_file(&file, "hv1"), &wanted);
    host.ns.run(|| Link::named("vxlan5001").delete()).unwrap();
    host.netpath.apply(&file);
    assert_nothing(&host.netpath, &[]);
}

#[test]
fn a_kernel_device_with_a_tenants_vlan_is_found() {
    skip_unless!(has_vlan_devices(), "this kernel has no VLAN devices");
    let topology = hypervisors();
    apply(&topology, &topology.vlan_gateway_definitions());
    let host = &topology.hosts[0];
    host.ns.run(|| Link::vlan("eth1.101", &Link::named(UPLINK), 0x8100, 101)).unwrap();
    assert_finds(&host.netpath, &[], &[("vlan_conflict", "device eth1.101")]);
    host.ns.run(|| Link::named("eth1.101").delete()).unwrap();
    assert_nothing(&host.netpath, &[]);
}
