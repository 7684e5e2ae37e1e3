//! A guest that claims to be another one: nothing of it arrives, and it is counted.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{
    report::Report,
    site::{Guest, Site},
};
use crate::{
    guest::{PATIENCE, PacketSocket, RawGuest, kernel::NIC, raw::marker},
    packet::guest,
};

/// A frame that claims something.
struct Claim {
    what: &'static str,
    reason: &'static str,
    frame: Vec<u8>,
}

pub(super) fn check(site: &Site, report: &mut Report) {
    // One spoofs, one is claimed to be, one would be deceived.
    let three = site.networks().into_iter().find_map(|network| {
        let guests: Vec<_> = site.guests_of(network).collect();
        if let [spoofer, owner, target, ..] = guests[..] { Some((spoofer, owner, target)) } else { None }
    });
    let Some((spoofer, owner, target)) = three else { return };
    for claim in claims(spoofer, owner, target) {
        let what = format!("{} claims {}'s {}", spoofer.title(), owner.instance, claim.what);
        let expected = format!("dropped, {} +1", claim.reason);
        report.row(site, &what, &expected, attempt(site, spoofer, target, &claim));
    }
    let host = site.host_of(spoofer);
    host.shown(&["show", "drops", "--network", &spoofer.network]);
}

fn claims(spoofer: &Guest, owner: &Guest, target: &Guest) -> [Claim; 3] {
    let [own, other, to] = [spoofer, owner, target].map(|guest| guest.kernel.station());
    let ipv4 = guest(own).to(to).from(other.ip).payload(marker()).build();
    let mac = guest(own).to(to).from_mac(other.mac).payload(marker()).build();
    let arp = guest(own).from(other.ip).arp_reply(to).build();
    [
        Claim { what: "IPv4 address", reason: "spoofed_ipv4", frame: ipv4 },
        Claim { what: "MAC address", reason: "spoofed_mac", frame: mac },
        Claim { what: "address by ARP", reason: "spoofed_arp", frame: arp },
    ]
}

/// Sends the claim and, on the same way after it, an honest frame: when that is there, the claim should have been.
fn attempt(site: &Site, spoofer: &Guest, target: &Guest, claim: &Claim) -> Result<String> {
    let host = site.host_of(spoofer);
    let before = host.dropped(&spoofer.network, claim.reason)?;
    let (out, watch) = (socket(spoofer)?, socket(target)?);
    let honest = guest(spoofer.kernel.station()).to(target.kernel.station()).payload(marker()).build();
    out.try_send(&claim.frame)?;
    out.try_send(&honest)?;
    let mut arrived = false;
    let last = watch.until(Instant::now() + PATIENCE, |frame| {
        arrived |= frame == claim.frame;
        frame == honest
    });
    last.context("an honest frame of the same guest did not arrive")?;
    let counted = host.dropped(&spoofer.network, claim.reason)?.saturating_sub(before);
    let what = if arrived { "arrived" } else { "dropped" };
    Ok(format!("{what}, {} +{counted}", claim.reason))
}

/// The guest's NIC, frame by frame.
fn socket(guest: &Guest) -> Result<RawGuest> {
    let socket = guest.kernel.ns().run(|| PacketSocket::open(NIC))?;
    Ok(RawGuest::on_socket(&guest.title(), socket))
}
