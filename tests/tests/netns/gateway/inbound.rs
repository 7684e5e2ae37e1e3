//! The world reaches guests by forwarded ports and addresses of their own.

use netpath_tests::{
    guest::bulk::tcp_both_ways,
    topology::{internet::INTERNET, two_hypervisors::TENANTS},
};

use super::{end, exchange, online, own, shared};
use crate::scene::UPLINK_MODES;

#[test]
fn a_forwarded_port_is_reached_from_the_internet_and_from_the_public_link() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        let internet = topology.internet();
        for tenant in TENANTS {
            let guest = topology.kernel(tenant, 13);
            let to = (shared(tenant), 2222).into();
            for client in [&internet.host, &internet.station] {
                let peer = tcp_both_ways(client.ns(), guest.ns(), to, end(guest, 22), 16).unwrap();
                assert_eq!(peer.ip(), client.station().ip, "the client's address is kept");
                exchange(client.ns(), guest.ns(), to, end(guest, 22), &[1; 9000]);
            }
            let ranged = (shared(tenant), 8005).into();
            tcp_both_ways(internet.host.ns(), guest.ns(), ranged, end(guest, 8005), 1).unwrap();
        }
    }
}

#[test]
fn a_static_address_is_reached_by_everything_and_speaks_for_its_guest() {
    for mode in UPLINK_MODES {
        let topology = online(mode);
        let internet = topology.internet();
        for tenant in TENANTS {
            let guest = topology.kernel(tenant, 13);
            for client in [&internet.host, &internet.station] {
                client.ping(own(tenant)).unwrap();
                let to = (own(tenant), 4433).into();
                tcp_both_ways(client.ns(), guest.ns(), to, end(guest, 4433), 16).unwrap();
                exchange(client.ns(), guest.ns(), to, end(guest, 4433), &[2; 9000]);
            }
            let web = (INTERNET.ip, 80).into();
            let peer = tcp_both_ways(guest.ns(), internet.host.ns(), web, web, 16).unwrap();
            assert_eq!(peer.ip(), own(tenant));
        }
    }
}
