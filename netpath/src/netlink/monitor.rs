//! What the kernel tells of devices and IPv4 addresses that come, change and go.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use super::{
    Device, NetlinkError,
    address::{IFA_LOCAL, IFADDR_LEN},
    codec::{self, Reply, u32_at},
    device::{self, RTM_NEWLINK},
    socket::Socket,
};

const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
/// `RTMGRP_LINK`.
const LINKS: u32 = 0x1;
/// `RTMGRP_IPV4_IFADDR`.
const ADDRESSES: u32 = 0x10;
/// `AF_BRIDGE`: told of a bridge's port, and not of the device.
const AF_BRIDGE: u8 = 7;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device is new, or something about it changed. What its driver can is not told.
    Device(Device),
    /// A device is gone from the namespace.
    Gone {
        /// Its index.
        index: u32,
    },
    /// An address of the host came or went.
    Address(Ipv4Addr),
    /// More happened than the socket had room for: only looking at everything tells what.
    Overflow,
}

/// A socket on which the kernel tells of changes in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens it: from here on nothing is missed, but for what is said to be.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::listening(LINKS | ADDRESSES)?, buffer: Vec::new() })
    }

    /// What happened since it was asked last; it never waits.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn events(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(Some(datagram)) => events.extend(read(datagram)),
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    events.push(Event::Overflow);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let operation = "hear of changes of network devices".to_owned();
                    return Err(NetlinkError::Refused { operation, source });
                }
            }
        }
        // Between changes there may be hours.
        self.buffer = Vec::new();
        Ok(events)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn read(datagram: &[u8]) -> impl Iterator<Item = Event> {
    codec::messages(datagram).filter_map(|(kind, _, _, payload)| match kind {
        RTM_NEWLINK | RTM_DELLINK if payload.first() == Some(&AF_BRIDGE) => None,
        RTM_NEWLINK => device::device(&Reply { kind, payload: payload.to_vec() }, None).map(Event::Device),
        RTM_DELLINK => u32_at(payload, 4).map(|index| Event::Gone { index }),
        RTM_NEWADDR | RTM_DELADDR => address(&Reply { kind, payload: payload.to_vec() }),
        _ => None,
    })
}

fn address(reply: &Reply) -> Option<Event> {
    let address = <[u8; 4]>::try_from(reply.attributes(IFADDR_LEN).find(IFA_LOCAL)?).ok()?;
    Some(Event::Address(address.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::codec::Message;

    fn link(kind: u16, family: u8) -> Vec<u8> {
        let mut header = [0; device::IFINFO_LEN];
        header[0] = family;
        header[4..8].copy_from_slice(&7u32.to_ne_bytes());
        Message::new(kind, 0, &header).text(3, "vnet7").finish(0).to_vec()
    }

    #[test]
    fn a_device_that_comes_and_goes_is_told_and_a_bridges_port_is_not() {
        let datagram = [
            link(RTM_NEWLINK, 0),
            link(RTM_NEWLINK, AF_BRIDGE),
            link(RTM_DELLINK, AF_BRIDGE),
            link(RTM_DELLINK, 0),
            Message::new(RTM_DELADDR, 0, &[0; IFADDR_LEN]).attribute(IFA_LOCAL, &[192, 0, 2, 1]).finish(0).to_vec(),
        ]
        .concat();
        let events: Vec<Event> = read(&datagram).collect();
        let [Event::Device(device), gone, address] = &events[..] else { panic!("{events:?}") };
        assert_eq!((device.name.as_str(), device.index), ("vnet7", 7));
        assert_eq!(gone, &Event::Gone { index: 7 });
        assert_eq!(address, &Event::Address(Ipv4Addr::new(192, 0, 2, 1)));
    }
}
