//! `netpath show rules`: what the firewall and the ACLs were compiled to, in the order in which they are asked.

use std::net::Ipv4Addr;

use netpath_common::maps::{Gateway, Rule, RuleList, gateway_flags, name_kind, public_flags};
use serde::Serialize;

use super::{Only, Which};
use crate::{
    cli::{
        Global,
        applied::{Applied, ipv4},
        stream::List,
        terms,
    },
    error::Error,
};

/// A rule, or what becomes of connections that none of a list matches.
#[derive(Debug, Serialize)]
struct RuleRow {
    /// The network.
    network: String,
    /// `egress`: of the firewall, to the public side. `ingress`: of the firewall, to `address`. `acl_ingress`, `acl_egress`.
    list: &'static str,
    /// The public address, for `ingress`.
    address: Option<Ipv4Addr>,
    /// The rule's number in the definitions: an ACL rule's own, a firewall rule's place from 1; `null` for a list's end.
    number: Option<u32>,
    /// `allow`, `deny`; at a list's end of `acl_egress` also `continue`.
    action: &'static str,
    /// `tcp`, `udp`, `icmp`, a number, or `any`.
    protocol: String,
    /// A prefix, or `any`.
    source: String,
    /// A prefix, or `any`.
    destination: String,
    /// Destination ports `first-last`, `any`; for ICMP `type/code`.
    ports: String,
}

pub(super) fn show(applied: &Applied, only: Only<'_>, which: &Which, global: &Global) -> Result<(), Error> {
    let mut list = List::begin(
        global.output,
        &format!(
            "{:<16} {:<11} {:>6} {:<8} {:<5} {:<18} {:<18} {}\n",
            "NETWORK", "LIST", "NUMBER", "ACTION", "PROTO", "SOURCE", "DESTINATION", "PORTS"
        ),
    )?;
    let rules = applied.tables.rules.rows()?;
    let gateways = applied.tables.gateways.rows()?;
    let mut public = applied.tables.public_address.rows()?;
    public.sort_by_key(|(key, _)| (key.address, key.side));
    let mut networks = applied.names.all(name_kind::NETWORK);
    networks.sort_by(|a, b| a.1.cmp(b.1));
    let has_own_list = public.iter().any(|(key, _)| which.address.is_some() && which.address == ipv4(key.address));
    for (index, network) in networks.into_iter().filter(|(_, name)| only.wants(name)) {
        let Some(gateway) = gateways.get(index as usize).filter(|row| row.flags & gateway_flags::ROUTES != 0) else {
            continue;
        };
        let mut lists = lists(gateway);
        for (key, row) in public.iter().filter(|(_, row)| row.network == index && row.flags & public_flags::ACL == 0) {
            lists.push(("ingress", ipv4(key.address), row.ingress, "deny"));
        }
        for (name, address, range, tail) in lists {
            // The firewall's egress rules are exceptions from what becomes of the rest.
            let exception = match (name, tail) {
                ("egress", "allow") => Some("deny"),
                ("egress", _) => Some("allow"),
                _ => None,
            };
            let of = Of { network, list: name, address, exception };
            if has_own_list && address.is_some() && address != which.address {
                continue;
            }
            let asked = rules.iter().skip(range.start as usize).take(range.count as usize);
            let wanted = asked.filter(|rule| which.has_rule(address, rule));
            for row in wanted.map(|rule| of.rule(rule)).chain([of.end(tail)]) {
                if list.item(&row, RuleRow::text)?.is_break() {
                    return list.end();
                }
            }
        }
    }
    list.end()
}

/// The lists of a network with what becomes of connections that they do not match; those that are asked only.
fn lists(gateway: &Gateway) -> Vec<(&'static str, Option<Ipv4Addr>, RuleList, &'static str)> {
    if gateway.flags & gateway_flags::ACL != 0 {
        return vec![
            ("acl_ingress", None, gateway.acl_ingress, "deny"),
            ("acl_egress", None, gateway.acl_egress, "continue"),
        ];
    }
    let egress = if gateway.flags & gateway_flags::EGRESS_ALLOW != 0 { "allow" } else { "deny" };
    vec![("egress", None, gateway.egress, egress)]
}

impl Which {
    /// Whether a rule of the list of `public`, if it is one's, may be about a packet with the address on either side and to
    /// the port.
    fn has_rule(&self, public: Option<Ipv4Addr>, rule: &Rule) -> bool {
        let within = |prefix: [u8; 4], mask: [u8; 4], wanted: Ipv4Addr| {
            wanted.to_bits() & u32::from_be_bytes(mask) == u32::from_be_bytes(prefix)
        };
        // An ingress rule's destination is its public address.
        let is_to =
            |wanted| public.map_or(within(rule.destination, rule.destination_mask, wanted), |own| own == wanted);
        let has_ports = [Rule::ANY, terms::TCP.into(), terms::UDP.into()].contains(&rule.protocol);
        let ports = if rule.last_port == 0 { 0..=u16::MAX } else { rule.first_port..=rule.last_port };
        self.address.is_none_or(|wanted| within(rule.source, rule.source_mask, wanted) || is_to(wanted))
            && self.port.is_none_or(|wanted| has_ports && ports.contains(&wanted))
    }
}

