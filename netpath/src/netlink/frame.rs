//! Sending a frame as it is out of a device.

use std::{io, os::fd::AsRawFd as _};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::NetlinkError;

/// A packet socket that receives nothing.
#[derive(Debug)]
pub struct Sender {
    fd: std::os::fd::OwnedFd,
}

impl Sender {
    /// Opens one in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        // Protocol 0: no frames are received.
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(|source| NetlinkError::raw_socket("frames", source.into()))?;
        Ok(Self { fd })
    }

    /// Sends a frame, Ethernet header first, out of the device with this index.
    ///
    /// # Errors
    /// When the device is gone or down, or takes no frame.
    pub fn send(&self, device: u32, frame: &[u8]) -> Result<(), NetlinkError> {
        // SAFETY: plain data, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = device as i32;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the frame and the address are valid for the call, and their lengths are theirs.
        let sent = unsafe {
            let address = (&raw const address).cast();
            libc::sendto(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, address, len)
        };
        match usize::try_from(sent) {
            Ok(_) => Ok(()),
            Err(_) => {
                let operation = format!("send a frame out of device #{device}");
                Err(NetlinkError::Refused { operation, source: io::Error::last_os_error() })
            }
        }
    }
}
