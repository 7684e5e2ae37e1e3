//! What guests of another root rely on, of an uplink that both have: it stays as it is, whichever of the two has changed it.

use super::steps::Step;
use crate::{
    datapath::{self, Attachment, DatapathError, Hook},
    netlink::Device,
};

/// Whether another root has its program on an uplink; `own` are the ids of this root's. Below Linux 6.6 a device has one root's filter,
/// and this is never so.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn is_shared(device: &Device, own: &[u32]) -> Result<bool, DatapathError> {
    // Whose name may not be asked for may be one of netpath's: a mode that stays on for nothing cuts nobody off.
    let may_be = |program: &String| program == Hook::FromUplink.name() || program.starts_with("id ");
    Ok(datapath::foreign_tcx(device, own)?.iter().any(may_be))
}

/// Leaves the steps that would take something off an uplink that another root has as well.
pub(super) fn unshared(off: Vec<Step>, devices: &[Device], actual: &[Attachment]) -> Result<Vec<Step>, DatapathError> {
    let own: Vec<u32> = actual.iter().map(|attachment| attachment.program).collect();
    let mut kept = Vec::new();
    for step in off {
        let index = match &step {
            Step::Promiscuity { ifindex, on: false, .. } | Step::DefaultQueue { ifindex, .. } => Some(*ifindex),
            _ => None,
        };
        let device = index.and_then(|index| devices.iter().find(|device| device.index == index));
        match device {
            Some(device) if is_shared(device, &own)? => {}
            _ => kept.push(step),
        }
    }
    Ok(kept)
}
