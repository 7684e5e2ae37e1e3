//! Gets the maps and programs of this build into the kernel, or finds them there.
//!
//! Programs are pinned per object, so that an apply with the same build loads and verifies nothing, and every device
//! runs one program. A reload reuses the pinned maps: what they hold outlives it.

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramInfo, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use netpath_common::maps;

use super::{
    Capacities, DatapathError, Hook, Kernel, Root,
    carry::CARRY,
    check_maps,
    error::errno,
    folders::{make_dir, names_in, remove_all},
    object, privilege,
    reap::REAP,
    schema, stages, wanted_capacity,
};

/// This build's programs, loaded and pinned.
#[derive(Debug)]
pub struct Programs {
    /// The kernel they run in.
    pub kernel: Kernel,
    root: Root,
    fingerprint: String,
    ids: [u32; Hook::ALL.len()],
}

/// Whether programs had to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// They were there.
    Reused,
    /// They were loaded now.
    Loaded,
}

/// Compares the pinned maps, makes the missing ones, and loads the programs unless this build's are pinned already.
///
/// Call it under the root's lock. Killed at any point, the next call completes what this one began.
///
/// # Errors
/// [`DatapathError::MapLayout`] and [`DatapathError::MapCapacity`] before anything is touched;
/// [`DatapathError::NoPermission`] before programs are loaded, [`DatapathError::Refused`] with the verifier's log.
pub fn load(root: &Root, capacities: Capacities<'_>) -> Result<(Programs, Loading), DatapathError> {
    let kernel = Kernel::probe()?;
    let has_maps = check_maps(root, capacities)?;
    let fingerprint = object::fingerprint()?;
    let folder = root.programs().join(&fingerprint);
    let others = stages::names().chain([REAP, CARRY]);
    let has_stages = others.clone().all(|name| folder.join(name).exists());
    if has_maps
        && has_stages
        && let Some(ids) = pinned_ids(root, &fingerprint)?
    {
        stages::set(root, &folder)?;
        schema::write(root)?;
        return Ok((Programs { kernel, root: root.clone(), fingerprint, ids }, Loading::Reused));
    }
    privilege::demand_for_programs()?;
    remove_all(&folder)?;
    make_dir(&folder)?;
    let mut ebpf = load_object(root, capacities)?;
    schema::write(root)?;
    // A hook's program is pinned when all that it may hand packets on to are.
    for name in others.chain(Hook::ALL.map(Hook::name)) {
        load_program(&mut ebpf, name)?
            .pin(folder.join(name))
            .map_err(|e| DatapathError::failed(format!("pin program {name} in {}", folder.display()), e))?;
    }
    stages::set(root, &folder)?;
    let ids = pinned_ids(root, &fingerprint)?
        .ok_or(DatapathError::NotInObject { what: "program", name: Hook::FromGuest.name() })?;
    tracing::info!(fingerprint, "programs loaded");
    Ok((Programs { kernel, root: root.clone(), fingerprint, ids }, Loading::Loaded))
}

impl Programs {
    /// The kernel's id of the program of a hook.
    #[must_use]
    pub fn id(&self, hook: Hook) -> u32 {
        Hook::ALL.iter().zip(self.ids).find(|(known, _)| **known == hook).map_or(0, |(_, id)| id)
    }

    /// This build's programs where they are pinned; `None` where they were never loaded.
    ///
    /// # Errors
    /// When the kernel is too old or refuses.
    pub fn pinned(root: &Root) -> Result<Option<Self>, DatapathError> {
        let (kernel, fingerprint) = (Kernel::probe()?, object::fingerprint()?);
        let ids = pinned_ids(root, &fingerprint)?;
        Ok(ids.map(|ids| Self { kernel, root: root.clone(), fingerprint, ids }))
    }

