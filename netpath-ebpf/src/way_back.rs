//! Back to where a packet came from.

use netpath_common::{
    DropReason, Frame, Mac,
    maps::{PUBLIC_SIDE, PublicKey, destination_kind, hop},
    too_big,
};

use crate::{
    handover::Handover, learn, maps, meter, next_hop, packet::TcPacket, public, redirect::Verdict, tunnel, vlan,
};

/// The way back. All fields have a value for every kind: see [`Verdict`].
#[derive(Clone, Copy)]
pub struct WayBack {
    /// [`hop`].
    kind: u8,
    /// By `kind`: an ifindex, a row of TUNNELS, or a row of UPSTREAMS.
    target: u32,
    /// Row of COUNTERS, for [`hop::LOCAL`].
    slot: u32,
    /// What answers are sent from.
    pub mac: Mac,
}

impl WayBack {
    /// How to get back to the sender of a frame.
    #[inline(always)]
    pub fn find(pkt: &TcPacket, handover: &Handover, frame: &Frame) -> Option<Self> {
        if handover.side & PUBLIC_SIDE != 0 {
            return Self::public(handover.side, too_big::ipv4_sender(pkt, frame)?);
        }
        let network = maps::NETWORKS.get(handover.side)?;
        let mac = if network.gateway_mac == Mac::ZERO { frame.destination } else { network.gateway_mac };
        if handover.port != 0 {
            // SAFETY: the row's own ifindex tells whether it is still the row that was asked for.
            let port = unsafe { maps::PORTS.get(handover.port) }.filter(|port| port.ifindex == handover.port)?;
            return Some(Self { kind: hop::LOCAL, target: port.ifindex, slot: port.slot, mac });
        }
        let place = learn::find(handover.side, frame.source)?;
        let mac = match maps::GATEWAYS.get(handover.side) {
            Some(gateway) if place.kind == destination_kind::UPLINK && gateway.wire_mac != Mac::ZERO => {
                gateway.wire_mac
            }
            _ => mac,
        };
        Some(Self { kind: place.kind, target: place.target, slot: place.slot, mac })
    }

    /// Back to a public link; or, where the packet came from a public address of this host itself, to whoever is behind it.
    #[inline(always)]
    fn public(side: u32, source: [u8; 4]) -> Option<Self> {
        let target = side & !PUBLIC_SIDE;
        let link = maps::UPSTREAMS.get(target).filter(|link| link.ifindex != 0)?;
        // SAFETY: only whether the row exists is asked.
        let own = unsafe { maps::PUBLIC_ADDRESS.get(PublicKey { side, address: source }) }.is_some();
        let kind = if own { hop::AGAIN } else { hop::UPSTREAM };
        Some(Self { kind, target, slot: 0, mac: link.mac })
    }

    /// Whether the answer is to be routed from the public side again, as what came from there.
    #[inline(always)]
    pub fn is_again(&self) -> bool {
        self.kind == hop::AGAIN
    }

    /// Sends an answer with the headers in `frame`.
    #[inline(always)]
    pub fn send(&self, pkt: &mut TcPacket, frame: &Frame, side: u32) -> Result<Verdict, DropReason> {
        match self.kind {
            hop::LOCAL => {
                meter::to_guest(pkt, self.slot)?;
                Ok(Verdict::redirect(self.target))
            }
            hop::TUNNEL => {
                let network = maps::NETWORKS.get(side).ok_or(DropReason::NoRoute)?;
                let row = maps::TUNNELS.get(self.target).ok_or(DropReason::UnderlayUnresolved)?;
                let way = next_hop::resolve(pkt, self.target, row);
                tunnel::send(pkt, frame, network, row, way)
            }
            hop::UPLINK => {
                let network = maps::NETWORKS.get(side).ok_or(DropReason::NoRoute)?;
                vlan::push(pkt, network, 0)?;
                Ok(Verdict::redirect(self.target))
            }
            hop::UPSTREAM => {
                let link = maps::UPSTREAMS.get(self.target).ok_or(DropReason::NoRoute)?;
                public::push_tag(pkt, link, 0)?;
                Ok(Verdict::redirect(link.ifindex))
            }
            _ => Err(DropReason::NoRoute),
        }
    }
}
