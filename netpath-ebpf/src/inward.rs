//! A connection that somebody on the public side begins: to a guest's own public address, a forwarded port, or a port
//! that a guest is known by.

use aya_ebpf::btf_maps::lpm_trie::Key;
use netpath_common::{
    DropReason, Packet as _,
    maps::{
        BindingKey, FlowKey, Forward, ForwardKey, PUBLIC_SIDE, PublicAddress, RuleList, flow_flags, forward_flags,
        gateway_flags, hop, public_flags,
    },
    stage::martian,
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr};

use crate::{
    bind,
    connection::{self, Connection, Place},
    handover::Handover,
    judge::{self, Judgement},
    maps, outward,
    packet::TcPacket,
    public,
    redirect::Verdict,
};

/// Judges a connection from a public link.
#[inline(always)]
pub fn judge(connection: &mut Connection, now: u32) -> Result<(), DropReason> {
    let key = connection.key;
    if martian::source(key.source) || is_forged(connection) {
        return Err(DropReason::MartianSource);
    }
    let network = address(&key).ok_or(DropReason::Unsolicited)?.network;
    connection.belongs_to(network);
    if connection.answers != 0 {
        return Err(DropReason::Unsolicited);
    }
    (connection.flow.source, connection.flow.source_port) = (key.source, key.source_port);
    connection.flow.flags |= flow_flags::INWARD;
    find_guest(connection, now)?;
    let network = connection.flow.network;
    let gateway = connection::routed(network)?;
    let (guest, port) = (connection.flow.destination, connection.flow.destination_port);
    let bound = connection.flow.flags & flow_flags::BOUND != 0;
    // The address's row leaves it to the ACL, and the network's has none: an apply is between the two.
    if gateway.flags & gateway_flags::ACL == 0 && !bound && is_left_to_acl(&key) {
        return Err(DropReason::IngressDenied);
    }
    if gateway.flags & gateway_flags::ACL != 0
        && !bound
        && judge::list(gateway.acl_ingress, connection, guest, port) != Judgement::Allow
    {
        return Err(DropReason::AclDenied);
    }
    let mut place = Place::NONE;
    connection::station(network, &guest, &mut place)?;
    if place.hop != hop::LOCAL && outward::is_routed(network, &key.source) {
        return Err(DropReason::MartianSource);
    }
    place.put(&mut connection.flow);
    connection.flow.out = network;
    connection::public(key.side, &key.source, &mut connection.back)
}

/// Whether somebody on the wire says to be a public address of this host. Of a connection that is known, its row tells.
#[inline(always)]
fn is_forged(connection: &Connection) -> bool {
    let FlowKey { side, source, .. } = connection.key;
    connection.known == 0 && connection.again == 0 && public::address(side & !PUBLIC_SIDE, source).is_some()
}

/// The public address that a connection is to.
#[inline(always)]
fn address(key: &FlowKey) -> Option<&'static PublicAddress> {
    public::address(key.side & !PUBLIC_SIDE, key.destination)
}

/// Whether the ingress rules of a public address are not asked, because all networks that use it have ACLs.
#[inline(always)]
fn is_left_to_acl(key: &FlowKey) -> bool {
    address(key).is_some_and(|row| row.flags & public_flags::ACL != 0)
}

