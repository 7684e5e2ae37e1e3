//! Which rows come of which definitions.

use netpath::{
    compile::{CompileError, PLANNED_DEVICE, Role, Rows, TunnelDevice},
    definitions::UplinkMode,
    netlink::Device,
};
use netpath_common::{
    Address, Mac,
    maps::{
        AddressKey, Destination, EndpointKey, FdbKey, FloodKey, NameKey, NeighbourKey, SegmentKey, UplinkKey,
        destination_flags, destination_kind, name_kind, port_flags, segment_flags, segment_kind, tunnel_flags,
        uplink_flags,
    },
};

use crate::host::{TWO_TENANTS, compiled, device, devices, tap, try_compile, tunnel_device, vxlan, zone};

const ACME_WEB: u32 = 1;
const GLOBEX_WEB: u32 = 2;
const ACME_DB: u32 = 3;
const KVM2: u32 = 1;
const WEB_1: Mac = Mac([2, 0, 0x0a, 1, 1, 0x0b]);
const WEB_2: Mac = Mac([2, 0, 0x0a, 1, 1, 0x0c]);

fn names(rows: &Rows, kind: u32) -> Vec<(u32, &str)> {
    rows.names.iter().filter(|(key, _)| key.kind == kind).map(|(key, name)| (key.index, &**name)).collect()
}

fn kvm1(text: &str) -> Rows {
    compiled(&zone(text), "kvm1", &devices(), &Rows::default()).rows
}

fn local(network: u32, target: u32, slot: u32) -> Destination {
    let (kind, flags) = (destination_kind::LOCAL, destination_flags::XDP_TARGET);
    Destination { network, kind, flags, target, slot, ..Destination::default() }
}

fn towards(network: u32, kind: u8, target: u32) -> Destination {
    Destination { network, kind, target, ..Destination::default() }
}

#[test]
fn everything_is_named() {
    let rows = kvm1(TWO_TENANTS);
    assert_eq!(names(&rows, name_kind::HOST), [(0, "kvm1")]);
    assert_eq!(names(&rows, name_kind::NETWORK), [(1, "acme-web"), (2, "globex-web"), (3, "acme-db")]);
    assert_eq!(names(&rows, name_kind::PHYSICAL_NETWORK), [(1, "guest"), (2, "trunk")]);
    assert_eq!(names(&rows, name_kind::TUNNEL), [(1, "guest/kvm2")]);
    assert_eq!(
        names(&rows, name_kind::PORT),
        [
            (0, "acme-web/web-1/02:00:0a:01:01:0b"),
            (1, "acme-web/web-3/02:00:0a:01:01:0d"),
            (2, "globex-web/web-1/02:00:0a:01:01:0b"),
            (3, "acme-db/db-1/02:00:0a:01:02:0b"),
        ]
    );
}

#[test]
fn the_same_station_of_two_tenants_is_in_two_places() {
    let rows = kvm1(TWO_TENANTS);
    assert_eq!(rows.fdb[&FdbKey::new(ACME_WEB, WEB_1)], local(ACME_WEB, 10, 0));
    assert_eq!(rows.fdb[&FdbKey::new(GLOBEX_WEB, WEB_1)], local(GLOBEX_WEB, 12, 2));
    for network in [ACME_WEB, GLOBEX_WEB] {
        let there = towards(network, destination_kind::TUNNEL, KVM2);
        assert_eq!(rows.fdb[&FdbKey::new(network, WEB_2)], there);
        let address = Address::v4([10, 1, 1, 12]);
        assert_eq!(rows.neighbours[&NeighbourKey { network, address }].mac, WEB_2);
    }
}

#[test]
fn a_vxlan_network_floods_to_local_ports_and_to_hosts_with_members() {
    let rows = kvm1(TWO_TENANTS);
    let floods: Vec<_> = rows.floods.range(FloodKey { network: 1, position: 0 }..).map(|(_, row)| *row).collect();
    assert_eq!(
        floods[..3],
        [local(ACME_WEB, 10, 0), local(ACME_WEB, 11, 1), towards(ACME_WEB, destination_kind::TUNNEL, KVM2)]
    );
    let network = rows.networks[&ACME_WEB];
    assert_eq!((network.kind, network.segment, network.mtu), (segment_kind::VXLAN, 5001, 1450));
    assert_eq!((network.flood_count, network.uplink, network.physical_network), (3, 0, 1));
    assert_eq!(network.gateway_ip4, [10, 1, 1, 1]);
}

