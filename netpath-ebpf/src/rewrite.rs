//! The packet as its flow has it: new addresses, ports, checksums, one hop less.
//!
//! A sum that a device took over the whole packet (`CHECKSUM_COMPLETE`) stays true: the header's own checksum makes
//! every change of the header sum to nothing, and the helper that mends the transport checksum takes care of the rest.
//! What the sender has left to a device (`CHECKSUM_PARTIAL`) gets the change of the addresses only.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated as helper,
};
use netpath_common::{DropReason, Frame, Packet as _, frame::Protocol, maps::Flow, stage::translate};
use network_types::ip::Ipv4Hdr;

use crate::{
    packet::TcPacket,
    tuple::{Tuple, fragment},
};

/// Rewrites an IPv4 packet. `id` is its new identification in the low half, if the bit above says so.
#[inline(always)]
pub fn packet(pkt: &mut TcPacket, frame: &Frame, tuple: &Tuple, flow: &Flow, id: u32) -> Result<(), DropReason> {
    let addresses = translate::address_difference(&tuple.key, flow);
    let ports = translate::port_difference(&tuple.key, flow);
    // As it is now: a limit may have marked it since it was read.
    let mut ip = *pkt.header::<Ipv4Hdr>(frame.l3).ok_or(DropReason::MalformedIpv4)?;
    translate::ipv4(&mut ip, flow, addresses, true, (id as u16, id >> 16 != 0));
    pkt.overwrite(frame.l3, &ip)?;
    if tuple.fragment == fragment::LATER {
        return Ok(());
    }
    let [a, b] = flow.source_port.to_be_bytes();
    let [c, d] = flow.destination_port.to_be_bytes();
    match frame.protocol {
        Protocol::TCP => {
            pkt.overwrite(frame.l4, &[a, b, c, d])?;
            mend(pkt, frame.l4 + 16, addresses, ports, 0)
        }
        Protocol::UDP => {
            pkt.overwrite(frame.l4, &[a, b, c, d])?;
            mend(pkt, frame.l4 + 6, addresses, ports, u64::from(BPF_F_MARK_MANGLED_0))
        }
        Protocol::ICMP => {
            // A query's identifier is the querier's port; the other one is zero. 0 and 0xffff differ by nothing in a sum.
            pkt.overwrite(frame.l4 + 4, &[a | c, b | d])?;
            mend(pkt, frame.l4 + 2, 0, ports, 0)
        }
        // Without ports here, but with the addresses in their sums: as much of the packet as those cover.
        Protocol::UDP_LITE => mend(pkt, frame.l4 + 6, addresses, 0, u64::from(BPF_F_MARK_MANGLED_0)),
        Protocol::DCCP => mend(pkt, frame.l4 + 6, addresses, 0, 0),
        _ => Ok(()),
    }
}

/// Mends a transport checksum for changed addresses and ports.
#[inline(always)]
pub fn mend(pkt: &mut TcPacket, offset: usize, addresses: u32, ports: u32, flags: u64) -> Result<(), DropReason> {
    if addresses != 0 {
        replace(pkt, offset, addresses, flags | u64::from(BPF_F_PSEUDO_HDR))?;
    }
    if ports != 0 {
        replace(pkt, offset, ports, flags)?;
    }
    Ok(())
}

#[inline(always)]
fn replace(pkt: &mut TcPacket, offset: usize, difference: u32, flags: u64) -> Result<(), DropReason> {
    // SAFETY: the context is the kernel's; no pointer into the packet outlives `&mut`.
    match unsafe { helper::bpf_l4_csum_replace(pkt.skb(), offset as u32, 0, u64::from(difference), flags) } {
        0 => Ok(()),
        _ => Err(DropReason::MalformedTransport),
    }
}