/// Finds the guest that a public address and port stand for.
#[inline(always)]
fn find_guest(connection: &mut Connection, now: u32) -> Result<(), DropReason> {
    let key = connection.key;
    // Again: what it says counts only if it is read after the epoch.
    let address = address(&key).ok_or(DropReason::Unsolicited)?;
    let mut forward = Forward::default();
    if address.flags & public_flags::STATIC == 0 || address.flags & public_flags::HOST != 0 {
        forwarded(&key, &mut forward);
    }
    if address.flags & public_flags::STATIC != 0 {
        if forward.flags & forward_flags::RESERVED != 0 {
            return Err(DropReason::Unsolicited);
        }
        admit(connection, address)?;
        (connection.flow.destination, connection.flow.destination_port) = (address.inside, key.destination_port);
        return Ok(());
    }
    if forward.network != 0 && forward.flags & forward_flags::RESERVED == 0 {
        if forward.network != connection.flow.network {
            // Networks of one router may share an address.
            connection.belongs_to(forward.network);
            forwarded(&key, &mut forward);
        }
        admit(connection, address)?;
        let sources = RuleList { start: forward.sources_start, count: forward.sources_count };
        if sources.count != 0
            && judge::list(sources, connection, key.destination, key.destination_port) != Judgement::Allow
        {
            return Err(DropReason::ForwardDenied);
        }
        connection.flow.destination = forward.address;
        connection.flow.destination_port = if forward.port == 0 { key.destination_port } else { forward.port };
        return Ok(());
    }
    if connection.asks_for_echo() {
        // Nobody's but the gateway's, where the rules let it in.
        admit(connection, address)?;
        return Err(DropReason::GatewayClosed);
    }
    bound(connection, now)
}

/// Where a public port leads by definition.
#[inline(always)]
pub fn forwarded(key: &FlowKey, forward: &mut Forward) {
    let data = ForwardKey {
        side: key.side.to_be_bytes(),
        address: key.destination,
        protocol: [key.protocol, 0],
        port: key.destination_port.to_be_bytes(),
    };
    if let Some(found) = maps::FORWARDS.get(&Key::new(96, data)) {
        *forward = *found;
    }
}

/// The firewall's ingress rules, which are about the public address (semantics: before destination NAT).
#[inline(always)]
fn admit(connection: &Connection, address: &PublicAddress) -> Result<(), DropReason> {
    if address.flags & public_flags::ACL != 0 {
        return Ok(());
    }
    let key = &connection.key;
    match judge::list(address.ingress, connection, key.destination, key.destination_port) {
        Judgement::Allow => Ok(()),
        _ => Err(DropReason::IngressDenied),
    }
}

/// The guest that was given a public port by source NAT, for whoever may reach it there.
#[inline(never)]
fn bound(connection: &mut Connection, now: u32) -> Result<(), DropReason> {
    let key = &connection.key;
    let outside = BindingKey {
        side: key.side,
        address: key.destination,
        port: key.destination_port,
        protocol: key.protocol,
        pad: 0,
    };
    let Some(inside) = bind::inside_of(&outside, now) else {
        let gateway = connection::routed(connection.flow.network).map_err(|_| DropReason::Unsolicited)?;
        let is_somebodys = !gateway.is_open() && bind::is_given_out(gateway, &outside);
        return Err(if is_somebodys { DropReason::UnsolicitedSource } else { DropReason::Unsolicited });
    };
    let gateway = connection::routed(inside.side)?;
    connection.belongs_to(inside.side);
    if !gateway.is_open() {
        return Err(DropReason::UnsolicitedSource);
    }
    (connection.flow.destination, connection.flow.destination_port) = (inside.address, inside.port);
    connection.flow.flags |= flow_flags::BOUND;
    Ok(())
}

/// What nothing here claims of what came by the wire of a public link: the host's own, where it uses the address too.
#[inline(always)]
pub fn unclaimed(pkt: &mut TcPacket, handover: &Handover, reason: DropReason) -> Result<Verdict, DropReason> {
    if !handover.is_from_public_wire() {
        return Err(reason);
    }
    let index = handover.side & !PUBLIC_SIDE;
    let destination = pkt.header::<Ipv4Hdr>(EthHdr::LEN).ok_or(reason)?.dst_addr;
    if public::address(index, destination).is_none_or(|row| row.flags & public_flags::HOST == 0) {
        return Err(reason);
    }
    let link = public::link(index).ok_or(reason)?;
    public::push_tag(pkt, link, handover.priority)?;
    Ok(Verdict::PASS)
}
