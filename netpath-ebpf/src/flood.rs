//! Broadcast, multicast and unknown unicast: to every member of the network, never back to where it came from.
//!
//! ```text
//!   from a guest    1. a copy to each local port, as it is; to each tunnel without a known way, through the device
//!                   2. outer headers once, then for each tunnel: its headers written over them, a copy out
//!                      or: the network's tag, and out of the uplink
//!   from the wire   a copy to each local port, and to nobody else (split horizon)
//! ```

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated as helper};
use netpath_common::{
    DropReason, Frame, Packet as _,
    maps::{Destination, FloodKey, Network, destination_kind, event_hook},
    vxlan::Outer,
};

use crate::{
    account, event,
    handover::Handover,
    maps, meter, next_hop,
    packet::TcPacket,
    redirect::{self, Verdict},
    tunnel, vlan,
};

/// What the walk over the members carries from one to the next.
#[repr(C)]
struct Walk {
    skb: *mut __sk_buff,
    frame: *const Frame,
    network: *const Network,
    index: u32,
    /// The port that the frame came from; 0 for the wire.
    source: u32,
    /// Length of the frame before any outer header, in bytes.
    len: u32,
    /// Tunnels whose way is known.
    tunnels: u32,
    /// The uplink, if it is a member.
    uplink: u32,
    /// A tunnel without a known way and without a device that would find it: row of TUNNELS, plus one.
    unresolved: u32,
}

impl Walk {
    #[inline(always)]
    fn new(pkt: &mut TcPacket, frame: &Frame, network: &Network, index: u32, source: u32) -> Self {
        let len = pkt.len() as u32;
        Self { skb: pkt.skb(), frame, network, index, source, len, tunnels: 0, uplink: 0, unresolved: 0 }
    }

    #[inline(always)]
    fn each(&mut self, visit: unsafe extern "C" fn(u32, *mut Walk) -> i64) {
        // SAFETY: every visitor takes the loop's counter and this walk, which outlives the loop.
        unsafe {
            let count = (*self.network).flood_count;
            let visit: *const () = visit as *const ();
            helper::bpf_loop(count, visit.cast_mut().cast::<c_void>(), core::ptr::from_mut(self).cast(), 0);
        }
    }

    #[inline(always)]
    fn member(&self, position: u32) -> Option<Destination> {
        // SAFETY: the row is copied at once, and `network` tells whether it is still the row that was asked for.
        let row = unsafe { maps::FLOODS.get(FloodKey { network: self.index, position }) }.copied()?;
        let is_source = row.kind == destination_kind::LOCAL && row.target == self.source;
        (row.network == self.index && !is_source).then_some(row)
    }
}

/// Sends a frame from a guest to all other members. `owner` becomes the network that refusals are counted for.
///
/// A program of its own: copies are charged to the ports that they go to, which takes more stack than `from_guest` has left.
#[inline(always)]
pub fn from_guest(pkt: &mut TcPacket, owner: &mut u32) -> Result<Verdict, DropReason> {
    let Handover { side: index, slot, priority, .. } = Handover::read(pkt);
    *owner = index;
    let network = maps::NETWORKS.get(index).ok_or(DropReason::UnknownPort)?;
    let frame = &pkt.frame()?;
    meter::from_guest(pkt, slot, false)?;
    let source = pkt.ifindex();
    let mut walk = Walk::new(pkt, frame, network, index, source);
    walk.each(to_local_or_device);
    if walk.uplink != 0 {
        vlan::push(pkt, network, priority)?;
        return Ok(Verdict::redirect(walk.uplink));
    }
    if walk.tunnels != 0 || walk.unresolved != 0 {
        tunnel::make_room(pkt, frame)?;
        walk.each(to_tunnel);
    }
    last_to_neighbour(pkt, &walk)
}

