//! Rewrites: every checksum verifies afterwards, and the way back is the way there.

use netpath_common::{
    checksum,
    maps::{Flow, FlowKey},
    stage::translate,
};
use network_types::ip::Ipv4Hdr;
use proptest::prelude::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The checksum of bytes, computed as RFC 1071 §1 has it; shares nothing with what is tested.
fn rfc_1071(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet.
#[derive(Clone, Debug, PartialEq)]
struct Ip {
    bytes: Vec<u8>,
    header: usize,
}

impl Ip {
    fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Where the transport checksum is.
    fn check_at(&self) -> usize {
        self.header
            + match self.protocol() {
                TCP => 16,
                UDP => 6,
                _ => 2,
            }
    }

    /// What the transport checksum should be, by all that it covers, in a packet whose field is zero.
    fn transport_check(&self) -> u16 {
        let segment = &self.bytes[self.header..];
        if self.protocol() == ICMP {
            return rfc_1071(segment);
        }
        let len = (segment.len() as u16).to_be_bytes();
        rfc_1071(&[&self.bytes[12..20], &[0, self.protocol()], &len, segment].concat())
    }

    fn verify(&self) {
        assert_eq!(rfc_1071(&self.bytes[..self.header]), 0, "the header's checksum");
        let field = &self.bytes[self.check_at()..][..2];
        if self.protocol() == UDP && field == [0, 0] {
            return;
        }
        assert_eq!(self.transport_check(), 0, "the transport's checksum");
    }

    /// Ports, or an ICMP query's identifier, as FLOWS has them.
    fn ports(&self) -> (u16, u16) {
        let word = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        match (self.protocol(), self.bytes[self.header]) {
            (ICMP, 0) => (0, word(self.header + 4)),
            (ICMP, _) => (word(self.header + 4), 0),
            _ => (word(self.header), word(self.header + 2)),
        }
    }

    fn key(&self) -> FlowKey {
        let (source_port, destination_port) = self.ports();
        FlowKey {
            source: self.bytes[12..16].try_into().unwrap(),
            destination: self.bytes[16..20].try_into().unwrap(),
            source_port,
            destination_port,
            protocol: self.protocol(),
            ..FlowKey::default()
        }
    }

    /// What the gateway does to the packet.
    fn rewrite(&mut self, flow: &Flow, decrement: bool, id: (u16, bool)) {
        let key = self.key();
        let (addresses, ports) = (translate::address_difference(&key, flow), translate::port_difference(&key, flow));
        let mut header: Ipv4Hdr = read_header(&self.bytes);
        translate::ipv4(&mut header, flow, addresses, decrement, id);
        write_header(&mut self.bytes, &header);
        let at = self.check_at();
        let check = [self.bytes[at], self.bytes[at + 1]];
        let check = match self.protocol() {
            TCP => translate::apply(translate::apply(check, addresses), ports),
            UDP => translate::apply_udp(translate::apply_udp(check, addresses), ports),
            _ => translate::apply(check, ports),
        };
        self.bytes[at..at + 2].copy_from_slice(&check);
        let (at, id) = (self.header, translate::icmp_identifier(flow));
        if self.protocol() == ICMP {
            self.bytes[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
        } else {
            self.bytes[at..at + 2].copy_from_slice(&flow.source_port.to_be_bytes());
            self.bytes[at + 2..at + 4].copy_from_slice(&flow.destination_port.to_be_bytes());
        }
    }
}

fn read_header(bytes: &[u8]) -> Ipv4Hdr {
    let two = |at: usize| [bytes[at], bytes[at + 1]];
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    Ipv4Hdr {
        vihl: bytes[0],
        tos: bytes[1],
        tot_len: two(2),
        id: two(4),
        frags: two(6),
        ttl: bytes[8],
        proto: bytes[9],
        check: two(10),
        src_addr: four(12),
        dst_addr: four(16),
    }
}

fn write_header(bytes: &mut [u8], ip: &Ipv4Hdr) {
    let head = [&[ip.vihl, ip.tos], &ip.tot_len[..], &ip.id, &ip.frags, &[ip.ttl, ip.proto]].concat();
    bytes[..10].copy_from_slice(&head);
    bytes[10..20].copy_from_slice(&[&ip.check[..], &ip.src_addr, &ip.dst_addr].concat());
}

/// A packet with options, whose checksums are right; a UDP packet may have none.
fn build(
    protocol: u8,
    options: &[u8],
    addresses: [[u8; 4]; 2],
    rest: [u8; 3],
    mut segment: Vec<u8>,
    unsummed: bool,
) -> Ip {
    let header = 20 + options.len();
    let total = (header + segment.len()) as u16;
    let [id, ttl, reply] = rest;
    if protocol == ICMP {
        segment[0] = if reply & 1 == 0 { 8 } else { 0 };
    }
    let mut bytes = vec![0x40 | (header / 4) as u8, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([id, id, 0, 0, ttl.max(2), protocol, 0, 0]);
    bytes.extend(addresses.concat());
    bytes.extend(options);
    bytes.extend(segment);
    let mut ip = Ip { bytes, header };
    let check = rfc_1071(&ip.bytes[..header]);
    ip.bytes[10..12].copy_from_slice(&check.to_be_bytes());
    let at = ip.check_at();
    ip.bytes[at..at + 2].fill(0);
    let check = match (protocol, ip.transport_check()) {
        (UDP, _) if unsummed => 0,
        (UDP, 0) => 0xffff,
        (_, check) => check,
    };
    ip.bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
    ip
}

prop_compose! {
    fn packet()(
        protocol in prop::sample::select(vec![TCP, UDP, ICMP]),
        options in prop::collection::vec(any::<[u8; 4]>(), 0..=10),
        // Few values, so that sums of 0 and ffff come up.
        addresses in prop_oneof![any::<[[u8; 4]; 2]>(), prop::array::uniform2(prop::array::uniform4(prop::sample::select(vec![0u8, 1, 0xff])))],
        rest: [u8; 3],
        segment in prop_oneof![
            prop::collection::vec(any::<u8>(), 20..80),
            prop::collection::vec(prop::sample::select(vec![0u8, 0xff]), 20..24),
        ],
        unsummed: bool,
    ) -> Ip {
        build(protocol, &options.concat(), addresses, rest, segment, unsummed)
    }
}

prop_compose! {
    fn flow_to()(addresses: [[u8; 4]; 2], ports: [u16; 2], few: [bool; 4], ones: bool) -> Flow {
        let edge = if ones { 0xff } else { 0 };
        let address = |index: usize| if few[index] { [edge; 4] } else { addresses[index] };
        let port = |index: usize| if few[index + 2] { u16::from_be_bytes([edge; 2]) } else { ports[index] };
        Flow {
            source: address(0), destination: address(1), source_port: port(0), destination_port: port(1), ..Flow::default()
        }
    }
}

/// The flow, as a flow of this packet's protocol could be.
fn suit(packet: &Ip, flow: Flow) -> Flow {
    match (packet.protocol(), packet.bytes[packet.header]) {
        (ICMP, 0) => Flow { source_port: 0, ..flow },
        (ICMP, _) => Flow { destination_port: 0, ..flow },
        _ => flow,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn r1_checksums_verify_after_a_rewrite(packet in packet(), flow in flow_to(), decrement: bool, id: (u16, bool)) {
        packet.verify();
        let flow = suit(&packet, flow);
        let mut rewritten = packet.clone();
        rewritten.rewrite(&flow, decrement, id);
        rewritten.verify();
        let key = rewritten.key();
        prop_assert_eq!((key.source, key.destination), (flow.source, flow.destination));
        prop_assert_eq!((key.source_port, key.destination_port), (flow.source_port, flow.destination_port));
        prop_assert_eq!(rewritten.bytes[8], packet.bytes[8] - u8::from(decrement));
        if id.1 {
            prop_assert_eq!(&rewritten.bytes[4..6], &id.0.to_be_bytes());
        }
    }

    #[test]
    fn translate_then_translate_back_is_the_identity(packet in packet(), flow in flow_to()) {
        let flow = suit(&packet, flow);
        let key = packet.key();
        let back = Flow {
            source: key.source, destination: key.destination,
            source_port: key.source_port, destination_port: key.destination_port, ..Flow::default()
        };
        let mut there_and_back = packet.clone();
        there_and_back.rewrite(&flow, false, (0x1234, true));
        let id = u16::from_be_bytes([packet.bytes[4], packet.bytes[5]]);
        there_and_back.rewrite(&back, false, (id, true));
        prop_assert_eq!(there_and_back, packet);
    }

    #[test]
    fn nothing_changes_where_a_flow_rewrites_nothing(packet in packet(), check: [u8; 2]) {
        let key = packet.key();
        let same = Flow {
            source: key.source, destination: key.destination,
            source_port: key.source_port, destination_port: key.destination_port, ..Flow::default()
        };
        prop_assert_eq!((translate::address_difference(&key, &same), translate::port_difference(&key, &same)), (0, 0));
        prop_assert_eq!(translate::apply(check, 0), check);
        let mut rewritten = packet.clone();
        rewritten.rewrite(&same, false, (0, false));
        prop_assert_eq!(rewritten, packet);
    }
}

#[test]
fn r1_every_time_to_live_counts_down_with_a_right_checksum() {
    for ttl in 1..=255 {
        for id in 0..=u16::MAX {
            let mut ip = Ipv4Hdr {
                vihl: 0x45,
                tos: 0,
                tot_len: [0, 84],
                id: id.to_be_bytes(),
                frags: [0x40, 0],
                ttl,
                proto: ICMP,
                check: [0; 2],
                src_addr: [10, 1, 1, 11],
                dst_addr: [192, 0, 2, 1],
            };
            ip.check = checksum::ipv4_header(&ip);
            translate::decrement_ttl(&mut ip);
            assert_eq!(ip.ttl, ttl - 1);
            let check = std::mem::take(&mut ip.check);
            assert_eq!(check, checksum::ipv4_header(&ip), "ttl {ttl}, id {id}");
        }
    }
}

#[test]
fn r1_the_example_of_rfc_1624() {
    // §4: a field of dd2f, a word that turns from 5555 into 3285: the checksum is 0000, not ffff.
    let difference = u32::from((!0x5555u16).to_be()) + u32::from(0x3285u16.to_be());
    assert_eq!(translate::apply([0xdd, 0x2f], difference), [0, 0]);
    assert_eq!(translate::apply_udp([0xdd, 0x2f], difference), [0xff, 0xff]);
    assert_eq!(translate::apply_udp([0, 0], difference), [0, 0]);
}

#[test]
fn a_difference_is_what_the_kernel_adds() {
    // `csum_fold(csum_add(diff, ~csum_unfold(check)))`, inet_proto_csum_replace_by_diff.
    let key = FlowKey { source: [10, 1, 1, 11], destination: [192, 0, 2, 1], ..FlowKey::default() };
    let flow = Flow { source: [203, 0, 113, 9], destination: [192, 0, 2, 1], ..Flow::default() };
    let difference = translate::address_difference(&key, &flow);
    let check = 0x1234u16;
    let (sum, carry) = difference.overflowing_add(u32::from(!check));
    let sum = sum + u32::from(carry);
    let sum = (sum >> 16) + (sum & 0xffff);
    let folded = !((sum + (sum >> 16)) as u16);
    assert_eq!(translate::apply(check.to_ne_bytes(), difference), folded.to_ne_bytes());
}
