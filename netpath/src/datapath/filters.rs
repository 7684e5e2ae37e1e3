//! Below Linux 6.6: filters in a device's clsact, at a place of netpath's own.

use std::{io, path::Path};

use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use rustix::io::Errno;

use super::{DatapathError, Hook, Kernel, Programs, Root, attach::is_absent, error::errno, folders::remove_pin};
use crate::netlink::{Device, tc};

/// Priority of netpath's clsact filters: before whatever else is likely to be there.
const PRIORITY: u16 = 17;
/// Handle of netpath's clsact filters.
const HANDLE: TcHandle = TcHandle::new(0, 0x4e50);

/// Attaches the hook's program to a device, or replaces what netpath has there. A filter has no file descriptor to pin: its program
/// is pinned in its place, which says that the filter of this priority and handle is netpath's for as long as it runs that program.
pub(super) fn attach(root: &Root, programs: &Programs, device: &Device, hook: Hook) -> Result<(), DatapathError> {
    let name = &*device.name;
    let failed = |error: ProgramError| DatapathError::failed(format!("attach {hook} to device {name}"), error);
    let io_failed = |error: io::Error| DatapathError::failed(format!("attach {hook} to device {name}"), error);
    let path = root.filter(name, hook);
    let mut program = programs.classifier(hook)?;
    match qdisc_add_clsact(name) {
        Err(error) if errno(&error) == Some(Errno::EXIST.raw_os_error()) => {}
        added => added.map_err(|e| DatapathError::failed(format!("add clsact to device {name}"), e))?,
    }
    if let Some(filter) = own(device)?.next() {
        refuse_others(root, device, &filter)?;
        let link = SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, HANDLE, None);
        match program.attach_to_link(link.map_err(io_failed)?) {
            Ok(id) => {
                std::mem::forget(program.take_link(id).map_err(failed)?);
                return repin(&mut program, &path);
            }
            // The device was made anew, or the filter was deleted, meanwhile.
            Err(error) if matches!(errno(&error), Some(code) if is_absent(code)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // Pinned first: killed between the two, the pin without its filter is found broken and attached again.
    repin(&mut program, &path)?;
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None });
    let id = match program.attach_with_options(name, TcAttachType::Ingress, options) {
        Ok(id) => id,
        Err(error) => {
            // The pin would say that whatever filter is there is this root's.
            remove_pin(&path)?;
            return Err(failed(error));
        }
    };
    // Its drop would delete the filter.
    std::mem::forget(program.take_link(id).map_err(failed)?);
    Ok(())
}

/// The filter where netpath's is to be must be netpath's, and no other root's. One that no root has pinned has outlived its
/// pins: it is this root's to replace.
fn refuse_others(root: &Root, device: &Device, filter: &tc::Filter) -> Result<(), DatapathError> {
    let other = match is_netpaths(filter) {
        true => filter.program_id.and_then(|program| root.filter_of_other(program)),
        false => None,
    };
    match (is_netpaths(filter), other) {
        (true, None) => Ok(()),
        (_, other) => Err(DatapathError::FilterTaken { device: device.name.clone(), other }),
    }
}

/// Whether another root than this one has the filter of a device that no pin of this root speaks of: from Linux 6.6, links tell.
///
/// # Errors
/// When the kernel refuses.
pub fn has_filter_of_other(root: &Root, device: &Device) -> Result<bool, DatapathError> {
    if Kernel::probe()?.has_tcx {
        return Ok(false);
    }
    let mut programs = own(device)?.filter(is_netpaths).filter_map(|filter| filter.program_id);
    Ok(programs.any(|program| root.filter_of_other(program).is_some()))
}

fn is_netpaths(filter: &tc::Filter) -> bool {
    Hook::ALL.iter().any(|hook| filter.program.as_deref() == Some(hook.name()))
}

fn repin(program: &mut SchedClassifier, path: &Path) -> Result<(), DatapathError> {
    remove_pin(path)?;
    program.pin(path).map_err(|e| DatapathError::failed(format!("pin {}", path.display()), e))
}

/// Takes the root's filter off a device.
pub(super) fn remove(root: &Root, device: &str, hook: Hook, pin: &Path) -> Result<(), DatapathError> {
    let failed = |e: ProgramError| DatapathError::failed(format!("take the filter off device {device}"), e);
    let pinned = ProgramInfo::from_pin(pin).map_err(failed)?.id();
    // A device that is gone took its filters along.
    let Ok(link) = SchedClassifierLink::attached(device, TcAttachType::Ingress, PRIORITY, HANDLE, None) else {
        return Ok(());
    };
    let devices = crate::netlink::devices().map_err(|e| DatapathError::failed("list devices", e))?;
    // Killed between replacing the program and pinning it, the filter runs a program that the pin does not name.
    let is_unpinned = |filter: &tc::Filter| {
        filter.program.as_deref() == Some(hook.name())
            && filter.program_id.is_none_or(|program| root.filter_of_other(program).is_none())
    };
    let is_own = match devices.iter().find(|found| found.name == device) {
        Some(device) => own(device)?.any(|filter| filter.program_id == Some(pinned) || is_unpinned(&filter)),
        None => false,
    };
    if is_own {
        use aya::programs::links::Link as _;
        return link.detach().map_err(failed);
    }
    std::mem::forget(link);
    Ok(())
}

/// The filter at netpath's priority and handle.
pub(super) fn own(device: &Device) -> Result<impl Iterator<Item = tc::Filter>, DatapathError> {
    let filters = tc::ingress_filters(device.index)
        .map_err(|e| DatapathError::failed(format!("list filters of device {}", device.name), e))?;
    Ok(filters.into_iter().filter(|filter| filter.priority == PRIORITY && filter.handle == u32::from(HANDLE)))
}
