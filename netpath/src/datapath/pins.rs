//! Where things are pinned. This file is the one place that knows.
//!
//! ```text
//! <root>/v<ABI>/maps/NAME                    a map
//! <root>/v<ABI>/programs/<object>/<hook>     a loaded program of one build's object
//! <root>/v<ABI>/schema                       what each map's rows mean: a map itself
//! <root>/v<ABI>/copied/NAME                  of counters: what they had of another ABI's when they were copied
//! <root>/v<ABI>/incomplete                   an empty folder: what is beside it counts for nothing
//! <root>/v<ABI>/switching                    an empty folder: devices are being brought here from another ABI's programs
//! <root>/links/<device>/<hook>               a link: an XDP link, or tcx from Linux 6.6
//! <root>/links/<device>/xdp_refused          an empty folder: its driver refused XDP
//! <root>/links/<device>/<hook>-clsact        below 6.6: the program that a filter of fixed priority and handle runs
//! <root>/agent                               an empty folder that the root's agent holds locked
//! ```
//!
//! bpffs takes no dots in names: in devices' names they are `%2e`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::ProgramInfo;
use netpath_common::maps::{self, ABI_VERSION};

use super::{
    DatapathError, Hook,
    folders::{bpf_mounts, is_bpffs, make_dir, names_in, remove_all, remove_dir, remove_pin},
    lock::{self, Holder, Lock},
};

/// Where pins are unless somebody says otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/netpath";
/// Ends the name of a pin that stands for a clsact filter.
const CLSACT_SUFFIX: &str = "-clsact";

/// The pin root of one instance.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
    /// The ABI whose maps and programs are meant: this build's, but where it takes over from another.
    abi: u32,
}

/// The pin of one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPin {
    /// Name of the device.
    pub device: String,
    /// The hook.
    pub hook: Hook,
    /// A clsact filter's program, and not a link.
    pub is_clsact: bool,
    /// The pin.
    pub path: PathBuf,
}

impl Root {
    /// The root at `path`, made when it is missing.
    ///
    /// # Errors
    /// [`DatapathError::NotBpffs`] when the path is on another file system.
    pub fn create(path: &Path) -> Result<Self, DatapathError> {
        if !Self::is_on_bpffs(path)? {
            return Err(DatapathError::NotBpffs { root: path.to_owned() });
        }
        let root = Self::at(path);
        root.make_folders()?;
        Ok(root)
    }

