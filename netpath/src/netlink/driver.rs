//! What only a device's driver knows: its name, and counters that each driver names for itself (`ethtool -i`, `ethtool -S`).
//! There is no netlink for them: they come by the SIOCETHTOOL ioctl.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

// linux/ethtool.h
const GET_DRIVER: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const GET_COUNTS: u32 = 0x37;
const STATISTICS: u32 = 1;
const NAME_LEN: usize = 32;
/// `struct ethtool_drvinfo`, in words.
const DRIVER_WORDS: usize = 49;
/// A driver may have more counters when it is asked for them than when it was asked how many: room for them.
const SPARE: usize = 256;

/// The name of the device's driver.
///
/// # Errors
/// When the device is gone, or its driver does not say.
pub fn driver(device: &str) -> io::Result<String> {
    let mut request = vec![GET_DRIVER];
    request.resize(DRIVER_WORDS, 0);
    ask(device, &mut request)?;
    Ok(name_of(&bytes(&request)[4..4 + NAME_LEN]))
}

/// The driver's own counters, by its names; none where it has none.
///
/// # Errors
/// When the device is gone.
pub fn counters(device: &str) -> io::Result<Vec<(String, u64)>> {
    // Command, reserved, a mask of 64 bits, and the count of the one set that it names.
    let mut counts = vec![GET_COUNTS, 0, 1 << STATISTICS, 0, 0];
    ask(device, &mut counts)?;
    let count = counts[4] as usize;
    if counts[2] == 0 || count == 0 {
        return Ok(Vec::new());
    }
    let mut names = vec![GET_STRINGS, STATISTICS, count as u32];
    names.resize(3 + (count + SPARE) * NAME_LEN / 4, 0);
    ask(device, &mut names)?;
    let mut values = vec![GET_STATISTICS, count as u32];
    values.resize(2 + (count + SPARE) * 2, 0);
    ask(device, &mut values)?;
    let (names, values) = (bytes(&names[3..]), bytes(&values[2..]));
    let words = values.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    Ok(names.chunks(NAME_LEN).take(count).map(name_of).zip(words).collect())
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn name_of(bytes: &[u8]) -> String {
    super::codec::text_of(bytes)
}

/// `request` has room for the answer to its command.
fn ask(device: &str, request: &mut [u32]) -> io::Result<()> {
    // SAFETY: plain data, for which zero is a value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the request outlives the call, and its callers have made it as large as the kernel's answer to its command.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
