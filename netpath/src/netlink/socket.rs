//! A netlink socket of the calling thread's network namespace, and one question at a time on it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{GENERIC, SocketAddrNetlink},
    recv, send, socket_with,
};

use super::{
    NetlinkError,
    codec::{self, Message, Reply},
};

/// `NLMSG_ERROR`, which with code 0 is the acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// The kernel answers a dump in datagrams of at most 32 KiB.
const BUFFER_LEN: usize = 1 << 17;
/// How often a list is asked for that changes meanwhile.
const TRIES: usize = 100;
/// Room for what is told while nobody reads: some thousand devices that come at once.
const QUEUE_LEN: usize = 4 << 20;

static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// An open netlink socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket for routes, links, addresses and traffic control.
    pub(super) fn route() -> Result<Self, NetlinkError> {
        // Protocol 0 of AF_NETLINK is NETLINK_ROUTE.
        Self::open(None, 0)
    }

    /// Opens a socket on which the kernel tells of what happens in `groups` (`RTMGRP_*`); it never waits.
    pub(super) fn listening(groups: u32) -> Result<Self, NetlinkError> {
        let socket = Self::open(None, groups)?;
        let fail = |source: rustix::io::Errno| NetlinkError::Socket(source.into());
        rustix::io::ioctl_fionbio(&socket.fd, true).map_err(fail)?;
        // Beyond the administrator's limit only for whoever may; what does not fit is an overflow, which is told of.
        let wanted = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket.fd, QUEUE_LEN);
        if wanted.is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket.fd, QUEUE_LEN).map_err(fail)?;
        }
        Ok(socket)
    }

    /// The next datagram of a listening socket; `None` when there is none yet.
    ///
    /// # Errors
    /// `ENOBUFS` when some were lost because nobody had read them.
    pub(super) fn receive<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
        buffer.resize(BUFFER_LEN, 0);
        match recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC) {
            Ok((_, len)) => buffer.get(..len).map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The descriptor, to wait on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a socket for generic netlink families.
    pub(super) fn generic() -> Result<Self, NetlinkError> {
        Self::open(Some(GENERIC), 0)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, NetlinkError> {
        let fail = |source: rustix::io::Errno| NetlinkError::Socket(source.into());
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).map_err(fail)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(fail)?;
        Ok(Self { fd })
    }

    /// Sends `message` and waits for the kernel's word that it is done, or for all of its answer.
    ///
    /// `operation` says what is being done, for the error ("create vxlan device netpath4789").
    /// A list is asked for again while objects come or go before it is whole: one that is there could be missing.
    pub(super) fn ask(&self, operation: &str, mut message: Message) -> Result<Vec<Reply>, NetlinkError> {
        let refused = |source| NetlinkError::Refused { operation: operation.to_owned(), source };
        for _ in 0..TRIES {
            if let Some(replies) = self.ask_once(&mut message).map_err(refused)? {
                return Ok(replies);
            }
        }
        Err(refused(io::Error::new(
            io::ErrorKind::Interrupted,
            "what is listed changes faster than it is read; try again",
        )))
    }

    /// `None` for a list that may not be whole.
    fn ask_once(&self, message: &mut Message) -> io::Result<Option<Vec<Reply>>> {
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        send(&self.fd, message.finish(sequence), SendFlags::empty())?;
        let (mut replies, mut is_whole) = (Vec::new(), true);
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let (_, len) = recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC)?;
            let datagram = buffer.get(..len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            for (kind, flags, found, payload) in codec::messages(datagram) {
                if found != sequence {
                    continue;
                }
                is_whole &= flags & codec::INTERRUPTED == 0;
                match kind {
                    ERROR | DONE => return result_code(payload).map(|()| is_whole.then_some(replies)),
                    _ => replies.push(Reply { kind, payload: payload.to_vec() }),
                }
            }
        }
    }
}

/// The result at the start of an error or done message: zero, or a negative errno.
fn result_code(payload: &[u8]) -> io::Result<()> {
    match codec::u32_at(payload, 0).map(|code| code as i32) {
        None | Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}
