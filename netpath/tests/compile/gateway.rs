//! GATEWAYS, ROUTES and STATIC_NAT, and which hosts have rows of a network without a guest of it.

use netpath::compile::Rows;
use netpath_common::{
    Address, Mac,
    maps::{
        FdbKey, ForwardKey, Gateway, NeighbourKey, PUBLIC_SIDE, Route, RouteKey, SegmentKey, StaticKey, Timeouts,
        destination_kind, forward_flags, gateway_flags, name_kind, nat_place,
    },
};

use crate::host::{GATEWAY, compiled, devices, index, zone};

fn rows(text: &str, host: &str) -> Rows {
    compiled(&zone(text), host, &devices(), &Rows::default()).rows
}

fn network(rows: &Rows, name: &str) -> u32 {
    index(rows, name_kind::NETWORK, name)
}

fn gateway(rows: &Rows, name: &str) -> Gateway {
    *rows.gateways[&network(rows, name)]
}

fn tunnel(rows: &Rows, name: &str) -> u32 {
    index(rows, name_kind::TUNNEL, name)
}

fn side(rows: &Rows, link: &str) -> u32 {
    PUBLIC_SIDE | index(rows, name_kind::PUBLIC_LINK, link)
}

#[test]
fn the_nat_host_has_the_pool_and_the_others_the_way_to_it() {
    let kvm1 = rows(GATEWAY, "kvm1");
    let row = gateway(&kvm1, "acme-web");
    assert_eq!((row.epoch, row.prefix, row.mask), (1, [10, 1, 1, 0], [255, 255, 255, 0]));
    assert_eq!((row.nat_place, row.nat_target, row.nat_mac, row.wire_mac), (nat_place::HERE, 0, Mac::ZERO, Mac::ZERO));
    let pool: Vec<_> = row.pool[..row.pool_count as usize].iter().map(|p| (p.side, p.address, p.pool)).collect();
    let side = side(&kvm1, "public/900");
    assert_eq!(pool, [(side, [203, 0, 113, 10], 0), (side, [203, 0, 113, 77], 1)]);
    assert_eq!(index(&kvm1, name_kind::PORT_POOL, "203.0.113.77"), 1);

    let kvm3 = rows(GATEWAY, "kvm3");
    let row = gateway(&kvm3, "acme-web");
    assert_eq!((row.nat_place, row.nat_target), (nat_place::TUNNEL, tunnel(&kvm3, "guest/kvm1")));
    assert_eq!(row.pool_count, 0);
    assert!(kvm3.upstreams.is_empty() && kvm3.public_address.is_empty() && kvm3.forwards.is_empty());
}

#[test]
fn the_nat_host_on_a_vlan_is_reached_by_a_mac_address_of_its_own() {
    let zone = zone(GATEWAY);
    let (kvm1, kvm2) = (rows(GATEWAY, "kvm1"), rows(GATEWAY, "kvm2"));
    let front = gateway(&kvm1, "initech-front");
    let wire = |name: &str| zone.host(name).unwrap().wire_mac();
    assert_eq!((front.nat_place, front.nat_target, front.nat_mac), (nat_place::UPLINK, 2, wire("kvm2")));
    assert_eq!(front.wire_mac, wire("kvm1"));
    assert_eq!(wire("kvm1").0[..3], [0x02, 0x6e, 0x71]);
    let key = FdbKey::new(network(&kvm2, "initech-front"), wire("kvm2"));
    assert_eq!(kvm2.fdb[&key].kind, destination_kind::GATEWAY, "kvm2 routes what others send to it");
    assert_eq!(gateway(&kvm2, "initech-front").nat_place, nat_place::HERE);
}

