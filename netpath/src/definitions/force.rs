//! Which parts of a document are read and checked, but not acted upon by this version.

use std::{collections::HashSet, net::Ipv4Addr};

use super::{
    model::{Network, Zone},
    values::GatewayMode,
};

/// One sentence for each part of the document that is not in force, for `apply` to say plainly.
pub fn not_in_force(zone: &Zone) -> Vec<String> {
    let mut parts = Vec::new();
    let mut say = |names: Vec<&str>, what: &str| {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", listing(&names)));
        }
    };
    let having = |has: fn(&Network) -> bool| {
        zone.networks.iter().filter(|network| has(network)).map(|network| network.name.as_str()).collect::<Vec<_>>()
    };

    say(
        having(|network| *network.gateway_mode == GatewayMode::Netpath && network.gateway6.is_some()),
        "routing of IPv6 (the gateway answers neighbour discovery, and routes nothing) of networks",
    );
    let has_policy = |network: &Network| {
        let has_egress = network.firewall.as_ref().is_some_and(|firewall| !firewall.egress.is_empty());
        has_egress || network.acl.is_some() || network.router.is_some() || !network.static_routes.is_empty()
    };
    let unrouted = zone.networks.iter().filter(|network| has_policy(network) && !network.is_routed());
    say(
        unrouted.map(|network| network.name.as_str()).collect(),
        "egress rules, ACLs, routers and static routes (netpath is not the gateway) of networks",
    );
    say(having(has_two_policies), "egress rules of the firewall (the ACL is asked instead) of networks");
    say(having(routes_to_itself), "static routes by way of the network's own gateway of networks");
    let used = used_addresses(zone);
    let is_unused = |network: &&Network| {
        let mut rules = network.firewall.iter().flat_map(|firewall| &firewall.ingress);
        rules.any(|rule| !used.contains(&*rule.public))
    };
    let unused = zone.networks.iter().filter(is_unused).map(|network| network.name.as_str()).collect();
    say(unused, "ingress rules for public addresses that nothing is translated to (a wrong address?) of networks");
    parts
}

fn has_two_policies(network: &Network) -> bool {
    network.acl.is_some() && network.firewall.as_ref().is_some_and(|firewall| !firewall.egress.is_empty())
}

fn routes_to_itself(network: &Network) -> bool {
    network.static_routes.iter().any(|route| network.is_gateway_here(*route.via))
}

/// The public addresses that networks translate to or from.
fn used_addresses(zone: &Zone) -> HashSet<Ipv4Addr> {
    let of = |network: &Network| {
        let pool = network.source_nat.iter().map(|public| **public);
        let own = network.static_nat.iter().map(|nat| *nat.public);
        pool.chain(own).chain(network.port_forwarding.iter().map(|forward| *forward.public)).collect::<Vec<_>>()
    };
    zone.networks.iter().flat_map(of).collect()
}

/// The first few names, and how many more there are.
fn listing(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
