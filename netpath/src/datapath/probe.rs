//! What the running kernel can do.

use aya::util::KernelVersion;

use super::DatapathError;

/// XDP programs with several buffers per frame, atomics that return, `bpf_loop`.
pub const OLDEST_KERNEL: (u8, u8) = (5, 18);
/// `BPF_F_ADJ_ROOM_DECAP_L3_IPV6`.
const DECAP_L3_SINCE: (u8, u8) = (6, 3);
/// tcx links.
pub const TCX_SINCE: (u8, u8) = (6, 6);

/// The kernel's abilities that the loader decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// TC programs attach through links (tcx, from 6.6); otherwise as filters of a clsact queueing discipline.
    pub has_tcx: bool,
    /// `bpf_skb_adjust_room` can say that what comes out of a tunnel is IPv6.
    pub has_decap_l3: bool,
}

impl Kernel {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// [`DatapathError::KernelTooOld`] below 5.18.
    pub fn probe() -> Result<Self, DatapathError> {
        let version = KernelVersion::current().map_err(|e| DatapathError::failed("read the kernel's version", e))?;
        let at_least = |(major, minor)| version >= KernelVersion::new(major, minor, 0);
        if !at_least(OLDEST_KERNEL) {
            return Err(DatapathError::KernelTooOld { found: release(), needed: "5.18" });
        }
        Ok(Self { has_tcx: at_least(TCX_SINCE), has_decap_l3: at_least(DECAP_L3_SINCE) })
    }
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
