//! Definitions documents for the standard topology. They are JSON, which is YAML too, so that tests can change them.

use serde_json::{Value, json};

use super::two_hypervisors::{GATEWAY, Nic, TENANTS, UPLINK};
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
