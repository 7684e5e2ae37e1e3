//! `netpath doctor`: faults that really happen on hypervisors, each with why it matters and the command that mends it.
//!
//! ```text
//! kernel, maps, probes ─► [gather] ─► Host ─► every check of CHECKS ─► findings
//!         apply's plan ─► [preflight] ─┘      those that come before an apply ─► what stops it
//! ```
//!
//! A check is a function from a `Host` to faults, in the file of its subject, and a row of `CHECKS` with its id.
//! `docs/operations.md` has a row for each too.

mod connections;
mod counters;
mod document;
mod finding;
pub(crate) mod gather;
mod guests;
mod host;
mod kernel;
mod map_fill;
mod offloads;
mod orphans;
mod processors;
mod programs;
mod public;
mod segments;
mod tunnels;
mod underlay;
mod uplinks;

#[cfg(test)]
mod tests;

pub use self::finding::{Finding, Severity};
pub(crate) use self::{
    finding::Fault,
    host::{Guest, Host},
};

/// What VXLAN adds to a packet over IPv4: Ethernet 14, IPv4 20, UDP 8, VXLAN 8 (RFC 7348 section 5).
const VXLAN_OVERHEAD: u32 = 50;

/// One check.
struct Check {
    /// Its name, for programs: it stays.
    id: &'static str,
    /// It is made before an apply too, where its errors stop it.
    before_apply: bool,
    find: fn(&Host) -> Vec<Fault>,
}

const fn check(id: &'static str, find: fn(&Host) -> Vec<Fault>) -> Check {
    Check { id, before_apply: false, find }
}

impl Check {
    const fn before_apply(self) -> Self {
        Self { before_apply: true, ..self }
    }
}

/// Every check.
const CHECKS: &[Check] = &[
    check("kernel_too_old", kernel::too_old),
    check("bpffs_missing", kernel::bpffs_missing),
    check("memlock_limit", kernel::memlock_limit),
    check("jit_off", kernel::jit_off),
    check("jit_hardened", kernel::jit_hardened),
    check("unprivileged_bpf", kernel::unprivileged_bpf),
    check("tc_clsact", kernel::tc_clsact),
    check("pins_of_other_abi", programs::pins_of_other_abi),
    check("apply_unfinished", programs::apply_unfinished),
    check("pins_unusable", programs::pins_unusable),
    check("pins_missing", programs::pins_missing),
    check("programs_outdated", programs::programs_outdated),
    check("program_off", programs::program_off),
    check("host_unknown", document::host_unknown),
    check("document_unfit", document::document_unfit),
    check("document_not_applied", document::document_not_applied),
    check("orphan_program", orphans::orphan_program),
    check("orphan_rows", orphans::orphan_rows),
    check("map_fill", map_fill::map_fill),
    check("connection_limit", connections::connection_limit),
    check("ports_exhausted", connections::ports_exhausted),
    check("uplink_missing", uplinks::uplink_missing).before_apply(),
    check("uplink_down", uplinks::uplink_down),
    check("uplink_enslaved", uplinks::uplink_enslaved),
    check("xdp_fallback", uplinks::xdp_fallback).before_apply(),
    check("xdp_generic", uplinks::xdp_generic),
    check("uplink_unpaced", uplinks::uplink_unpaced).before_apply(),
    check("device_renamed", uplinks::device_renamed),
    check("underlay_mtu", underlay::underlay_mtu).before_apply(),
    check("tunnel_address_missing", underlay::tunnel_address_missing),
    check("peer_silent", underlay::peer_silent),
    check("path_mtu", underlay::path_mtu),
    check("rp_filter", underlay::rp_filter),
    check("tunnel_device", tunnels::tunnel_device),
    check("group_not_joined", tunnels::group_not_joined),
    check("vxlan_port_shared", tunnels::vxlan_port_shared).before_apply(),
    check("vni_conflict", segments::vni_conflict),
    check("vlan_conflict", segments::vlan_conflict),
    check("guest_bridgeless", guests::guest_bridgeless).before_apply(),
    check("guest_bypass", guests::guest_bypass).before_apply(),
    check("guest_of_other_root", guests::guest_of_other_root).before_apply(),
    check("bridge_netfilter", guests::bridge_netfilter),
    check("vhost_net_missing", guests::vhost_net_missing),
    check("rxvlan_on", offloads::rxvlan_on),
    check("gro_off", offloads::gro_off),
    check("tunnel_offload_off", offloads::tunnel_offload_off),
    check("rx_crc_errors", counters::rx_crc_errors),
    check("rx_missed", counters::rx_missed),
    check("rx_errors", counters::rx_errors),
    check("rx_dropped", counters::rx_dropped),
    check("rx_driver_loss", counters::rx_driver_loss),
    check("cpu_governor", processors::cpu_governor),
    check("rx_queues", processors::rx_queues),
    check("irq_spread", processors::irq_spread),
    check("upstream_silent", public::upstream_silent),
    check("egress_without_address", public::egress_without_address),
];

/// What every check finds, errors first.
pub(crate) fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = run(host, |_| true);
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    findings
}

/// What is to be known before an apply.
pub(crate) fn before_apply(host: &Host) -> Vec<Finding> {
    run(host, |check| check.before_apply)
}

fn run(host: &Host, is_wanted: impl Fn(&Check) -> bool) -> Vec<Finding> {
    let checks = CHECKS.iter().filter(|check| is_wanted(check));
    checks.flat_map(|check| (check.find)(host).into_iter().map(|fault| fault.by(check.id))).collect()
}
