//! NAT on another host than the guest's: guest 12 is on hv2, the public address on hv1.

use netpath_tests::{
    guest::bulk::tcp_both_ways,
    topology::{TwoHypervisors, internet::INTERNET, two_hypervisors::TENANTS},
};

use super::{end, exchange, kernel_guests, meet_the_router, online, shared};
use crate::scene::{UPLINK_MODES, in_mode};

#[track_caller]
fn both_directions_work(topology: &TwoHypervisors, mode: &str) {
    let internet = &topology.internet().host;
    for tenant in TENANTS {
        let guest = topology.kernel(tenant, 12);
        guest.ping(INTERNET.ip).unwrap();
        let web = (INTERNET.ip, 80).into();
        let peer = tcp_both_ways(guest.ns(), internet.ns(), web, web, 32).unwrap_or_else(|e| {
            panic!("{e:#}: {:?} {:?}", topology.hosts[0].netpath.drops(), topology.hosts[1].netpath.drops())
        });
        assert_eq!(peer.ip(), shared(tenant), "{tenant} in {mode}");
        let to = (shared(tenant), 2223).into();
        let peer = tcp_both_ways(internet.ns(), guest.ns(), to, end(guest, 22), 16).unwrap();
        assert_eq!(peer.ip(), INTERNET.ip);
        exchange(internet.ns(), guest.ns(), to, end(guest, 22), &[5; 4000]);
        exchange(guest.ns(), internet.ns(), (INTERNET.ip, 53).into(), (INTERNET.ip, 53).into(), &[6; 4000]);
    }
}

#[test]
fn a_guest_on_another_host_is_translated_through_the_tunnel() {
    for mode in UPLINK_MODES {
        both_directions_work(&online(mode), mode);
    }
}

#[test]
fn a_guest_on_another_host_is_translated_over_its_vlan() {
    for mode in UPLINK_MODES {
        let topology = kernel_guests();
        topology.apply(&in_mode(topology.vlan_gateway_definitions(), mode));
        meet_the_router(&topology);
        both_directions_work(&topology, mode);
    }
}

/// Without `nat_host` every host finds the same one, and what goes out comes back.
#[test]
fn a_nat_host_that_nobody_names_is_found_by_all() {
    let topology = kernel_guests();
    let mut definitions = topology.gateway_definitions();
    for network in definitions["networks"].as_array_mut().unwrap() {
        network.as_object_mut().unwrap().remove("nat_host");
    }
    topology.apply(&in_mode(definitions, "xdp"));
    for tenant in TENANTS {
        for number in [11, 12] {
            let guest = topology.kernel(tenant, number);
            guest.ping(INTERNET.ip).unwrap();
            let web = (INTERNET.ip, 80).into();
            let peer = tcp_both_ways(guest.ns(), topology.internet().host.ns(), web, web, 4).unwrap();
            assert_eq!(peer.ip(), shared(tenant));
        }
    }
}
