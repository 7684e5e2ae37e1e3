//! What a guest may send: its own addresses, and no answers that are a server's or a router's to give.

use network_types::{
    arp::ArpHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    Address, DropReason, Frame, Packet,
    frame::{EtherType, FURTHEST_TRANSPORT, Protocol},
    maps::{Port, port_flags},
    stage::arp,
};

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Judges a frame that the guest behind `port` sent. `owns` says whether a further address is the port's.
///
/// # Errors
/// One of the `spoofed_` reasons, [`DropReason::DhcpServer`], [`DropReason::RouterAdvertisement`], or that the
/// packet cannot be judged because it is malformed.
#[inline(always)]
pub fn check<P: Packet + ?Sized>(
    pkt: &P,
    frame: &Frame,
    port: &Port,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    if port.flags & port_flags::TRUSTED != 0 {
        return Ok(());
    }
    if frame.source != port.mac {
        return Err(DropReason::SpoofedMac);
    }
    match frame.ether_type {
        EtherType::IPV4 => ipv4(pkt, frame, port, owns),
        EtherType::IPV6 => ipv6(pkt, frame, port, owns),
        EtherType::ARP => arp_sender(pkt, frame, port, owns),
        EtherType::RARP => rarp_sender(pkt, frame, port),
        _ => Ok(()),
    }
}

/// Whether ports (or the ICMP type) can be read where this packet must have them.
#[inline(always)]
fn transport_is_whole(frame: &Frame) -> bool {
    frame.l4 == 0 || frame.l4 + 4 <= frame.l3 + frame.l3_len
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(
    pkt: &P,
    frame: &Frame,
    port: &Port,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    let source = pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?.src_addr;
    let udp = frame.protocol == Protocol::UDP && frame.l4 != 0;
    if udp && !transport_is_whole(frame) {
        return Err(DropReason::MalformedIpv4);
    }
    // Clients look at their own port only, so a server's answer is known by either.
    if udp && (frame.ports.source == DHCP_SERVER || frame.ports.destination == DHCP_CLIENT) {
        return Err(DropReason::DhcpServer);
    }
    if port.flags & port_flags::ANY_IP != 0 || source == port.ip4 && source != [0; 4] {
        return Ok(());
    }
    let dhcp_client = udp && frame.ports.source == DHCP_CLIENT && frame.ports.destination == DHCP_SERVER;
    if source == [0; 4] && dhcp_client {
        return Ok(());
    }
    let more = port.flags & port_flags::MORE_ADDRESSES != 0;
    if more && owns(Address::v4(source)) { Ok(()) } else { Err(DropReason::SpoofedIpv4) }
}

#[inline(never)]
fn arp_sender<P: Packet + ?Sized>(
    pkt: &P,
    frame: &Frame,
    port: &Port,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    let arp = arp::parse(pkt, frame)?;
    if arp.sender != port.mac {
        return Err(DropReason::SpoofedArp);
    }
    let probe = arp.sender_address == [0; 4] && arp.operation == arp::REQUEST;
    let own = arp.sender_address == port.ip4 && arp.sender_address != [0; 4];
    if port.flags & port_flags::ANY_IP != 0 || probe || own {
        return Ok(());
    }
    let more = port.flags & port_flags::MORE_ADDRESSES != 0;
    if more && owns(Address::v4(arp.sender_address)) { Ok(()) } else { Err(DropReason::SpoofedArp) }
}

/// RARP is how QEMU announces a migrated guest: for its own MAC only.
#[inline(always)]
fn rarp_sender<P: Packet + ?Sized>(pkt: &P, frame: &Frame, port: &Port) -> Result<(), DropReason> {
    let rarp = pkt.header::<ArpHdr>(frame.l3).ok_or(DropReason::MalformedArp)?;
    if rarp.sha == port.mac.0 && rarp.tha == port.mac.0 { Ok(()) } else { Err(DropReason::SpoofedArp) }
}

#[inline(always)]
fn is_own(address: Address, port: &Port, owns: impl Fn(Address) -> bool) -> bool {
    address == port.link_local
        || address == port.ip6 && address != Address::NONE
        || port.flags & port_flags::MORE_ADDRESSES != 0 && owns(address)
}

#[inline(never)]
fn ipv6<P: Packet + ?Sized>(
    pkt: &P,
    frame: &Frame,
    port: &Port,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    let source = Address(pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?.src_addr);
    let icmp = frame.protocol == Protocol::ICMPV6;
    if (icmp || frame.protocol == Protocol::UDP) && !transport_is_whole(frame) {
        return Err(DropReason::MalformedIpv6);
    }
    let from_server = frame.ports.source == DHCPV6_SERVER || frame.ports.destination == DHCPV6_CLIENT;
    if frame.protocol == Protocol::UDP && frame.l4 != 0 && from_server {
        return Err(DropReason::DhcpServer);
    }
    let unspecified = source == Address::NONE && icmp;
    let any = port.flags & port_flags::ANY_IP != 0;
    if !any && !unspecified && !is_own(source, port, &owns) {
        return Err(DropReason::SpoofedIpv6);
    }
    if icmp && frame.l4 != 0 { discovery(pkt, frame, port, owns) } else { Ok(()) }
}

/// Neighbour discovery (RFC 4861 §4): no router's messages, and no address or MAC that is not the NIC's.
#[inline(always)]
fn discovery<P: Packet + ?Sized>(
    pkt: &P,
    frame: &Frame,
    port: &Port,
    owns: impl Fn(Address) -> bool,
) -> Result<(), DropReason> {
    let source = Address(pkt.header::<Ipv6Hdr>(frame.l3).ok_or(DropReason::MalformedIpv6)?.src_addr);
    let kind = (frame.ports.source >> 8) as u8;
    let claims = match kind {
        ROUTER_ADVERTISEMENT | REDIRECT => return Err(DropReason::RouterAdvertisement),
        NEIGHBOUR_ADVERTISEMENT => true,
        // Duplicate address detection claims its target too.
        NEIGHBOUR_SOLICITATION => source == Address::NONE,
        _ => return Ok(()),
    };
    let message = pkt.header::<[u8; 24]>(frame.l4).ok_or(DropReason::MalformedIpv6)?;
    let [_, _, _, _, _, _, _, _, target @ ..] = *message;
    let any = port.flags & port_flags::ANY_IP != 0;
    if claims && !any && !is_own(Address(target), port, owns) {
        return Err(DropReason::SpoofedNd);
    }
    link_layer_options(pkt, frame, port)
}

/// The link-layer address options (RFC 4861 §4.6.1) of a neighbour message must name the NIC.
#[inline(always)]
fn link_layer_options<P: Packet + ?Sized>(pkt: &P, frame: &Frame, port: &Port) -> Result<(), DropReason> {
    const MOST_OPTIONS: usize = 4;
    let end = frame.l3 + frame.l3_len;
    let mut offset = frame.l4 + 24;
    for _ in 0..MOST_OPTIONS {
        if offset + 8 > end {
            return Ok(());
        }
        if offset > FURTHEST_TRANSPORT {
            return Err(DropReason::MalformedIpv6);
        }
        let option = pkt.header::<[u8; 8]>(offset).ok_or(DropReason::MalformedIpv6)?;
        let [kind, units, mac @ ..] = *option;
        if units == 0 {
            return Err(DropReason::MalformedIpv6);
        }
        if (kind == 1 || kind == 2) && mac != port.mac.0 {
            return Err(DropReason::SpoofedNd);
        }
        offset += usize::from(units) * 8;
    }
    if offset + 8 > end { Ok(()) } else { Err(DropReason::MalformedIpv6) }
}
