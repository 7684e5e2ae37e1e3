//! The agent: keeps a host at what its definitions say, while files are replaced and guests come and go.
//!
//! ```text
//! inotify ──► closed and quiet ────┐                        ┌─► plan and apply, as `netpath apply` does it
//! netlink ──► does it matter? ─────┼──► one order at a time ┤
//! SIGHUP ──────────────────────────┘                        └─► what came of it: log, systemd, `netpath status`
//! a clock ─┬───► idle connections are swept, a step at a time, and what is counted is sampled
//!          ├───► is what was applied still there? ─ no ─► it is applied again
//!          └───► was there no room for connections? ─ yes ─► log
//! ```
//!
//! It owns nothing: programs, maps and links are the kernel's, and go on when it is stopped, hangs or is killed. What it
//! knows is made anew from the files and the maps when it starts.

mod check;
#[cfg(feature = "log")]
mod debug;
mod exhaustion;
mod files;
mod interest;
mod memory;
mod notify;
mod paths;
mod quiet;
mod readable;
pub mod record;
mod revisions;
mod run;
#[cfg(test)]
mod scratch;
mod sweep;
mod work;
mod writers;

use std::path::PathBuf;

pub use self::run::run;
pub(crate) use self::work::described;

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The definitions: a file, or a folder of files.
    pub definitions: PathBuf,
    /// The host whose part it is.
    pub host: String,
    /// The pin root.
    pub root: PathBuf,
    /// Where it notes what it does, and keeps samples of what is counted.
    pub state_dir: PathBuf,
}
