//! `netpath show networks|ports|fdb|counters|drops`: what is in force, and what passed.

mod counters;
mod fdb;
mod networks;
mod ports;

use clap::ValueEnum;

use super::{Exit, Global, applied::Applied};
use crate::error::Error;

/// Show networks, ports, where MAC addresses live, packets that passed, packets that were refused
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// Only this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
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
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let applied = Applied::open(global)?;
    let only = Only(args.network.as_deref());
    match args.what {
        What::Networks => networks::show(&applied, only, global)?,
        What::Ports => ports::show(&applied, only, global)?,
        What::Fdb => fdb::show(&applied, only, global)?,
        What::Counters => counters::show(&applied, only, global)?,
        What::Drops => networks::show_drops(&applied, only, global)?,
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
