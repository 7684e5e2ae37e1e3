//! Whether what is kept in force still is: nothing tells of a pin that is removed, of a program that is taken off a device, of a
//! file system that is mounted anew.

use std::{path::Path, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    datapath::{AttachState, DatapathError, Programs, Root, attachments},
    error::Error,
    netlink,
};

/// How often it is looked at most.
const EVERY: Duration = Duration::from_secs(10);
/// How many times as long as it took the processor it is not looked again: a thousand devices take 60 ms, and the agent a fifth of a
/// percent of a core.
const REST: u32 = 500;

/// From a look that took the processor so long to the next one.
pub(super) fn rest(took: Duration) -> Duration {
    EVERY.max(took * REST)
}

/// How long the processor has worked for this thread: what waits for others' locks takes nothing.
pub(super) fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// How many programs are attached under a root.
///
/// # Errors
/// When the pins cannot be read.
pub(super) fn count(root: &Path) -> Result<usize, DatapathError> {
    Ok(Root::at(root).link_pins()?.len())
}

/// What is missing of what an apply has left with so many programs, in words; `None` where nothing is.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn missing(root: &Path, attached: usize) -> Result<Option<String>, Error> {
    let root = match Root::open(root) {
        Err(DatapathError::NothingApplied { .. }) => return Ok(Some(format!("{} is gone", root.display()))),
        // An apply of another build, or one that was killed: whoever made it says so.
        Err(DatapathError::OtherAbi { .. } | DatapathError::Unfinished { .. }) => return Ok(None),
        root => root?,
    };
    if let Some(map) = root.missing_maps().first() {
        return Ok(Some(format!("the pin of map {map} is gone")));
    }
    let devices = netlink::devices()?;
    let found = attachments(&root, Programs::pinned(&root)?.as_ref(), &devices)?;
    // A device that is gone is heard of.
    let is_there = |name: &str| devices.iter().any(|device| device.name == name);
    let lost = found.iter().find(|a| a.state == AttachState::Broken && is_there(&a.device));
    Ok(match lost {
        Some(lost) => Some(format!("program {} was taken off device {}", lost.hook, lost.device)),
        None if found.len() < attached => Some(format!("{} pins of programs are gone", attached - found.len())),
        None => None,
    })
}
