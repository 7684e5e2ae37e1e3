//! Offload switches of a device, as `ethtool -k` and `-K` read and set them.

use super::{
    NetlinkError,
    codec::{ACK, Attributes, text_of, u32_at},
    generic::{self, Family},
};

const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const CHANNELS_GET: u8 = 17;
const A_HEADER: u16 = 1;
const A_HEADER_DEV_INDEX: u16 = 1;
const A_HW: u16 = 2;
const A_WANTED: u16 = 3;
const A_ACTIVE: u16 = 4;
const A_BITSET_BITS: u16 = 3;
const A_BITSET_BIT: u16 = 1;
const A_BIT_NAME: u16 = 2;
const A_BIT_VALUE: u16 = 3;
const A_CHANNELS_RX_MAX: u16 = 2;
const A_CHANNELS_COMBINED_MAX: u16 = 5;
const A_CHANNELS_RX: u16 = 6;
const A_CHANNELS_COMBINED: u16 = 9;

/// The kernel's name of the switch that ethtool calls `rxvlan`: the NIC takes the VLAN tag out of the frame.
pub const RX_VLAN: &str = "rx-vlan-hw-parse";

/// Merging of received segments into larger packets (`gro`).
pub const RX_GRO: &str = "rx-gro";
/// The NIC is told the UDP ports of tunnels, and looks behind their headers (`rx-udp_tunnel-port-offload`).
pub const RX_TUNNEL_PORT: &str = "rx-udp_tunnel-port-offload";

/// State of one offload switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// In force now.
    pub is_on: bool,
    /// The driver lets it be switched.
    pub is_switchable: bool,
}

/// Reads one switch of the device with that index; `name` as in `ethtool -k`'s netlink form, for example [`RX_VLAN`].
///
/// # Errors
/// When the device is gone, or the kernel has no ethtool netlink family (before 5.6).
pub fn offload(index: u32, name: &str) -> Result<Offload, NetlinkError> {
    let family = Family::open("ethtool")?;
    let request = family.request(FEATURES_GET, ACK).nest(A_HEADER, |m| device(m, index));
    let replies = family.ask(&format!("read offloads of device {index}"), request)?;
    let is_in = |set| {
        let payload = replies.iter().find_map(|reply| reply.attributes(generic::HEADER_LEN).find(set));
        payload.is_some_and(|payload| contains(payload, name))
    };
    Ok(Offload { is_on: is_in(A_ACTIVE), is_switchable: is_in(A_HW) })
}

/// Queues that a device receives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveQueues {
    /// In use.
    pub used: u32,
    /// The most that there can be.
    pub most: u32,
}

/// Asks how many queues the device with that index receives on; `None` where its driver does not say.
///
/// # Errors
/// When the device is gone, or the kernel has no ethtool netlink family (before 5.6).
pub fn receive_queues(index: u32) -> Result<Option<ReceiveQueues>, NetlinkError> {
    let family = Family::open("ethtool")?;
    let request = family.request(CHANNELS_GET, ACK).nest(A_HEADER, |m| device(m, index));
    let replies = match family.ask(&format!("read the queues of device {index}"), request) {
        Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => return Ok(None),
        replies => replies?,
    };
    let number = |kind| {
        let payload = replies.iter().find_map(|reply| reply.attributes(generic::HEADER_LEN).find(kind));
        payload.and_then(|payload| u32_at(payload, 0)).unwrap_or_default()
    };
    let used = number(A_CHANNELS_RX) + number(A_CHANNELS_COMBINED);
    let most = number(A_CHANNELS_RX_MAX).max(number(A_CHANNELS_COMBINED_MAX));
    Ok(Some(ReceiveQueues { used, most }))
}

/// Turns one switch on or off.
///
/// # Errors
/// When the device is gone or the driver refuses.
pub fn set_offload(index: u32, name: &str, on: bool) -> Result<(), NetlinkError> {
    let family = Family::open("ethtool")?;
    let request = family.request(FEATURES_SET, ACK).nest(A_HEADER, |m| device(m, index)).nest(A_WANTED, |m| {
        m.nest(A_BITSET_BITS, |m| {
            m.nest(A_BITSET_BIT, |m| {
                let bit = m.text(A_BIT_NAME, name);
                if on { bit.attribute(A_BIT_VALUE, &[]) } else { bit }
            })
        })
    });
    let word = if on { "on" } else { "off" };
    family.ask(&format!("turn {name} {word} on device {index}"), request).map(drop)
}

fn device(message: super::codec::Message, index: u32) -> super::codec::Message {
    message.attribute(A_HEADER_DEV_INDEX, &index.to_ne_bytes())
}

/// Is the bit set? `HW` comes with a mask, where a bit that is listed without a value is clear; the others are
/// plain lists of the bits that are set.
fn contains(bitset: &[u8], name: &str) -> bool {
    const NOMASK: u16 = 1;
    let is_list = Attributes(bitset).find(NOMASK).is_some();
    let bits = Attributes(Attributes(bitset).find(A_BITSET_BITS).unwrap_or_default());
    bits.filter(|(kind, _)| *kind == A_BITSET_BIT).any(|(_, bit)| {
        let bit = Attributes(bit);
        bit.find(A_BIT_NAME).is_some_and(|found| text_of(found) == name) && (is_list || bit.find(A_BIT_VALUE).is_some())
    })
}
