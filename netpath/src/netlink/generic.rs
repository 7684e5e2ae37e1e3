//! Generic netlink: finding a family by name, and the `netdev` family's XDP features.

use std::collections::HashMap;

use super::{
    NetlinkError,
    codec::{ACK, DUMP, Message, Reply, u16_at, u32_at, u64_at},
    socket::Socket,
};

/// `struct genlmsghdr`.
pub(super) const HEADER_LEN: usize = 4;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// A generic netlink family and a socket to ask it on.
#[derive(Debug)]
pub(super) struct Family {
    socket: Socket,
    id: u16,
}

impl Family {
    /// Finds the family; [`NetlinkError::NoFamily`] when the kernel was built without it.
    pub(super) fn open(name: &'static str) -> Result<Self, NetlinkError> {
        let socket = Socket::generic()?;
        let request = Message::new(GENL_ID_CTRL, ACK, &[CTRL_CMD_GETFAMILY, 1, 0, 0]).text(CTRL_ATTR_FAMILY_NAME, name);
        let replies = match socket.ask("look up a generic netlink family", request) {
            Err(error) if error.is_gone() => return Err(NetlinkError::NoFamily(name)),
            other => other?,
        };
        let id = replies.iter().find_map(|r| r.attributes(HEADER_LEN).find(CTRL_ATTR_FAMILY_ID));
        let id = id.and_then(|payload| u16_at(payload, 0)).ok_or(NetlinkError::NoFamily(name))?;
        Ok(Self { socket, id })
    }

    /// A request of `command` to this family.
    pub(super) fn request(&self, command: u8, flags: u16) -> Message {
        Message::new(self.id, flags, &[command, 1, 0, 0])
    }

    /// Asks; see [`Socket::ask`].
    pub(super) fn ask(&self, operation: &str, message: Message) -> Result<Vec<Reply>, NetlinkError> {
        self.socket.ask(operation, message)
    }
}

/// The XDP feature bits of every device by its index; `None` before Linux 6.3, which has no `netdev` family.
pub(super) fn xdp_features() -> Result<Option<HashMap<u32, u64>>, NetlinkError> {
    let family = match Family::open("netdev") {
        Err(NetlinkError::NoFamily(_)) => return Ok(None),
        other => other?,
    };
    let replies = family.ask("list XDP features", family.request(NETDEV_CMD_DEV_GET, DUMP))?;
    let features = replies.iter().filter_map(|reply| {
        let attributes = reply.attributes(HEADER_LEN);
        let index = attributes.find(NETDEV_A_DEV_IFINDEX).and_then(|p| u32_at(p, 0))?;
        Some((index, attributes.find(NETDEV_A_DEV_XDP_FEATURES).and_then(|p| u64_at(p, 0))?))
    });
    Ok(Some(features.collect()))
}
