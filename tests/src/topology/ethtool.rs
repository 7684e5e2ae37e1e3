//! Offloads by name, as `ethtool -K` sets them, and hardware addresses, through the SIOCETHTOOL ioctl.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail};

use super::Link;
use crate::packet::Mac;

// linux/ethtool.h
const GSSET_INFO: u32 = 0x37;
const GSTRINGS: u32 = 0x1b;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const SS_FEATURES: u32 = 4;
const NAME_LEN: usize = 32;

impl Link {
    /// Turns a feature on or off by its kernel name, for example `tx-checksum-ip-generic` or `rx-gro`.
    ///
    /// # Errors
    /// When the device has no such feature. A feature that the device pins to the other value is left as it is.
    pub fn offload(&self, feature: &str, on: bool) -> Result<()> {
        let names = feature_names(self.name())?;
        let bit = names
            .iter()
            .position(|name| name == feature)
            .with_context(|| format!("{} knows no feature {feature}", self.name()))?;
        // The kernel refuses a request that does not cover all of its feature words.
        let blocks = names.len().div_ceil(32);
        let mut request = vec![SFEATURES, blocks as u32];
        for block in 0..blocks {
            let mask = if block == bit / 32 { 1u32 << (bit % 32) } else { 0 };
            request.extend([mask, if on { mask } else { 0 }]);
        }
        ioctl(self.name(), &mut request).with_context(|| format!("turning {feature} of {}", self.name()))?;
        Ok(())
    }

    /// Whether a feature is on now.
    pub fn offload_is_on(&self, feature: &str) -> Result<bool> {
        let names = feature_names(self.name())?;
        let Some(bit) = names.iter().position(|name| name == feature) else {
            bail!("{} knows no feature {feature}", self.name());
        };
        let blocks = names.len().div_ceil(32);
        let mut request = vec![GFEATURES, blocks as u32];
        request.resize(2 + blocks * 4, 0);
        ioctl(self.name(), &mut request)?;
        // Each block is available, requested, active, never_changed.
        Ok(request[2 + (bit / 32) * 4 + 2] & (1 << (bit % 32)) != 0)
    }
}

/// The MAC address of a device in the current namespace.
pub(super) fn hardware_address(device: &str) -> Result<Mac> {
    let mut request = ifreq(device)?;
    // SAFETY: SIOCGIFHWADDR writes into the ifreq it is given and nothing else.
    if unsafe { libc::ioctl(socket()?.as_raw_fd(), libc::SIOCGIFHWADDR, &mut request) } < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("reading the MAC of {device}"));
    }
    // SAFETY: the call above filled this arm of the union.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    Ok(std::array::from_fn(|i| data[i] as u8))
}

fn feature_names(device: &str) -> Result<Vec<String>> {
    // cmd, reserved, sset_mask (u64), then one count.
    let mut info = vec![GSSET_INFO, 0, 1 << SS_FEATURES, 0, 0];
    ioctl(device, &mut info)?;
    let count = info[4] as usize;
    let mut strings = vec![GSTRINGS, SS_FEATURES, count as u32];
    strings.resize(3 + count * NAME_LEN / 4, 0);
    ioctl(device, &mut strings)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = |chunk: &[u8]| String::from_utf8_lossy(chunk).trim_end_matches('\0').to_owned();
    Ok(bytes.chunks(NAME_LEN).map(name).collect())
}

fn ioctl(device: &str, request: &mut [u32]) -> Result<()> {
    let mut ifreq = ifreq(device)?;
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: `request` is sized for the answer of its command by the caller and outlives the call.
    if unsafe { libc::ioctl(socket()?.as_raw_fd(), libc::SIOCETHTOOL, &mut ifreq) } < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("ethtool {:#x} on {device}", request[0]));
    }
    Ok(())
}

fn ifreq(device: &str) -> Result<libc::ifreq> {
    // SAFETY: ifreq is plain data for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        bail!("{device} is longer than a device name");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn socket() -> Result<OwnedFd> {
    // SAFETY: socket() takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("opening a socket for ioctls");
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