    /// The pinned programs, of whichever build and ABI, that have this program at that hook.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with(root: &Root, hook: Hook, program: u32) -> Result<Option<Self>, DatapathError> {
        let kernel = Kernel::probe()?;
        for root in root.others()?.into_iter().chain([root.clone()]) {
            for fingerprint in names_in(&root.programs())? {
                let found =
                    pinned_ids(&root, &fingerprint)?.map(|ids| Self { kernel, root: root.clone(), fingerprint, ids });
                if let Some(programs) = found.filter(|programs| programs.id(hook) == program) {
                    return Ok(Some(programs));
                }
            }
        }
        Ok(None)
    }

    /// Which build's object they are from.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Removes the pins of other builds' programs; they live on where they are still attached.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn drop_others(&self) -> Result<(), DatapathError> {
        for object in names_in(&self.root.programs())? {
            if object != self.fingerprint {
                remove_all(&self.root.programs().join(object))?;
            }
        }
        Ok(())
    }

    /// A TC program, to attach.
    pub(super) fn classifier(&self, hook: Hook) -> Result<SchedClassifier, DatapathError> {
        SchedClassifier::from_pin(self.path(hook)).map_err(|e| DatapathError::failed(format!("open program {hook}"), e))
    }

    /// An XDP program, to attach.
    pub(super) fn xdp(&self, hook: Hook) -> Result<Xdp, DatapathError> {
        Xdp::from_pin(self.path(hook), XdpAttachType::Interface)
            .map_err(|e| DatapathError::failed(format!("open program {hook}"), e))
    }

    /// A program that is attached nowhere.
    pub(super) fn unattached(&self, name: &str) -> Result<SchedClassifier, DatapathError> {
        SchedClassifier::from_pin(self.root.programs().join(&self.fingerprint).join(name))
            .map_err(|e| DatapathError::failed(format!("open program {name}"), e))
    }

    fn path(&self, hook: Hook) -> std::path::PathBuf {
        self.root.programs().join(&self.fingerprint).join(hook.name())
    }
}

fn pinned_ids(root: &Root, fingerprint: &str) -> Result<Option<[u32; Hook::ALL.len()]>, DatapathError> {
    let mut ids = [0; Hook::ALL.len()];
    for (hook, id) in Hook::ALL.into_iter().zip(&mut ids) {
        let path = root.programs().join(fingerprint).join(hook.name());
        *id = match ProgramInfo::from_pin(&path) {
            Ok(info) => info.id(),
            Err(error) if errno(&error) == Some(rustix::io::Errno::NOENT.raw_os_error()) => return Ok(None),
            Err(error) => return Err(DatapathError::failed(format!("open program {}", path.display()), error)),
        };
    }
    Ok(Some(ids))
}

pub(super) fn load_object(root: &Root, capacities: Capacities<'_>) -> Result<Ebpf, DatapathError> {
    privilege::demand_for_programs()?;
    let decap_l3 = u32::from(Kernel::probe()?.has_decap_l3);
    let mut loader = EbpfLoader::new();
    loader.override_global("DECAP_L3", &decap_l3, true);
    for shape in maps::ALL {
        loader.map_pin_path(shape.name, root.map(shape.name));
        loader.map_max_entries(shape.name, wanted_capacity(shape, capacities));
    }
    let ebpf = loader.load(object::bytes()?).map_err(|e| DatapathError::failed("load the BPF object", e))?;
    match maps::ALL.iter().find(|shape| ebpf.map(shape.name).is_none()) {
        Some(missing) => Err(DatapathError::NotInObject { what: "map", name: missing.name }),
        None => Ok(ebpf),
    }
}

pub(super) fn load_program<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut Program, DatapathError> {
    let program = ebpf.program_mut(name).ok_or(DatapathError::NotInObject { what: "program", name })?;
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    match loaded {
        Ok(()) => Ok(program),
        Err(error @ ProgramError::LoadError { .. }) if !is_permission(&error) => {
            Err(DatapathError::Refused { program: name, source: Box::new(error) })
        }
        Err(error) => Err(DatapathError::failed(format!("load program {name}"), error)),
    }
}

fn is_permission(error: &ProgramError) -> bool {
    errno(error) == Some(rustix::io::Errno::PERM.raw_os_error())
}
