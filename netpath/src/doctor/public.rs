//! The public side: the upstream router, and who has an address to go there from.

use netpath_common::stage::neighbour::PATIENCE_KNOWN;

use super::{
    Fault, Host,
    host::{Egress, PublicLink},
};

pub(super) fn upstream_silent(host: &Host) -> Vec<Fault> {
    let fault = |link: &PublicLink| {
        let PublicLink { name, device, router, .. } = link;
        let place = match link.vlan {
            0 => format!("untagged on {device}"),
            vlan => format!("on VLAN {vlan} of {device}"),
        };
        let heard = match link.heard {
            Some(seconds) => format!("it was last heard of {seconds} s ago"),
            None => "it was never heard of".to_owned(),
        };
        let filter = if link.vlan == 0 { "arp".to_owned() } else { format!("vlan {} and arp", link.vlan) };
        // One answer may be lost; for as long as this the data path sends to whom it knows, too.
        let is_recent = link.heard.is_some_and(|seconds| seconds <= PATIENCE_KNOWN);
        let fault = if is_recent { Fault::warning } else { Fault::error };
        fault(
            format!("public link {name}"),
            format!("the upstream router {router} does not answer ARP {place}; {heard}"),
        )
        .because("no guest whose public address is here reaches the outside, or is reached: the tag is wrong, or the router is down")
        .mend(format!("compare the VLAN with the switch's port; `tcpdump -eni {device} {filter}` shows what comes"))
    };
    host.public_links.iter().filter(|link| !link.answers).map(fault).collect()
}

pub(super) fn egress_without_address(host: &Host) -> Vec<Fault> {
    let fault = |egress: &Egress| {
        let object = format!("network {}", egress.network);
        let fault = match egress {
            Egress { has_address: true, .. } | Egress { has_rules: false, allows: false, .. } => return None,
            Egress { has_rules: true, .. } => {
                Fault::warning(object, "it has egress rules, and guests without a public address to leave from")
            }
            Egress { is_tier: true, .. } => {
                Fault::note(object, "it lets its guests out, and they have no public address to leave from")
            }
            Egress { .. } => {
                Fault::warning(object, "it lets its guests out, and they have no public address to leave from")
            }
        };
        let fault = fault
            .because("what they send to the outside is dropped (no_public_address)")
            .mend(format!("give it `source_nat` in the definitions, then `{}`", host.apply));
        Some(fault)
    };
    host.gateways.iter().filter_map(fault).collect()
}