#[test]
fn a_host_without_a_guest_has_what_it_needs_to_translate_for_a_network() {
    let kvm1 = rows(GATEWAY, "kvm1");
    let globex = network(&kvm1, "globex-web");
    assert!(!kvm1.ports.values().any(|port| port.network == globex));
    let guest = kvm1.fdb[&FdbKey::new(globex, Mac([2, 0, 0x0a, 1, 1, 0x0b]))];
    assert_eq!((guest.kind, guest.target), (destination_kind::TUNNEL, tunnel(&kvm1, "guest/kvm3")));
    let address = Address::v4([10, 1, 1, 11]);
    assert_eq!(kvm1.neighbours[&NeighbourKey { network: globex, address }].mac.0[5], 0x0b);
    assert_eq!(kvm1.segments[&SegmentKey { ifindex: 1, udp_port: 4789, id: 5002 }].network, globex);
    assert_eq!(kvm1.networks[&globex].flood_count, 1);
    assert_eq!(gateway(&kvm1, "globex-web").nat_place, nat_place::HERE);

    let elsewhere = GATEWAY.replacen("nat_host: kvm1\n    source_nat: 198", "nat_host: kvm2\n    source_nat: 198", 1);
    let kvm1 = rows(&elsewhere, "kvm1");
    assert!(!kvm1.names.values().any(|name| name == "globex-web"), "without a reason there is no row");
}

#[test]
fn the_uplink_and_the_tunnel_device_of_a_network_without_guests_are_taken_into_use() {
    let mut text = GATEWAY.replace("host: kvm1, device: vnet", "host: kvm2, device: other");
    text = text.replacen("nat_host: kvm1\n    source_nat: [", "nat_host: kvm2\n    source_nat: [", 1);
    let found = compiled(&zone(&text), "kvm1", &devices(), &Rows::default());
    let attached: Vec<_> = found.attachments.iter().map(|attachment| &*attachment.device).collect();
    assert_eq!(attached, ["eth1", "eth3", "np4789"]);
    let used: Vec<_> = found.uplinks.iter().map(|used| &*used.physical_network).collect();
    assert_eq!(used, ["guest", "public"]);
    assert_eq!(found.uplinks[0].largest, ("globex-web".into(), 1450));
}

#[test]
fn the_networks_of_a_router_are_known_where_one_of_them_is() {
    let kvm3 = rows(GATEWAY, "kvm3");
    let (front, back) = (network(&kvm3, "initech-front"), network(&kvm3, "initech-back"));
    let station = kvm3.fdb[&FdbKey::new(back, Mac([2, 0, 0x0a, 2, 2, 0x0b]))];
    assert_eq!((station.kind, station.target), (destination_kind::TUNNEL, tunnel(&kvm3, "guest/kvm2")));
    assert_eq!(kvm3.networks[&back].flood_count, 0, "nothing is flooded into it from here");
    let key = |network: u32, address| RouteKey { network: network.to_be_bytes(), address };
    let routes = [
        ((56, key(front, [10, 2, 2, 0])), Route { network: back, via: [0; 4] }),
        ((44, key(front, [172, 16, 0, 0])), Route { network: back, via: [10, 2, 2, 12] }),
        ((56, key(back, [10, 2, 1, 0])), Route { network: front, via: [0; 4] }),
        ((44, key(back, [172, 16, 0, 0])), Route { network: back, via: [10, 2, 2, 12] }),
    ];
    assert_eq!(kvm3.routes, routes.into());
}

#[test]
fn static_nat_is_done_where_the_guest_is_or_where_the_uplink_is() {
    let (kvm1, kvm2, kvm3) = (rows(GATEWAY, "kvm1"), rows(GATEWAY, "kvm2"), rows(GATEWAY, "kvm3"));
    let row = |rows: &Rows, name: &str, address| {
        let key = StaticKey { network: network(rows, name), address };
        rows.static_nat.get(&key).map(|row| (row.place, row.target, row.side, row.address))
    };
    let here = (nat_place::HERE, 0, side(&kvm2, "public/900"), [203, 0, 113, 11]);
    assert_eq!(row(&kvm2, "acme-web", [10, 1, 1, 12]), Some(here), "web-2's own host has the uplink");
    assert_eq!(row(&kvm1, "acme-web", [10, 1, 1, 12]), None);

    let there = (nat_place::TUNNEL, tunnel(&kvm3, "guest/kvm1"), 0, [198, 51, 100, 21]);
    assert_eq!(row(&kvm3, "globex-web", [10, 1, 1, 11]), Some(there), "kvm3 has no public uplink");
    let here = (nat_place::HERE, 0, side(&kvm1, "public/untagged"), [198, 51, 100, 21]);
    assert_eq!(row(&kvm1, "globex-web", [10, 1, 1, 11]), Some(here));
}

