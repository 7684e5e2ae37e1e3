//! What a guest may send, over random frames: whatever passes carries only what its NIC has.

use netpath_common::{
    Address, DropReason, Mac, frame,
    maps::{Port, port_flags},
    stage::antispoof,
};
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 10, 1, 1, 11];
const IP: [u8; 4] = [10, 1, 1, 11];
const SECOND: [u8; 4] = [10, 1, 1, 77];

fn port(flags: u32) -> Port {
    Port { mac: Mac(MAC), ip4: IP, link_local: Mac(MAC).link_local(), flags, ..Port::default() }
}

fn check(bytes: &[u8], port: &Port) -> Result<(), DropReason> {
    let mut words = vec![0u16; bytes.len().div_ceil(2)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let pkt = &bytemuck::cast_slice::<u16, u8>(&words)[..bytes.len()];
    let frame = frame::parse(pkt)?;
    antispoof::check(pkt, &frame, port, |address| address == Address::v4(SECOND))
}

/// A UDP packet from `source`.
fn udp(source: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let mut bytes = [&[2, 0, 10, 1, 1, 12], &MAC[..], &[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]].concat();
    bytes.extend(source);
    bytes.extend([10, 1, 1, 12]);
    bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    bytes.extend([0, 8, 0, 0]);
    bytes
}

fn arp(operation: u8, sender: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut bytes = [&[0xff; 6], &MAC[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    bytes.extend(sender);
    bytes.extend(address);
    bytes.extend([0, 0, 0, 0, 0, 0, 10, 1, 1, 1]);
    bytes
}

#[test]
fn a_trusted_port_may_send_anything() {
    let stranger = udp([192, 0, 2, 1], [67, 68]);
    assert_eq!(check(&stranger, &port(port_flags::TRUSTED)), Ok(()));
    assert_eq!(check(&stranger, &port(0)), Err(DropReason::DhcpServer));
}

#[test]
fn a_pure_l2_network_checks_mac_addresses_only() {
    let any = port(port_flags::ANY_IP);
    assert_eq!(check(&udp([192, 0, 2, 1], [1, 2]), &any), Ok(()));
    assert_eq!(check(&arp(2, MAC, [192, 0, 2, 1]), &any), Ok(()));
    assert_eq!(check(&arp(2, [2, 0, 0, 0, 0, 9], IP), &any), Err(DropReason::SpoofedArp));
    assert_eq!(check(&udp([192, 0, 2, 1], [67, 68]), &any), Err(DropReason::DhcpServer));
}

#[test]
fn zero_is_no_address_but_a_dhcp_clients() {
    let unnumbered = Port { ip4: [0; 4], ..port(0) };
    for port in [port(0), unnumbered] {
        assert_eq!(check(&udp([0; 4], [68, 67]), &port), Ok(()));
        assert_eq!(check(&udp([0; 4], [68, 69]), &port), Err(DropReason::SpoofedIpv4));
        assert_eq!(check(&arp(1, MAC, [0; 4]), &port), Ok(()));
        assert_eq!(check(&arp(2, MAC, [0; 4]), &port), Err(DropReason::SpoofedArp));
    }
}

proptest! {
    #[test]
    fn an_ipv4_source_passes_only_if_it_is_the_nics(source: [u8; 4], own in 0..3, ports: [u16; 2], more: bool) {
        prop_assume!(ports[0] != 67 && ports[0] != 68 && ports[1] != 68);
        let source = [source, IP, SECOND][own as usize];
        let flags = if more { port_flags::MORE_ADDRESSES } else { 0 };
        let expected = source == IP || more && source == SECOND;
        prop_assert_eq!(check(&udp(source, ports), &port(flags)).is_ok(), expected);
    }

    #[test]
    fn an_arp_sender_passes_only_if_it_is_the_nics(mac: [u8; 6], own_mac: bool, address: [u8; 4], own: bool, reply: bool) {
        let mac = if own_mac { MAC } else { mac };
        let address = if own { IP } else { address };
        let probe = !reply && address == [0; 4];
        let expected = mac == MAC && (address == IP || probe);
        prop_assert_eq!(check(&arp(1 + u8::from(reply), mac, address), &port(0)).is_ok(), expected);
    }

    #[test]
    fn no_mutation_of_a_frame_passes_with_another_source_mac(index in 0usize..42, value: u8, tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = [udp(IP, [1000, 2000]), tail].concat();
        bytes[index] = value;
        if check(&bytes, &port(0)).is_ok() {
            prop_assert_eq!(&bytes[6..12], &MAC[..]);
        }
    }
}