/// Whose a rule is.
struct Of<'n> {
    network: &'n str,
    list: &'static str,
    address: Option<Ipv4Addr>,
    exception: Option<&'static str>,
}

impl Of<'_> {
    fn rule(&self, rule: &Rule) -> RuleRow {
        let any = |number: u16| if number == Rule::ANY { "any".to_owned() } else { number.to_string() };
        let protocol = if rule.protocol == Rule::ANY { "any".to_owned() } else { terms::protocol(rule.protocol) };
        let ports = match (protocol.as_str(), rule.first_port, rule.last_port) {
            ("icmp", ..) if (rule.icmp_type, rule.icmp_code) != (Rule::ANY, Rule::ANY) => {
                format!("{}/{}", any(rule.icmp_type), any(rule.icmp_code))
            }
            (_, 0, 0) => "any".to_owned(),
            (_, first, last) => terms::range(first, last),
        };
        RuleRow {
            number: Some(rule.number),
            action: self.exception.unwrap_or(if rule.allow != 0 { "allow" } else { "deny" }),
            protocol,
            source: terms::prefix(rule.source, rule.source_mask),
            destination: terms::prefix(rule.destination, rule.destination_mask),
            ports,
            ..self.end("")
        }
    }

    fn end(&self, action: &'static str) -> RuleRow {
        let any = || "any".to_owned();
        RuleRow {
            network: self.network.to_owned(),
            list: self.list,
            address: self.address,
            number: None,
            action,
            protocol: any(),
            source: any(),
            destination: any(),
            ports: any(),
        }
    }
}

impl RuleRow {
    fn text(&self) -> String {
        let network: String = self.network.chars().take(16).collect();
        let number = self.number.map_or_else(|| "end".to_owned(), |number| number.to_string());
        // An ingress rule's destination is its public address.
        let destination = self.address.map_or_else(|| self.destination.clone(), |address| address.to_string());
        format!(
            "{network:<16} {:<11} {number:>6} {:<8} {:<5} {:<18} {destination:<18} {}\n",
            self.list, self.action, self.protocol, self.source, self.ports
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Option<Ipv4Addr> = Some(Ipv4Addr::new(203, 0, 113, 10));

    fn asked(address: Option<[u8; 4]>, port: Option<u16>) -> Which {
        Which { address: address.map(Ipv4Addr::from), port, bindings: false, all: false }
    }

    #[test]
    fn a_rule_is_shown_for_an_address_in_its_source_or_its_destination() {
        let rule = Rule {
            source: [198, 51, 100, 0],
            source_mask: [255, 255, 255, 0],
            destination: [10, 1, 1, 0],
            destination_mask: [255, 255, 255, 128],
            ..Rule::EVERYTHING
        };
        for (address, is_shown) in [
            ([198, 51, 100, 7], true),
            ([198, 51, 101, 7], false),
            ([10, 1, 1, 11], true),
            ([10, 1, 1, 128], false),
            ([203, 0, 113, 10], false),
        ] {
            assert_eq!(asked(Some(address), None).has_rule(None, &rule), is_shown, "{address:?}");
        }
        assert!(asked(None, None).has_rule(None, &rule));
        assert!(asked(Some([1, 2, 3, 4]), None).has_rule(None, &Rule::EVERYTHING), "any is everybody");
    }

    #[test]
    fn an_ingress_rules_destination_is_the_public_address_of_its_list() {
        let rule = Rule { source: [198, 51, 100, 0], source_mask: [255, 255, 255, 0], ..Rule::EVERYTHING };
        for (address, is_shown) in [([203, 0, 113, 10], true), ([203, 0, 113, 11], false), ([198, 51, 100, 7], true)] {
            assert_eq!(asked(Some(address), None).has_rule(PUBLIC, &rule), is_shown, "{address:?}");
        }
    }

    #[test]
    fn a_rule_is_shown_for_a_port_that_it_covers() {
        let range = |protocol, first_port, last_port| Rule { protocol, first_port, last_port, ..Rule::EVERYTHING };
        for (rule, shown) in [
            (range(6, 80, 90), [false, true, true, false]),
            (range(17, 80, 80), [false, true, false, false]),
            (range(6, 0, 0), [true; 4]),
            (range(17, 0, u16::MAX), [true; 4]),
            (Rule::EVERYTHING, [true; 4]),
            (range(1, 0, 0), [false; 4]),
            (range(47, 0, 0), [false; 4]),
        ] {
            let found = [79, 80, 90, 91].map(|port| asked(None, Some(port)).has_rule(PUBLIC, &rule));
            assert_eq!(found, shown, "{rule:?}");
        }
    }

    #[test]
    fn a_rule_is_shown_for_an_address_and_a_port_if_it_has_both() {
        let rule = Rule { protocol: 6, first_port: 80, last_port: 80, ..Rule::EVERYTHING };
        let both = |address, port| asked(Some(address), Some(port)).has_rule(PUBLIC, &rule);
        assert!(both([203, 0, 113, 10], 80) && both([198, 51, 100, 7], 80));
        assert!(!both([203, 0, 113, 10], 81));
    }
}
