//! Requests to rtnetlink, built and answered synchronously on the calling thread, hence in its namespace.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

/// Create, and fail if it is there.
pub const NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// Create or replace.
pub const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
/// Create, and add beside others of the same key (bridge fdb).
pub const APPEND: u16 = (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;

/// One request: a header, a fixed body, and attributes that nest.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    open: Vec<usize>,
}

impl Request {
    /// A request of this type with `flags` beside REQUEST and ACK, and the fixed body of its family.
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        let mut request = Self { bytes, open: Vec::new() };
        request.pad();
        request
    }

    /// Adds an attribute.
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend((4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    /// Adds a number in host order.
    pub fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a name with its zero.
    pub fn attr_name(self, kind: u16, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Adds an attribute that holds what `fill` adds after its first `body` bytes.
    pub fn nest(mut self, kind: u16, body: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        self.open.push(self.bytes.len());
        self = self.attr(kind, body);
        let mut filled = fill(self);
        if let Some(start) = filled.open.pop() {
            let len = (filled.bytes.len() - start) as u16;
            filled.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        }
        filled
    }

    /// Sends it and waits for the kernel's verdict; `what` names the operation in the error.
    pub fn send(mut self, what: &str) -> Result<()> {
        let len = (self.bytes.len() as u32).to_ne_bytes();
        self.bytes[..4].copy_from_slice(&len);
        let socket = socket()?;
        send(&socket, &self.bytes, SendFlags::empty())?;
        let mut answer = [0u8; 8192];
        let (got, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if got < 20 || i32::from(kind) != libc::NLMSG_ERROR {
            bail!("{what}: an answer of type {kind} with {got} bytes");
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            code => Err(Errno::from_raw_os_error(-code)).with_context(|| what.to_owned()),
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().div_ceil(4) * 4, 0);
    }
}

/// The index of a device in the current namespace.
pub fn index_of(device: &str) -> Result<u32> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: `name` is a zero-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("no device {device} in this namespace")),
        index => Ok(index),
    }
}

fn socket() -> Result<OwnedFd> {
    // SAFETY: socket() takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("opening a netlink socket");
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
