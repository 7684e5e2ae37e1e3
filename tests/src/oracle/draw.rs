//! Random definitions: two tenants with the same addresses, each an isolated network or two tiers of a VPC.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::packet::{mac_text, mutate::Random};

/// Ports that rules are about and packets are for.
pub const PORTS: [u16; 10] = [22, 53, 80, 81, 443, 1000, 1005, 1024, 5000, 8080];
const PORT_RANGES: [&str; 7] = ["22", "80-81", "53", "1-1023", "1001-1010", "443-5000", "1-65535"];
const OUTSIDE_PREFIXES: [&str; 7] = [
    "0.0.0.0/0",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "198.51.100.0/24",
    "198.51.100.100/31",
    "9.0.0.0/8",
    "198.51.100.16/28",
];
const INSIDE_PREFIXES: [&str; 5] = ["10.1.1.11/32", "10.1.1.12/31", "10.1.1.0/24", "10.1.0.0/16", "10.1.2.0/24"];
/// The VLAN of the public link, where it has one.
const PUBLIC_VLAN: u16 = 900;

/// A document for host hv1, whose uplinks are eth1 for guests and eth2 for the public.
pub fn definitions(random: &mut Random) -> Value {
    let vlan = if chance(random, 50) { json!(PUBLIC_VLAN) } else { json!("untagged") };
    let mut networks = Vec::new();
    for (tenant, name) in ["blue", "green"].into_iter().enumerate() {
        let vpc = chance(random, 40);
        for tier in 1..=if vpc { 2 } else { 1 } {
            let segment = 101 + networks.len();
            networks.push(network(random, &Tier { tenant, name, tier, vpc, segment }));
        }
    }
    json!({
        "zone": "zone1",
        "physical_networks": [
            {"name": "guest", "isolation": "vlan", "vlans": "100-199", "traffic": ["guest"]},
            {"name": "public", "isolation": "vlan", "vlans": "900-909", "traffic": ["public"]},
        ],
        "hosts": [{
            "name": "hv1",
            "uplinks": {"guest": "eth1", "public": "eth2"},
            "uplink_mode": *random.pick(&["xdp", "tc"]),
        }],
        "offerings": [
            {"name": "open", "egress_default": "allow"},
            {"name": "closed", "egress_default": "deny"},
        ],
        "public_ranges": [{
            "physical_network": "public", "vlan": vlan, "cidr": "198.51.100.0/24", "gateway": "198.51.100.1",
        }],
        "networks": networks,
    })
}

struct Tier {
    tenant: usize,
    name: &'static str,
    tier: u8,
    vpc: bool,
    segment: usize,
}

impl Tier {
    /// A public address of the tenant.
    fn public(&self, number: u8) -> String {
        Ipv4Addr::new(198, 51, 100, 10 * (self.tenant as u8 + 1) + number).to_string()
    }

    fn instance(&self, last: u8) -> String {
        format!("{}-{}-{last}", self.name, self.tier)
    }
}