    /// What there is of this build's ABI at `path`, which may be nothing.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), abi: ABI_VERSION }
    }

    /// The folders that pins are put into.
    pub(super) fn make_folders(&self) -> Result<(), DatapathError> {
        [self.maps(), self.programs(), self.links()].iter().try_for_each(|folder| make_dir(folder))
    }

    /// The version of its layouts.
    pub(super) fn abi(&self) -> u32 {
        self.abi
    }

    /// What other ABIs have under this root, as far as it counts.
    pub(super) fn others(&self) -> Result<Vec<Self>, DatapathError> {
        let others = self.others_and_left_overs()?.into_iter();
        others.filter_map(|other| other.counts().map(|counts| counts.then_some(other)).transpose()).collect()
    }

    fn others_and_left_overs(&self) -> Result<Vec<Self>, DatapathError> {
        let numbers = names_in(&self.path)?.into_iter();
        let numbers = numbers.filter_map(|name| name.strip_prefix('v')?.parse::<u32>().ok());
        Ok(numbers.filter(|abi| *abi != self.abi).map(|abi| Self { path: self.path.clone(), abi }).collect())
    }

    /// Are there maps of this ABI, of which all are as they should be?
    pub(super) fn counts(&self) -> Result<bool, DatapathError> {
        Ok(self.has_maps()? && !self.incomplete().exists())
    }

    /// Whether a path is, or would be, on a BPF file system.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn is_on_bpffs(path: &Path) -> Result<bool, DatapathError> {
        is_bpffs(path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")))
    }

    /// The root at `path`, where something was applied before.
    ///
    /// # Errors
    /// [`DatapathError::NothingApplied`] when there is nothing, [`DatapathError::OtherAbi`] when there is another ABI's,
    /// [`DatapathError::Unfinished`] when an apply was killed while it took over from that.
    pub fn open(path: &Path) -> Result<Self, DatapathError> {
        let root = Self::at(path);
        root.refuse_other_abi()?;
        match fs::metadata(root.maps()) {
            Ok(_) => Ok(root),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DatapathError::NothingApplied { root: root.path })
            }
            Err(error) => Err(DatapathError::failed(format!("open {}", path.display()), error)),
        }
    }

    /// Waits until no other process edits under this root, and keeps others waiting until the lock is dropped. Who is waited
    /// for is said; a minute is long enough.
    ///
    /// # Errors
    /// [`DatapathError::Locked`] when another process holds it for longer; when the root cannot be opened.
    pub fn lock(&self) -> Result<Lock, DatapathError> {
        lock::wait_for(&self.path)
    }

    /// Makes the caller the one agent of the root at `path`, which need not hold anything yet, until the lock is dropped.
    ///
    /// # Errors
    /// [`DatapathError::AgentRuns`] when there is one; [`DatapathError::NotBpffs`] as [`Self::create`].
    pub fn claim(path: &Path) -> Result<Lock, DatapathError> {
        if !is_bpffs(path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")))? {
            return Err(DatapathError::NotBpffs { root: path.to_owned() });
        }
        let folder = agent_folder(path);
        make_dir(&folder)?;
        lock::attempt(&folder)?
            .ok_or_else(|| DatapathError::AgentRuns { root: path.to_owned(), agent: lock::holder(&folder) })
    }

    /// Whether a claim is still good: the root may have been removed, or its file system mounted anew.
    #[must_use]
    pub fn is_claimed_by(path: &Path, claim: &Lock) -> bool {
        claim.is_of(&agent_folder(path))
    }

    /// The agent of the root at `path`, if one runs.
    #[must_use]
    pub fn agent(path: &Path) -> Option<Holder> {
        lock::holder(&agent_folder(path))
    }

    /// Whether there are maps of any ABI at `path`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn holds_maps(path: &Path) -> Result<bool, DatapathError> {
        let root = Self::at(path);
        Ok(root.counts()? || !root.others()?.is_empty())
    }

    /// Removes what a kill has left of any ABI that counts for nothing.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn clear_left_overs(&self) -> Result<(), DatapathError> {
        for other in self.others_and_left_overs()? {
            // Killed before its first map or after its last one, it has folders and no mark.
            if !other.counts()? {
                other.remove_version()?;
            }
        }
        if self.incomplete().exists() {
            self.remove_version()?;
        }
        self.make_folders()
    }

    /// Whether maps are pinned.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn has_maps(&self) -> Result<bool, DatapathError> {
        Ok(!names_in(&self.maps())?.is_empty())
    }

    /// The maps of this ABI that are not pinned.
    pub fn missing_maps(&self) -> Vec<&'static str> {
        maps::ALL.iter().map(|shape| shape.name).filter(|name| !self.map(name).exists()).collect()
    }

    /// Whether programs are attached of whose maps some pin is lost. They go on with those maps; no command finds them.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn has_lost_maps(&self) -> Result<bool, DatapathError> {
        Ok(!self.missing_maps().is_empty() && !self.link_pins()?.is_empty())
    }

    /// The path given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// A map's pin.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of the programs of all builds of this ABI.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.version().join("programs")
    }

    /// The folder of the links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// The pin of a link.
    #[must_use]
    pub fn link(&self, device: &str, hook: Hook) -> PathBuf {
        self.links().join(encode(device)).join(hook.name())
    }

    /// The pin of the program that a clsact filter runs.
    #[must_use]
    pub fn filter(&self, device: &str, hook: Hook) -> PathBuf {
        self.links().join(encode(device)).join(format!("{}{CLSACT_SUFFIX}", hook.name()))
    }

    /// Another root's pin of the program that a clsact filter runs, wherever a BPF file system is mounted.
    pub(super) fn filter_of_other(&self, program: u32) -> Option<PathBuf> {
        let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let own = place(&self.path);
        let mut folders = bpf_mounts();
        while let Some(folder) = folders.pop() {
            if own.is_some() && place(&folder) == own {
                continue;
            }
            // One that cannot be read is no root of netpath's that the caller could have applied.
            for name in names_in(&folder).unwrap_or_default() {
                let path = folder.join(&name);
                if name.ends_with(CLSACT_SUFFIX) {
                    if ProgramInfo::from_pin(&path).is_ok_and(|pinned| pinned.id() == program) {
                        return Some(path);
                    }
                } else if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                    folders.push(path);
                }
            }
        }
        None
    }

    /// A folder that says that the device's driver refused XDP, where only trying tells: before 6.3.
    #[must_use]
    pub fn xdp_refusal(&self, device: &str) -> PathBuf {
        self.links().join(encode(device)).join("xdp_refused")
    }

    /// Every pinned attachment, by device and hook.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn link_pins(&self) -> Result<Vec<LinkPin>, DatapathError> {
        let mut pins = Vec::new();
        for device in names_in(&self.links())? {
            let folder = self.links().join(&device);
            for name in names_in(&folder)? {
                let (hook, is_clsact) = match name.strip_suffix(CLSACT_SUFFIX) {
                    Some(hook) => (hook, true),
                    None => (name.as_str(), false),
                };
                if let Some(hook) = Hook::ALL.into_iter().find(|known| known.name() == hook) {
                    pins.push(LinkPin { device: decode(&device), hook, is_clsact, path: folder.join(&name) });
                }
            }
        }
        pins.sort_by(|a, b| (&a.device, a.hook).cmp(&(&b.device, b.hook)));
        Ok(pins)
    }

    /// What each map's rows mean.
    pub(super) fn schema(&self) -> PathBuf {
        self.version().join("schema")
    }

    /// The folder of what counters had of another ABI's when they were copied.
    pub(super) fn copied(&self) -> PathBuf {
        self.version().join("copied")
    }

    /// A folder that says that all beside it counts for nothing: it is being filled, or removed.
    pub(super) fn incomplete(&self) -> PathBuf {
        self.version().join("incomplete")
    }

    /// A folder that says that devices are being brought to this ABI's programs.
    pub(super) fn switching(&self) -> PathBuf {
        self.version().join("switching")
    }

    /// Removes all pins of maps and programs, and the root. Links must be gone already.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn purge(&self) -> Result<(), DatapathError> {
        self.remove_version()?;
        remove_dir(&self.links())?;
        if Self::agent(&self.path).is_none() {
            remove_dir(&agent_folder(&self.path))?;
        }
        // What others have put there stays, and the root with it.
        match fs::remove_dir(&self.path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
                Err(DatapathError::failed(format!("remove {}", self.path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes everything of this ABI but links.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove_version(&self) -> Result<(), DatapathError> {
        if !self.version().exists() {
            return Ok(());
        }
        // Killed on the way, what is left is no ABI's that is in force.
        make_dir(&self.incomplete())?;
        for object in names_in(&self.programs())? {
            remove_all(&self.programs().join(object))?;
        }
        for folder in [self.programs(), self.maps(), self.copied()] {
            remove_all(&folder)?;
        }
        remove_pin(&self.schema())?;
        for folder in [self.switching(), self.incomplete(), self.version()] {
            remove_dir(&folder)?;
        }
        Ok(())
    }

    /// The links of all ABIs share one folder, so that a device never runs two: one ABI goes when the next has come.
    fn refuse_other_abi(&self) -> Result<(), DatapathError> {
        let others = self.others()?;
        let Some(other) = others.first() else { return Ok(()) };
        let (root, found) = (self.path.clone(), format!("v{}", other.abi));
        Err(match self.counts()? {
            true => DatapathError::Unfinished { root, found },
            false => DatapathError::OtherAbi { root, found },
        })
    }

    fn version(&self) -> PathBuf {
        self.path.join(format!("v{}", self.abi))
    }
}

fn agent_folder(root: &Path) -> PathBuf {
    root.join("agent")
}

fn encode(device: &str) -> String {
    device.replace('%', "%25").replace('.', "%2e")
}

fn decode(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_survives_the_pin_path() {
        let root = Root::at(Path::new("/r"));
        assert_eq!(root.link("eth0.100", Hook::FromUplink), Path::new("/r/links/eth0%2e100/from_uplink"));
        assert_eq!(root.filter("vnet0", Hook::FromGuest), Path::new("/r/links/vnet0/from_guest-clsact"));
        for name in ["vnet0", "eth0.100", "a%2eb", "%25", "100%.1"] {
            assert_eq!(decode(&encode(name)), name);
        }
    }

    #[test]
    fn a_root_of_another_abi_is_refused_by_its_name() {
        let path = std::env::temp_dir().join(format!("netpath-abi-{}", std::process::id()));
        fs::create_dir_all(path.join("v1/maps/PORTS")).unwrap();
        fs::create_dir_all(path.join("venerable/maps/PORTS")).unwrap();
        let error = Root::open(&path).unwrap_err();
        assert!(matches!(&error, DatapathError::OtherAbi { found, .. } if found == "v1"), "{error}");
        fs::create_dir_all(path.join(format!("v{ABI_VERSION}/maps/PORTS"))).unwrap();
        assert!(matches!(Root::open(&path), Err(DatapathError::Unfinished { .. })));
        // What is left of an apply that was killed before any device was touched is nobody's.
        fs::create_dir(path.join(format!("v{ABI_VERSION}/incomplete"))).unwrap();
        assert!(matches!(Root::open(&path), Err(DatapathError::OtherAbi { .. })));
        fs::remove_dir_all(path.join(format!("v{ABI_VERSION}"))).unwrap();
        fs::remove_dir_all(path.join("v1/maps/PORTS")).unwrap();
        assert!(matches!(Root::open(&path), Err(DatapathError::NothingApplied { .. })));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_a_kill_has_left_of_another_abi_goes_wherever_it_was_killed() {
        let path = std::env::temp_dir().join(format!("netpath-left-{}", std::process::id()));
        let root = Root::at(&path);
        for left in ["v7", "v8/maps", "v9/programs/from_guest", "v10/incomplete", "v11/switching"] {
            fs::create_dir_all(path.join(left)).unwrap();
        }
        fs::create_dir_all(path.join("v12/maps/PORTS")).unwrap();
        root.clear_left_overs().unwrap();
        let mut names = names_in(&path).unwrap();
        names.sort();
        assert_eq!(names, ["links", "v12", &format!("v{ABI_VERSION}")]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn maps_are_pinned_under_the_abi() {
        let root = Root::at(Path::new("/sys/fs/bpf/netpath"));
        assert_eq!(root.map("PORTS"), Path::new(&format!("/sys/fs/bpf/netpath/v{ABI_VERSION}/maps/PORTS")));
    }
}
