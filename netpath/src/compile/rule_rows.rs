//! Rules of the definitions as rows: one for each pair of a source and a destination prefix, in the order in which they are written.

use ipnet::{IpNet, Ipv4Net};
use netpath_common::maps::Rule;

use crate::definitions::{
    AclRule, Action, At, Direction, EgressRule, IcmpField, IngressRule, Network, Ports, Protocol,
};

/// An address and a mask; both zero is any.
type Prefix = ([u8; 4], [u8; 4]);

const ANY: Prefix = ([0; 4], [0; 4]);

/// The rows of ingress rules of a firewall, each with its place in the network's list, from 1.
pub(super) fn ingress<'z>(rules: impl Iterator<Item = (u32, &'z IngressRule)>) -> Vec<Rule> {
    let rows = rules.flat_map(|(number, rule)| {
        let asked = asked(*rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code]);
        pairs(Rule { number, allow: 1, ..asked }, &prefixes4(&rule.cidrs), &[ANY])
    });
    rows.collect()
}

/// The rows of egress rules; what they match is `allowed`, or refused.
pub(super) fn egress(rules: &[EgressRule], allowed: bool) -> Vec<Rule> {
    let rows = (1..).zip(rules).flat_map(|(number, rule)| {
        let asked = asked(*rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code]);
        let (from, to) = (prefixes(&rule.cidrs), prefixes(&rule.destination_cidrs));
        pairs(Rule { number, allow: allowed.into(), ..asked }, &from, &to)
    });
    rows.collect()
}

/// The rows of one direction of an ACL, by number. Its prefixes are the other side's: where ingress comes from, and where
/// egress goes to.
pub(super) fn acl(network: &Network, direction: Direction) -> Vec<Rule> {
    let mut rules: Vec<&AclRule> = network.acl_rules().iter().filter(|rule| *rule.direction == direction).collect();
    rules.sort_by_key(|rule| *rule.number);
    let rows = rules.into_iter().flat_map(|rule| {
        let asked = asked(*rule.protocol, &rule.ports, [&rule.icmp_type, &rule.icmp_code]);
        let row = Rule { number: rule.number.get(), allow: (*rule.action == Action::Allow).into(), ..asked };
        let others = prefixes(&rule.cidrs);
        match direction {
            Direction::Ingress => pairs(row, &others, &[ANY]),
            Direction::Egress => pairs(row, &[ANY], &others),
        }
    });
    rows.collect()
}

/// The rows of the prefixes that a forwarded port is open to.
pub(super) fn sources(cidrs: &[At<Ipv4Net>]) -> Vec<Rule> {
    let any = asked(Protocol::All, &None, [&None, &None]);
    let rows = (1..).zip(cidrs).flat_map(|(number, cidr)| {
        pairs(Rule { number, allow: 1, ..any }, &prefixes4(std::slice::from_ref(cidr)), &[ANY])
    });
    rows.collect()
}

/// A rule with what is asked of protocol, ports and ICMP.
fn asked(protocol: Protocol, ports: &Option<At<Ports>>, icmp: [&Option<At<IcmpField>>; 2]) -> Rule {
    let [icmp_type, icmp_code] = icmp.map(|field| {
        // -1 is any, and is no u16.
        field.as_ref().and_then(|field| u16::try_from(field.as_i64()).ok()).unwrap_or(Rule::ANY)
    });
    let (first_port, last_port) = ports.map_or((0, 0), |ports| (ports.first, ports.last));
    let protocol = match protocol {
        Protocol::All => Rule::ANY,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
        Protocol::Number(number) => number.into(),
    };
    Rule { first_port, last_port, protocol, icmp_type, icmp_code, ..Rule::default() }
}

fn pairs(rule: Rule, from: &[Prefix], to: &[Prefix]) -> Vec<Rule> {
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    let with = |((source, source_mask), (destination, destination_mask))| Rule {
        source,
        source_mask,
        destination,
        destination_mask,
        ..rule
    };
    pairs.map(with).collect()
}

/// The IPv4 prefixes; any where none is written at all, of either kind.
fn prefixes(cidrs: &[At<IpNet>]) -> Vec<Prefix> {
    if cidrs.is_empty() {
        return vec![ANY];
    }
    let four = cidrs.iter().filter_map(|cidr| match cidr.value {
        IpNet::V4(cidr) => Some(prefix(&cidr)),
        IpNet::V6(_) => None,
    });
    four.collect()
}

fn prefixes4(cidrs: &[At<Ipv4Net>]) -> Vec<Prefix> {
    if cidrs.is_empty() { vec![ANY] } else { cidrs.iter().map(|cidr| prefix(cidr)).collect() }
}

/// The prefix's address and mask.
pub(super) fn prefix(cidr: &Ipv4Net) -> Prefix {
    (cidr.network().octets(), cidr.netmask().octets())
}
