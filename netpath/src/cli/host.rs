//! Which host's part of the definitions is meant.

use std::{fs, path::Path};

use super::Global;
use crate::{apply, definitions, error::Error, history::History};

/// Where the kernel says the host's name, of the caller's UTS namespace.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The host that `--host` names, else the one applied before under this root, else this one. After a boot nothing is under the root,
/// and the history tells who was applied before, unless its definitions know this one's name.
pub(super) fn chosen(option: Option<&str>, global: &Global) -> Result<String, Error> {
    if let Some(host) = option {
        return Ok(host.to_owned());
    }
    if let Some(host) = apply::recorded_host(&global.root)? {
        return Ok(host);
    }
    let own = own_name()?;
    match History::open(&global.state_dir, &global.root).in_force() {
        Ok(Some(before)) if before.meta.host != own => {
            let object = format!("revision {}", before.meta.number);
            let zone = definitions::parse_applied(&object, &before.document).ok();
            let knows = |name: &str| zone.as_ref().is_some_and(|zone| zone.host(name).is_some());
            Ok(if knows(&before.meta.host) && !knows(&own) { before.meta.host } else { own })
        }
        Ok(_) => Ok(own),
        Err(error) => {
            tracing::warn!("which host was applied before is not known: {error}");
            Ok(own)
        }
    }
}

/// This host's name, as the kernel has it.
pub(super) fn own_name() -> Result<String, Error> {
    let path = Path::new(HOSTNAME);
    let name = fs::read_to_string(path).map_err(|source| Error::HostName { path: path.to_owned(), source })?;
    Ok(name.trim().to_owned())
}
