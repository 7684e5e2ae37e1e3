//! Takes over what a build of another ABI has in force, older or newer, while packets pass.
//!
//! ```text
//!              v3/maps  in force                        v4/maps  incomplete
//! [begin]      map ─ same shape and version ──────────► the same map, pinned again
//!              map ─ rows begin alike ── copied ──────► a map of this build's shape
//!              map ─ follows from the definitions         an empty one
//!              map ─ anything else ─► refused, nothing is touched
//!                   programs are loaded over v4/maps, rows are edited as by any apply
//! [switch]     what has changed since is copied again ─► v4 is "switching" and not incomplete
//!              links: from the old programs to the new ones, one after the other
//! [complete]   a grace period: no old program runs any more
//!              rows that are missing are copied, what was counted since is added
//! [end]        v3 incomplete, v4 not switching, v3 removed
//! ```
//!
//! Killed before `switch`, the next apply begins anew; killed after it, the next one, of either build, goes on from where
//! both stand: copying what is missing is the same however often it is done.
//!
//! What one hook's program leaves for another's in a packet itself is no map: a build that changes that has to take both.

mod bindings;
mod counts;
mod flows;
mod rows;

use std::{io, path::Path};

use aya::maps::{MapData, MapInfo};
use netpath_common::maps::{self, MapShape, Role};
use rustix::{
    fs::{AtFlags, CWD, Timestamps, stat, utimensat},
    time::Timespec,
};

use self::{counts::Counted, rows::Carried};
use super::{
    Capacities, DatapathError, FoundShape, Programs, Root, Tables,
    carry::Carrier,
    check::{self, check_maps},
    folders::{make_dir, remove_all, remove_dir},
    load::load_object,
    schema::{self, Recorded},
    syscall,
};

/// What is in force under a root, as this build sees it.
pub struct InForce {
    /// The root of this build's ABI.
    pub root: Root,
    /// The tables; `None` while some of them are missing.
    pub tables: Option<Tables>,
    /// Another ABI's build applied it.
    pub takeover: Option<Takeover>,
}

/// What another ABI has in force, and how this build's maps come of it.
#[derive(Debug)]
pub struct Takeover {
    own: Root,
    other: Root,
    /// This ABI's maps are filled already, and some device may run its programs.
    is_resumed: bool,
    fates: Vec<(&'static MapShape, Fate)>,
}

/// How a map comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is the other ABI's.
    Shared,
    /// It begins empty.
    Empty,
    /// It has the other one's rows.
    Carried {
        /// What the other one looks like.
        from: FoundShape,
        /// How many rows that one has room for.
        capacity: u32,
    },
}

/// Opens what is in force at `path`, by whichever ABI. With `capacities`, maps must have room for as many rows.
///
/// # Errors
/// [`DatapathError::NotCarried`] and others when another ABI's maps cannot be taken over; [`DatapathError::MapLayout`] and
/// [`DatapathError::MapCapacity`] when this one's are not as they should be.
pub fn in_force(path: &Path, capacities: Option<Capacities<'_>>) -> Result<Option<InForce>, DatapathError> {
    let root = Root::at(path);
    if let Some(takeover) = Takeover::find(&root, capacities)? {
        return Ok(Some(InForce { tables: Some(takeover.tables()?), root, takeover: Some(takeover) }));
    }
    let root = match Root::open(path) {
        Err(DatapathError::NothingApplied { .. }) => return Ok(None),
        opened => opened?,
    };
    if let Some(capacities) = capacities {
        check_maps(&root, capacities)?;
    }
    let tables = match Tables::open(&root) {
        _ if !root.counts()? => None,
        // A killed apply has not made all of them.
        Err(DatapathError::NothingApplied { .. }) => None,
        tables => Some(tables?),
    };
    Ok(Some(InForce { root, tables, takeover: None }))
}

impl Takeover {
    /// Looks at what another ABI has in force; `None` where none has.
    fn find(own: &Root, capacities: Option<Capacities<'_>>) -> Result<Option<Self>, DatapathError> {
        let mut others = own.others()?;
        let Some(other) = others.pop() else { return Ok(None) };
        if !others.is_empty() {
            let names = others.iter().chain([&other]).map(|other| format!("v{}", other.abi())).collect::<Vec<_>>();
            return Err(DatapathError::SeveralAbis { root: own.path().to_owned(), found: names.join(", ") });
        }
        let is_resumed = own.counts()?;
        let recorded = schema::read(&other)?;
        let mut fates = Vec::new();
        for shape in maps::ALL {
            let recorded = recorded.get(shape.name).copied().unwrap_or(Recorded::FIRST);
            let found = check::pinned(&other, shape.name)?;
            let fate = match &found {
                None => Fate::Empty,
                Some(found) if is_resumed => resumed(own, shape, found)?,
                Some(found) => {
                    let wanted = capacities.map(|wanted| check::wanted_capacity(shape, wanted));
                    fate(&other, shape, found, recorded, wanted.unwrap_or(found.max_entries()))?
                }
            };
            fates.push((shape, fate));
        }
        Ok(Some(Self { own: own.clone(), other, is_resumed, fates }))
    }

