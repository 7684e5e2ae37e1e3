//! What a document says that this version does not act upon, and how that is told.

use netpath::definitions::{not_in_force, parse};

/// The document of the docs with every kind of object in it.
const ZONE: &str = include_str!("zone.yaml");

#[test]
fn the_parts_that_are_not_in_force_are_named() {
    let zone = parse("zone.yaml", ZONE).unwrap();
    let parts = not_in_force(&zone);
    assert!(parts.iter().any(|said| said.starts_with("routing of IPv6 (the gateway answers")), "{parts:#?}");
    assert!(!parts.iter().any(|said| said.contains("nat") || said.contains("ACLs")), "{parts:#?}");
    let has_both = "egress rules of the firewall (the ACL is asked instead) of networks: acme-web";
    assert!(parts.iter().any(|said| said == has_both), "{parts:#?}");
    let bare = "zone: z\nphysical_networks:\n  - {name: v, isolation: vxlan, vnis: 1-9999}\nnetworks:\n  \
                - {name: n1, physical_network: v, segment: 1, acl: []}\n";
    let parts = not_in_force(&parse("zone.yaml", bare).unwrap());
    assert!(parts.iter().any(|said| said.contains("ACLs") && said.contains("n1")), "{parts:#?}");
}

#[test]
fn a_route_to_the_gateway_itself_and_a_rule_for_an_address_that_nothing_uses_are_named() {
    for (from, to, says) in [
        ("via: 10.1.1.12", "via: 10.1.1.1", "static routes by way of the network's own gateway of networks: acme-web"),
        (
            "{public: 203.0.113.10, protocol: tcp, ports: 2222, cidrs",
            "{public: 203.0.113.99, protocol: tcp, ports: 2222, cidrs",
            "ingress rules for public addresses that nothing is translated to (a wrong address?) of networks: acme-web",
        ),
    ] {
        assert!(ZONE.contains(from), "the zone has no {from:?}");
        let zone = parse("zone.yaml", &ZONE.replacen(from, to, 1)).unwrap();
        assert!(not_in_force(&zone).iter().any(|said| said == says), "{:#?}", not_in_force(&zone));
        assert!(!not_in_force(&parse("zone.yaml", ZONE).unwrap()).iter().any(|said| said == says), "{says}");
    }
}