/// Its answers to what ports of the other address lead to would leave from its own.
#[test]
fn static_nat_of_a_guest_that_ports_lead_to_is_done_where_those_are() {
    let to_web_2 = "      - {public: 203.0.113.10, protocol: tcp, ports: 2223, to: web-2, to_ports: 22}";
    let text = GATEWAY.replacen("    firewall:", &format!("{to_web_2}\n    firewall:"), 1);
    let (kvm1, kvm2) = (rows(&text, "kvm1"), rows(&text, "kvm2"));
    let row = |rows: &Rows| {
        let row = rows.static_nat[&StaticKey { network: network(rows, "acme-web"), address: [10, 1, 1, 12] }];
        (row.place, row.target, row.address)
    };
    assert_eq!(row(&kvm1), (nat_place::HERE, 0, [203, 0, 113, 11]));
    assert_eq!(row(&kvm2), (nat_place::TUNNEL, tunnel(&kvm2, "guest/kvm1"), [203, 0, 113, 11]));
}

#[test]
fn guests_whose_public_address_is_a_tunnels_may_not_send_to_tunnels() {
    let text = GATEWAY.replacen("tunnel_address: 192.0.2.11", "tunnel_address: 198.51.100.20", 1);
    let rows = rows(&text, "kvm1");
    let flag = |name| gateway(&rows, name).flags & gateway_flags::TUNNEL_ADDRESS;
    assert_eq!((flag("globex-web"), flag("acme-web")), (gateway_flags::TUNNEL_ADDRESS, 0));
    for address in [[198, 51, 100, 20], [192, 0, 2, 12], [192, 0, 2, 13]] {
        let key = ForwardKey { side: [0; 4], address, protocol: [17, 0], port: 4789u16.to_be_bytes() };
        assert_eq!(rows.forwards[&(96, key)].flags, forward_flags::RESERVED);
    }
    let none = self::rows(GATEWAY, "kvm1");
    assert!(none.forwards.keys().all(|(_, key)| key.side != [0; 4]));
}

#[test]
fn times_flags_and_limits_are_the_definitions_or_the_defaults() {
    let row = gateway(&rows(GATEWAY, "kvm1"), "acme-web");
    assert_eq!(row.flags, gateway_flags::ROUTES | gateway_flags::INBOUND_REFRESH | gateway_flags::NO_ROUTES);
    let defaults =
        Timeouts { udp: 300, udp_one_way: 120, tcp_established: 7440, tcp_opening: 240, tcp_closing: 240, icmp: 60 };
    assert_eq!(row.timeouts, defaults);
    assert_eq!(row.flow_limit, 65536, "half of the flow table");

    let fields = "    inbound_refresh: false\n    filtering: endpoint_independent\n    connection_limit: 1000\n    \
                  timeouts: {udp: 400, tcp_closing: 5}\n    offering: open";
    let text = GATEWAY.replacen("    offering: closed", fields, 1);
    let row = gateway(&rows(&text, "kvm1"), "acme-web");
    let flags = gateway_flags::ROUTES | gateway_flags::ENDPOINT_INDEPENDENT | gateway_flags::EGRESS_ALLOW;
    assert_eq!(row.flags, flags | gateway_flags::NO_ROUTES);
    assert_eq!((row.flow_limit, row.timeouts), (2000, Timeouts { udp: 400, tcp_closing: 5, ..defaults }));
    let text = GATEWAY.replacen("public: eth3}}", "public: eth3}, capacities: {flows: 1024}}", 1);
    assert_eq!(gateway(&rows(&text, "kvm1"), "acme-web").flow_limit, 512);
    let tier = gateway(&rows(GATEWAY, "kvm1"), "initech-back").flags;
    let told = gateway_flags::ACL | gateway_flags::TIER | gateway_flags::NO_ROUTES | gateway_flags::NO_STATIC_NAT;
    assert_eq!(tier & told, gateway_flags::ACL | gateway_flags::TIER | gateway_flags::NO_STATIC_NAT);
}

#[test]
fn an_external_gateway_has_no_row() {
    let rows = rows(crate::host::TWO_TENANTS, "kvm1");
    assert_eq!(rows.gateways.keys().copied().collect::<Vec<_>>(), [1, 2], "acme-db's gateway is a machine");
    assert_eq!(gateway(&rows, "acme-web").nat_place, nat_place::NONE);
}
