//! What netpath asks of the kernel's network stack, over netlink, in the calling thread's namespace.
//!
//! Synchronous, one question at a time; nothing here knows of definitions or maps.
//!
//! - [`Device`], [`devices`]: what devices there are.
//! - [`vxlan`]: netpath's own collect-metadata vxlan device.
//! - [`driver`]: a driver's name and its own counters.
//! - [`ethtool`]: offload switches, queues.
//! - [`address`]: the host's addresses; joining multicast groups by autojoin addresses.
//! - [`fq`]: the queueing discipline that keeps packets until their time of departure.
//! - [`frame`]: frames sent as they are.
//! - [`link`]: what one device has counted, and the id of a VLAN device.
//! - [`monitor`]: what the kernel tells of devices and addresses that change.
//! - [`route`]: through which device an address is reached.
//! - [`tc`]: queueing disciplines and filters that others have put on a device.

pub mod address;
mod codec;
mod device;
pub mod driver;
pub mod ethtool;
pub mod fq;
pub mod frame;
mod generic;
pub mod link;
pub mod monitor;
pub mod route;
mod socket;
pub mod tc;
pub mod vxlan;

use std::io;

pub use device::{Device, VxlanSettings, XdpSupport, devices};

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel said no.
    #[error("cannot {operation}")]
    Refused {
        /// What was asked, with the object's name.
        operation: String,
        /// The kernel's errno.
        #[source]
        source: io::Error,
    },
    /// A device that is not netpath's has the name or the UDP port.
    #[error(
        "cannot create vxlan device {name}: a device that is not netpath's has this name, or UDP port {port}; rename or delete it"
    )]
    Taken {
        /// Name of the device that was to be made.
        name: String,
        /// Its UDP port.
        port: u16,
    },
    /// The kernel has no such generic netlink family.
    #[error("this kernel has no generic netlink family `{0}`")]
    NoFamily(&'static str),
}

impl NetlinkError {
    /// The kernel's answer, when it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(source) | Self::Refused { source, .. } => source.raw_os_error(),
            Self::NoFamily(_) | Self::Taken { .. } => None,
        }
    }

    /// A raw socket is refused, which wants a capability that whoever only asks may not have.
    pub(crate) fn raw_socket(what_for: &str, source: io::Error) -> Self {
        Self::Refused { operation: format!("open a socket for {what_for}, which takes CAP_NET_RAW"), source }
    }

    /// Is the object that was asked about gone (`ENODEV`, `ENOENT`, `ENXIO`, `EADDRNOTAVAIL`)?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        use rustix::io::Errno;
        let gone = [Errno::NODEV, Errno::NOENT, Errno::NXIO, Errno::ADDRNOTAVAIL];
        self.errno().is_some_and(|found| gone.iter().any(|errno| errno.raw_os_error() == found))
    }
}
