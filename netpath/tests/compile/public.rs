//! UPSTREAMS, PUBLIC_ADDRESS and FORWARDS: public links, addresses and ports.

use netpath::{
    compile::{Compiled, FairQueues, Rows, Surroundings, compile, tunnel_devices},
    definitions::Ports,
    netlink::Device,
};
use netpath_common::{
    Mac,
    maps::{
        Forward, ForwardKey, PUBLIC_SIDE, PublicKey, Rule, SegmentKey, UplinkKey, Upstream, forward_flags, name_kind,
        public_flags, segment_flags,
    },
};

use crate::host::{GATEWAY, compiled, device, devices, index, try_compile, zone};

fn rows(text: &str, host: &str) -> Rows {
    compiled(&zone(text), host, &devices(), &Rows::default()).rows
}

fn key(rows: &Rows, link: &str, address: [u8; 4]) -> PublicKey {
    PublicKey { side: PUBLIC_SIDE | index(rows, name_kind::PUBLIC_LINK, link), address }
}

/// Ports 16 bits from `bits`.
fn forward_key(public: PublicKey, protocol: u8, port: u16, bits: u32) -> (u32, ForwardKey) {
    let (side, port) = (public.side.to_be_bytes(), port.to_be_bytes());
    (80 + bits, ForwardKey { side, address: public.address, protocol: [protocol, 0], port })
}

#[test]
fn a_public_link_is_a_vlan_of_an_uplink_with_its_router() {
    let rows = rows(GATEWAY, "kvm1");
    let tagged = index(&rows, name_kind::PUBLIC_LINK, "public/900");
    let expected = Upstream {
        ifindex: 3,
        prefix: [203, 0, 113, 0],
        mask: [255, 255, 255, 0],
        gateway: [203, 0, 113, 1],
        vlan: 900,
        mtu: 1500,
        mac: Mac([2, 0, 0, 0, 0, 3]),
        ..Upstream::default()
    };
    assert_eq!(rows.upstreams[&tagged], expected);
    let untagged = index(&rows, name_kind::PUBLIC_LINK, "public/untagged");
    assert_eq!((rows.upstreams[&untagged].vlan, rows.upstreams[&untagged].gateway), (0, [198, 51, 100, 1]));
    for (id, link) in [(900, tagged), (0, untagged)] {
        let segment = rows.segments[&SegmentKey { ifindex: 3, udp_port: 0, id }];
        assert_eq!((segment.network, segment.flags), (link, segment_flags::PUBLIC));
        assert_ne!(link, 0, "link 0 is none");
    }
    assert!(rows.uplinks.contains_key(&UplinkKey { ifindex: 3, udp_port: 0 }));
}

#[test]
fn a_bonds_slaves_receive_public_frames_and_a_small_mtu_counts() {
    let mut devices = devices();
    devices[2].kind = Some("bond".into());
    devices[2].mtu = 1400;
    devices.push(Device { master: Some(3), ..device(33, "eth9", None) });
    let rows = compiled(&zone(GATEWAY), "kvm1", &devices, &Rows::default()).rows;
    let link = index(&rows, name_kind::PUBLIC_LINK, "public/900");
    for ifindex in [3, 33] {
        assert_eq!(rows.segments[&SegmentKey { ifindex, udp_port: 0, id: 900 }].network, link);
    }
    assert_eq!(rows.upstreams[&link].mtu, 1400);
    devices[2].mtu = 9000;
    let rows = compiled(&zone(GATEWAY), "kvm1", &devices, &Rows::default()).rows;
    assert_eq!(rows.upstreams[&link].mtu, 1500);
}

