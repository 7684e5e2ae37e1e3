//! What a definitions document of [`super::draw`] says that packets need to know.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::packet::Mac;

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The account of its network.
    pub tenant: String,
    /// Index of its network in the document.
    pub network: usize,
    /// Its device on the hypervisor.
    pub device: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The address of its gateway.
    pub gateway: Ipv4Addr,
    /// The MAC address of its gateway.
    pub gateway_mac: Mac,
}

/// A document, and who is in it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The document.
    pub definitions: Value,
    /// All guests of all tenants.
    pub guests: Vec<Guest>,
    /// Every public address that leads somewhere, with its tenant.
    pub public: Vec<(Ipv4Addr, String)>,
    /// The VLAN of the public link.
    pub vlan: Option<u16>,
}

impl Site {
    /// Reads a document.
    pub fn read(definitions: Value) -> Self {
        let (mut guests, mut public) = (Vec::new(), Vec::new());
        for (network, row) in items(&definitions["networks"]).enumerate() {
            let tenant = text(&row["account"]);
            let gateway = text(&row["gateway"]).parse().expect("an address");
            guests.extend(items(&row["nics"]).map(|nic| Guest {
                tenant: tenant.clone(),
                network,
                device: text(&nic["device"]),
                mac: mac(&nic["mac"]),
                ip: text(&nic["ip"]).parse().expect("an address"),
                gateway,
                gateway_mac: mac(&row["gateway_mac"]),
            }));
            let uses = items(&row["static_nat"]).chain(items(&row["port_forwarding"])).map(|row| &row["public"]);
            for address in uses.chain([&row["source_nat"]]) {
                let entry = (text(address).parse().expect("an address"), tenant.clone());
                if !public.contains(&entry) {
                    public.push(entry);
                }
            }
        }
        let vlan = definitions["public_ranges"][0]["vlan"].as_u64().map(|id| id as u16);
        Self { definitions, guests, public, vlan }
    }

    /// The tenants, each once.
    pub fn tenants(&self) -> Vec<String> {
        let mut tenants: Vec<_> = self.guests.iter().map(|guest| guest.tenant.clone()).collect();
        tenants.dedup();
        tenants
    }

    /// The tenant that has a public address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&str> {
        self.public.iter().find(|(public, _)| *public == address).map(|(_, tenant)| tenant.as_str())
    }

    /// Whether an address is one that some network's outbound connections take.
    pub fn is_source_nat(&self, address: Ipv4Addr) -> bool {
        items(&self.definitions["networks"]).any(|network| text(&network["source_nat"]) == address.to_string())
    }

    /// Whether a public port leads to a guest by definition.
    pub fn is_forwarded(&self, protocol: u8, (address, port): (Ipv4Addr, u16)) -> bool {
        let protocol = if protocol == 6 { "tcp" } else { "udp" };
        let mut rows = items(&self.definitions["networks"]).flat_map(|network| items(&network["port_forwarding"]));
        rows.any(|row| {
            let ports = text(&row["ports"]);
            let (first, last) = ports.split_once('-').unwrap_or((&ports, &ports));
            let number = |text: &str| text.parse::<u16>().expect("a port");
            text(&row["public"]) == address.to_string()
                && row["protocol"] == protocol
                && (number(first)..=number(last)).contains(&port)
        })
    }

    /// Whether the bindings of the network that has an address let in everybody.
    pub fn is_endpoint_independent(&self, address: Ipv4Addr) -> bool {
        items(&self.definitions["networks"]).any(|network| {
            text(&network["source_nat"]) == address.to_string() && network["filtering"] == "endpoint_independent"
        })
    }
}

/// The rows of a list; none where there is no list.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A string of the document.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn mac(value: &Value) -> Mac {
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(text(value).split(':')) {
        *byte = u8::from_str_radix(text, 16).expect("a MAC address");
    }
    mac
}
