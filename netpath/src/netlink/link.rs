//! What the kernel says of one device beyond what every device has: its VLAN id, and what it has counted.

use super::{
    NetlinkError,
    codec::{ACK, Attributes, Message, u16_at, u64_at},
    device::{IFF_PROMISC, IFINFO_LEN},
    socket::Socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// What a device has counted of what it received, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Frames that were taken.
    pub packets: u64,
    /// Frames that were not: all of the below, and what the driver counts beside them.
    pub errors: u64,
    /// Frames that the kernel had no room or no use for.
    pub dropped: u64,
    /// Frames whose check sequence was wrong.
    pub crc_errors: u64,
    /// Frames that came when the NIC's ring was full.
    pub missed: u64,
}

/// One device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// The id of a VLAN device.
    pub vlan: Option<u16>,
    /// What it received.
    pub received: Received,
}

/// Asks for the device with this index.
///
/// # Errors
/// When it is gone, or the kernel refuses.
pub fn details(index: u32) -> Result<Details, NetlinkError> {
    let mut header = [0; IFINFO_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let request = Message::new(RTM_GETLINK, ACK, &header);
    let replies = Socket::route()?.ask(&format!("read what device {index} has counted"), request)?;
    let mut details = Details::default();
    for reply in replies.iter().filter(|reply| reply.kind == RTM_NEWLINK) {
        for (kind, payload) in reply.attributes(IFINFO_LEN) {
            match kind {
                IFLA_LINKINFO => details.vlan = vlan(Attributes(payload)),
                IFLA_STATS64 => details.received = received(payload),
                _ => {}
            }
        }
    }
    Ok(details)
}

/// Has the device with this index take frames that are not for its own address, or not any more.
///
/// # Errors
/// When it is gone, or the kernel refuses.
pub fn set_promiscuity(index: u32, name: &str, on: bool) -> Result<(), NetlinkError> {
    let mut header = [0; IFINFO_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&if on { IFF_PROMISC } else { 0 }.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_PROMISC.to_ne_bytes());
    let word = if on { "on" } else { "off" };
    let operation = format!("turn promiscuous mode {word} on device {name}");
    Socket::route()?.ask(&operation, Message::new(RTM_NEWLINK, ACK, &header)).map(drop)
}

fn vlan(info: Attributes<'_>) -> Option<u16> {
    let is_vlan = info.find(IFLA_INFO_KIND).map(super::codec::text_of).as_deref() == Some("vlan");
    let data = Attributes(info.find(IFLA_INFO_DATA).filter(|_| is_vlan)?);
    u16_at(data.find(IFLA_VLAN_ID)?, 0)
}

/// `struct rtnl_link_stats64`: words of eight bytes.
fn received(stats: &[u8]) -> Received {
    let word = |place: usize| u64_at(stats, place * 8).unwrap_or_default();
    Received { packets: word(0), errors: word(4), dropped: word(6), crc_errors: word(12), missed: word(15) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_their_places() {
        let stats: Vec<u8> = (0..24_u64).flat_map(u64::to_ne_bytes).collect();
        let wanted = Received { packets: 0, errors: 4, dropped: 6, crc_errors: 12, missed: 15 };
        assert_eq!(received(&stats), wanted);
        assert_eq!(received(&stats[..8]), Received::default());
    }
}
