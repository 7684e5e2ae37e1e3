//! Names, for people: of whatever the data path knows by an index.

use bytemuck::{Pod, Zeroable};

/// What a name is of: [`NameKey::kind`].
pub mod name_kind {
    /// This host, index 0.
    pub const HOST: u32 = 1;
    /// A network, by network index.
    pub const NETWORK: u32 = 2;
    /// A guest port, by slot: `network/instance/mac`.
    pub const PORT: u32 = 3;
    /// A tunnel, by tunnel index: `physical network/host`, or `network/group`.
    pub const TUNNEL: u32 = 4;
    /// A physical network, by physical network index.
    pub const PHYSICAL_NETWORK: u32 = 5;
    /// A public link, by its index: `physical network/VLAN id`, or `physical network/untagged`.
    pub const PUBLIC_LINK: u32 = 6;
    /// A public address that ports are given out of, by its index in PORT_BLOCKS: `address`.
    pub const PORT_POOL: u32 = 7;
    /// A meter, by its number: `nic network/instance/mac`, `network name`, `account name`, `address link/address`.
    pub const METER: u32 = 8;
    /// An account with networks on this host, by its index in RETIRED_ACCOUNT.
    pub const ACCOUNT: u32 = 9;
    /// The account that a network belongs to, by network index.
    pub const OWNER: u32 = 10;
    /// A public address that is counted, by its index: `link/address`.
    pub const PUBLIC_ADDRESS: u32 = 11;
}

/// Key of NAMES.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct NameKey {
    /// [`name_kind`].
    pub kind: u32,
    /// The index, by kind.
    pub index: u32,
}

/// A name: UTF-8, filled up with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Name(pub [u8; 128]);
