//! Puts programs on devices, replaces them in place, takes them off, and says what is where.
//!
//! ```text
//! pinned link? ─ yes ─► update it in place (no packet sees a gap) ─ ENOLINK, ENODEV: the device went away ─┐
//!      │ no                                                                                                 ▼
//!      └────────────────────────────────────────────► attach, pin ◄──────────────────────────────── unpin
//! ```
//!
//! A link that is not pinned yet ends with the process, so a kill between the two leaves the device as it was.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use aya::programs::{
    LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{
    DatapathError, Hook, LinkPin, Programs, Root,
    error::errno,
    filters,
    folders::{make_dir, remove_dir, remove_pin},
    syscall,
};
use crate::netlink::{Device, XdpSupport};

/// One program on one device, as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the device.
    pub device: String,
    /// The name that it had when it was attached, where it has another one now.
    pub former: Option<String>,
    /// The hook.
    pub hook: Hook,
    /// How it is attached.
    pub state: AttachState,
    /// The program's id.
    pub program: u32,
}

/// Whether an attachment works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachState {
    /// This build's program runs.
    Current,
    /// Another build's program runs.
    Outdated,
    /// The device it was attached to is gone, or its program was taken off; only the pin is left.
    Broken,
}

/// Everything pinned under the root, against what the devices really run; without what an apply or a detach beside this takes off.
///
/// # Errors
/// When pins or devices cannot be read.
pub fn attachments(
    root: &Root,
    programs: Option<&Programs>,
    devices: &[Device],
) -> Result<Vec<Attachment>, DatapathError> {
    let by_name: HashMap<_, _> = devices.iter().map(|d| (d.name.as_str(), d)).collect();
    let by_index: HashMap<_, _> = devices.iter().map(|d| (d.index, d)).collect();
    let state = |pin: &LinkPin, program: u32| match programs.map(|programs| programs.id(pin.hook)) {
        Some(current) if current == program => AttachState::Current,
        _ => AttachState::Outdated,
    };
    let mut found = Vec::new();
    for pin in root.link_pins()? {
        let (program, device) = match pin.is_clsact {
            true => match pinned_program(&pin)? {
                Some(program) => {
                    (program, filtered(by_name.get(pin.device.as_str()).copied(), programs, &pin, program)?)
                }
                None => continue,
            },
            // A link says where it is, whatever the device is called by now.
            false => match linked(&pin, &by_index)? {
                Some((program, device)) => (program, device.map(|device| (device.name.as_str(), program))),
                None => continue,
            },
        };
        found.push(match device {
            Some((device, program)) => {
                let former = (device != pin.device).then(|| pin.device.clone());
                Attachment { device: device.to_owned(), former, hook: pin.hook, state: state(&pin, program), program }
            }
            None => {
                Attachment { device: pin.device, former: None, hook: pin.hook, state: AttachState::Broken, program }
            }
        });
    }
    Ok(found)
}

/// A link's program, and the device that it is on. An index alone may be that of a device in another namespace, to which the link's
/// was moved. `None` where another command has removed the pin meanwhile.
fn linked<'d>(
    pin: &LinkPin,
    devices: &HashMap<u32, &'d Device>,
) -> Result<Option<(u32, Option<&'d Device>)>, DatapathError> {
    let Some((program, index)) = unless_removed(&pin.path, syscall::link(&pin.path))? else { return Ok(None) };
    let device = match index.and_then(|index| devices.get(&index)) {
        Some(device) if running(device, pin)?.contains(&program) => Some(*device),
        _ => None,
    };
    Ok(Some((program, device)))
}

/// The device of a filter's pin and the program that it runs, if that is this build's or the pinned one.
fn filtered<'d>(
    device: Option<&'d Device>,
    programs: Option<&Programs>,
    pin: &LinkPin,
    pinned: u32,
) -> Result<Option<(&'d str, u32)>, DatapathError> {
    let Some(device) = device else { return Ok(None) };
    let running: Vec<u32> = filters::own(device)?.filter_map(|filter| filter.program_id).collect();
    let current = programs.map(|programs| programs.id(pin.hook));
    let program = current.into_iter().chain([pinned]).find(|program| running.contains(program));
    Ok(program.map(|program| (device.name.as_str(), program)))
}