#[test]
fn a_vlan_network_leaves_by_its_uplink() {
    let rows = kvm1(TWO_TENANTS);
    let network = rows.networks[&ACME_DB];
    assert_eq!((network.kind, network.segment, network.uplink), (segment_kind::VLAN, 101, 2));
    let up = towards(ACME_DB, destination_kind::UPLINK, 2);
    assert_eq!(rows.fdb[&FdbKey::new(ACME_DB, Mac([2, 0, 0x0a, 1, 2, 0x0c]))], up);
    assert_eq!(rows.floods[&FloodKey { network: ACME_DB, position: 1 }], up);
    let segment = rows.segments[&SegmentKey { ifindex: 2, udp_port: 0, id: 101 }];
    assert_eq!((segment.network, segment.flags), (ACME_DB, 0));
    assert_eq!(rows.uplinks[&UplinkKey { ifindex: 2, udp_port: 0 }].local, [0; 4]);
}

#[test]
fn the_gateway_is_a_station_where_netpath_is_it() {
    let rows = kvm1(TWO_TENANTS);
    let mac = Mac([2, b'n', b'p', 0, 0x13, 0x89]);
    assert_eq!(rows.networks[&ACME_WEB].gateway_mac, mac);
    assert_eq!(rows.fdb[&FdbKey::new(ACME_WEB, mac)], towards(ACME_WEB, destination_kind::GATEWAY, 0));
    for address in [Address::v4([10, 1, 1, 1]), "2001:db8:1::1".parse::<std::net::IpAddr>().unwrap().into()] {
        assert_eq!(rows.neighbours[&NeighbourKey { network: ACME_WEB, address }].mac, mac);
    }
    // acme-db's gateway is a machine on the VLAN, of which the definitions know the address only.
    assert_eq!(rows.networks[&ACME_DB].gateway_mac, Mac::ZERO);
    let address = Address::v4([10, 1, 2, 1]);
    assert!(!rows.neighbours.contains_key(&NeighbourKey { network: ACME_DB, address }));
}

#[test]
fn a_tunnel_leads_to_every_host_of_the_physical_network() {
    let rows = kvm1(TWO_TENANTS);
    let tunnel = rows.tunnels[&KVM2];
    assert_eq!((tunnel.local, tunnel.remote), ([192, 0, 2, 11], [192, 0, 2, 12]));
    assert_eq!((tunnel.udp_port, tunnel.ttl, tunnel.flags), (4789, 64, 0));
    assert_eq!((tunnel.device, tunnel.lookup, tunnel.egress), (9, 9, 1));
    let endpoint = rows.endpoints[&EndpointKey { physical_network: 1, remote: [192, 0, 2, 12] }];
    assert_eq!((endpoint.tunnel, endpoint.local), (KVM2, [192, 0, 2, 11]));
}

#[test]
fn an_own_tunnel_device_receives_beside_the_uplink() {
    let rows = kvm1(TWO_TENANTS);
    let owns = uplink_flags::OWNS_PORT;
    assert_eq!(rows.uplinks[&UplinkKey { ifindex: 1, udp_port: 4789 }].flags, owns);
    assert_eq!(rows.uplinks[&UplinkKey { ifindex: 9, udp_port: 4789 }].flags, owns | uplink_flags::TUNNEL_DEVICE);
    for key in [(1, 4789), (9, 0)].map(|(ifindex, udp_port)| SegmentKey { ifindex, udp_port, id: 5002 }) {
        assert_eq!((rows.segments[&key].network, rows.segments[&key].flags), (GLOBEX_WEB, 0));
    }
}

#[test]
fn a_tunnel_device_is_planned_and_a_foreign_one_is_left_alone() {
    let zone = zone(TWO_TENANTS);
    let without: Vec<Device> = devices().into_iter().filter(|device| device.index != 9).collect();
    assert_eq!(tunnel_device(&zone, &devices(), true), Some(TunnelDevice::Own(9)));
    assert_eq!(tunnel_device(&zone, &without, true), Some(TunnelDevice::Planned));
    assert_eq!(tunnel_device(&zone, &devices(), false), Some(TunnelDevice::Foreign("np4789".into())));
    let planned = compiled(&zone, "kvm1", &without, &Rows::default()).rows;
    assert_eq!(planned.tunnels[&KVM2].device, PLANNED_DEVICE);

    let mut foreign = without;
    foreign.push(vxlan(20, "vxlan5001", 4789));
    let beside = compiled(&zone, "kvm1", &foreign, &Rows::default()).rows;
    assert_eq!((beside.tunnels[&KVM2].device, beside.tunnels[&KVM2].lookup), (0, PLANNED_DEVICE));
    // Once it is made, routes are asked from a device that nobody sends to: the uplink has no forwarding.
    foreign.push(vxlan(21, "np65535", 65_535));
    let rows = compiled(&zone, "kvm1", &foreign, &Rows::default()).rows;
    assert_eq!((rows.tunnels[&KVM2].device, rows.tunnels[&KVM2].lookup), (0, 21));
    assert_eq!(rows.uplinks[&UplinkKey { ifindex: 1, udp_port: 4789 }].flags, 0);
    assert_eq!(rows.segments[&SegmentKey { ifindex: 1, udp_port: 4789, id: 5001 }].flags, segment_flags::STRIP);
    assert_eq!(rows.segments.keys().filter(|key| key.id == 5001).count(), 1);
}

