//! The data path's user side, and the only user of aya: what is loaded, pinned, attached, and in the maps.
//!
//! State is the kernel's. [`Root`] says where it is pinned, [`load()`] brings maps and programs in, [`Tables`] reads and
//! writes rows, [`attach()`] and [`detach`] put programs on devices. Nothing here knows definitions.

mod attach;
mod carry;
mod check;
mod error;
mod filters;
mod folders;
mod hook;
mod load;
mod lock;
pub mod object;
mod pins;
mod privilege;
mod probe;
mod reap;
mod schema;
mod stages;
mod syscall;
mod tables;
mod takeover;
mod trace;
mod watch;

pub use aya::Pod;

pub use self::{
    attach::{AttachState, Attachment, attach, attachments, detach, follow_names, foreign_tcx, renamed},
    check::{Capacities, FoundShape, capacity, check_layouts, check_maps, cpus, memory, wanted_capacity},
    error::DatapathError,
    filters::has_filter_of_other,
    hook::Hook,
    load::{Loading, Programs, load},
    lock::{Holder, Lock, wait_for as lock_folder},
    pins::{DEFAULT_ROOT, LinkPin, Root},
    probe::{Kernel, OLDEST_KERNEL, TCX_SINCE, release},
    reap::Reaper,
    stages::program_at,
    tables::{
        ArrayTable, HashTable, PerCpuArrayTable, PerCpuHashTable, Place, Tables, TrieTable, add, applied_host,
        name_row, name_text, pinned_uplinks,
    },
    takeover::{Takeover, in_force},
    trace::{Ran, Trace},
    watch::{Watcher, Woken},
};
