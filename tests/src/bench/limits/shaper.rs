//! The peers: how Linux limits a guest behind a bridge, with a rate that nothing reaches.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench::gateway::peer::nft;

/// What limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shaper {
    /// Nothing does.
    None,
    /// A class of the queueing discipline HTB, which all of the device's packets go through.
    Htb,
    /// A rule of nftables for all that a bridge forwards.
    Nft,
}

/// Lets it limit what leaves by a device of the current namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn install(shaper: Shaper, device: &str) -> Result<()> {
    match shaper {
        Shaper::None => Ok(()),
        Shaper::Htb => {
            tc(&format!("qdisc replace dev {device} root handle 1: htb default 10"))?;
            // As much as in a tenth of a second may come at once.
            let burst = "burst 1g cburst 1g quantum 200000";
            tc(&format!("class replace dev {device} parent 1: classid 1:10 htb rate 90gbit ceil 90gbit {burst}"))
        }
        Shaper::Nft => nft("table bridge limits {
 chain forward {
  type filter hook forward priority filter;
  limit rate over 11250 mbytes/second burst 1000 mbytes drop
 }
}"),
    }
}

/// Takes it off again.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(shaper: Shaper, device: &str) -> Result<()> {
    match shaper {
        Shaper::None => Ok(()),
        Shaper::Htb => tc(&format!("qdisc delete dev {device} root")),
        Shaper::Nft => nft("delete table bridge limits"),
    }
}

fn tc(arguments: &str) -> Result<()> {
    let status = Command::new("tc").args(arguments.split(' ')).status().context("cannot start tc")?;
    ensure!(status.success(), "tc {arguments}: {status}");
    Ok(())
}