/// Whether something of `percent` in a hundred cases is so now.
pub fn chance(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

fn network(random: &mut Random, tier: &Tier) -> Value {
    let prefix = |last: u8| Ipv4Addr::new(10, 1, tier.tier, last).to_string();
    let nics: Vec<_> = [11, 12, 13]
        .into_iter()
        .map(|last| {
            json!({
                "instance": tier.instance(last),
                "mac": mac_text([0x02, 0x00, 0x0a, 0x01, tier.tier, last]),
                "ip": prefix(last),
                "host": "hv1",
                "device": format!("vnet{}-{last}", tier.segment),
            })
        })
        .collect();
    let mut network = json!({
        "name": format!("{}-{}", tier.name, tier.tier),
        "account": tier.name,
        "physical_network": "guest",
        "segment": tier.segment,
        "cidr": format!("{}/24", prefix(0)),
        "gateway": prefix(1),
        "gateway_mac": mac_text([0x02, 0x00, 0x0a, 0x01, tier.tier, 1]),
        "offering": *random.pick(&["open", "closed"]),
        "nics": nics,
        "source_nat": tier.public(1),
        "static_nat": static_nat(random, tier),
        "port_forwarding": port_forwarding(random, tier),
    });
    if tier.vpc {
        network["router"] = json!(format!("{}-vpc", tier.name));
    }
    if tier.vpc && chance(random, 80) {
        network["acl"] = acl(random);
    }
    if !tier.vpc && chance(random, 15) {
        network["filtering"] = json!("endpoint_independent");
    }
    let ingress = several(random, 6, |random| ingress(random, tier));
    let egress = several(random, 4, egress);
    network["firewall"] = json!({"ingress": ingress, "egress": egress});
    network
}

fn several(random: &mut Random, most: usize, mut one: impl FnMut(&mut Random) -> Value) -> Vec<Value> {
    (0..random.below(most + 1)).map(|_| one(random)).collect()
}

/// Guest 12 of the first tier and guest 13 of the second have addresses of their own, sometimes.
fn static_nat(random: &mut Random, tier: &Tier) -> Vec<Value> {
    if !chance(random, 60) {
        return Vec::new();
    }
    vec![json!({"public": tier.public(1 + tier.tier), "nic": tier.instance(11 + tier.tier)})]
}

/// Forwarded ports on the address of source NAT and on another one. The tiers' do not overlap.
fn port_forwarding(random: &mut Random, tier: &Tier) -> Vec<Value> {
    let offered = if tier.tier == 1 { ["22", "80", "1001-1010", "5000"] } else { ["443", "81", "53", "1024-4999"] };
    let mut rows = Vec::new();
    for (number, protocol, ports) in [1, 4]
        .into_iter()
        .flat_map(|n| ["tcp", "udp"].into_iter().flat_map(move |p| offered.map(|ports| (n, p, ports))))
    {
        if !chance(random, 35) {
            continue;
        }
        let last = 11 + random.below(3) as u8;
        let mut row =
            json!({"public": tier.public(number), "protocol": protocol, "ports": ports, "to": tier.instance(last)});
        if !ports.contains('-') && chance(random, 50) {
            row["to_ports"] = json!(random.pick(&PORTS).to_string());
        }
        if chance(random, 30) {
            row["cidrs"] = json!([random.pick(&OUTSIDE_PREFIXES)]);
        }
        rows.push(row);
    }
    rows
}

/// A protocol, with ports or an ICMP type and code.
fn subject(random: &mut Random) -> Value {
    let mut rule = json!({"protocol": *random.pick(&["tcp", "tcp", "udp", "udp", "icmp", "all", "253"])});
    if rule["protocol"] == "tcp" || rule["protocol"] == "udp" {
        if chance(random, 80) {
            rule["ports"] = json!(*random.pick(&PORT_RANGES));
        }
    } else if rule["protocol"] == "icmp" && chance(random, 70) {
        rule["icmp_type"] = json!(*random.pick(&[-1, 8, 8, 13]));
        rule["icmp_code"] = json!(*random.pick(&[-1, 0, 0, 3]));
    }
    rule
}

fn prefixes(random: &mut Random, of: &[&str]) -> Vec<Value> {
    several(random, 2, |random| json!(*random.pick(of)))
}

fn ingress(random: &mut Random, tier: &Tier) -> Value {
    let mut rule = subject(random);
    rule["public"] = json!(tier.public(*random.pick(&[1, 1, 1 + tier.tier, 4])));
    rule["cidrs"] = json!(prefixes(random, &OUTSIDE_PREFIXES));
    rule
}

fn egress(random: &mut Random) -> Value {
    let mut rule = subject(random);
    rule["cidrs"] = json!(prefixes(random, &INSIDE_PREFIXES));
    rule["destination_cidrs"] = json!(prefixes(random, &OUTSIDE_PREFIXES));
    rule
}

fn acl(random: &mut Random) -> Value {
    let mut rows = Vec::new();
    for number in 1..=2 + random.below(7) {
        let mut rule = subject(random);
        rule["number"] = json!(number * 10);
        rule["direction"] = json!(*random.pick(&["ingress", "ingress", "egress"]));
        rule["action"] = json!(*random.pick(&["allow", "allow", "deny"]));
        rule["cidrs"] = json!([*random.pick(&[&OUTSIDE_PREFIXES[..], &INSIDE_PREFIXES[..]].concat())]);
        rows.push(rule);
    }
    json!(rows)
}