/// Gives pins of links the names that their devices have now. Two that have changed their names with each other change their pins.
///
/// # Errors
/// When pins cannot be read or moved.
pub fn follow_names(root: &Root, devices: &[Device]) -> Result<(), DatapathError> {
    let by_index: HashMap<_, _> = devices.iter().map(|d| (d.index, d)).collect();
    let is_there = |pin: &LinkPin| -> Result<Option<String>, DatapathError> {
        Ok(linked(pin, &by_index)?.and_then(|(_, device)| Some(device?.name.clone())))
    };
    let astray = || -> Result<Option<(LinkPin, String)>, DatapathError> {
        for pin in root.link_pins()?.into_iter().filter(|pin| !pin.is_clsact) {
            if let Some(name) = is_there(&pin)?.filter(|name| *name != pin.device) {
                return Ok(Some((pin, name)));
            }
        }
        Ok(None)
    };
    // Each move puts one pin where it belongs for good.
    while let Some((pin, name)) = astray()? {
        move_link(root, &pin, &name, is_there)?;
    }
    Ok(())
}

/// Moves a link's pin to the name that its device has; what is pinned there changes places with it, if it is on a device.
fn move_link(
    root: &Root,
    pin: &LinkPin,
    name: &str,
    is_there: impl Fn(&LinkPin) -> Result<Option<String>, DatapathError>,
) -> Result<(), DatapathError> {
    let path = root.link(name, pin.hook);
    let failed = |error: io::Error| DatapathError::failed(format!("move pin {}", pin.path.display()), error);
    if let Some(folder) = path.parent() {
        make_dir(folder)?;
    }
    let other = LinkPin { device: name.to_owned(), path: path.clone(), ..pin.clone() };
    let there = is_there(&other)?;
    if there.as_deref() == Some(name) {
        // Two of one device's: the one that has its name stays.
        remove_pin(&pin.path)?;
        return pin.path.parent().map_or(Ok(()), remove_dir);
    }
    let flags = if there.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
    renameat_with(CWD, &pin.path, CWD, &path, flags).map_err(|error| failed(error.into()))?;
    // The folder of the former name goes with its last pin.
    match pin.path.parent() {
        Some(folder) if flags.is_empty() => remove_dir(folder),
        _ => Ok(()),
    }
}

/// What devices are called now that had another name when a program was attached to them, and have the program still; by the name
/// that pins have.
///
/// # Errors
/// When pins or devices cannot be read.
pub fn renamed(root: &Root, devices: &[Device]) -> Result<BTreeMap<String, String>, DatapathError> {
    let pins = root.link_pins()?;
    let is_named = |name: &str| devices.iter().any(|device| device.name == name);
    let has_pin = |name: &str| pins.iter().any(|pin| pin.device == name);
    let mut renamed = BTreeMap::new();
    for pin in pins.iter().filter(|pin| !is_named(&pin.device)) {
        let index = match pin.is_clsact {
            // A filter's pin does not say where it is.
            true => None,
            false => unless_removed(&pin.path, syscall::link(&pin.path))?.and_then(|(_, index)| index),
        };
        let Some(program) = pinned_program(pin)? else { continue };
        let may_be = |device: &&Device| match pin.is_clsact {
            true => !has_pin(&device.name),
            false => Some(device.index) == index,
        };
        for device in devices.iter().filter(may_be) {
            if running(device, pin)?.contains(&program) {
                renamed.insert(pin.device.clone(), device.name.clone());
            }
        }
    }
    Ok(renamed)
}

/// The ids of the programs that a device runs where the pin's would be.
fn running(device: &Device, pin: &LinkPin) -> Result<Vec<u32>, DatapathError> {
    match (pin.is_clsact, pin.hook.is_xdp()) {
        (true, _) => Ok(filters::own(device)?.filter_map(|filter| filter.program_id).collect()),
        (false, true) => Ok(device.xdp_program.into_iter().collect()),
        (false, false) => tcx_programs(device),
    }
}

