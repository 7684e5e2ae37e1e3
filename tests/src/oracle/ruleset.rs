//! Definitions as an nftables ruleset for the router of one tenant: CloudStack's semantics in the kernel's own terms.
//!
//! | hook | what |
//! |---|---|
//! | prerouting -150 | firewall ingress on the public address, default deny; ACL egress, no tail |
//! | prerouting -100 | static NAT and forwarded ports; what they do not claim goes no further |
//! | forward | egress rules that invert the default; ACL ingress after DNAT, tail deny |
//! | postrouting 100 | static NAT before source NAT |
//!
//! The device towards network `i` of the document is `in<i>`, the one to the public link `out`. Public addresses are not the
//! router's own: whatever a guest sends to one, of its own network's too, leaves by `out` and comes back there.

use std::fmt::Write as _;

use serde_json::Value;

use super::site::{items, text};

/// The ruleset of a tenant's router.
pub fn ruleset(definitions: &Value, tenant: &str) -> String {
    let tiers: Vec<(usize, &Value)> =
        items(&definitions["networks"]).enumerate().filter(|(_, network)| network["account"] == tenant).collect();
    let mut rules = String::from("table ip oracle {\ncounter invalid { }\n");
    for (index, network) in &tiers {
        lists(&mut rules, *index, network, allows(definitions, network));
    }
    judge(&mut rules, &tiers);
    nat(&mut rules, &tiers);
    forward(&mut rules, &tiers);
    input(&mut rules, &tiers);
    rules += "}\n";
    rules
}

/// Whether a network's outbound connections pass where no egress rule names them.
fn allows(definitions: &Value, network: &Value) -> bool {
    items(&definitions["offerings"])
        .any(|offering| offering["name"] == network["offering"] && offering["egress_default"] == "allow")
}

fn has_acl(network: &Value) -> bool {
    items(&network["acl"]).next().is_some()
}

/// Chains of a network's own rules, in their order.
fn lists(rules: &mut String, index: usize, network: &Value, allows: bool) {
    let (exception, default) = if allows { ("drop", "accept") } else { ("accept", "drop") };
    *rules += &format!("chain egress{index} {{\n");
    for rule in items(&network["firewall"]["egress"]) {
        for (from, to) in pairs(&rule["cidrs"], &rule["destination_cidrs"]) {
            line(rules, &[&from, &to, &asked(rule), exception]);
        }
    }
    *rules += &format!("{default}\n}}\n");
    for (direction, tail) in [("ingress", "drop"), ("egress", "return")] {
        *rules += &format!("chain acl_{direction}{index} {{\n");
        let mut rows: Vec<_> = items(&network["acl"]).filter(|rule| rule["direction"] == direction).collect();
        rows.sort_by_key(|rule| rule["number"].as_u64());
        for rule in rows {
            let verdict = match (rule["action"] == "allow", direction) {
                (false, _) => "drop",
                (true, "ingress") => "accept",
                (true, _) => "return",
            };
            let none = Value::Null;
            let (from, to) = if direction == "ingress" { (&rule["cidrs"], &none) } else { (&none, &rule["cidrs"]) };
            for (from, to) in pairs(from, to) {
                line(rules, &[&from, &to, &asked(rule), verdict]);
            }
        }
        *rules += &format!("{tail}\n}}\n");
    }
}

/// What is judged before destination NAT.
fn judge(rules: &mut String, tiers: &[(usize, &Value)]) {
    *rules += "chain ingress {\n";
    for (_, network) in tiers {
        for rule in items(&network["firewall"]["ingress"]) {
            let public = text(&rule["public"]);
            for (from, _) in pairs(&rule["cidrs"], &Value::Null) {
                if !is_left_to_acl(tiers, &public) {
                    line(rules, &[&format!("ip daddr {public}"), &from, &asked(rule), "return"]);
                }
            }
        }
    }
    for (_, network) in tiers {
        for public in used(network).filter(|public| is_left_to_acl(tiers, public)) {
            line(rules, &[&format!("ip daddr {public}"), "return"]);
        }
    }
    *rules += "drop\n}\nchain judge {\ntype filter hook prerouting priority -150; policy accept;\n";
    *rules += "iifname \"out\" ct state established,related accept\niifname \"out\" ct state invalid counter name invalid drop\n";
    *rules += "iifname \"out\" jump ingress\n";
    for (index, network) in tiers.iter().filter(|(_, network)| has_acl(network)) {
        let gateway = text(&network["gateway"]);
        let _ = writeln!(rules, "iifname \"in{index}\" ip daddr != {gateway} ct state new jump acl_egress{index}");
    }
    *rules += "}\n";
}

/// The public addresses that lead to a network's guests, or stand for them.
fn used(network: &Value) -> impl Iterator<Item = String> {
    let rows = items(&network["static_nat"]).chain(items(&network["port_forwarding"])).map(|row| &row["public"]);
    rows.chain([&network["source_nat"]]).map(text)
}

/// Whether all networks behind a public address have an ACL, which then stands for the firewall.
fn is_left_to_acl(tiers: &[(usize, &Value)], public: &str) -> bool {
    let mut users = tiers.iter().filter(|(_, network)| used(network).any(|used| used == public)).peekable();
    users.peek().is_some() && users.all(|(_, network)| has_acl(network))
}

