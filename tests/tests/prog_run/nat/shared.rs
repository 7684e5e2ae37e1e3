//! A public address that the host uses too: what nobody here has is the kernel's, and nothing else is.

use std::net::Ipv4Addr;

use netpath_common::{
    DropReason as R,
    maps::{Forward, PublicAddress, PublicKey, RuleList, forward_flags, public_flags},
};
use netpath_tests::packet::{Body, Packet, guest};

use crate::rig::{
    A, ACK, B, BLUE, BLUE_PUBLIC, DNS, End, OTHER_SERVER, PASS, PUBLIC, Rig, Routed, SERVER, SHOT, SYN, any, echo,
    inward, ip_bytes, only_from,
};

const CLIENT: End = (SERVER, 40_000);
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

/// Blue's public address is the host's, too, and its 2222 leads to B's 22.
fn shared() -> Routed {
    let mut rig = Rig::routed();
    rig.public_address(BLUE, BLUE_PUBLIC, public_flags::HOST, RuleList::default());
    rig.forward_tcp(BLUE, BLUE_PUBLIC, 2222, B, 22);
    rig
}

/// Asserts that the kernel gets a packet from the wire as it came; its tag is put back as a device's.
#[track_caller]
fn assert_passed(rig: &mut Rig, packet: &Packet) {
    let out = rig.from_wire(packet);
    let mut frame = packet.build();
    frame.drain(12..16);
    assert_eq!((out.action, &out.drops[..]), (PASS, &[][..]), "{packet:?}");
    assert_eq!(out.bytes, frame);
}

/// What a router says of a datagram that the host has sent.
fn error(kind: u8, code: u8) -> Packet {
    let sent = guest(A).from(BLUE_PUBLIC).to_ip(SERVER).udp(33_000, 33_434);
    inward(OTHER_SERVER, BLUE_PUBLIC).body(Body::Icmp { kind, code, rest: [0; 4], payload: ip_bytes(&sent) })
}

#[test]
fn u12a_u13_errors_about_the_hosts_own_packets_are_the_hosts() {
    let mut rig = shared();
    for (kind, code) in [(11, 0), (3, 4), (3, 3)] {
        assert_passed(&mut rig, &error(kind, code));
    }
    rig.public_address(BLUE, BLUE_PUBLIC, 0, RuleList::default());
    rig.from_wire(&error(11, 0)).assert_dropped(BLUE, R::IcmpErrorUnmatched);
}

#[test]
fn u14_all_fragments_of_the_hosts_own_packets_are_the_hosts() {
    let mut rig = shared();
    let parts = |from| {
        let first = inward(from, BLUE_PUBLIC).body(Body::Ip { protocol: 17, payload: vec![0x35; 1480] });
        let last = inward(from, BLUE_PUBLIC).body(Body::Ip { protocol: 17, payload: vec![7; 600] });
        [first.id(77).fragment(0, true), last.id(77).fragment(185, false)]
    };
    for part in parts(SERVER) {
        assert_passed(&mut rig, &part);
    }
    rig.public_address(BLUE, BLUE_PUBLIC, 0, RuleList::default());
    let [first, last] = parts(OTHER_SERVER);
    rig.from_wire(&first).assert_dropped(BLUE, R::Unsolicited);
    rig.from_wire(&last).assert_dropped(BLUE, R::FragmentBeforeFirst);
}

#[test]
fn what_nobody_here_has_is_the_hosts() {
    let mut rig = shared();
    assert_passed(&mut rig, &inward(SERVER, BLUE_PUBLIC).tcp(40_000, 22, SYN));
    assert_passed(&mut rig, &inward(SERVER, BLUE_PUBLIC).body(echo(8, 7)));
    let public = rig.udp_out(BLUE, A, 5000, DNS).seen().source;
    assert_passed(&mut rig, &inward(OTHER_SERVER, public.0).udp(53, public.1));
    rig.arrives(DNS, public, (A.ip, 5000));
}

#[test]
fn what_a_rule_refuses_is_not_the_hosts() {
    let mut rig = shared();
    let syn = inward(SERVER, BLUE_PUBLIC).tcp(CLIENT.1, 2222, SYN);
    rig.from_wire(&syn).assert_dropped(BLUE, R::IngressDenied);
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    assert_eq!(rig.from_wire(&syn).seen().destination, (B.ip, 22));
    rig.tcp_out(BLUE, B, 22, CLIENT, SYN | ACK).seen();
    rig.ingress(BLUE, BLUE_PUBLIC, &[]);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).assert_dropped(BLUE, R::IngressDenied);
    rig.tcp_in(CLIENT, (BLUE_PUBLIC, 2222), ACK).assert_dropped(BLUE, R::IngressDenied);
    rig.ingress(BLUE, BLUE_PUBLIC, &[any(true)]);
    let list = rig.rules(&[only_from(OTHER_SERVER, any(true))]);
    let (sources_start, sources_count) = (list.start, list.count);
    let address = B.ip.octets();
    let forward = Forward { network: BLUE, address, port: 22, sources_start, sources_count, ..Forward::default() };
    rig.forward(BLUE_PUBLIC, 6, 2222, 16, forward);
    rig.from_wire(&syn).assert_dropped(BLUE, R::ForwardDenied);
    rig.from_wire(&inward([127, 0, 0, 1].into(), BLUE_PUBLIC).tcp(1, 22, SYN)).assert_dropped(BLUE, R::MartianSource);
}

#[test]
fn a_guest_reaches_nothing_of_the_host_by_its_public_address() {
    let mut rig = shared();
    let syn = rig.tcp_out(BLUE, A, 5000, (BLUE_PUBLIC, 22), SYN);
    assert_eq!((syn.action, &syn.drops[..]), (SHOT, &[((BLUE, R::Unsolicited), 1)][..]));
    let ping = rig.ping_out(BLUE, A, 7, BLUE_PUBLIC);
    assert_eq!((ping.action, &ping.drops[..]), (SHOT, &[((BLUE, R::IngressDenied), 1)][..]));
}

#[test]
fn a_port_of_the_host_leads_to_no_guest_that_has_the_address() {
    let mut rig = Rig::routed();
    rig.static_nat(BLUE, OWN, A);
    let key = PublicKey { side: PUBLIC, address: OWN.octets() };
    let row: PublicAddress = rig.get("PUBLIC_ADDRESS", key).unwrap();
    rig.put("PUBLIC_ADDRESS", key, PublicAddress { flags: row.flags | public_flags::HOST, ..row });
    rig.forward(OWN, 6, 22, 16, Forward { flags: forward_flags::RESERVED, ..Forward::default() });
    assert_passed(&mut rig, &inward(SERVER, OWN).tcp(CLIENT.1, 22, SYN));
    assert_eq!(rig.tcp_in(CLIENT, (OWN, 23), SYN).seen().destination, (A.ip, 23));
}
