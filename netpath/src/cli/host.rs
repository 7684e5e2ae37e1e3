//! Which host's part of the definitions is meant.

use std::{fs, path::Path};

use super::Global;
use crate::{apply, error::Error};

/// Where the kernel says the host's name, of the caller's UTS namespace.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The host that `--host` names, else the one applied before under this root, else this one.
pub(super) fn chosen(option: Option<&str>, global: &Global) -> Result<String, Error> {
    if let Some(host) = option {
        return Ok(host.to_owned());
    }
    if let Some(host) = apply::recorded_host(&global.root)? {
        return Ok(host);
    }
    own_name()
}

/// This host's name, as the kernel has it.
pub(super) fn own_name() -> Result<String, Error> {
    let path = Path::new(HOSTNAME);
    let name = fs::read_to_string(path).map_err(|source| Error::HostName { path: path.to_owned(), source })?;
    Ok(name.trim().to_owned())
}
