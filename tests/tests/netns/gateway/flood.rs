//! One tenant's flood, and the others' connections.

use std::net::Ipv4Addr;

use netpath_tests::{
    guest::bulk::tcp_both_ways,
    pace::paced,
    packet::{dissect, guest},
    topology::{
        TwoHypervisors,
        internet::INTERNET,
        two_hypervisors::{Attachment, GATEWAY},
    },
};

use super::shared;
use crate::scene::{A, in_mode};

#[test]
fn c4_a_syn_flood_of_one_tenant_leaves_the_others_alone() {
    let builder = TwoHypervisors::builder().with_internet().attach(13, Attachment::Veth);
    let topology = builder.build().unwrap();
    let mut definitions = in_mode(topology.gateway_definitions(), "xdp");
    definitions["networks"][0]["connection_limit"] = 1000.into();
    topology.apply(&definitions);
    let (flooder, victim) = (topology.raw("blue", 11), topology.kernel("green", 13));
    let internet = topology.internet().host.ns();
    victim.ping(INTERNET.ip).unwrap();
    flooder.send(guest(A).arp_request(GATEWAY).build());
    let reply = flooder.expect("the gateway", |f| dissect(f).and_then(|d| d.arp()).is_some_and(|arp| arp.2 == GATEWAY));
    let gateway = dissect(&reply).unwrap().arp().unwrap().1;
    let web = (INTERNET.ip, 80).into();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..paced(200_000) as u32 {
                let to = Ipv4Addr::from_bits(0xc633_6400 + n % 200);
                let syn = guest(A).to_mac(gateway).to_ip(to).tcp((1024 + n % 60_000) as u16, (n / 200) as u16 | 1, 2);
                flooder.send(syn.build());
            }
        });
        for _ in 0..5 {
            let peer = tcp_both_ways(victim.ns(), internet, web, web, 4).unwrap();
            assert_ne!(peer.ip(), std::net::IpAddr::from(shared("blue")));
        }
    });
    let flows = topology.hosts[0].netpath.drops();
    assert!(flows.get(&("blue-web".into(), "connection_limit".into())).copied().unwrap_or(0) > 0, "{flows:?}");
    assert!(!flows.keys().any(|(network, _)| network == "green-web"), "{flows:?}");
}
