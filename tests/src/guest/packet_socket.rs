//! A packet socket on a device: whole frames in and out, VLAN tags and checksums as they would be on a wire.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

use crate::topology::{
    netlink::index_of,
    tap::{VNET_HEADER, finish_checksum},
};

const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A packet socket bound to one device; it sees what the device receives, not what it sends.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on a device of the current namespace, in promiscuous mode.
    pub fn open(device: &str) -> Result<Self> {
        let index = index_of(device)? as i32;
        let all = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket() takes plain numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(all)) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("opening a packet socket");
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set(libc::SOL_PACKET, PACKET_VNET_HDR, &1i32)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1i32)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16i32 << 20))?;
        let promiscuous = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
        // SAFETY: sockaddr_ll is plain data for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index;
        // SAFETY: `address` is a sockaddr_ll of the length given and outlives the call.
        let bound =
            unsafe { libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
        if bound < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("binding to {device}"));
        }
        Ok(socket)
    }

    /// The descriptor, for poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a whole frame out of the device.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0u8; VNET_HEADER];
        bytes.extend(frame);
        // SAFETY: the pointer and length are those of `bytes`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame, its outermost tag put back where the kernel took it off.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0u8; VNET_HEADER + 70_000];
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: msghdr is plain data for which zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `message` points at buffers that live through the call, with their lengths.
        let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        if got < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        bytes.truncate(got as usize);
        finish_checksum(&mut bytes);
        let mut frame = bytes.split_off(VNET_HEADER.min(bytes.len()));
        if let Some((tpid, tci)) = stripped_tag(&message) {
            let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
        Ok(Some(frame))
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointer and length are those of `value`.
        let set = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast(), len) };
        if set < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("packet socket option {option}"));
        }
        Ok(())
    }
}

/// (TPID, TCI) of a tag that is in the packet's metadata instead of its bytes.
fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel filled `msg_control` and `msg_controllen` of this message.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    if first.is_null() {
        return None;
    }
    // SAFETY: CMSG_FIRSTHDR answered a header inside the control buffer.
    let header = unsafe { &*first };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message carries one tpacket_auxdata, and the control buffer is 8-byte aligned.
    let aux = unsafe { libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 { 0x8100 } else { aux.tp_vlan_tpid };
    Some((tpid, aux.tp_vlan_tci))
}