#[test]
fn a_public_address_is_on_one_host() {
    let zone = zone(GATEWAY);
    let mut found = Vec::new();
    for host in ["kvm1", "kvm2", "kvm3"] {
        let rows = compiled(&zone, host, &devices(), &Rows::default()).rows;
        found.extend(rows.public_address.keys().map(|key| (key.address, host)));
    }
    found.sort_unstable();
    let expected = [
        ([198, 51, 100, 20], "kvm1"),
        ([198, 51, 100, 21], "kvm1"),
        ([203, 0, 113, 10], "kvm1"),
        ([203, 0, 113, 11], "kvm2"),
        ([203, 0, 113, 30], "kvm2"),
        ([203, 0, 113, 77], "kvm1"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_a_public_address_is_stands_in_its_row() {
    let (kvm1, kvm2) = (rows(GATEWAY, "kvm1"), rows(GATEWAY, "kvm2"));
    let shared = kvm1.public_address[&key(&kvm1, "public/900", [203, 0, 113, 10])];
    assert_eq!((shared.flags, shared.network), (0, index(&kvm1, name_kind::NETWORK, "acme-web")));
    assert_eq!(shared.ingress.count, 3, "two prefixes of the first rule, and the second");
    let fixed = kvm2.public_address[&key(&kvm2, "public/900", [203, 0, 113, 11])];
    assert_eq!((fixed.flags, fixed.inside, fixed.ingress.count), (public_flags::STATIC, [10, 1, 1, 12], 1));
    let tiers = kvm2.public_address[&key(&kvm2, "public/900", [203, 0, 113, 30])];
    assert_eq!((tiers.flags, tiers.ingress.count), (public_flags::ACL, 0));
    assert_eq!(tiers.network, index(&kvm2, name_kind::NETWORK, "initech-front"), "the first tier's");
}

#[test]
fn a_forwarded_port_leads_to_its_guest_and_a_range_is_prefixes() {
    let rows = rows(GATEWAY, "kvm1");
    let public = key(&rows, "public/900", [203, 0, 113, 10]);
    let ssh = rows.forwards[&forward_key(public, 6, 2222, 16)];
    assert_eq!((ssh.address, ssh.port, ssh.flags), ([10, 1, 1, 11], 22, 0));
    assert_eq!(ssh.network, index(&rows, name_kind::NETWORK, "acme-web"));
    let sources: Vec<_> = (ssh.sources_start..ssh.sources_start + ssh.sources_count).map(|n| rows.rules[&n]).collect();
    let [source] = sources[..] else { panic!("{sources:?}") };
    assert_eq!((source.source, source.source_mask), ([198, 51, 100, 0], [255, 255, 255, 0]));
    assert_eq!((source.protocol, source.allow, source.icmp_type), (Rule::ANY, 1, Rule::ANY));
    let range = [(8000, 10), (8064, 11), (8096, 14)].map(|(port, bits)| forward_key(public, 17, port, bits));
    for key in range {
        assert_eq!((rows.forwards[&key].port, rows.forwards[&key].sources_count), (0, 0));
    }
    assert_eq!(rows.forwards.len(), 4);
}

/// kvm1 with addresses and listeners of its own.
fn with_host(text: &str, addresses: &[std::net::Ipv4Addr], reserved: &[(u8, u16)]) -> Compiled {
    let (zone, devices, existing) = (zone(text), devices(), Rows::default());
    let tunnels = tunnel_devices(&zone, "kvm1", &devices, |_| true);
    let surroundings = Surroundings {
        devices: &devices,
        tunnel_devices: &tunnels,
        existing: &existing,
        host_addresses: addresses,
        reserved,
        ephemeral: Some(Ports { first: 32768, last: 60999 }),
        fair_queues: &FairQueues::default(),
    };
    compile(&zone, "kvm1", surroundings).unwrap()
}

#[test]
fn what_the_host_itself_uses_of_a_public_address_is_reserved() {
    let addresses = ["203.0.113.10", "192.0.2.11"].map(|address| address.parse().unwrap());
    let rows = with_host(GATEWAY, &addresses, &[(6, 22), (17, 8001)]).rows;
    let public = key(&rows, "public/900", [203, 0, 113, 10]);
    assert_eq!(rows.public_address[&public].flags, public_flags::HOST);
    let reserved = Forward { flags: forward_flags::RESERVED, ..Forward::default() };
    for (protocol, port) in [(6, 22), (17, 8001), (17, 4789)] {
        assert_eq!(rows.forwards[&forward_key(public, protocol, port, 16)], reserved);
    }
    // Neither are those that its own connections begin from any guest's, but for what a definition has lead to one.
    for (port, bits) in [(32768, 2), (49152, 3), (60992, 13)] {
        assert_eq!(rows.forwards[&forward_key(public, 17, port, bits)], reserved);
        assert_eq!(rows.forwards[&forward_key(public, 6, port, bits)], reserved);
    }
    let other = key(&rows, "public/900", [203, 0, 113, 77]);
    assert!(!rows.forwards.contains_key(&forward_key(other, 6, 22, 16)));
    assert!(!rows.forwards.contains_key(&forward_key(other, 17, 32768, 2)));
    assert_eq!(rows.public_address[&other].flags, 0);
}

#[test]
fn tenants_with_the_same_addresses_share_nothing_outside() {
    let rows = rows(GATEWAY, "kvm1");
    let (acme, globex) = (*rows.gateways[&1], *rows.gateways[&2]);
    assert_eq!((acme.prefix, acme.mask), (globex.prefix, globex.mask));
    assert_ne!(acme.pool[0].side, globex.pool[0].side);
    let pools: std::collections::BTreeSet<_> =
        [&acme, &globex].iter().flat_map(|row| &row.pool[..row.pool_count as usize]).map(|pool| pool.pool).collect();
    assert_eq!(pools.len(), 3, "each public address has ports of its own");
}

#[test]
fn the_tiers_of_a_router_share_the_ports_of_their_address() {
    let rows = rows(GATEWAY, "kvm2");
    let pool = |name: &str| rows.gateways[&index(&rows, name_kind::NETWORK, name)].pool[0];
    assert_eq!(pool("initech-front"), pool("initech-back"));
    assert_eq!(pool("initech-front").address, [203, 0, 113, 30]);
}

#[test]
fn ports_of_more_addresses_than_there_is_room_for_are_an_error() {
    let text = GATEWAY.replacen("public: eth3}}", "public: eth3}, capacities: {port_blocks: 6144}}", 1);
    let error = try_compile(&zone(&text), "kvm1", &devices(), &Rows::default()).unwrap_err();
    assert!(error.to_string().contains("set `capacities: {port_blocks: 9216}` of host `kvm1`"), "{error}");
}

#[test]
fn without_the_public_device_nothing_of_it_is_written() {
    let without: Vec<Device> = devices().into_iter().filter(|device| device.name != "eth3").collect();
    let found = compiled(&zone(GATEWAY), "kvm1", &without, &Rows::default());
    assert!(found.rows.public_address.is_empty() && found.rows.upstreams.is_empty() && found.rows.forwards.is_empty());
    assert!(found.uplinks.iter().any(|used| used.physical_network == "public" && used.ifindex.is_none()));
}
