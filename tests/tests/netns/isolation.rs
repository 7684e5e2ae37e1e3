//! Two tenants with the same addresses, MACs and ports never meet (V17, X1).

use netpath_tests::{
    guest::raw::{contains, marker},
    packet::{BROADCAST, Outer, guest},
};

use crate::scene::{A, B, C, UPLINK_MODES, delivers, kernel_guests_in, raw_guests_in};

#[test]
fn v17_the_same_flow_in_two_networks_reaches_its_own_network_only() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        for (tenant, other) in [("blue", "green"), ("green", "blue")] {
            for (to, packet) in [(12, guest(A).to(B)), (13, guest(A).to(C)), (13, guest(A).to_mac(BROADCAST))] {
                let secret = marker();
                let frame = packet.clone().payload(&secret).build();
                topology.raw(tenant, 11).send(&frame);
                topology.raw(tenant, to).expect_frame(&frame);
                let end = marker();
                topology.raw(other, 11).send(packet.clone().payload(&end).build());
                topology.raw(other, to).expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
            }
        }
    }
}

#[test]
fn frames_from_the_wire_reach_the_network_of_their_vni_only() {
    for mode in UPLINK_MODES {
        let topology = raw_guests_in(mode);
        let wire = topology.wire(0);
        for (tenant, other, vni, other_vni) in [("blue", "green", 5001, 5002), ("green", "blue", 5002, 5001)] {
            for packet in [guest(B).to(A), guest(B).to(A).tcp(1, 2, 2), guest(B).to_mac(BROADCAST)] {
                let outer = |vni| Outer::new(vni, topology.endpoint(1), topology.endpoint(0));
                let (secret, end) = (marker(), marker());
                let frame = packet.clone().payload(&secret).build();
                wire.send(outer(vni).wrap(&frame));
                topology.raw(tenant, 11).expect_frame(&frame);
                wire.send(outer(other_vni).wrap(&packet.payload(&end).build()));
                topology.raw(other, 11).expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
            }
        }
    }
}

#[test]
fn both_tenants_move_bulk_data_at_once_on_the_same_addresses() {
    let topology = kernel_guests_in("xdp");
    std::thread::scope(|scope| {
        for tenant in ["blue", "green"] {
            let (a, b) = (topology.kernel(tenant, 11), topology.kernel(tenant, 12));
            scope.spawn(move || a.sends_tcp(b, 30, false).unwrap());
            scope.spawn(move || b.sends_tcp(a, 30, false).unwrap());
        }
    });
}

#[test]
fn a_tenant_that_is_removed_leaves_the_other_alone() {
    let topology = raw_guests_in("xdp");
    let mut definitions = topology.vxlan_definitions();
    definitions["networks"].as_array_mut().unwrap().pop();
    topology.apply(&definitions);
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    delivers(a, b, &guest(A).to(B));
    let secret = marker();
    topology.raw("green", 11).send(guest(A).to(B).payload(&secret).build());
    let end = marker();
    a.send(guest(A).to(B).payload(&end).build());
    b.expect_none_before(|f| contains(f, &secret), |f| contains(f, &end));
}
