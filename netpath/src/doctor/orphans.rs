//! What is attached or in the maps, and needed by nothing.

use super::{Fault, Host};

/// So many are told one by one.
const SHOWN: usize = 20;

pub(super) fn orphan_program(host: &Host) -> Vec<Fault> {
    faults(host, true, "its frames are judged by definitions that are no more")
}

pub(super) fn orphan_rows(host: &Host) -> Vec<Fault> {
    faults(host, false, "frames are taken for, or sent to, what is no more, and the rows take room")
}

fn faults(host: &Host, is_attached: bool, why: &'static str) -> Vec<Fault> {
    let orphans: Vec<_> = host.orphans.iter().filter(|orphan| orphan.is_attached == is_attached).collect();
    let release = format!("`{}`", host.release);
    let fault = |object: String, what: String| Fault::warning(object, what).because(why).mend(release.clone());
    let shown = orphans.iter().take(SHOWN).map(|orphan| fault(orphan.object.clone(), orphan.what.clone()));
    let mut faults: Vec<Fault> = shown.collect();
    if let Some(more @ 1..) = orphans.len().checked_sub(SHOWN) {
        faults.push(fault(format!("{more} more"), "the like".to_owned()));
    }
    faults
}