/// Sends the original to the one tunnel whose neighbour is not known, by way of the kernel's neighbour table: it asks,
/// and the next flood finds the answer.
#[inline(never)]
fn last_to_neighbour(pkt: &mut TcPacket, walk: &Walk) -> Result<Verdict, DropReason> {
    // SAFETY: the frame and the network outlive the walk.
    let (frame, network) = unsafe { (&*walk.frame, &*walk.network) };
    let Some(index) = walk.unresolved.checked_sub(1).filter(|_| tunnel::is_ip(frame)) else {
        return Ok(Verdict::CONSUMED);
    };
    let row = maps::TUNNELS.get(index).ok_or(DropReason::UnderlayUnresolved)?;
    let hop = next_hop::last(index).ok_or(DropReason::UnderlayUnresolved)?;
    let outer = Outer::new(row, hop, network.segment, frame, walk.len as usize);
    pkt.write_outer(outer.as_bytes())?;
    Ok(Verdict::redirect_neighbour(hop.ifindex))
}

/// Sends a frame from the wire to the members on this host.
#[inline(never)]
pub fn from_wire(pkt: &mut TcPacket, frame: &Frame, network: &Network, index: u32) {
    let mut walk = Walk::new(pkt, frame, network, index, 0);
    walk.each(to_local);
}

#[inline(always)]
fn copy_to_port(walk: &Walk, member: &Destination) {
    let pkt = &mut TcPacket::from_raw(walk.skb);
    match meter::to_guest(pkt, member.slot) {
        Ok(()) => redirect::clone_to(pkt, member.target),
        Err(reason) => {
            account::dropped(walk.index, reason);
            event::dropped(walk.skb, event_hook::FLOOD, walk.index, reason);
        }
    }
}

/// Visits a member with a frame from the wire.
unsafe extern "C" fn to_local(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    if let Some(member) = walk.member(position)
        && member.kind == destination_kind::LOCAL
    {
        copy_to_port(walk, &member);
    }
    0
}

/// Visits a member with the guest's frame as it is.
unsafe extern "C" fn to_local_or_device(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    let Some(member) = walk.member(position) else { return 0 };
    match member.kind {
        destination_kind::LOCAL => copy_to_port(walk, &member),
        destination_kind::UPLINK => walk.uplink = member.target,
        destination_kind::TUNNEL => {
            let Some(row) = maps::TUNNELS.get(member.target) else { return 0 };
            let pkt = &mut TcPacket::from_raw(walk.skb);
            let way = next_hop::resolve(pkt, member.target, row);
            if way.is_some_and(|way| way.is_resolved()) {
                walk.tunnels += 1;
                return 0;
            }
            // SAFETY: the frame and the network outlive the walk.
            let (frame, network) = unsafe { (&*walk.frame, &*walk.network) };
            if row.device != 0 && tunnel::address_device(pkt, frame, network, row).is_ok() {
                redirect::clone_to(pkt, row.device);
            } else if way.is_some() && walk.unresolved == 0 && tunnel::is_ip(frame) {
                walk.unresolved = member.target + 1;
            } else {
                account::dropped(walk.index, DropReason::UnderlayUnresolved);
                event::dropped(walk.skb, event_hook::FLOOD, walk.index, DropReason::UnderlayUnresolved);
            }
        }
        _ => {}
    }
    0
}

/// Visits a member with the frame behind outer headers, which become the member's.
unsafe extern "C" fn to_tunnel(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    let Some(member) = walk.member(position) else { return 0 };
    if member.kind != destination_kind::TUNNEL {
        return 0;
    }
    let Some(row) = maps::TUNNELS.get(member.target) else { return 0 };
    let pkt = &mut TcPacket::from_raw(walk.skb);
    let Some(hop) = next_hop::resolved(member.target, row) else { return 0 };
    // SAFETY: the frame and the network outlive the walk.
    let (frame, network) = unsafe { (&*walk.frame, &*walk.network) };
    let outer = Outer::new(row, hop, network.segment, frame, walk.len as usize);
    if pkt.write_outer(outer.as_bytes()).is_ok() {
        redirect::clone_to(pkt, hop.ifindex);
    }
    0
}
