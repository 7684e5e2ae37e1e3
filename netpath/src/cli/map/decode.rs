//! Rows of the maps in words: indices as names, bytes as addresses.

use bytemuck::bytes_of;
use netpath_common::{
    DropReason,
    maps::{
        AddressKey, Counters, Destination, DropKey, Endpoint, EndpointKey, FdbKey, FloodKey, Learned, Name, NameKey,
        Neighbour, NeighbourKey, Network, NextHop, Port, Segment, SegmentKey, Tunnel, Uplink, UplinkKey,
        destination_flags, network_flags, port_flags, segment_flags, tunnel_flags, uplink_flags,
    },
};
use serde_json::{Value, json};

use crate::{
    cli::applied::{Names, ipv4, segment},
    datapath::name_text,
};

/// Names and values, in the order of the struct.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// A key or value that can be put in words.
pub(super) trait Decode {
    /// Field by field.
    fn decode(&self, names: &Names) -> Fields;

    /// The bytes, in hexadecimal.
    fn hex(&self) -> String;
}

fn hex<T: bytemuck::Pod>(of: &T) -> String {
    bytes_of(of).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the bits that are set.
fn flags(set: u32, known: &[(u32, &str)]) -> Value {
    known.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| Value::from(*name)).collect()
}

fn ip(address: netpath_common::Address) -> Value {
    if address == netpath_common::Address::NONE { Value::Null } else { address.to_string().into() }
}

fn ip4(octets: [u8; 4]) -> Value {
    ipv4(octets).map_or(Value::Null, |address| address.to_string().into())
}

fn mac(mac: netpath_common::Mac) -> Value {
    if mac == netpath_common::Mac::ZERO { Value::Null } else { mac.to_string().into() }
}

macro_rules! decode {
    ($($type:ty: |$this:ident, $names:ident| [$($field:literal: $value:expr),+ $(,)?];)+) => {
        $(impl Decode for $type {
            fn decode(&self, $names: &Names) -> Fields {
                let $this = self;
                vec![$(($field, json!($value))),+]
            }

            fn hex(&self) -> String {
                $crate::cli::map::decode::hex(self)
            }
        })+
    };
}

mod event;
mod flow;
mod gateway;
mod meter;

pub(super) use self::{
    flow::{Block, Claimed, ProgramId, Stage},
    meter::{LimitRow, MeterName},
};

