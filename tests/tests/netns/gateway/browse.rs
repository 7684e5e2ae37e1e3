//! Guests reach the world through source NAT.

use netpath_tests::{
    guest::bulk::tcp_both_ways,
    topology::{
        internet::{INTERNET, STATION},
        two_hypervisors::TENANTS,
    },
};

use super::{exchange, online, shared};
use crate::scene::UPLINK_MODES;

#[test]
fn i1_guests_of_both_tenants_ping_the_internet_and_the_public_link() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        for tenant in TENANTS {
            for number in [11, 12, 13] {
                topology.kernel(tenant, number).ping(INTERNET.ip).unwrap();
                topology.kernel(tenant, number).ping(STATION.ip).unwrap();
            }
        }
    }
}

#[test]
fn x6_bulk_tcp_through_source_nat_arrives_byte_for_byte_both_ways() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        let internet = &topology.internet().host;
        let web = (INTERNET.ip, 80).into();
        for (tenant, number) in [("blue", 11), ("green", 11)] {
            let guest = topology.kernel(tenant, number);
            let peer = tcp_both_ways(guest.ns(), internet.ns(), web, web, 64).unwrap();
            assert_eq!(peer.ip(), shared(tenant), "{tenant} in {mode}");
        }
    }
}

#[test]
fn u14_large_datagrams_pass_in_fragments_both_ways() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        let internet = topology.internet().host.ns();
        let dns = (INTERNET.ip, 53).into();
        for len in [1, 1472, 1473, 9000, 40_000] {
            let guest = topology.kernel("blue", 11);
            let peer = exchange(guest.ns(), internet, dns, dns, &vec![0xa5; len]);
            assert_eq!(peer.ip(), shared("blue"), "{len} bytes in {mode}");
        }
    }
}

#[test]
fn many_connections_at_once_keep_to_themselves() {
    let topology = &online("xdp");
    let internet = topology.internet().host.ns();
    std::thread::scope(|scope| {
        for (n, tenant) in TENANTS.into_iter().cycle().take(6).enumerate() {
            let guest = topology.kernel(tenant, [11, 12, 13][n % 3]);
            scope.spawn(move || {
                let web = (INTERNET.ip, 8000 + n as u16).into();
                let drops = || topology.hosts[0].netpath.drops();
                tcp_both_ways(guest.ns(), internet, web, web, 4)
                    .unwrap_or_else(|e| panic!("{:?} of {tenant}: {e:#}: {:?}", guest.station().ip, drops()));
            });
        }
    });
}