#[test]
fn a_bonds_slaves_receive_too() {
    let mut devices = devices();
    devices[1].kind = Some("bond".into());
    devices.push(Device { master: Some(2), ..device(31, "eth8", None) });
    let compiled = compiled(&zone(TWO_TENANTS), "kvm1", &devices, &Rows::default());
    for ifindex in [2, 31] {
        assert_eq!(compiled.rows.segments[&SegmentKey { ifindex, udp_port: 0, id: 101 }].network, ACME_DB);
        assert!(compiled.rows.uplinks.contains_key(&UplinkKey { ifindex, udp_port: 0 }));
    }
    assert!(!compiled.attachments.iter().any(|attachment| attachment.ifindex == 31));
}

#[test]
fn a_port_has_its_addresses_and_flags() {
    let text = TWO_TENANTS.replacen(
        "ip6: 2001:db8:1::11",
        "ip6: 2001:db8:1::11, secondary_ips: [10.1.1.50], trusted: true",
        1,
    );
    let rows = kvm1(&text);
    let port = rows.ports[&10];
    assert_eq!((port.ifindex, port.network, port.slot, port.mac), (10, ACME_WEB, 0, WEB_1));
    assert_eq!(port.flags, port_flags::TRUSTED | port_flags::MORE_ADDRESSES);
    assert_eq!((port.ip4, port.link_local), ([10, 1, 1, 11], WEB_1.link_local()));
    let address = Address::v4([10, 1, 1, 50]);
    assert_eq!(rows.addresses[&AddressKey { ifindex: 10, address }], 1);
    assert_eq!(rows.neighbours[&NeighbourKey { network: ACME_WEB, address }].mac, WEB_1);
    let l2 = TWO_TENANTS.replacen("    cidr: 10.1.2.0/24\n    gateway: 10.1.2.1\n", "", 1);
    let l2 = l2.replace(", ip: 10.1.2.11", "").replace(", ip: 10.1.2.12", "");
    assert_eq!(kvm1(&l2).ports[&13].flags, port_flags::ANY_IP);
}

#[test]
fn a_nic_without_its_device_waits_and_keeps_its_slot() {
    let without: Vec<Device> = devices().into_iter().filter(|device| device.name != "vnet1").collect();
    let compiled = compiled(&zone(TWO_TENANTS), "kvm1", &without, &Rows::default());
    let [waiting] = &compiled.waiting[..] else { panic!("{:?}", compiled.waiting) };
    assert_eq!((&*waiting.network, &*waiting.instance), ("acme-web", "web-3"));
    let rows = compiled.rows;
    assert!(!rows.fdb.contains_key(&FdbKey::new(ACME_WEB, Mac([2, 0, 0x0a, 1, 1, 0x0d]))));
    let address = Address::v4([10, 1, 1, 13]);
    assert!(rows.neighbours.contains_key(&NeighbourKey { network: ACME_WEB, address }));
    assert!(rows.names.contains_key(&NameKey { kind: name_kind::PORT, index: 1 }));
    assert_eq!(rows.networks[&ACME_WEB].flood_count, 2);
}

#[test]
fn a_nic_without_device_is_found_by_libvirts_mac_unless_that_is_ambiguous() {
    let text = TWO_TENANTS.replacen(", device: vnet0", "", 1);
    let mut found = devices();
    found.push(tap(40, "tap7", "02:00:0a:01:01:0b"));
    assert_eq!(compiled(&zone(&text), "kvm1", &found, &Rows::default()).rows.ports[&40].slot, 0);

    found.push(tap(41, "tap8", "02:00:0a:01:01:0b"));
    let error = try_compile(&zone(&text), "kvm1", &found, &Rows::default()).unwrap_err();
    assert!(error.to_string().contains("the taps tap7 and tap8 fit; give the NIC its `device`"), "{error}");

    let both = text.replacen(", host: kvm1, device: vnet2", ", host: kvm1", 1);
    let error = try_compile(&zone(&both), "kvm1", &found[..found.len() - 1], &Rows::default()).unwrap_err();
    assert!(error.to_string().contains("NIC globex-web/web-1 has the same address"), "{error}");
}

