//! 802.1Q tags on a trunk.

use netpath_common::{
    DropReason,
    frame::EtherType,
    maps::{Network, segment_kind},
};

use crate::packet::TcPacket;

/// The VLAN id's bits of a tag control field.
pub const VID: u16 = 0x0fff;
/// The priority's bits of it: PCP and DEI.
pub const PRIORITY: u16 = !VID;

/// Takes the outermost tag off, and answers its priority bits.
#[inline(always)]
pub fn pop(pkt: &mut TcPacket) -> Result<u16, DropReason> {
    let priority = pkt.tag().map_or(0, |(_, tci)| tci & PRIORITY);
    pkt.pop_tag()?;
    Ok(priority)
}

/// Takes off the tag of a guest's frame that its network has no place for, and answers the priority bits (PCP and
/// DEI) that a priority tag carried.
///
/// A VLAN network carries a guest's own tag inside its own (802.1ad's way); VXLAN and untagged networks carry
/// none (RFC 7348 §6.1 has the tag stripped).
#[inline(always)]
pub fn strip_from_guest(pkt: &mut TcPacket, network: &Network) -> Result<u16, DropReason> {
    let Some((_, tci)) = pkt.tag() else { return Ok(0) };
    let vid = tci & VID;
    if vid == VID {
        return Err(DropReason::ReservedVlan);
    }
    if vid != 0 && network.kind == segment_kind::VLAN {
        return Ok(0);
    }
    pkt.pop_tag()?;
    if network.kind != segment_kind::VLAN && pkt.tag().is_some() {
        return Err(DropReason::TaggedFrame);
    }
    Ok(tci & PRIORITY)
}

/// Puts the network's tag on a frame that leaves by the uplink, with the priority bits in `priority`.
#[inline(always)]
pub fn push(pkt: &mut TcPacket, network: &Network, priority: u16) -> Result<(), DropReason> {
    if network.kind != segment_kind::VLAN {
        return Ok(());
    }
    pkt.push_tag(network.segment as u16 & VID | priority)
}

/// Whether a tag says no more than a priority: the frame belongs to the port's own VLAN (802.1Q §6.9.1).
#[inline(always)]
pub fn is_priority_tag((_, tci): (EtherType, u16)) -> bool {
    tci & VID == 0
}
