//! Rules, forwarded ports, guests with public addresses of their own, and routes between networks.

use std::net::Ipv4Addr;

use netpath_common::maps::{
    Forward, ForwardKey, Gateway, PublicAddress, PublicKey, Route, RouteKey, Rule, RuleList, StaticKey, StaticNat,
    forward_flags, gateway_flags, nat_place, public_flags,
};
use netpath_tests::packet::Endpoint;

use super::{PUBLIC, Rig};

/// A rule that allows or denies everything; tests narrow it.
pub fn any(allow: bool) -> Rule {
    Rule {
        protocol: Rule::ANY,
        icmp_type: Rule::ANY,
        icmp_code: Rule::ANY,
        allow: u16::from(allow),
        number: 1,
        ..Rule::default()
    }
}

/// Everything of a protocol to these ports.
pub fn ports(protocol: u16, first_port: u16, last_port: u16) -> Rule {
    Rule { protocol, first_port, last_port, ..any(true) }
}

/// The rule for one source address alone.
pub fn only_from(source: Ipv4Addr, rule: Rule) -> Rule {
    Rule { source: source.octets(), source_mask: [255; 4], ..rule }
}

impl Rig {
    /// Writes rules behind those that there are.
    pub fn rules(&mut self, rules: &[Rule]) -> RuleList {
        let start = self.rules;
        for (index, rule) in (start..).zip(rules) {
            self.array("RULES", index, *rule);
        }
        self.rules += rules.len() as u32;
        RuleList { start, count: rules.len() as u32 }
    }

    /// What may come in to a public address.
    pub fn ingress(&mut self, network: u32, address: Ipv4Addr, rules: &[Rule]) {
        let ingress = self.rules(rules);
        let key = PublicKey { side: PUBLIC, address: address.octets() };
        let mut row: PublicAddress = self.get("PUBLIC_ADDRESS", key).unwrap();
        row.ingress = ingress;
        self.put("PUBLIC_ADDRESS", key, row);
        self.change_gateway(network, |_| {});
    }

    /// What is an exception from the egress default.
    pub fn egress(&mut self, network: u32, allow_by_default: bool, rules: &[Rule]) {
        let inverted = |rule: &Rule| Rule { allow: u16::from(!allow_by_default), ..*rule };
        let list = self.rules(&rules.iter().map(inverted).collect::<Vec<_>>());
        self.change_gateway(network, |gateway| {
            gateway.egress = list;
            if allow_by_default {
                gateway.flags |= gateway_flags::EGRESS_ALLOW;
            } else {
                gateway.flags &= !gateway_flags::EGRESS_ALLOW;
            }
        });
    }

    /// Gives a network an ACL.
    pub fn acl(&mut self, network: u32, ingress: &[Rule], egress: &[Rule]) {
        let (ingress, egress) = (self.rules(ingress), self.rules(egress));
        self.change_gateway(network, |gateway| {
            gateway.acl_ingress = ingress;
            gateway.acl_egress = egress;
            gateway.flags |= gateway_flags::ACL;
        });
    }

    /// A public port, or a range that is a whole prefix, that leads to a guest.
    pub fn forward(&mut self, address: Ipv4Addr, protocol: u8, port: u16, port_bits: u32, to: Forward) {
        let key = ForwardKey {
            side: PUBLIC.to_be_bytes(),
            address: address.octets(),
            protocol: [protocol, 0],
            port: port.to_be_bytes(),
        };
        self.put_prefix("FORWARDS", 80 + port_bits, key, to);
    }

    /// Says that a host's tunnels are at an address and UDP port.
    pub fn tunnel_port(&mut self, address: Ipv4Addr, port: u16) {
        let key = ForwardKey { side: [0; 4], address: address.octets(), protocol: [17, 0], port: port.to_be_bytes() };
        self.put_prefix("FORWARDS", 96, key, Forward { flags: forward_flags::RESERVED, ..Forward::default() });
    }

    /// Forwards one TCP port of a public address.
    pub fn forward_tcp(&mut self, network: u32, address: Ipv4Addr, port: u16, to: Endpoint, to_port: u16) {
        let to = Forward { network, address: to.ip.octets(), port: to_port, ..Forward::default() };
        self.forward(address, 6, port, 16, to);
    }

    /// Forwards one UDP port of a public address.
    pub fn forward_udp(&mut self, network: u32, address: Ipv4Addr, port: u16, to: Endpoint, to_port: u16) {
        let to = Forward { network, address: to.ip.octets(), port: to_port, ..Forward::default() };
        self.forward(address, 17, port, 16, to);
    }

    /// Gives a guest a public address of its own, open to everybody.
    pub fn static_nat(&mut self, network: u32, address: Ipv4Addr, guest: Endpoint) {
        let ingress = self.rules(&[any(true)]);
        let inside = guest.ip.octets();
        let row = PublicAddress {
            ingress,
            side: PUBLIC,
            network,
            inside,
            flags: public_flags::STATIC,
            ..PublicAddress::default()
        };
        self.put("PUBLIC_ADDRESS", PublicKey { side: PUBLIC, address: address.octets() }, row);
        let row = StaticNat {
            network,
            side: PUBLIC,
            address: address.octets(),
            place: nat_place::HERE,
            ..StaticNat::default()
        };
        self.put("STATIC_NAT", StaticKey { network, address: inside }, row);
    }

    /// Routes a prefix from a network into another.
    pub fn route(&mut self, from: u32, prefix: Ipv4Addr, bits: u32, to: u32, via: Ipv4Addr) {
        let key = RouteKey { network: from.to_be_bytes(), address: prefix.octets() };
        self.put_prefix("ROUTES", 32 + bits, key, Route { network: to, via: via.octets() });
    }

    /// A gateway's row.
    pub fn gateway(&self, network: u32) -> Gateway {
        self.read("GATEWAYS", network)
    }
}
