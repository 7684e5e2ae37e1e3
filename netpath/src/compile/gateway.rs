//! GATEWAYS, ROUTES and STATIC_NAT: what the host does as the gateway of its networks.

use std::{collections::HashMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};
use netpath_common::{
    Mac,
    maps::{
        Destination, FdbKey, Gateway, POOL_ADDRESSES, PUBLIC_SIDE, PoolAddress, Route, RouteKey, RuleList, StaticKey,
        StaticNat, Timeouts, destination_kind, gateway_flags, nat_place, shape,
    },
};

use super::{Compiler, public::Links, rule_rows, underlay::Underlay};
use crate::definitions::{At, Direction, EgressDefault, Filtering, Host, Isolation, Network, Seconds, Zone};

/// What the rows of gateways are made of, beside their networks.
pub(super) struct Routed<'r, 'z> {
    /// Index by network, of the host's own.
    pub(super) indices: &'r HashMap<&'z str, u32>,
    /// The host's public links.
    pub(super) links: &'r Links<'z>,
}

/// Where NAT is done, as rows say it.
#[derive(Default)]
struct Place {
    place: u32,
    target: u32,
    mac: Mac,
}

/// Whether connections between the networks of a router are judged by ACLs.
pub(super) fn has_acls(zone: &Zone, network: &Network) -> bool {
    network.router.is_some() && zone.tiers(network).any(|tier| tier.acl.is_some())
}

