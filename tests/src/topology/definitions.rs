//! Definitions documents for the standard topology. They are JSON, which is YAML too, so that tests can change them.

use serde_json::{Value, json};

use super::{
    internet::{PUBLIC_UPLINK, ROUTER},
    two_hypervisors::{GATEWAY, Nic, TENANTS, UPLINK},
};
use crate::packet::mac_text;

/// A definitions document.
pub type Definitions = Value;

/// Each tenant on a VNI of its own: 5001 and 5002.
pub fn vxlan(hosts: usize, nics: &[Nic]) -> Definitions {
    zone(hosts, nics, json!({"name": "guest", "isolation": "vxlan", "vnis": "5000-9999", "traffic": ["guest"]}), 5001)
}

/// Each tenant on a VLAN of its own: 101 and 102.
pub fn vlan(hosts: usize, nics: &[Nic]) -> Definitions {
    zone(hosts, nics, json!({"name": "guest", "isolation": "vlan", "vlans": "100-199", "traffic": ["guest"]}), 101)
}

fn zone(hosts: usize, nics: &[Nic], physical_network: Value, first_segment: u32) -> Definitions {
    let hosts: Vec<_> = (1..=hosts)
        .map(|n| {
            let tunnel_address = format!("192.0.2.{}", 10 + n);
            json!({"name": format!("hv{n}"), "tunnel_address": tunnel_address, "uplinks": {"guest": UPLINK}})
        })
        .collect();
    let networks: Vec<_> =
        TENANTS.iter().zip(first_segment..).map(|(tenant, segment)| network(tenant, segment, nics)).collect();
    json!({
        "zone": "zone1",
        "physical_networks": [physical_network],
        "hosts": hosts,
        "offerings": [{"name": "standard", "egress_default": "allow"}],
        "networks": networks,
    })
}

fn network(tenant: &str, segment: u32, nics: &[Nic]) -> Value {
    let nics: Vec<_> = nics
        .iter()
        .filter(|nic| nic.tenant == tenant)
        .map(|nic| {
            let station = nic.station();
            json!({
                "instance": format!("{tenant}-{}", nic.number),
                "mac": mac_text(station.mac),
                "ip": station.ip,
                "ip6": station.ip6,
                "host": format!("hv{}", nic.host + 1),
                "device": nic.device(),
            })
        })
        .collect();
    json!({
        "name": format!("{tenant}-web"),
        "account": tenant,
        "physical_network": "guest",
        "segment": segment,
        "cidr": "10.1.1.0/24",
        "gateway": GATEWAY,
        "cidr6": "fd00:1:1::/64",
        "gateway6": "fd00:1:1::1",
        "offering": "standard",
        "nics": nics,
    })
}

/// Adds a public side to a document: an untagged public link, and for both tenants, with all their addresses the same inside,
///
/// - source NAT to 203.0.113.10 (blue) and .20 (green) on hv1,
/// - static NAT of NIC 13 to .11 and .21,
/// - ports 2222 to NIC 13's 22 and 2223 to NIC 12's 22, by TCP and UDP, and the range 8000-8007 to NIC 13,
/// - a firewall that lets in these and whatever is for the static address, and nothing out to TCP port 25.
pub fn with_gateways(mut document: Value) -> Value {
    let public = json!({"name": "public", "isolation": "vlan", "vlans": "900-999", "traffic": ["public"]});
    push(&mut document["physical_networks"], public);
    for host in document["hosts"].as_array_mut().into_iter().flatten() {
        host["uplinks"]["public"] = PUBLIC_UPLINK.into();
    }
    document["public_ranges"] =
        json!([{"physical_network": "public", "vlan": "untagged", "cidr": "203.0.113.0/24", "gateway": ROUTER.ip}]);
    for (network, first) in document["networks"].as_array_mut().into_iter().flatten().zip([10, 20]) {
        let (shared, own) = (format!("203.0.113.{first}"), format!("203.0.113.{}", first + 1));
        let nic = |number: u8| format!("{}-{number}", network["account"].as_str().unwrap_or_default());
        let forward = |protocol, ports, to: u8, to_ports: Option<u16>| {
            let mut rule = json!({"public": shared, "protocol": protocol, "ports": ports, "to": nic(to)});
            if let Some(port) = to_ports {
                rule["to_ports"] = port.into();
            }
            rule
        };
        let forwards = json!([
            forward("tcp", "2222", 13, Some(22)),
            forward("udp", "2222", 13, Some(22)),
            forward("tcp", "2223", 12, Some(22)),
            forward("udp", "2223", 12, Some(22)),
            forward("tcp", "8000-8007", 13, None),
        ]);
        let statics = json!([{"public": own, "nic": nic(13)}]);
        network["nat_host"] = "hv1".into();
        network["source_nat"] = shared.clone().into();
        network["static_nat"] = statics;
        network["port_forwarding"] = forwards;
        network["firewall"] = json!({
            "ingress": [
                {"public": shared, "protocol": "tcp", "ports": "2222-2223"},
                {"public": shared, "protocol": "udp", "ports": "2222-2223"},
                {"public": shared, "protocol": "tcp", "ports": "8000-8007"},
                {"public": own, "protocol": "all"},
            ],
            "egress": [{"protocol": "tcp", "ports": "25"}],
        });
    }
    document
}

fn push(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}
