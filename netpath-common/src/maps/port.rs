//! A guest port: who is behind it, and what has passed it.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac};

/// A guest port. Key of PORTS: its ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// The key again.
    pub ifindex: u32,
    /// Network index.
    pub network: u32,
    /// Row of COUNTERS; stable for as long as the NIC is defined.
    pub slot: u32,
    /// [`port_flags`].
    pub flags: u32,
    /// The NIC's MAC address.
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
    /// The NIC's first IPv4 address; zero for none.
    pub ip4: [u8; 4],
    /// Zero.
    pub pad2: [u8; 4],
    /// The NIC's first IPv6 address; zero for none.
    pub ip6: Address,
    /// The link-local address that the MAC makes.
    pub link_local: Address,
}

/// Bits of [`Port::flags`].
pub mod port_flags {
    /// No source is checked: a virtual router, keepalived.
    pub const TRUSTED: u32 = 1;
    /// IP sources are not checked, MAC addresses are: a network without `cidr` and `cidr6`.
    pub const ANY_IP: u32 = 2;
    /// ADDRESSES has further addresses of this port.
    pub const MORE_ADDRESSES: u32 = 4;
}

/// Key of ADDRESSES; the value is 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct AddressKey {
    /// The port.
    pub ifindex: u32,
    /// A further address of it.
    pub address: Address,
}

/// What passed a guest port, on one CPU; frames without the frame check sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames that the guest sent and netpath accepted.
    pub from_guest_packets: u64,
    /// Their bytes.
    pub from_guest_bytes: u64,
    /// Frames delivered to the guest.
    pub to_guest_packets: u64,
    /// Their bytes.
    pub to_guest_bytes: u64,
    /// What a later version may count.
    #[cfg(feature = "abi-next")]
    pub next: u64,
}