#[test]
fn multicast_replication_floods_to_the_group_alone() {
    let text =
        TWO_TENANTS.replacen("traffic: [guest]}", "traffic: [guest], replication: multicast, vxlan_port: 8472}", 1);
    let compiled = compiled(&zone(&text), "kvm1", &devices(), &Rows::default());
    let group = names(&compiled.rows, name_kind::TUNNEL).iter().find(|(_, name)| *name == "acme-web/group").unwrap().0;
    let tunnel = compiled.rows.tunnels[&group];
    assert_eq!((tunnel.remote, tunnel.ttl, tunnel.udp_port), ([239, 0, 0x13, 0x89], 10, 8472));
    assert_eq!((tunnel.flags, tunnel.egress), (tunnel_flags::GROUP, 1));
    let flooded: Vec<_> = compiled.rows.floods.values().filter(|row| row.kind == destination_kind::TUNNEL).collect();
    assert_eq!(flooded.len(), 2, "one group for each of the two networks");
    assert!(flooded.iter().any(|row| row.target == group));
    let memberships: Vec<_> = compiled.memberships.iter().map(|member| (member.device, member.group)).collect();
    assert_eq!(memberships, [(1, [239, 0, 0x13, 0x89].into()), (1, [239, 0, 0x13, 0x8a].into())]);
}

#[test]
fn programs_go_to_ports_uplinks_and_the_tunnel_device() {
    let text = TWO_TENANTS.replacen("trunk: eth2}}", "trunk: eth2}, uplink_mode: {guest: tc}}", 1);
    let compiled = compiled(&zone(&text), "kvm1", &devices(), &Rows::default());
    let roles: Vec<_> = compiled.attachments.iter().map(|attachment| (&*attachment.device, attachment.role)).collect();
    assert_eq!(
        roles,
        [
            ("eth1", Role::Uplink(UplinkMode::Tc)),
            ("eth2", Role::Uplink(UplinkMode::Auto)),
            ("np4789", Role::TunnelDevice),
            ("vnet0", Role::GuestPort),
            ("vnet1", Role::GuestPort),
            ("vnet2", Role::GuestPort),
            ("vnet3", Role::GuestPort),
        ]
    );
    assert_eq!(compiled.uplinks[0].largest, ("acme-web".into(), 1450));
}

#[test]
fn a_host_without_nics_has_nothing_and_a_stranger_is_an_error() {
    let text = TWO_TENANTS.replacen("offerings:", "  - {name: kvm3}\nofferings:", 1);
    let idle = compiled(&zone(&text), "kvm3", &devices(), &Rows::default());
    assert_eq!(idle.rows.names.len(), 1);
    assert!(idle.attachments.is_empty() && idle.rows.segments.is_empty());
    let error = try_compile(&zone(&text), "kvm9", &devices(), &Rows::default()).unwrap_err();
    assert!(error.to_string().contains("no host `kvm9` (they have kvm1, kvm2, kvm3)"), "{error}");
}

#[test]
fn a_zone_of_one_host_needs_no_underlay() {
    let text = "zone: z\nphysical_networks: [{name: v, isolation: vxlan, vnis: 1-99}]\nhosts: [{name: kvm1}]\nnetworks:\n  \
                - {name: n, physical_network: v, segment: 7, nics: [{instance: i, mac: \"02:00:00:00:00:01\", host: kvm1, device: vnet0}]}\n";
    let compiled = compiled(&zone(text), "kvm1", &devices(), &Rows::default());
    assert!(compiled.rows.uplinks.is_empty() && compiled.rows.segments.is_empty() && compiled.rows.tunnels.is_empty());
    assert_eq!(compiled.rows.networks[&1].flood_count, 1);
    assert_eq!(tunnel_device(&zone(text), &[], true), None);
}

#[test]
fn a_map_too_small_is_said_with_the_way_out() {
    let text = TWO_TENANTS.replacen("trunk: eth2}}", "trunk: eth2}, capacities: {ports: 3}}", 1);
    let error = try_compile(&zone(&text), "kvm1", &devices(), &Rows::default()).unwrap_err();
    assert!(matches!(error, CompileError::Capacity { needed: 4, capacity: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("set `capacities: {ports: 4}` of host `kvm1`"), "{error}");
}