/// Attaches the hook's program to a device, or replaces what netpath has there.
///
/// # Errors
/// [`DatapathError::XdpTaken`] when somebody else's XDP program is in the way; otherwise when the kernel refuses.
pub fn attach(root: &Root, programs: &Programs, device: &Device, hook: Hook) -> Result<(), DatapathError> {
    let name = &device.name;
    if let Some(folder) = root.link(name, hook).parent() {
        make_dir(folder)?;
    }
    let failed = |error: ProgramError| DatapathError::failed(format!("attach {hook} to device {name}"), error);
    match (hook.is_xdp(), programs.kernel.has_tcx) {
        (true, _) => attach_xdp(root, programs, device, hook),
        (false, true) => attach_tcx(root, programs, device, hook).map_err(failed_or(failed)),
        (false, false) => filters::attach(root, programs, device, hook),
    }
}

/// Takes the hook's program off a device and removes the pin. Only what netpath attached is taken off.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(root: &Root, device: &str, hook: Hook) -> Result<(), DatapathError> {
    let filter = root.filter(device, hook);
    if filter.exists() {
        filters::remove(root, device, hook, &filter)?;
        remove_pin(&filter)?;
    }
    // A link goes with its last reference, which is the pin.
    let link = root.link(device, hook);
    remove_pin(&link)?;
    remove_dir(&root.xdp_refusal(device))?;
    link.parent().map_or(Ok(()), remove_dir)
}

/// Programs on a device's TC ingress that are not netpath's, by name, through tcx; by their ids, where the caller may not
/// open what others have loaded (`CAP_SYS_ADMIN`).
///
/// # Errors
/// When the kernel refuses.
pub fn foreign_tcx(device: &Device, own: &[u32]) -> Result<Vec<String>, DatapathError> {
    let ids = tcx_programs(device)?;
    let foreign = ids.into_iter().filter(|id| !own.contains(id)).map(|id| format!("id {id}")).collect::<Vec<_>>();
    if foreign.is_empty() {
        return Ok(foreign);
    }
    let programs = match SchedClassifier::query_tcx(&device.name, TcAttachType::Ingress) {
        Ok((_, programs)) => programs,
        Err(error) if errno(&error) == Some(Errno::PERM.raw_os_error()) => return Ok(foreign),
        // The kernel has no tcx, or the device went away meanwhile.
        Err(error) if matches!(errno(&error), Some(code) if is_absent(code)) => return Ok(Vec::new()),
        Err(error) => return Err(DatapathError::failed(format!("list programs of device {}", device.name), error)),
    };
    let foreign = programs.iter().filter(|program| !own.contains(&program.id()));
    Ok(foreign.map(|program| program.name_as_str().unwrap_or("unnamed").to_owned()).collect())
}

type AttachResult = Result<(), Result<ProgramError, DatapathError>>;

fn failed_or(
    failed: impl FnOnce(ProgramError) -> DatapathError,
) -> impl FnOnce(Result<ProgramError, DatapathError>) -> DatapathError {
    |error| error.map_or_else(|own| own, failed)
}

fn attach_tcx(root: &Root, programs: &Programs, device: &Device, hook: Hook) -> AttachResult {
    let path = root.link(&device.name, hook);
    let mut program = programs.classifier(hook).map_err(Err)?;
    if let Some(link) = pinned_link(root, device, hook).map_err(Err)? {
        let link = SchedClassifierLink::try_from(link).map_err(|e| Err(foreign_pin(&path, e)))?;
        match program.attach_to_link(link) {
            // The pin keeps the link; the program's own copy may close.
            Ok(_) => return Ok(()),
            Err(error) if is_device_gone(&error) => remove_pin(&path).map_err(Err)?,
            Err(error) => return Err(Ok(error)),
        }
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&device.name, TcAttachType::Ingress, order).map_err(Ok)?;
    let link = program.take_link(id).map_err(Ok)?;
    let link = FdLink::try_from(link).map_err(|e| Err(foreign_pin(&path, e)))?;
    link.pin(&path).map(drop).map_err(|e| Err(DatapathError::failed(format!("pin link {}", path.display()), e)))
}

