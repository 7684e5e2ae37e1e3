//! Guests reach each other by public addresses.

use netpath_tests::{guest::bulk::tcp_both_ways, topology::two_hypervisors::TENANTS};

use super::{end, exchange, online, own, shared};
use crate::scene::UPLINK_MODES;

#[test]
fn u9_u9a_t8_a_guest_reaches_its_neighbour_by_the_public_address_and_is_seen_as_it() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        for tenant in TENANTS {
            let target = topology.kernel(tenant, 13);
            for number in [11, 12] {
                let guest = topology.kernel(tenant, number);
                let to = (shared(tenant), 2222).into();
                let peer = tcp_both_ways(guest.ns(), target.ns(), to, end(target, 22), 8).unwrap();
                assert_eq!(peer.ip(), shared(tenant), "NIC {number} of {tenant} in {mode}");
                let peer = exchange(guest.ns(), target.ns(), to, end(target, 22), &[3; 1000]);
                assert_eq!(peer.ip(), shared(tenant));
            }
        }
    }
}

#[test]
fn a_tenant_reaches_another_by_public_addresses_only() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        for (from, to) in [("blue", "green"), ("green", "blue")] {
            let (guest, target) = (topology.kernel(from, 11), topology.kernel(to, 13));
            let peer = tcp_both_ways(guest.ns(), target.ns(), (shared(to), 2222).into(), end(target, 22), 8).unwrap();
            assert_eq!(peer.ip(), shared(from));
            let peer = exchange(guest.ns(), target.ns(), (own(to), 99).into(), end(target, 99), &[4; 1000]);
            assert_eq!(peer.ip(), shared(from));
            guest.ping(own(to)).unwrap();
        }
    }
}

#[test]
fn i7_a_guest_pings_its_neighbours_own_address() {
    let topology = online("xdp");
    topology.kernel("blue", 11).ping(own("blue")).unwrap();
    topology.kernel("blue", 12).ping(own("blue")).unwrap();
}
