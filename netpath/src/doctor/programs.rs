//! What is pinned and attached.

use netpath_common::maps::{self, shape};

use super::{
    Fault, Host,
    finding::{counted, few, listed},
    host::Pins,
};
use crate::datapath::AttachState;

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

/// Programs keep their maps alive, but nobody finds those any more.
pub(super) fn pins_missing(host: &Host) -> Vec<Fault> {
    let Pins::Missing(maps) = &host.pins else { return Vec::new() };
    // The kernel empties a table of programs that nobody has pinned.
    let why = match [shape::STAGES, shape::STAGES_XDP].iter().any(|table| maps.contains(&table.name)) {
        true => {
            "nothing is routed, flooded or translated, and no command sees or changes what is in force, nor the host's name in it"
        }
        false => "programs go on with them, but no command sees or changes what is in force, nor the host's name in it",
    };
    let maps = match &maps[..] {
        all if all.len() == maps::ALL.len() => "no map is pinned".to_owned(),
        [map] => format!("map {map} is not pinned any more"),
        some => format!("maps {} are not pinned any more", listed(some)),
    };
    let fault = Fault::error(root(host), format!("{maps}, while programs are attached that use them"))
        .because(why)
        .mend(format!(
            "`{}` makes what is missing anew and puts programs that use it in place of those; what only the lost maps held of \
             connections, counters and usage is gone",
            host.apply
        ));
    vec![fault]
}

pub(super) fn programs_outdated(host: &Host) -> Vec<Fault> {
    let outdated: Vec<_> = host.attachments.iter().filter(|a| a.state == AttachState::Outdated).collect();
    if outdated.is_empty() && host.pins != (Pins::Applied { is_current: false }) {
        return Vec::new();
    }
    let found = format!("its programs are of another build, on {}", counted(outdated.len(), "hook"));
    let fault = Fault::warning(root(host), found)
        .because("what this build has mended or learned is not in force")
        .mend(format!("`{}` replaces them in place, without losing a packet", host.apply));
    vec![fault]
}

/// A link whose program was taken off, or that is gone itself. Where the device is gone, it is an orphan, or an uplink that is
/// missing.
pub(super) fn program_off(host: &Host) -> Vec<Fault> {
    let object = |device: &str| format!("device {device}");
    let broken = host.attachments.iter().filter(|a| a.state == AttachState::Broken && host.named(&a.device).is_some());
    let broken = broken.map(|a| (object(&a.device), format!("program {} is not on it any more", a.hook)));
    let unpinned = host.unpinned.iter().map(|(device, hook)| {
        let lost = "its pin was removed, or `netpath detach` has taken it off";
        (object(device), format!("program {hook} belongs on it, and nothing is pinned for it: {lost}"))
    });
    few(broken.chain(unpinned).collect(), |object, found| {
        Fault::error(object, found)
            .because("its frames are not taken: guests are cut off, or not guarded")
            .mend(format!("`{}`", host.apply))
    })
}

fn root(host: &Host) -> String {
    format!("root {}", host.root.display())
}
