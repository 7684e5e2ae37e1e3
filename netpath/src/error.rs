//! What a verb of the command line can fail with. Each part of the loader has its own typed error; this joins them.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    compile::CompileError,
    datapath::{DatapathError, Holder},
    definitions::DefinitionsError,
    history::HistoryError,
    netlink::NetlinkError,
    preflight::Finding,
};

/// The failure of a verb. `main` prints it, followed by its chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definitions cannot be read, or have findings.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// The kernel's BPF objects.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The documents that were applied.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The kernel's network devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// What the host listens on cannot be read.
    #[error("cannot read {}", path.display())]
    Listeners {
        /// The kernel's list.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The definitions do not fit the host.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The host is not fit for its part of the definitions.
    #[error("nothing was touched:{}", listed(findings.iter().map(|f| format!("{}: {}", f.object, f.message))))]
    Preflight {
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// A step of an apply failed, and those made before it were taken back.
    #[error("apply failed at `{failed}`; {}", undone(left))]
    Apply {
        /// The step.
        failed: String,
        /// What could not be taken back.
        left: Vec<String>,
        /// Why it failed.
        source: Box<Error>,
    },
    /// What is detached would be attached again.
    #[error(
        "nothing was detached: {agent} is this root's agent and would attach again; end it first (`systemctl stop netpath-agent`)"
    )]
    AgentWouldAttach {
        /// The agent.
        agent: Holder,
    },
    /// The agent cannot do what it is there for.
    #[error("the agent cannot {operation}")]
    Agent {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
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
    /// The manual could not be written.
    #[error("the manual cannot be written into {}; name a folder that can be", dir.display())]
    Manual {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The metrics cannot be offered.
    #[error("the metrics cannot be offered at {address}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It is no packet, or none that can be made here.
    #[error("{why}")]
    Packet {
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A file is no capture.
    #[error("{} cannot be used as a capture", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::pcap::ReadError,
    },
    /// A capture has not kept enough of a frame.
    #[error(
        "frame {number} of {} was cut to {kept} of {length} bytes, and not even its headers are all there; capture it again and \
         keep more of each frame (`netpath capture` without --snaplen, `tcpdump -s 0`)", path.display()
    )]
    CutShort {
        /// The file.
        path: PathBuf,
        /// The frame's number.
        number: u64,
        /// Bytes that are there.
        kept: usize,
        /// Bytes that there were.
        length: usize,
    },
    /// There is nothing to draw on.
    #[error(
        "`netpath top` draws on a terminal, and {what} is none: `netpath top --once` prints one frame, `netpath show counters` \
         all that was counted"
    )]
    NoTerminal {
        /// What there is instead.
        what: &'static str,
    },
    /// The terminal does not do what it is told.
    #[error("the terminal cannot be used; `netpath top --once` prints one frame without it")]
    Terminal(#[source] io::Error),
    /// The kernel does not let signals be waited for.
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
    /// Something under the state folder, or a saved document, cannot be read.
    #[error("cannot read {}; check the path and its permissions", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A saved reading of the counters is none that others can be compared with.
    #[error("{} cannot be counted from: {why}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// A file of captured frames could not be written.
    #[error("the capture cannot be written into {}; name a file in a folder that exists and has room, with -w", path.display())]
    CaptureFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

fn listed(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| format!("\n  {line}")).collect()
}

fn undone(left: &[String]) -> String {
    match left {
        [] => "all was taken back, nothing changed".to_owned(),
        _ => format!("not all could be taken back, apply again:{}", listed(left.iter().cloned())),
    }
}
