//! Which of the capabilities that the kernel asks for this process lacks.

use rustix::{
    io::Errno,
    thread::{CapabilitySet, capabilities},
};

use super::DatapathError;

/// What each operation on maps, and attaching, asks for.
const OF_MAPS: [(&str, CapabilitySet); 2] =
    [("CAP_BPF", CapabilitySet::BPF), ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)];
/// What the verifier asks for beside that: the programs do arithmetic on pointers into packets.
const OF_PROGRAMS: [(&str, CapabilitySet); 1] = [("CAP_PERFMON", CapabilitySet::PERFMON)];

/// Refuses to load programs without what that takes, before anything is done: the verifier would answer with its log.
///
/// # Errors
/// [`DatapathError::NoPermission`], which names what is lacking.
pub(super) fn demand_for_programs() -> Result<(), DatapathError> {
    let lacking = lacking(OF_MAPS.iter().chain(&OF_PROGRAMS), effective());
    if lacking.is_empty() {
        return Ok(());
    }
    Err(DatapathError::NoPermission { operation: "load programs".to_owned(), lacking, source: Errno::PERM.into() })
}

/// What this process lacks of what operations on maps ask for.
pub(super) fn lacking_for_maps() -> Vec<&'static str> {
    lacking(OF_MAPS.iter(), effective())
}

/// Where they cannot be read, all: the kernel answers for itself.
fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::all(), |sets| sets.effective)
}

/// `CAP_SYS_ADMIN` stands for each of them (`bpf_capable`, include/linux/capability.h).
fn lacking<'c>(
    wanted: impl Iterator<Item = &'c (&'static str, CapabilitySet)>,
    effective: CapabilitySet,
) -> Vec<&'static str> {
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    wanted.filter(|(_, capability)| !effective.contains(*capability)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_effective_is_named_unless_the_old_capability_stands_for_it() {
        let of = |effective| lacking(OF_MAPS.iter().chain(&OF_PROGRAMS), effective);
        let of_maps = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        assert_eq!(of(of_maps), ["CAP_PERFMON"]);
        assert_eq!(of(CapabilitySet::NET_ADMIN), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(of(of_maps | CapabilitySet::PERFMON), [""; 0]);
        assert_eq!(of(CapabilitySet::SYS_ADMIN), [""; 0]);
    }

    #[test]
    fn an_error_for_want_of_capabilities_says_which() {
        let error = DatapathError::NoPermission {
            operation: "load programs".to_owned(),
            lacking: vec!["CAP_BPF", "CAP_PERFMON"],
            source: Errno::PERM.into(),
        };
        assert_eq!(
            error.to_string(),
            "no permission to load programs: this process lacks CAP_BPF and CAP_PERFMON; run netpath as root, or with CAP_BPF, \
             CAP_NET_ADMIN and CAP_PERFMON"
        );
    }
}