impl<'z> Compiler<'z, '_> {
    /// The rows of a network of which netpath is the gateway.
    pub(super) fn gateway_of(
        &mut self,
        position: usize,
        network: &'z Network,
        underlay: &Underlay<'z>,
        routed: &Routed<'_, 'z>,
    ) {
        let (true, Some(index), Some(cidr)) =
            (network.is_routed(), routed.indices.get(network.name.as_str()), &network.cidr)
        else {
            return;
        };
        let index = *index;
        let mut row = self.policy(network);
        (row.prefix, row.mask) = rule_rows::prefix(cidr);
        if *underlay.physical.isolation == Isolation::Vlan {
            row.wire_mac = self.host.wire_mac();
            let gateway = Destination { network: index, kind: destination_kind::GATEWAY, ..Destination::default() };
            self.compiled.rows.fdb.insert(FdbKey::new(index, row.wire_mac), gateway);
        }
        let place = self.nat_place(self.presence.nat_host(position), underlay);
        (row.nat_place, row.nat_target, row.nat_mac) = (place.place, place.target, place.mac);
        if place.place == nat_place::HERE {
            self.pool(network, &mut row, routed.links);
        }
        self.static_nat(index, network, underlay, routed.links);
        if network.static_nat.is_empty() {
            row.flags |= gateway_flags::NO_STATIC_NAT;
        }
        if !self.routes(index, network, routed.indices) {
            row.flags |= gateway_flags::NO_ROUTES;
        }
        self.compiled.rows.gateways.insert(index, row.into());
    }

    /// Rules, flags, limits and times.
    fn policy(&mut self, network: &Network) -> Gateway {
        let has_acl = network.acl.is_some();
        let offering = network.offering.as_ref();
        let offering =
            offering.and_then(|name| self.zone.offerings.iter().find(|offering| offering.name.value == name.value));
        let allows = offering.is_some_and(|offering| *offering.egress_default == EgressDefault::Allow);
        let flags = [
            (true, gateway_flags::ROUTES),
            (allows, gateway_flags::EGRESS_ALLOW),
            (*network.filtering == Filtering::EndpointIndependent, gateway_flags::ENDPOINT_INDEPENDENT),
            (has_acl, gateway_flags::ACL),
            (*network.inbound_refresh, gateway_flags::INBOUND_REFRESH),
            (has_acls(self.zone, network), gateway_flags::TIER),
            (self.has_tunnel_address(network), gateway_flags::TUNNEL_ADDRESS),
        ];
        let egress = network.firewall.as_ref().filter(|_| !has_acl).map_or(&[][..], |firewall| &firewall.egress);
        let mut list = |rules: Vec<_>| -> RuleList { self.lists.list(&rules, &mut self.compiled.rows) };
        let egress = list(rule_rows::egress(egress, !allows));
        let acl_ingress = list(rule_rows::acl(network, Direction::Ingress));
        let acl_egress = list(rule_rows::acl(network, Direction::Egress));
        let room = self.host.capacities.get(shape::FLOWS.capacity_field).unwrap_or(shape::FLOWS.capacity);
        Gateway {
            flags: flags.into_iter().fold(0, |flags, (is_set, flag)| if is_set { flags | flag } else { flags }),
            egress,
            acl_ingress,
            acl_egress,
            // A connection takes two rows.
            flow_limit: network.connection_limit.map_or(room / 2, |limit| limit.get().saturating_mul(2)),
            timeouts: timeouts(network),
            ..Gateway::default()
        }
    }

    /// How this host gets to the one that does NAT, through the network itself.
    fn nat_place(&self, nat_host: Option<&Host>, underlay: &Underlay<'z>) -> Place {
        let Some(nat_host) = nat_host else { return Place::default() };
        if nat_host.name.value == self.host.name.value {
            return Place { place: nat_place::HERE, ..Place::default() };
        }
        match &underlay.vxlan {
            Some(vxlan) => vxlan.tunnels.get(nat_host.name.as_str()).map_or_else(Place::default, |tunnel| Place {
                place: nat_place::TUNNEL,
                target: *tunnel,
                mac: Mac::ZERO,
            }),
            None if *underlay.physical.isolation == Isolation::Vlan && underlay.uplink != 0 => {
                Place { place: nat_place::UPLINK, target: underlay.uplink, mac: nat_host.wire_mac() }
            }
            None => Place::default(),
        }
    }

    /// The addresses of source NAT that the host has a link to, and their ports.
    fn pool(&mut self, network: &Network, row: &mut Gateway, links: &Links<'z>) {
        let linked = network.source_nat.iter().filter_map(|address| {
            let link = links.of(self.zone, address.value)?;
            Some((address.value, PUBLIC_SIDE | link))
        });
        let linked: Vec<_> = linked.take(POOL_ADDRESSES).collect();
        for (place, (address, side)) in row.pool.iter_mut().zip(&linked) {
            let pool = self.indices.port_pools.index(&address.to_string(), &mut self.compiled.rows);
            *place = PoolAddress { side: *side, address: address.octets(), pool };
        }
        row.pool_count = u32::try_from(linked.len()).unwrap_or_default();
    }

    /// STATIC_NAT of the guests of this host, and of those that it translates for.
    fn static_nat(&mut self, index: u32, network: &'z Network, underlay: &Underlay<'z>, links: &Links<'z>) {
        for nat in &network.static_nat {
            let Some(nic) = network.nics.iter().find(|nic| nic.instance.value == nat.nic.value) else { continue };
            let host = self.zone.nat_host(network, *nat.public);
            let place = self.nat_place(host, underlay);
            let concerns = nic.is_on(&self.host.name) || place.place == nat_place::HERE;
            let (true, Some(ip)) = (concerns, nic.ip) else { continue };
            let link = links.of(self.zone, *nat.public).filter(|_| place.place == nat_place::HERE);
            if place.place == nat_place::HERE && link.is_none() {
                continue;
            }
            let row = StaticNat {
                network: index,
                side: link.map_or(0, |link| PUBLIC_SIDE | link),
                address: nat.public.octets(),
                place: place.place,
                target: place.target,
                mac: place.mac,
                ..StaticNat::default()
            };
            self.compiled.rows.static_nat.insert(StaticKey { network: index, address: ip.octets() }, row);
        }
    }

    /// ROUTES from a network: static routes of its router's networks, its own before others', and these networks themselves.
    /// Answers whether there may be any.
    fn routes(&mut self, index: u32, network: &'z Network, indices: &HashMap<&'z str, u32>) -> bool {
        let others = self.zone.tiers(network).filter(|tier| !std::ptr::eq(*tier, network)).collect::<Vec<_>>();
        let has_any = !others.is_empty() || !network.static_routes.is_empty();
        // Of two routes to one prefix the last counts.
        for tier in others.iter().rev().copied().chain([network]) {
            for route in &tier.static_routes {
                if let (Some(into), IpNet::V4(cidr), IpAddr::V4(via)) =
                    (indices.get(tier.name.as_str()), route.cidr.value, route.via.value)
                {
                    self.route(index, cidr, Route { network: *into, via: via.octets() });
                }
            }
        }
        for tier in others {
            let Some((into, cidr)) = indices.get(tier.name.as_str()).zip(tier.cidr.as_ref()) else { continue };
            self.route(index, **cidr, Route { network: *into, via: [0; 4] });
        }
        has_any
    }

    fn route(&mut self, from: u32, to: Ipv4Net, route: Route) {
        let key = RouteKey { network: from.to_be_bytes(), address: to.network().octets() };
        self.compiled.rows.routes.insert((32 + u32::from(to.prefix_len()), key), route);
    }
}

fn timeouts(network: &Network) -> Timeouts {
    let defined = network.timeouts.as_ref();
    let seconds = |field: Option<&Option<At<Seconds>>>, default| {
        field.and_then(Option::as_ref).map_or(default, |seconds: &At<Seconds>| seconds.get())
    };
    Timeouts {
        udp: seconds(defined.map(|times| &times.udp), 300),
        udp_one_way: seconds(defined.map(|times| &times.udp_one_way), 120),
        tcp_established: seconds(defined.map(|times| &times.tcp_established), 7440),
        tcp_opening: seconds(defined.map(|times| &times.tcp_opening), 240),
        tcp_closing: seconds(defined.map(|times| &times.tcp_closing), 240),
        icmp: seconds(defined.map(|times| &times.icmp), 60),
    }
}
