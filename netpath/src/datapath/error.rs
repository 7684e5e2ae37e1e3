//! What can go wrong between the loader and the kernel's BPF objects.

use std::{error::Error as StdError, io, path::PathBuf};

use netpath_common::maps::ABI_VERSION;

use super::{Holder, check::FoundShape, privilege};

/// The failure of an operation on the data path: which object, which operation, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel lacks what the programs need.
    #[error("this kernel is {found}; netpath needs Linux {needed} or newer")]
    KernelTooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// This binary was built without a BPF toolchain.
    #[error("this build of netpath holds no BPF object; run `cargo xtask setup`, then build again")]
    NoObject,
    /// The root is elsewhere.
    #[error("{} is not on a BPF file system; mount one with `mount -t bpf bpf /sys/fs/bpf`, or name another place with --root", root.display())]
    NotBpffs {
        /// The root as given.
        root: PathBuf,
    },
    /// Nothing was ever applied under this root, or by another ABI only.
    #[error("nothing is applied under {}; `netpath apply -f FILE` does that, --root names another place", root.display())]
    NothingApplied {
        /// The root as given.
        root: PathBuf,
    },
    /// What is pinned was made by a netpath of another ABI.
    #[error(
        "{} was applied by a netpath of ABI {found}, this build has v{ABI_VERSION}: `netpath apply -f FILE` takes over and keeps \
         connections and counters; until then, use that build", root.display()
    )]
    OtherAbi {
        /// The root as given.
        root: PathBuf,
        /// The ABI's folder: `v1`.
        found: String,
    },
    /// An apply that took over from another ABI did not come to its end.
    #[error(
        "{} is on its way between ABI {found} and v{ABI_VERSION}, because an apply was killed: `netpath apply -f FILE` completes \
         it, with either build", root.display()
    )]
    Unfinished {
        /// The root as given.
        root: PathBuf,
        /// The other ABI's folder: `v1`.
        found: String,
    },
    /// Rows of another ABI's map cannot become this one's.
    #[error(
        "nothing was touched: map {name} of ABI {found} is {what}, which rows of this build (ABI v{ABI_VERSION}, version {version} \
         of the map) cannot be made of: go on with that build, or run `netpath detach --purge` with it (which ends connections \
         and interrupts traffic), then apply again"
    )]
    NotCarried {
        /// The map.
        name: &'static str,
        /// The ABI's folder: `v1`.
        found: String,
        /// What it is.
        what: String,
        /// The version of its rows in this build.
        version: u32,
    },
    /// More than one other ABI is in force.
    #[error("{} holds maps of several ABIs ({found}), which no apply leaves: remove the folder of the one that is not in force", root.display())]
    SeveralAbis {
        /// The root as given.
        root: PathBuf,
        /// Their folders.
        found: String,
    },
    /// The agent that runs is of the build that is taken over from.
    #[error(
        "nothing was touched: {agent} is the agent of the build that is to be taken over from, and would take back: end it first \
         (`systemctl stop netpath-agent`)"
    )]
    AgentOfOther {
        /// The agent.
        agent: Holder,
    },
    /// The caller may not.
    #[error(
        "no permission to {operation}{}; run netpath as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        lacks(lacking)
    )]
    NoPermission {
        /// What was tried.
        operation: String,
        /// The capabilities that this process lacks; none where something else is in the way.
        lacking: Vec<&'static str>,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else watches.
    #[error(
        "process {process} watches already (`{command}`), and events are told to one reader at a time; end it first, or give it \
         the filter that you want"
    )]
    Watched {
        /// The watcher's process.
        process: u32,
        /// Its command line.
        command: String,
    },
    /// A pinned map is not what this build works with.
    #[error(
        "map {name} pinned at {} is a {found}, this build needs a {wanted}; an older or newer netpath of ABI v{ABI_VERSION} \
         made it: run `netpath detach --purge` with that one, then apply again", path.display()
    )]
    MapLayout {
        /// The map.
        name: &'static str,
        /// Its pin.
        path: PathBuf,
        /// What is there.
        found: FoundShape,
        /// What should be.
        wanted: FoundShape,
    },
    /// A pinned map has another capacity than the definitions give it.
    #[error(
        "map {name} has room for {found} rows, the definitions' capacities.{field} asks for {wanted}; maps are not resized in \
         place: set it to {found}, or run `netpath detach --purge` (which interrupts traffic) and apply again"
    )]
    MapCapacity {
        /// The map.
        name: &'static str,
        /// The field of a host's `capacities`.
        field: &'static str,
        /// Rows it has room for.
        found: u32,
        /// Rows asked for.
        wanted: u32,
    },
    /// The object lacks a program or a map that this build expects.
    #[error("the BPF object has no {what} {name}; build netpath and its object from one source tree")]
    NotInObject {
        /// "program" or "map".
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map has no room for another row.
    #[error("map {name} is full at {capacity} rows; raise capacities.{field} of the host in the definitions")]
    MapFull {
        /// The map.
        name: &'static str,
        /// Rows it has room for.
        capacity: u32,
        /// The field of a host's `capacities`.
        field: &'static str,
    },
    /// The verifier refused a program. Its whole log is in the source.
    #[error("the kernel refused program {program}")]
    Refused {
        /// The program.
        program: &'static str,
        /// With the verifier's log.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The kernel takes a frame for none.
    #[error(
        "a frame of {length} bytes cannot be traced: the kernel wants {what}, {least} bytes; choose another one of the file with \
         --packet"
    )]
    ShortFrame {
        /// Bytes that it has.
        length: usize,
        /// What it lacks.
        what: &'static str,
        /// How long that is.
        least: usize,
    },
    /// Another process has been at work for too long.
    #[error(
        "{} has been at work under {} for {seconds} s, and one at a time may be; if it hangs, end it and apply again",
        named(holder.as_ref()), root.display()
    )]
    Locked {
        /// The root as given.
        root: PathBuf,
        /// Who it is, where the kernel says it.
        holder: Option<Holder>,
        /// For how long it was waited for.
        seconds: u64,
    },
    /// The root has an agent.
    #[error(
        "an agent runs for {} already: {}; one root has one agent: end that one (`systemctl stop netpath-agent`), or name \
         another root with --root", root.display(), named(agent.as_ref())
    )]
    AgentRuns {
        /// The root as given.
        root: PathBuf,
        /// Who it is, where the kernel says it.
        agent: Option<Holder>,
    },
    /// Another XDP program is attached to the device.
    #[error(
        "device {device} has an XDP program already (id {program}), which is not netpath's; take it off with `ip link set {device} xdp off`, or set uplink_mode: tc"
    )]
    XdpTaken {
        /// The device.
        device: String,
        /// Id of the program there.
        program: u32,
    },
    /// Another filter is where netpath's is to be.
    #[error(
        "device {device} has a tc filter of priority 17 and handle 0x4e50, where netpath's is to be, which is {}",
        match other {
            Some(pin) => format!("that of netpath under another root ({}): detach there first, `netpath --root OTHER detach`", pin.display()),
            None => format!("not netpath's: take it off with `tc filter del dev {device} ingress pref 17`"),
        }
    )]
    FilterTaken {
        /// The device.
        device: String,
        /// The other root's pin, where it is netpath's.
        other: Option<PathBuf>,
    },
    /// Anything else the kernel refused.
    #[error("cannot {operation}")]
    Failed {
        /// What was tried, with the object's name.
        operation: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl DatapathError {
    /// A failed operation; a refusal for want of privileges is told apart.
    pub(super) fn failed(operation: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        let operation = operation.into();
        match errno(&source) {
            Some(code) if is_permission(code) => {
                let lacking = privilege::lacking_for_maps();
                Self::NoPermission { operation, lacking, source: io::Error::from_raw_os_error(code) }
            }
            _ => Self::Failed { operation, source: Box::new(source) },
        }
    }
}

fn lacks(capabilities: &[&str]) -> String {
    if capabilities.is_empty() {
        return String::new();
    }
    format!(": this process lacks {}", capabilities.join(" and "))
}

fn named(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
}

fn is_permission(code: i32) -> bool {
    code == rustix::io::Errno::PERM.raw_os_error() || code == rustix::io::Errno::ACCESS.raw_os_error()
}

/// The errno at the bottom of an error, when there is one.
pub(super) fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = error.source();
    }
    None
}
