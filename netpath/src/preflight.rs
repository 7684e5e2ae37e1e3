//! What is looked at on a host before anything is touched: what stops an apply, and what its operator ought to know. The
//! checks are the doctor's.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

pub use crate::doctor::Severity;
use crate::{
    apply::{Fallback, Unpaced},
    compile::{Compiled, TunnelDevice},
    datapath::Attachment,
    doctor::{self, Host, gather},
    error::Error,
    netlink::Device,
};

/// How much of the host is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At all that is worth knowing.
    All,
    /// At what stops an apply: where nobody reads more, the tools that list others' rules need not be run.
    Errors,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters: nothing is applied while there are errors.
    pub severity: Severity,
    /// What it is about: a device, a network.
    pub object: String,
    /// What was found, and what to do.
    pub message: String,
}

impl From<doctor::Finding> for Finding {
    fn from(finding: doctor::Finding) -> Self {
        let message = format!("{}; {}", finding.found, finding.mend);
        Self { severity: finding.severity, object: finding.object, message }
    }
}

/// What the host looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'o> {
    /// Where netpath's pins are.
    pub(crate) root: &'o Path,
    /// Its devices.
    pub(crate) devices: &'o [Device],
    /// What listens on the UDP ports in use.
    pub(crate) tunnels: &'o BTreeMap<u16, TunnelDevice>,
    /// What netpath has attached.
    pub(crate) actual: &'o [Attachment],
    /// Uplinks that do not take XDP though they could be asked to.
    pub(crate) fallbacks: &'o [(String, Fallback)],
    /// Uplinks on which packets above a rate are dropped though the definitions ask for fq.
    pub(crate) unpaced: &'o [(String, Unpaced)],
}

/// What is found, errors last.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn check(host: &str, compiled: &Compiled, seen: &Observed<'_>, look: Look) -> Result<Vec<Finding>, Error> {
    let guests = gather::guests(&compiled.rows, seen.devices);
    let (bypasses, rivals) = gather::bypassed(seen.root, &guests, seen.actual, seen.devices, look)?;
    let host = Host {
        name: host.to_owned(),
        devices: seen.devices.to_vec(),
        uplinks: compiled.uplinks.clone(),
        tunnels: seen.tunnels.clone(),
        fallbacks: seen.fallbacks.to_vec(),
        unpaced: seen.unpaced.to_vec(),
        guests,
        bypasses,
        rivals,
        ..Host::default()
    };
    let mut findings: Vec<Finding> = doctor::before_apply(&host).into_iter().map(Finding::from).collect();
    findings.sort();
    findings.dedup();
    Ok(findings)
}
