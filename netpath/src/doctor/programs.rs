//! What is pinned and attached.

use super::{Fault, Host, host::Pins};
use crate::datapath::{AttachState, Attachment};

pub(super) fn pins_of_other_abi(host: &Host) -> Vec<Fault> {
    let Pins::OtherAbi(found) = &host.pins else { return Vec::new() };
    let (object, found) = (root(host), format!("a netpath of ABI {found} was applied there, this build has another"));
    let fault = Fault::warning(object, found)
        .because("this build does not read what is in force, which goes on as it is")
        .mend(format!("`{}` takes over in place, and keeps connections and counters", host.apply));
    vec![fault]
}

pub(super) fn apply_unfinished(host: &Host) -> Vec<Fault> {
    let Pins::BetweenAbis(found) = &host.pins else { return Vec::new() };
    let found = format!("an apply was killed on the way between ABI {found} and this build's");
    let fault = Fault::error(root(host), found)
        .because("devices run programs of both, and connections that begin on the one are unknown on the other")
        .mend(format!("`{}` completes it", host.apply));
    vec![fault]
}

pub(super) fn pins_unusable(host: &Host) -> Vec<Fault> {
    let Pins::Unusable(why) = &host.pins else { return Vec::new() };
    let fault = Fault::error(root(host), why.clone())
        .because("this build can neither read nor change what is in force, which goes on as it is")
        .mend(
            "`netpath detach --purge` with the build that made it (which interrupts traffic), then apply with this one",
        );
    vec![fault]
}

pub(super) fn programs_outdated(host: &Host) -> Vec<Fault> {
    let outdated: Vec<_> = host.attachments.iter().filter(|a| a.state == AttachState::Outdated).collect();
    if outdated.is_empty() && host.pins != (Pins::Applied { is_current: false }) {
        return Vec::new();
    }
    let found = format!("its programs are of another build, on {} hooks", outdated.len());
    let fault = Fault::warning(root(host), found)
        .because("what this build has mended or learned is not in force")
        .mend(format!("`{}` replaces them in place, without losing a packet", host.apply));
    vec![fault]
}

/// A link whose program was taken off. Where the device itself is gone, it is an orphan, or an uplink that is missing.
pub(super) fn program_off(host: &Host) -> Vec<Fault> {
    let off = host.attachments.iter().filter(|a| a.state == AttachState::Broken && host.named(&a.device).is_some());
    let fault = |attachment: &Attachment| {
        Fault::error(
            format!("device {}", attachment.device),
            format!("program {} is not on it any more", attachment.hook),
        )
        .because("its frames are not taken: guests are cut off, or not guarded")
        .mend(format!("`{}`", host.apply))
    };
    off.map(fault).collect()
}

fn root(host: &Host) -> String {
    format!("root {}", host.root.display())
}
