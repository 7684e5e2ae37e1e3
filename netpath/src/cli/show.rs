//! `netpath show networks|ports|fdb|counters|drops|nat|flows|rules|limits|usage`: what is in force, and what passed.

mod counters;
mod fdb;
mod flows;
mod limits;
mod nat;
mod networks;
mod ports;
mod rules;
mod usage;

use std::net::Ipv4Addr;

use clap::ValueEnum;
use netpath_common::maps::{Flow, FlowKey};

use super::{Exit, Global, applied::Applied, watch};
use crate::error::Error;

/// Show networks, ports, where MAC addresses live, what passed and what was refused, NAT, connections, rules, limits, usage
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// Only this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    since: usage::Since,
}

/// What is shown of `nat`, `flows` and `rules`.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only what has this address on either side (nat, flows); of rules, those that hold it
    #[arg(long, value_name = "IP")]
    address: Option<Ipv4Addr>,
    /// Only what has this port or ICMP identifier on either side (nat, flows); of rules, those that hold it
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The bindings in force, too (nat)
    #[arg(long)]
    bindings: bool,
    /// What has been idle for too long and counts as absent, too (flows, nat --bindings)
    #[arg(long)]
    all: bool,
}

impl Which {
    /// Any of these addresses, any of these ports.
    fn has(&self, addresses: &[[u8; 4]], ports: &[u16]) -> bool {
        self.address.is_none_or(|wanted| addresses.contains(&wanted.octets()))
            && self.port.is_none_or(|wanted| ports.contains(&wanted))
    }

    fn has_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        let ports = [key.source_port, key.destination_port, flow.source_port, flow.destination_port];
        self.has(&[key.source, key.destination, flow.source, flow.destination], &ports)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The networks with a member on this host
    Networks,
    /// The guest ports of this host
    Ports,
    /// Where MAC addresses live, defined and learned
    Fdb,
    /// Packets and bytes of each port and network
    Counters,
    /// Refused packets of each network, by reason
    Drops,
    /// Public addresses, where NAT is done, ports and bindings in use
    Nat,
    /// Connections, both directions in one
    Flows,
    /// Rules of firewalls and ACLs, in the order in which they are asked
    Rules,
    /// Limits, the rates of late, and what became of packets because of them
    Limits,
    /// What was counted for NICs, networks, accounts and public addresses
    Usage,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let applied = Applied::open(&global.root)?;
    let only = Only(args.network.as_deref());
    // What was used counts of networks that are gone, too: that view asks its own rows.
    if let Some(name) = only.0.filter(|_| !matches!(args.what, What::Usage)) {
        watch::network(&applied, name)?;
    }
    match args.what {
        What::Networks => networks::show(&applied, only, global)?,
        What::Ports => ports::show(&applied, only, global)?,
        What::Fdb => fdb::show(&applied, only, global)?,
        What::Counters => counters::show(&applied, only, global)?,
        What::Drops => networks::show_drops(&applied, only, global)?,
        What::Nat => nat::show(&applied, only, &args.which, global)?,
        What::Flows => flows::show(&applied, only, &args.which, global)?,
        What::Limits => limits::show(&applied, only, global)?,
        What::Usage => usage::show(&applied, only, &args.since, global)?,
        What::Rules => rules::show(&applied, only, &args.which, global)?,
    }
    Ok(Exit::Done)
}

/// The network that is asked for, or all.
#[derive(Debug, Clone, Copy)]
struct Only<'a>(Option<&'a str>);

impl Only<'_> {
    fn wants(self, network: &str) -> bool {
        self.0.is_none_or(|only| only == network)
    }
}
