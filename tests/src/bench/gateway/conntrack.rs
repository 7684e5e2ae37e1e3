//! Connection tracking, emptied: what `conntrack -F` sends.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvFlags, SendFlags, recv, send};

// linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

/// Takes away every connection of the calling thread's namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn flush() -> Result<()> {
    // SAFETY: socket() takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER) };
    ensure!(fd >= 0, "opening a netlink socket: {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut request = 20u32.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
    send(&socket, &request, SendFlags::empty()).context("asking to flush connections")?;
    let mut answer = [0u8; 256];
    let (got, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    ensure!(got >= 20 && answer[16..20] == [0; 4], "connections are not flushed: {:?}", &answer[..got]);
    Ok(())
}
