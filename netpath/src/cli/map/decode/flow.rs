//! Rows of connections, bindings, fragments and claimed ports.

use netpath_common::{
    maps::{
        BLOCK_PORTS, BLOCKS, Binding, BindingKey, Flow, FlowKey, Fragment, FragmentKey, POOL_PROTOCOLS, flow_flags,
    },
    stage::ports,
};
use serde_json::{Value, json};

use super::{Decode, Fields, flags, ip4, mac};
use crate::cli::{
    applied::Names,
    terms::{self, next_hop, side},
};

decode! {
    FlowKey: |this, names| [
        "side": side(this.side, names),
        "protocol": terms::protocol(this.protocol.into()),
        "source": ip4(this.source),
        "source_port": this.source_port,
        "destination": ip4(this.destination),
        "destination_port": this.destination_port,
    ];
    Flow: |this, names| [
        "network": names.network(this.network),
        "source": ip4(this.source),
        "source_port": this.source_port,
        "destination": ip4(this.destination),
        "destination_port": this.destination_port,
        "out": side(this.out, names),
        "hop": next_hop(this, names).0,
        "target": next_hop(this, names).1,
        "counted_as": names.public_address(this.address.into()),
        "port": if this.hop == netpath_common::maps::hop::LOCAL { names.port(this.slot).into() } else { Value::Null },
        "mac": mac(this.mac),
        "flags": flags(this.flags.into(), &[
            (flow_flags::REPLY.into(), "reply"),
            (flow_flags::INWARD.into(), "inward"),
            (flow_flags::TRANSIT.into(), "transit"),
            (flow_flags::BOUND.into(), "bound"),
            (flow_flags::ANSWERED.into(), "answered"),
            (flow_flags::HAIRPIN.into(), "hairpin"),
        ]),
        "state": terms::tcp_state(this.state),
        "icmp_type": netpath_common::icmp::query::kind(this.icmp_type),
        "epoch": this.epoch,
        "created": this.created,
        "last_seen": this.last_seen,
        "packets": this.packets,
        "bytes": this.bytes,
        "acknowledged": this.acknowledged,
    ];
    BindingKey: |this, names| [
        "side": side(this.side, names),
        "protocol": terms::protocol(this.protocol.into()),
        "address": ip4(this.address),
        "port": this.port,
    ];
    Binding: |this, names| [
        "side": side(this.side, names),
        "address": ip4(this.address),
        "port": this.port,
        "expires": this.expires,
    ];
    FragmentKey: |this, names| [
        "side": side(this.side, names),
        "protocol": terms::protocol(this.protocol.into()),
        "source": ip4(this.source),
        "destination": ip4(this.destination),
        "id": this.id,
    ];
    Fragment: |this, _names| [
        "source_port": this.source_port,
        "destination_port": this.destination_port,
        "id": this.id,
        "seen": this.seen,
    ];
}

/// A word of PORT_BLOCKS: its index.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(in super::super) struct Block(pub(in super::super) u32);

impl Decode for Block {
    fn decode(&self, names: &Names) -> Fields {
        let (pool, block) = (self.0 / (POOL_PROTOCOLS * BLOCKS), self.0 % BLOCKS);
        let protocol = ["tcp", "udp", "icmp"][(self.0 / BLOCKS % POOL_PROTOCOLS) as usize];
        let first = block * BLOCK_PORTS;
        vec![
            ("address", names.port_pool(pool).into()),
            ("protocol", protocol.into()),
            ("ports", format!("{first}-{}", first + BLOCK_PORTS - 1).into()),
        ]
    }

    fn hex(&self) -> String {
        super::hex(self)
    }
}

/// Its bits: the ports that are given out, counted from the block's first.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(in super::super) struct Claimed(pub(in super::super) u64);

impl Decode for Claimed {
    fn decode(&self, _: &Names) -> Fields {
        vec![("count", self.0.count_ones().into()), ("taken", runs(self.0).into())]
    }

    fn hex(&self) -> String {
        super::hex(self)
    }
}

/// The bits that are set, as ranges.
fn runs(word: u64) -> Vec<String> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for bit in (0..BLOCK_PORTS as u16).filter(|bit| word & ports::bit_of(*bit) != 0) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == bit => *last = bit,
            _ => runs.push((bit, bit)),
        }
    }
    runs.into_iter().map(|(first, last)| terms::range(first, last)).collect()
}

/// A row of STAGES or STAGES_XDP.
pub(in super::super) struct Stage {
    /// Its number.
    pub(in super::super) row: u32,
    /// The program that belongs there.
    pub(in super::super) name: &'static str,
}

impl Decode for Stage {
    fn decode(&self, _: &Names) -> Fields {
        vec![("stage", Value::from(self.name))]
    }

    fn hex(&self) -> String {
        super::hex(&self.row)
    }
}

/// A program, by its id.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(in super::super) struct ProgramId(pub(in super::super) u32);

impl Decode for ProgramId {
    fn decode(&self, _: &Names) -> Fields {
        vec![("program", self.0.into())]
    }

    fn hex(&self) -> String {
        super::hex(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_given_out_are_shown_as_ranges() {
        assert_eq!(super::runs(0b1011_0001), ["0", "4-5", "7"]);
        assert_eq!(super::runs(u64::MAX), ["0-63"]);
        assert!(super::runs(0).is_empty());
    }
}