    /// In a sentence, for the plan.
    #[must_use]
    pub fn describe(&self) -> String {
        let (from, to) = (self.other.abi(), self.own.abi());
        if self.is_resumed {
            return format!("an apply was killed between ABI v{from} and v{to}; this one completes it");
        }
        let named = |is_so: fn(&Fate) -> bool| {
            let found = self.fates.iter().filter(|(_, fate)| is_so(fate)).map(|(shape, _)| shape.name);
            found.collect::<Vec<_>>()
        };
        let carried = named(|fate| matches!(fate, Fate::Carried { .. }));
        let shared = named(|fate| *fate == Fate::Shared).len();
        let rows = match &carried[..] {
            [] => String::new(),
            names => format!(", rows of {} are carried over", names.join(", ")),
        };
        format!("was applied by a netpath of ABI v{from}, v{to} takes over in place: {shared} maps are kept{rows}")
    }

    /// The tables that this build will find, without touching anything: those that are to be made are made for the caller
    /// alone, and have the rows of the loader.
    fn tables(&self) -> Result<Tables, DatapathError> {
        if self.is_resumed {
            return Tables::open(&self.own);
        }
        Tables::of(&|shape| {
            let fate = self.fates.iter().find(|(known, _)| known.name == shape.name).map(|(_, fate)| *fate);
            match fate {
                Some(Fate::Shared) => open(&self.other, shape),
                Some(Fate::Carried { from, capacity }) if shape.role == Role::Kept => {
                    let carried = Carried::new(shape, open(&self.other, shape)?, from, anonymous(shape, capacity)?);
                    carried.fill()?;
                    Ok(carried.into_target())
                }
                _ => anonymous(shape, 1),
            }
        })
    }

    /// Makes this build's maps, with the rows that there are now. Call it under the root's lock, before programs are loaded.
    ///
    /// # Errors
    /// [`DatapathError::AgentOfOther`] while the agent of the other build runs; when a map has no room for the rows.
    pub fn begin(&self, capacities: Capacities<'_>) -> Result<(), DatapathError> {
        if let Some(agent) = Root::agent(self.own.path()).filter(|agent| agent.pid != std::process::id()) {
            return Err(DatapathError::AgentOfOther { agent });
        }
        if self.is_resumed {
            return Ok(());
        }
        make_dir(&self.own.incomplete())?;
        for (shape, _) in self.fates.iter().filter(|(_, fate)| *fate == Fate::Shared) {
            let path = self.own.map(shape.name);
            let pinned = open(&self.other, shape)?.pin(&path);
            pinned.map_err(|e| DatapathError::failed(format!("pin {}", path.display()), e))?;
        }
        // Makes and pins the maps that are missing; programs are not loaded yet.
        drop(load_object(&self.own, capacities)?);
        make_dir(&self.own.copied())?;
        self.fill(&[Role::Kept, Role::State, Role::Counts])?;
        // Since when is counted, the time of a pin says.
        self.fates.iter().try_for_each(|(shape, _)| keep_time(&self.other.map(shape.name), &self.own.map(shape.name)))
    }

