//! Why a host's part of a zone cannot be compiled.

use netpath_common::maps::MapShape;

/// Why a host's part of a zone cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The zone has no such host.
    #[error("the definitions have no host `{host}` (they have {known}); name one with --host")]
    UnknownHost {
        /// The host asked for.
        host: String,
        /// The hosts of the zone.
        known: String,
    },
    /// Several devices, or several NICs, could belong together.
    #[error(
        "the device of NIC {nic} cannot be told by its MAC address {mac}: {cause}; give the NIC its `device` in the definitions"
    )]
    AmbiguousDevice {
        /// `network/instance`.
        nic: String,
        /// Its MAC address.
        mac: String,
        /// What fits as well.
        cause: String,
    },
    /// A map has no room.
    #[error(
        "map {name} needs {needed} rows and has {capacity}; set `capacities: {{{field}: {needed}}}` of host `{host}` in the definitions"
    )]
    Capacity {
        /// The map.
        name: &'static str,
        /// Rows needed.
        needed: usize,
        /// Rows there are.
        capacity: u32,
        /// The field of `capacities`.
        field: &'static str,
        /// The host.
        host: String,
    },
}

impl CompileError {
    pub(super) fn capacity(shape: &MapShape, needed: usize, capacity: u32, host: &str) -> Self {
        Self::Capacity { name: shape.name, needed, capacity, field: shape.capacity_field, host: host.into() }
    }
}
