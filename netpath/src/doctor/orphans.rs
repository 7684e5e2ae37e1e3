//! What is attached or in the maps, and needed by nothing.

use super::{Fault, Host, finding::few};

pub(super) fn orphan_program(host: &Host) -> Vec<Fault> {
    faults(host, true, "its frames are judged by definitions that are no more")
}

pub(super) fn orphan_rows(host: &Host) -> Vec<Fault> {
    faults(host, false, "frames are taken for, or sent to, what is no more, and the rows take room")
}

fn faults(host: &Host, is_attached: bool, why: &'static str) -> Vec<Fault> {
    let orphans = host.orphans.iter().filter(|orphan| orphan.is_attached == is_attached);
    let release = format!("`{}`", host.release);
    few(orphans.map(|orphan| (orphan.object.clone(), orphan.what.clone())).collect(), |object, what| {
        Fault::warning(object, what).because(why).mend(release.clone())
    })
}
