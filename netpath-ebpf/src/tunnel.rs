//! Into a tunnel: outer headers around a guest's frame, and the way to the other host.

use aya_ebpf::{
    bindings::{
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_DONT_FRAGMENT,
        BPF_F_ZERO_CSUM_TX, bpf_tunnel_key,
    },
    helpers::generated as helper,
};
use netpath_common::{
    DropReason, Frame, Packet as _,
    frame::EtherType,
    maps::{Network, Tunnel},
    vxlan::{OUTER_LEN, Outer, Wrapped},
};
use network_types::eth::EthHdr;

use crate::{
    next_hop::Way,
    packet::{Rewrite as _, TcPacket},
    redirect::Verdict,
};

/// Room for outer IPv4, UDP, VXLAN and the inner Ethernet header; super-packets keep their segment size, and the
/// kernel knows them as UDP tunnel packets when it cuts them.
const ENCAP_FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | (EthHdr::LEN as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;

/// Makes room for the outer headers before the frame.
///
/// `bpf_skb_adjust_room` refuses what is neither IPv4 nor IPv6; such a frame is never a super-packet, and room
/// before it is enough.
#[inline(always)]
pub fn make_room(pkt: &mut TcPacket, frame: &Frame) -> Result<(), DropReason> {
    if !is_ip(frame) {
        return pkt.grow_head(OUTER_LEN);
    }
    pkt.adjust_room(OUTER_LEN as i32, ENCAP_FLAGS)?;
    pkt.write(OUTER_LEN, &inner(frame))
}

/// The Ethernet header of a frame, which the room before an IP packet is made behind.
#[inline(always)]
fn inner(frame: &Frame) -> EthHdr {
    EthHdr { dst_addr: frame.destination.0, src_addr: frame.source.0, ether_type: frame.ether_type.0.to_be() }
}

/// Puts the outer headers around the frame, in one write. `Ok(false)` where that is refused before anything was moved.
#[inline(always)]
fn wrap(pkt: &mut TcPacket, frame: &Frame, headers: &Wrapped) -> Result<bool, DropReason> {
    if is_ip(frame) {
        if pkt.adjust_room(OUTER_LEN as i32, ENCAP_FLAGS).is_err() {
            return Ok(false);
        }
        pkt.write(0, headers)?;
    } else {
        if pkt.grow_head(OUTER_LEN).is_err() {
            return Ok(false);
        }
        pkt.write_outer(headers.outer.as_bytes())?;
    }
    Ok(true)
}

/// Whether the frame carries IPv4 or IPv6.
#[inline(always)]
pub fn is_ip(frame: &Frame) -> bool {
    frame.ether_type == EtherType::IPV4 || frame.ether_type == EtherType::IPV6
}

/// Sends the frame through a tunnel whose way is known.
#[inline(always)]
pub fn send(
    pkt: &mut TcPacket,
    frame: &Frame,
    network: &Network,
    tunnel: &Tunnel,
    way: Option<Way>,
) -> Result<Verdict, DropReason> {
    match way {
        Some(way) if way.is_resolved() || is_ip(frame) && tunnel.device == 0 => {
            let outer = Outer::new(tunnel, way.hop, network.segment, frame, pkt.len());
            if !wrap(pkt, frame, &Wrapped { outer, inner: inner(frame) })? {
                // The frame is a tunnel packet of the guest's own, whose offloads the kernel's device knows how to nest.
                return match tunnel.device {
                    0 => Err(DropReason::EncapsulationRefused),
                    _ => through_device(pkt, frame, network, tunnel),
                };
            }
            if is_ip(frame) && (way.through_neighbour || !way.is_resolved()) {
                return Ok(Verdict::redirect_neighbour(way.hop.ifindex));
            }
            Ok(Verdict::redirect(way.hop.ifindex))
        }
        _ if tunnel.device != 0 => through_device(pkt, frame, network, tunnel),
        _ => Err(DropReason::UnderlayUnresolved),
    }
}

#[inline(always)]
fn through_device(
    pkt: &mut TcPacket,
    frame: &Frame,
    network: &Network,
    tunnel: &Tunnel,
) -> Result<Verdict, DropReason> {
    address_device(pkt, frame, network, tunnel)?;
    Ok(Verdict::redirect(tunnel.device))
}

/// Tells netpath's own tunnel device where the frame is to go; the kernel routes, resolves and encapsulates.
#[inline(never)]
pub fn address_device(pkt: &mut TcPacket, frame: &Frame, network: &Network, tunnel: &Tunnel) -> Result<(), DropReason> {
    // SAFETY: a C struct of integers and unions of integers; zero is a value of each.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = network.segment;
    key.tunnel_tos = frame.tos & 3;
    key.tunnel_ttl = tunnel.ttl;
    key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(tunnel.remote);
    key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(tunnel.local);
    // SAFETY: `key` is as large as said, and the context is the kernel's.
    let refused = unsafe {
        helper::bpf_skb_set_tunnel_key(
            pkt.skb(),
            &raw mut key,
            size_of::<bpf_tunnel_key>() as u32,
            u64::from(BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT),
        )
    };
    if refused == 0 { Ok(()) } else { Err(DropReason::EncapsulationRefused) }
}
