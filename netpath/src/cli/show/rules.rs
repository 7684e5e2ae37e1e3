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
            let asked = rules.iter().skip(range.start as usize).take(range.count as usize);
            let rows = asked.map(|rule| of.rule(rule)).chain([of.end(tail)]);
            let is_wanted = which.address.is_none() || which.address == address;
            for row in rows.filter(|_| is_wanted) {
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