fn nat(rules: &mut String, tiers: &[(usize, &Value)]) {
    *rules += "chain to_guests {\ntype nat hook prerouting priority -100; policy accept;\n";
    let mut own = String::new();
    let mut shared = String::new();
    for (_, network) in tiers {
        let guest = |instance: &Value| {
            items(&network["nics"])
                .find(|nic| nic["instance"] == *instance)
                .map(|nic| text(&nic["ip"]))
                .unwrap_or_default()
        };
        for row in items(&network["static_nat"]) {
            let (public, inside) = (text(&row["public"]), guest(&row["nic"]));
            let _ = writeln!(rules, "iifname \"out\" ip daddr {public} dnat to {inside}");
            let _ = writeln!(own, "oifname \"out\" ip saddr {inside} snat to {public}");
        }
        for row in items(&network["port_forwarding"]) {
            let (public, protocol, ports) = (text(&row["public"]), text(&row["protocol"]), text(&row["ports"]));
            let mut target = guest(&row["to"]);
            if let Some(port) = row["to_ports"].as_str() {
                target = format!("{target}:{port}");
            }
            for (from, _) in pairs(&row["cidrs"], &Value::Null) {
                let to = format!("iifname \"out\" ip daddr {public} {protocol} dport {ports}");
                line(rules, &[&to, &from, &format!("dnat to {target}")]);
            }
        }
        let (cidr, public) = (text(&network["cidr"]), text(&network["source_nat"]));
        let _ = writeln!(shared, "oifname \"out\" ip saddr {cidr} snat to {public}");
    }
    // A public address that is no guest's is the router's own for ping, and for nothing else.
    *rules += "iifname \"out\" icmp type echo-request redirect\n";
    *rules += "}\nchain claimed {\ntype filter hook prerouting priority 0; policy accept;\n";
    *rules += "iifname != \"out\" accept\nct state != new accept\nct status dnat accept\ndrop\n}\n";
    *rules += "chain to_public {\ntype nat hook postrouting priority 100; policy accept;\n";
    *rules += &own;
    *rules += &shared;
    *rules += "}\n";
}

fn forward(rules: &mut String, tiers: &[(usize, &Value)]) {
    *rules += "chain forward {\ntype filter hook forward priority 0; policy drop;\n";
    *rules += "ct state invalid counter name invalid drop\nct state established,related accept\n";
    for (index, network) in tiers {
        let way = if has_acl(network) { "accept".into() } else { format!("jump egress{index}") };
        let _ = writeln!(rules, "iifname \"in{index}\" oifname \"out\" {way}");
        let _ = writeln!(rules, "iifname \"in{index}\" oifname \"in{index}\" accept");
        let way = if has_acl(network) { format!("jump acl_ingress{index}") } else { "accept".into() };
        let _ = writeln!(rules, "oifname \"in{index}\" {way}");
    }
    *rules += "}\n";
}

/// The gateways of a tenant's networks answer ping, and say of everything else that there is nothing: the kernel itself of protocols.
fn input(rules: &mut String, tiers: &[(usize, &Value)]) {
    *rules += "chain input {\ntype filter hook input priority 0; policy drop;\n";
    *rules += "iifname \"out\" icmp type echo-request accept\n";
    let to_any = |index: &usize| tiers.iter().map(move |(_, to)| (*index, text(&to["gateway"]))).collect::<Vec<_>>();
    for (index, gateway) in tiers.iter().flat_map(|(index, _)| to_any(index)) {
        let to = format!("iifname \"in{index}\" ip daddr {gateway}");
        let _ = writeln!(rules, "{to} icmp type echo-request accept\n{to} meta l4proto icmp drop");
        let _ = writeln!(rules, "{to} meta l4proto != {{ tcp, udp }} accept");
        let _ = writeln!(rules, "{to} reject with icmp type port-unreachable");
    }
    *rules += "}\n";
}

fn line(rules: &mut String, parts: &[&str]) {
    let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    let _ = writeln!(rules, "{}", parts.join(" "));
}

/// Each source prefix with each destination prefix; no prefix is any.
fn pairs(from: &Value, to: &Value) -> Vec<(String, String)> {
    let written = |list: &Value, field: &str| -> Vec<String> {
        let all: Vec<_> = items(list).map(|cidr| format!("ip {field} {}", text(cidr))).collect();
        if all.is_empty() { vec![String::new()] } else { all }
    };
    let to = written(to, "daddr");
    written(from, "saddr").into_iter().flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone()))).collect()
}

/// What a rule asks of protocol, ports, and ICMP type and code.
fn asked(rule: &Value) -> String {
    let protocol = text(&rule["protocol"]);
    let mut asked = match protocol.as_str() {
        "all" => String::new(),
        protocol => format!("meta l4proto {protocol}"),
    };
    if let Some(ports) = rule["ports"].as_str() {
        let _ = write!(asked, " th dport {ports}");
    }
    for (field, what) in [("icmp_type", "type"), ("icmp_code", "code")] {
        if let Some(value) = rule[field].as_i64().filter(|value| *value >= 0) {
            let _ = write!(asked, " icmp {what} {value}");
        }
    }
    asked
}