decode! {
    u64: |this, _names| ["packets": this];
    Port: |this, names| [
        "network": names.network(this.network),
        "port": names.port(this.slot),
        "flags": flags(this.flags, &[
            (port_flags::TRUSTED, "trusted"),
            (port_flags::ANY_IP, "any_ip"),
            (port_flags::MORE_ADDRESSES, "more_addresses"),
        ]),
        "mac": mac(this.mac),
        "ip": ip4(this.ip4),
        "ip6": ip(this.ip6),
        "link_local": ip(this.link_local),
    ];
    AddressKey: |this, names| ["device": names.device(this.ifindex), "address": ip(this.address)];
    Network: |this, names| [
        "kind": segment(this).0,
        "segment": this.segment,
        "flags": flags(this.flags.into(), &[
            (network_flags::ON_MISS_PASS.into(), "on_miss_pass"),
            (network_flags::NOT_FROM_XDP.into(), "not_from_xdp"),
            (network_flags::PACED.into(), "paced"),
        ]),
        "mtu": this.mtu,
        "uplink": names.device(this.uplink),
        "flood_count": this.flood_count,
        "physical_network": names.physical_network(this.physical_network),
        "gateway_mac": mac(this.gateway_mac),
        "gateway": ip4(this.gateway_ip4),
        "gateway6": ip(this.gateway_ip6),
    ];
    UplinkKey: |this, names| ["device": names.device(this.ifindex), "udp_port": this.udp_port];
    Uplink: |this, _names| [
        "tunnel_address": ip4(this.local),
        "flags": flags(this.flags, &[
            (uplink_flags::OWNS_PORT, "owns_port"),
            (uplink_flags::RESTORE_RXVLAN, "restore_rxvlan"),
            (uplink_flags::TUNNEL_DEVICE, "tunnel_device"),
            (uplink_flags::RESTORE_QDISC, "restore_qdisc"),
            (uplink_flags::RESTORE_PROMISCUITY, "restore_promiscuity"),
        ]),
    ];
    SegmentKey: |this, names| ["device": names.device(this.ifindex), "udp_port": this.udp_port, "id": this.id];
    Segment: |this, names| [
        "network": match this.flags & segment_flags::PUBLIC {
            0 => names.network(this.network),
            _ => format!("public:{}", names.public_link(this.network)),
        },
        "physical_network": names.physical_network(this.physical_network),
        "flags": flags(this.flags, &[
            (segment_flags::STRIP, "strip"),
            (segment_flags::ON_MISS_PASS, "on_miss_pass"),
            (segment_flags::PUBLIC, "public"),
            (segment_flags::TIER, "tier"),
        ]),
    ];
    EndpointKey: |this, names| [
        "physical_network": names.physical_network(this.physical_network),
        "remote": ip4(this.remote),
    ];
    Endpoint: |this, names| ["tunnel": names.tunnel(this.tunnel), "local": ip4(this.local)];
    FdbKey: |this, names| ["network": names.network(this.network), "mac": mac(this.mac)];
    Destination: |this, names| [
        "kind": names.destination(this).0,
        "target": names.destination(this).1,
        "port": if this.kind == netpath_common::maps::destination_kind::LOCAL {
            names.port(this.slot).into()
        } else {
            Value::Null
        },
        "flags": flags(this.flags.into(), &[(destination_flags::XDP_TARGET.into(), "xdp_target")]),
    ];
    Learned: |this, names| [
        "kind": names.destination(&this.destination).0,
        "target": names.destination(&this.destination).1,
        "last_seen_ns": this.last_seen_ns,
    ];
    NeighbourKey: |this, names| ["network": names.network(this.network), "address": ip(this.address)];
    Neighbour: |this, _names| ["mac": mac(this.mac)];
    Tunnel: |this, names| [
        "remote": ip4(this.remote),
        "local": ip4(this.local),
        "udp_port": this.udp_port,
        "ttl": this.ttl,
        "flags": flags(this.flags.into(), &[(tunnel_flags::GROUP.into(), "group"), (tunnel_flags::PACED.into(), "paced")]),
        "device": names.device(this.device),
        "lookup": names.device(this.lookup),
        "egress": names.device(this.egress),
        "source_mac": mac(this.source_mac),
    ];
    NextHop: |this, names| [
        "expires_ns": this.expires_ns,
        "remote": ip4(this.remote),
        "device": names.device(this.ifindex),
        "mtu": this.mtu,
        "destination_mac": mac(this.destination_mac),
        "source_mac": mac(this.source_mac),
    ];
    FloodKey: |this, names| ["network": names.network(this.network), "position": this.position];
    NameKey: |this, _names| ["kind": Names::kind(*this), "index": this.index];
    Name: |this, _names| ["name": name_text(this)];
    Counters: |this, _names| [
        "from_guest_packets": this.from_guest_packets,
        "from_guest_bytes": this.from_guest_bytes,
        "to_guest_packets": this.to_guest_packets,
        "to_guest_bytes": this.to_guest_bytes,
    ];
    DropKey: |this, names| [
        "network": names.network(this.network),
        "reason": DropReason::from_code(this.reason)
            .map_or_else(|| this.reason.to_string(), |reason| reason.label().to_owned()),
    ];
}

/// What an array is indexed by, or a hash keyed by, where that is one number.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(super) struct Index<const KIND: u8>(pub(super) u32);

/// A device's index.
pub(super) const DEVICE: u8 = 1;
/// A network's.
pub(super) const NETWORK: u8 = 2;
/// A guest port's slot.
pub(super) const PORT: u8 = 3;
/// A tunnel's.
pub(super) const TUNNEL: u8 = 4;
/// A public link's.
pub(super) const LINK: u8 = 5;
/// An account's.
pub(super) const ACCOUNT: u8 = 6;
/// A public address's, where it is counted.
pub(super) const PUBLIC: u8 = 7;
/// A plain number: the value of ADDRESSES.
pub(super) const NUMBER: u8 = 0;

impl<const KIND: u8> Decode for Index<KIND> {
    fn decode(&self, names: &Names) -> Fields {
        match KIND {
            DEVICE => vec![("device", names.device(self.0).into())],
            NETWORK => vec![("network", names.network(self.0).into())],
            PORT => vec![("port", names.port(self.0).into())],
            TUNNEL => vec![("tunnel", names.tunnel(self.0).into())],
            ACCOUNT => vec![("account", names.account(self.0).into())],
            PUBLIC => vec![("address", names.public_address(self.0).into())],
            LINK => vec![("link", names.public_link(self.0).into())],
            _ => vec![("value", self.0.into())],
        }
    }

    fn hex(&self) -> String {
        hex(self)
    }
}