    /// Brings what the data path has written since up to date, and says that devices are being brought over from now on. Call
    /// it when all rows are as programs want them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn switch(&self, programs: &Programs) -> Result<(), DatapathError> {
        if self.is_resumed {
            make_dir(&self.own.switching())?;
            return self.catch_up(programs);
        }
        self.fill(&[Role::State, Role::Counts])?;
        make_dir(&self.own.switching())?;
        remove_dir(&self.own.incomplete())
    }

    /// Brings over what the other ABI's programs have written since [`Self::switch`]. Call it when no device runs them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn complete(&self, programs: &Programs) -> Result<(), DatapathError> {
        syscall::wait_for_programs()
            .map_err(|e| DatapathError::failed("wait until the programs of the other build have ended", e))?;
        self.catch_up(programs)?;
        if self.carried(&[Role::State])?.is_empty() {
            return Ok(());
        }
        let mut tables = Tables::open(&self.own)?;
        bindings::drop_portless(&mut tables)?;
        flows::recount(&tables, &Carrier::open(programs)?)
    }

    /// Removes what the other ABI had. Call it when all is done.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn end(&self) -> Result<(), DatapathError> {
        make_dir(&self.other.incomplete())?;
        remove_dir(&self.own.switching())?;
        remove_all(&self.own.copied())?;
        self.other.remove_version()
    }

    /// Gives everything back: connections that began meanwhile, and what was made. Call it when every device runs the other
    /// ABI's programs again. What a killed apply has left half done stays so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn give_back(&self) -> Result<(), DatapathError> {
        if self.is_resumed {
            return Ok(());
        }
        if self.own.switching().exists() {
            for carried in self.carried(&[Role::State])? {
                carried.turned().add_missing()?;
            }
        }
        self.own.remove_version()
    }

    fn fill(&self, roles: &[Role]) -> Result<(), DatapathError> {
        self.carried(roles)?.iter().try_for_each(Carried::fill)?;
        if roles.contains(&Role::Counts) {
            self.counted()?.iter().try_for_each(Counted::fill)?;
        }
        Ok(())
    }

    fn catch_up(&self, programs: &Programs) -> Result<(), DatapathError> {
        for carried in self.carried(&[Role::State])? {
            carried.add_missing()?;
        }
        let carrier = Carrier::open(programs)?;
        self.counted()?.iter().try_for_each(|counted| counted.add_difference(&carrier))
    }

    /// Maps of these roles whose rows are carried over one for one.
    fn carried(&self, roles: &[Role]) -> Result<Vec<Carried>, DatapathError> {
        let of_roles = |shape: &MapShape| shape.role != Role::Counts && roles.contains(&shape.role);
        let found = self.fates.iter().filter(|(shape, _)| of_roles(shape));
        let carried = found.filter_map(|(shape, fate)| match fate {
            Fate::Carried { from, .. } => Some((*shape, *from)),
            _ => None,
        });
        let between = |(shape, from)| Ok(Carried::new(shape, open(&self.other, shape)?, from, open(&self.own, shape)?));
        carried.map(between).collect()
    }

    fn counted(&self) -> Result<Vec<Counted>, DatapathError> {
        let found = self.fates.iter().filter(|(shape, _)| shape.role == Role::Counts);
        let counted = found.filter_map(|(shape, fate)| match fate {
            Fate::Carried { from, capacity } => Some((*shape, *from, *capacity)),
            _ => None,
        });
        counted.map(|(shape, from, capacity)| Counted::open((&self.other, &self.own), shape, from, capacity)).collect()
    }
}

/// What an earlier apply has made of a map.
fn resumed(own: &Root, shape: &'static MapShape, found: &MapInfo) -> Result<Fate, DatapathError> {
    let made = check::pinned(own, shape.name)?;
    Ok(match shape.role {
        _ if made.is_none_or(|made| made.id() == found.id()) => Fate::Shared,
        Role::Kept | Role::State | Role::Counts => {
            Fate::Carried { from: check::found_shape(found), capacity: found.max_entries() }
        }
        Role::Derived | Role::Passing | Role::Contract | Role::Claims => Fate::Empty,
    })
}

fn open(root: &Root, shape: &MapShape) -> Result<MapData, DatapathError> {
    MapData::from_pin(root.map(shape.name)).map_err(|e| DatapathError::failed(format!("open map {}", shape.name), e))
}

/// Gives a pin the time at which another one was made, if there is one.
fn keep_time(of: &Path, to: &Path) -> Result<(), DatapathError> {
    let Ok(time) = stat(of) else { return Ok(()) };
    let made = Timespec { tv_sec: time.st_mtime, tv_nsec: time.st_mtime_nsec as i64 };
    let times = Timestamps { last_access: made, last_modification: made };
    utimensat(CWD, to, &times, AtFlags::empty())
        .map_err(|e| DatapathError::failed(format!("set the time of {}", to.display()), io::Error::from(e)))
}

/// An empty map of this build's shape.
fn anonymous(shape: &MapShape, capacity: u32) -> Result<MapData, DatapathError> {
    let fail = |what| format!("{what} map {}", shape.name);
    let sizes = (shape.key_size, shape.value_size);
    let fd = syscall::create(shape.name, shape.kind as u32, sizes, capacity, shape.flags)
        .map_err(|e| DatapathError::failed(fail("make"), e))?;
    MapData::from_fd(fd).map_err(|e| DatapathError::failed(fail("open"), e))
}

/// What becomes of a map of another ABI.
fn fate(
    other: &Root,
    shape: &'static MapShape,
    found: &MapInfo,
    recorded: Recorded,
    capacity: u32,
) -> Result<Fate, DatapathError> {
    let from = check::found_shape(found);
    let wanted = FoundShape::from(shape);
    let is_same = from == wanted && recorded.version == shape.version && found.max_entries() == capacity;
    // Both only appended to what the older one had.
    let is_appended = (shape.since..=shape.version).contains(&recorded.version)
        || (recorded.since..=recorded.version).contains(&shape.version);
    let begins_alike = is_appended && from.kind == wanted.kind && from.key_size == wanted.key_size;
    match shape.role {
        Role::Contract => Ok(Fate::Empty),
        _ if is_same => Ok(Fate::Shared),
        Role::Derived | Role::Passing => Ok(Fate::Empty),
        Role::Kept | Role::State | Role::Counts if begins_alike => {
            Ok(Fate::Carried { from, capacity: found.max_entries() })
        }
        _ => Err(DatapathError::NotCarried {
            name: shape.name,
            found: format!("v{}", other.abi()),
            what: format!("a {from} with room for {} rows, version {}", found.max_entries(), recorded.version),
            version: shape.version,
        }),
    }
}
