//! The topology itself, with the kernel's bridge and vxlan device in netpath's place: what every other test stands on.

use std::{path::Path, time::Duration};

use netpath_tests::{
    guest::{
        PacketSocket, RawGuest,
        bulk::tcp_both_ways,
        raw::{contains, marker},
    },
    packet::{Endpoint, dissect, guest},
    topology::{
        Link, TwoHypervisors, Vxlan,
        internet::{INTERNET, STATION},
        two_hypervisors::{Attachment, UPLINK},
    },
};

/// On each hypervisor: blue's devices in a bridge with a vxlan device to the other one.
fn bridge_blue(topology: &TwoHypervisors, devices: [&[&str]; 2]) {
    for (index, host) in topology.hosts.iter().enumerate() {
        let other = topology.hosts[1 - index].address;
        host.ns.run(|| {
            let bridge = Link::bridge("br-blue").unwrap();
            bridge.up().unwrap();
            let settings = Vxlan {
                vni: 5001,
                port: 4789,
                local: host.address,
                remote: None,
                device: Some(UPLINK.into()),
                learning: false,
            };
            let vxlan = Link::vxlan("vxlan5001", &settings).unwrap();
            vxlan.fdb_flood(other).unwrap();
            for port in devices[index].iter().map(|name| Link::named(name)).chain([vxlan]) {
                port.enslave_to(&bridge).unwrap();
                port.up().unwrap();
            }
        });
    }
}

#[test]
fn kernel_guests_behind_veth_and_tap_talk_through_the_kernels_vxlan() {
    let topology = TwoHypervisors::builder().attach(11, Attachment::Tap).attach(12, Attachment::Veth).build().unwrap();
    bridge_blue(&topology, [&["vnet11"], &["vnet12"]]);
    let (a, b) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
    a.ping(b.station().ip).unwrap();
    a.ping(b.station().ip6).unwrap();
    a.exchanges_udp(b, b"hello").unwrap();
    a.sends_tcp(b, 20, false).unwrap();
    b.sends_tcp(a, 20, true).unwrap();
    assert!(!topology.kernel("green", 11).reaches(b.station().ip, Duration::from_millis(300)));
}

#[test]
fn raw_guests_and_the_wire_see_whole_frames_with_right_checksums() {
    let topology = TwoHypervisors::builder().build().unwrap();
    bridge_blue(&topology, [&["vnet11", "vnet13"], &["vnet12"]]);
    let (a, b) = (topology.raw("blue", 11), topology.raw("blue", 12));
    let wire = topology.wire(0);
    let payload = marker();
    let frame = guest(Endpoint::numbered(11)).to(Endpoint::numbered(12)).payload(&payload).build();
    a.send(&frame);
    b.expect_frame(&frame);
    let outer = wire.expect("the frame in VXLAN", |outer| contains(outer, &payload));
    let (vni, flags, inner) = dissect(&outer).unwrap().vxlan().unwrap();
    assert_eq!((vni, flags, inner), (5001, 8, &frame[..]));
}

#[test]
fn tags_and_offloads_are_seen_as_on_a_wire() {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.hosts[0].ns.run(|| {
        let uplink = Link::named(UPLINK);
        assert!(!uplink.offload_is_on("tx-checksum-ip-generic").unwrap());
        uplink.offload("tx-checksum-ip-generic", true).unwrap();
        assert!(uplink.offload_is_on("tx-checksum-ip-generic").unwrap());
    });
    let tagged = guest(Endpoint::numbered(11)).vlan(101).to(Endpoint::numbered(12)).payload(marker()).build();
    let uplink = topology.hosts[1].ns.run(|| PacketSocket::open(UPLINK).unwrap());
    topology.wire(1).send(&tagged);
    RawGuest::on_socket("hv2", uplink).expect_frame(&tagged);
}

#[test]
fn nothing_is_left_behind() {
    let topology = TwoHypervisors::builder().attached(Attachment::Veth).build().unwrap();
    let (scratch, name) = (topology.scratch().path().to_owned(), topology.hosts[0].ns.name().to_owned());
    drop(topology);
    assert!(!scratch.exists());
    assert!(!Path::new("/run/netns").join(name).exists());
}

#[test]
fn the_internet_is_reached_through_its_router() {
    let topology = TwoHypervisors::builder().with_internet().build().unwrap();
    let internet = topology.internet();
    internet.station.ping(INTERNET.ip).unwrap();
    internet.host.ping(STATION.ip).unwrap();
    let (to, at) = ((INTERNET.ip, 80).into(), (INTERNET.ip, 80).into());
    let peer = tcp_both_ways(internet.station.ns(), internet.host.ns(), to, at, 2).unwrap();
    assert_eq!(peer.ip(), STATION.ip);
}
