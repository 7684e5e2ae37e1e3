//! The maps: names, shapes, keys, values.
//!
//! Every key begins with the tenant (the network index) or with a device of this host, so two tenants with the
//! same addresses never meet. Values read by the data path from a hash repeat the tenant or the device of their
//! key: a preallocated hash may hand a deleted row's memory to a new row while a reader still holds it, and the
//! reader notices by comparing.
//!
//! Numbers are in host order unless the type says otherwise; addresses are in wire order.

mod event;
mod flow;
mod gateway;
mod meter;
mod name;
mod network;
#[cfg(feature = "user")]
mod pod;
mod port;
mod shapes;
mod station;
mod underlay;

use bytemuck::{Pod, Zeroable};

pub use self::{
    event::*,
    flow::*,
    gateway::*,
    meter::*,
    name::*,
    network::*,
    port::*,
    shapes::{ALL, MapKind, MapShape, NO_PREALLOC, Role, capacity, shape},
    station::*,
    underlay::*,
};

/// Version of every layout in this module and of the programs' contract; part of every pin path. A build of another one takes
/// over what is in force: see `netpath::datapath::takeover`.
pub const ABI_VERSION: u32 = if cfg!(feature = "abi-next") { 1003 } else { 3 };

/// Key of DROPS; the value counts packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct DropKey {
    /// Network index; 0 where the packet was refused before its network was known.
    pub network: u32,
    /// Code of the [`crate::DropReason`].
    pub reason: u32,
}
