//! One tenant's flood, and the others' connections.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
};

use netpath_tests::{
    agent::until,
    connections::gateway_of,
    guest::bulk::tcp_both_ways,
    pace::paced,
    packet::{Mac, guest},
    topology::{TwoHypervisors, internet::INTERNET, two_hypervisors::Attachment},
};

use super::{connect, echoes, own, shared};
use crate::{
    scene::{A, UPLINK_MODES, in_mode},
    traffic::{Traffic, beside},
};

/// SYNs of blue's NIC 11 from ever another port to ever another address, as fast as they go.
fn floods(topology: &TwoHypervisors, gateway: Mac, sent: &AtomicU64, traffic: &Traffic) {
    let flooder = topology.raw("blue", 11);
    for n in (0u32..).take_while(|_| traffic.goes_on()) {
        let to = Ipv4Addr::from_bits(0xc633_6400 + n % 200);
        let syn = guest(A).to_mac(gateway).to_ip(to).tcp((1024 + n % 60_000) as u16, (n / 200) as u16 | 1, 2);
        flooder.send(syn.build());
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn c4_a_syn_flood_of_one_tenant_leaves_new_and_old_connections_of_others_alone() {
    for mode in UPLINK_MODES {
        let builder = TwoHypervisors::builder().with_internet();
        let topology = builder.attach(12, Attachment::Veth).attach(13, Attachment::Veth).build().unwrap();
        let mut definitions = in_mode(topology.gateway_definitions(), mode);
        definitions["networks"][0]["connection_limit"] = 1000.into();
        topology.apply(&definitions);
        let internet = topology.internet().host.ns();
        // The one on hv2 has the shared address, by the host that is flooded; the other one has its own.
        let victims = [(topology.kernel("green", 12), shared("green")), (topology.kernel("green", 13), own("green"))];
        let at = |port| (INTERNET.ip, port).into();
        let mut old = victims.map(|(victim, _)| {
            victim.ping(INTERNET.ip).unwrap();
            connect(victim.ns(), internet, at(443), at(443))
        });
        let gateway = gateway_of(&topology, "blue");
        let sent = AtomicU64::new(0);
        let refused = || {
            let drops = topology.hosts[0].netpath.drops();
            drops.get(&("blue-web".to_owned(), "connection_limit".to_owned())).copied().unwrap_or(0)
        };
        let rounds = |has_ended: &dyn Fn() -> bool| {
            until("the flooder has all that it may have", || refused() > 0);
            for round in 0..paced(5) {
                let before = sent.load(Ordering::Relaxed);
                for ((victim, address), (here, there)) in victims.iter().zip(&mut old) {
                    let peer = tcp_both_ways(victim.ns(), internet, at(80), at(80), 4).unwrap();
                    assert_eq!(peer.ip(), *address, "round {round} in {mode}");
                    echoes(here, there);
                }
                until("the flood goes on", || sent.load(Ordering::Relaxed) > before);
                assert!(!has_ended());
            }
        };
        beside(|traffic| floods(&topology, gateway, &sent, traffic), rounds);
        let drops = topology.hosts[0].netpath.drops();
        assert!(!drops.keys().any(|(network, _)| network == "green-web"), "{drops:?}");
    }
}