fn attach_xdp(root: &Root, programs: &Programs, device: &Device, hook: Hook) -> Result<(), DatapathError> {
    let failed = |error: ProgramError| {
        DatapathError::failed(format!("attach {hook} to device {} in its driver", device.name), error)
    };
    let path = root.link(&device.name, hook);
    let mut program = programs.xdp(hook)?;
    if let Some(link) = pinned_link(root, device, hook)? {
        let link = XdpLink::try_from(link).map_err(|e| foreign_pin(&path, e))?;
        match program.attach_to_link(link) {
            Ok(_) => return Ok(()),
            Err(error) if is_device_gone(&error) => remove_pin(&path)?,
            Err(error) => return Err(failed(error)),
        }
    }
    let id = match program.attach_to_if_index(device.index, XdpMode::Driver) {
        Err(error) if errno(&error) == Some(Errno::BUSY.raw_os_error()) => {
            let program = device.xdp_program.unwrap_or_default();
            return Err(DatapathError::XdpTaken { device: device.name.clone(), program });
        }
        Err(error) if device.xdp == XdpSupport::Unknown => {
            tracing::warn!("the driver of device {} refuses XDP ({error}); its frames are taken in TC", device.name);
            return make_dir(&root.xdp_refusal(&device.name));
        }
        attached => attached.map_err(failed)?,
    };
    let link = program.take_link(id).map_err(failed)?;
    let link = FdLink::try_from(link).map_err(|e| foreign_pin(&path, e))?;
    link.pin(&path).map(drop).map_err(|e| DatapathError::failed(format!("pin link {}", path.display()), e))
}

fn tcx_programs(device: &Device) -> Result<Vec<u32>, DatapathError> {
    match syscall::tcx_programs(device.index) {
        Ok(programs) => Ok(programs),
        // The kernel has no tcx, or the device went away meanwhile.
        Err(error) if error.raw_os_error().is_some_and(is_absent) => Ok(Vec::new()),
        Err(error) => Err(DatapathError::failed(format!("list programs of device {}", device.name), error)),
    }
}

/// The program that a pin is of; `None` where another command has removed the pin meanwhile.
fn pinned_program(pin: &LinkPin) -> Result<Option<u32>, DatapathError> {
    if pin.is_clsact {
        return Ok(unless_removed(&pin.path, ProgramInfo::from_pin(&pin.path))?.map(|program| program.id()));
    }
    Ok(unless_removed(&pin.path, syscall::link(&pin.path))?.map(|(program, _)| program))
}

/// The link that is pinned for a device. One that is not on it is let go: its device has gone to another namespace, where it would
/// be updated without an error.
fn pinned_link(root: &Root, device: &Device, hook: Hook) -> Result<Option<FdLink>, DatapathError> {
    let pin = LinkPin { device: device.name.clone(), hook, is_clsact: false, path: root.link(&device.name, hook) };
    match linked(&pin, &HashMap::from([(device.index, device)]))? {
        Some((_, Some(_))) => Ok(unless_removed(&pin.path, PinnedLink::from_pin(&pin.path))?.map(FdLink::from)),
        Some((_, None)) => remove_pin(&pin.path).map(|()| None),
        None => Ok(None),
    }
}

/// What a pin's file gave; `None` where there is no such file.
fn unless_removed<T, E>(path: &Path, opened: Result<T, E>) -> Result<Option<T>, DatapathError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match opened {
        Ok(object) => Ok(Some(object)),
        Err(error) if errno(&error) == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(DatapathError::failed(format!("open link {}", path.display()), error)),
    }
}

fn foreign_pin(path: &Path, error: LinkError) -> DatapathError {
    DatapathError::failed(format!("use link {}", path.display()), error)
}

fn is_device_gone(error: &ProgramError) -> bool {
    let gone = [Errno::NOLINK, Errno::NODEV];
    errno(error).is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

pub(super) fn is_absent(code: i32) -> bool {
    let absent = [Errno::NOENT, Errno::NODEV, Errno::INVAL, Errno::NXIO];
    absent.iter().any(|errno| errno.raw_os_error() == code)
}
