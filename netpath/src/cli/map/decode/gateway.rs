//! Rows of gateways, rules, routes and public addresses.

use netpath_common::maps::{
    Forward, ForwardKey, Gateway, GatewayState, PublicAddress, PublicKey, Resolved, Route, RouteKey, Rule, RuleList,
    StaticKey, StaticNat, Upstream, forward_flags, gateway_flags, nat_place, public_flags,
};
use serde_json::{Value, json};

use super::{Decode, Fields, flags, ip4, mac};
use crate::cli::{
    applied::Names,
    terms::{self, prefix, side},
};

decode! {
    Gateway: |this, names| [
        "epoch": this.epoch,
        "flags": flags(this.flags, &[
            (gateway_flags::ROUTES, "routes"),
            (gateway_flags::EGRESS_ALLOW, "egress_allow"),
            (gateway_flags::ENDPOINT_INDEPENDENT, "endpoint_independent"),
            (gateway_flags::ACL, "acl"),
            (gateway_flags::INBOUND_REFRESH, "inbound_refresh"),
            (gateway_flags::TIER, "tier"),
            (gateway_flags::NO_ROUTES, "no_routes"),
            (gateway_flags::NO_STATIC_NAT, "no_static_nat"),
            (gateway_flags::TUNNEL_ADDRESS, "tunnel_address"),
            (gateway_flags::CHANGING, "changing"),
        ]),
        "egress": list(this.egress),
        "acl_ingress": list(this.acl_ingress),
        "acl_egress": list(this.acl_egress),
        "prefix": prefix(this.prefix, this.mask),
        "nat": place(this.nat_place),
        "nat_target": target(this.nat_place, this.nat_target, names),
        "nat_mac": mac(this.nat_mac),
        "wire_mac": mac(this.wire_mac),
        "flow_limit": this.flow_limit,
        "pool": this.pool.iter().take(this.pool_count as usize)
            .map(|address| format!("{} {}", side(address.side, names), std::net::Ipv4Addr::from(address.address)))
            .collect::<Vec<_>>(),
        "udp_seconds": this.timeouts.udp,
        "udp_one_way_seconds": this.timeouts.udp_one_way,
        "tcp_established_seconds": this.timeouts.tcp_established,
        "tcp_opening_seconds": this.timeouts.tcp_opening,
        "tcp_closing_seconds": this.timeouts.tcp_closing,
        "icmp_seconds": this.timeouts.icmp,
    ];
    GatewayState: |this, _names| [
        "flows": this.flows,
        "bindings": this.bindings,
        "errors_second": this.errors >> 32,
        "errors": this.errors as u32,
        "swept": this.swept,
        "identification": this.identification,
    ];
    Rule: |this, _names| [
        "number": this.number,
        "action": if this.allow != 0 { "allow" } else { "deny" },
        "protocol": any(this.protocol, terms::protocol),
        "source": prefix(this.source, this.source_mask),
        "destination": prefix(this.destination, this.destination_mask),
        "ports": ports(this),
        "icmp_type": any(this.icmp_type, |number| number.to_string()),
        "icmp_code": any(this.icmp_code, |number| number.to_string()),
    ];
    StaticKey: |this, names| ["network": names.network(this.network), "address": ip4(this.address)];
    StaticNat: |this, names| [
        "link": side(this.side, names),
        "address": ip4(this.address),
        "nat": place(this.place),
        "nat_target": target(this.place, this.target, names),
        "nat_mac": mac(this.mac),
    ];
    PublicKey: |this, names| ["link": side(this.side, names), "address": ip4(this.address)];
    PublicAddress: |this, names| [
        "network": names.network(this.network),
        "inside": ip4(this.inside),
        "flags": flags(this.flags, &[
            (public_flags::STATIC, "static"),
            (public_flags::HOST, "host"),
            (public_flags::ACL, "acl"),
        ]),
        "ingress": list(this.ingress),
        "counted_as": names.public_address(this.index.into()),
    ];
    Route: |this, names| ["network": names.network(this.network), "via": ip4(this.via)];
    Forward: |this, names| [
        "network": names.network(this.network),
        "address": ip4(this.address),
        "port": if this.port == 0 { Value::Null } else { this.port.into() },
        "sources": list(RuleList { start: this.sources_start, count: this.sources_count }),
        "flags": flags(this.flags.into(), &[(forward_flags::RESERVED.into(), "reserved")]),
    ];
    Upstream: |this, names| [
        "device": names.device(this.ifindex),
        "vlan": if this.vlan == 0 { Value::Null } else { this.vlan.into() },
        "prefix": prefix(this.prefix, this.mask),
        "gateway": ip4(this.gateway),
        "mtu": this.mtu,
        "mac": mac(this.mac),
    ];
    Resolved: |this, _names| [
        "mac": this.known().map(|mac| mac.to_string()),
        "confirmed": this.confirmed,
        "asked": this.asked,
        "waiting_since": this.waiting_since,
    ];
}

/// A trie's key: how many bits count, and the data.
impl Decode for (u32, RouteKey) {
    fn decode(&self, names: &Names) -> Fields {
        let (bits, key) = self;
        let network = names.network(u32::from_be_bytes(key.network));
        let prefix = format!("{}/{}", std::net::Ipv4Addr::from(key.address), bits.saturating_sub(32));
        vec![("network", network.into()), ("prefix", prefix.into())]
    }

    fn hex(&self) -> String {
        trie_hex(self.0, &self.1)
    }
}

impl Decode for (u32, ForwardKey) {
    fn decode(&self, names: &Names) -> Fields {
        let (bits, key) = self;
        let (first, last) = terms::port_range(*bits, key);
        let protocol = terms::protocol(u16::from(key.protocol[0]));
        vec![
            ("link", side(u32::from_be_bytes(key.side), names).into()),
            ("address", ip4(key.address)),
            ("protocol", if *bits <= 64 { Value::from("any") } else { protocol.into() }),
            ("ports", terms::range(first, last).into()),
        ]
    }

    fn hex(&self) -> String {
        trie_hex(self.0, &self.1)
    }
}

fn trie_hex<K: bytemuck::Pod>(bits: u32, key: &K) -> String {
    super::hex(&bits) + &super::hex(key)
}

fn list(list: RuleList) -> Value {
    match list.count {
        0 => Value::Null,
        count => format!("{}-{}", list.start, list.start + count - 1).into(),
    }
}

fn any(number: u16, word: impl Fn(u16) -> String) -> Value {
    if number == Rule::ANY { "any".into() } else { word(number).into() }
}

fn ports(rule: &Rule) -> Value {
    match (rule.first_port, rule.last_port) {
        (0, 0) => "any".into(),
        (first, last) => terms::range(first, last).into(),
    }
}

fn place(place: u32) -> &'static str {
    match place {
        nat_place::NONE => "none",
        nat_place::HERE => "here",
        nat_place::TUNNEL => "tunnel",
        nat_place::UPLINK => "uplink",
        _ => "unknown",
    }
}

fn target(place: u32, target: u32, names: &Names) -> Value {
    match place {
        nat_place::TUNNEL => names.tunnel(target).into(),
        nat_place::UPLINK => names.device(target).into(),
        _ => Value::Null,
    }
}
