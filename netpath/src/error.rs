//! What a verb of the command line can fail with. Each part of the loader has its own typed error; this joins them.

use std::{io, path::PathBuf};

use crate::{datapath::DatapathError, definitions::DefinitionsError, netlink::NetlinkError};

/// The failure of a verb. `main` prints it, followed by its chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definitions cannot be read, or have findings.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// The kernel's BPF objects.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The kernel's network devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No such map, or no such row.
    #[error("there is no {what} `{name}`; {next}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// By which name.
        name: String,
        /// What to do.
        next: String,
    },
    /// The host's own name is not known, so that its part of the definitions cannot be chosen.
    #[error("this host's name cannot be read from {path}; name it with --host")]
    HostName {
        /// Where the kernel says it.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}
