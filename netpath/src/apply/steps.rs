//! One thing that apply does beside rows, and how it is taken back.

use std::fmt;

use crate::{
    datapath::{self, DatapathError, Hook, Programs, Root},
    error::Error,
    netlink::{
        self, Device, NetlinkError,
        address::{self, Membership},
        ethtool, fq, link,
        vxlan::OwnVxlan,
    },
};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes netpath's tunnel device.
    MakeTunnel(OwnVxlan),
    /// Completes one that a killed apply left half made.
    CompleteTunnel(OwnVxlan),
    /// Deletes it.
    DeleteTunnel(OwnVxlan),
    /// Turns a device's `rxvlan` offload on or off.
    Rxvlan {
        /// The device.
        device: String,
        /// Its index.
        ifindex: u32,
        /// On, and not off.
        on: bool,
    },
    /// Has a device take frames that are not for its own address, or not any more.
    Promiscuity {
        /// The device.
        device: String,
        /// Its index.
        ifindex: u32,
        /// On, and not off.
        on: bool,
    },
    /// Gives a device fq, for each of its queues.
    FairQueue {
        /// The device.
        device: String,
        /// Its index.
        ifindex: u32,
        /// How many it has.
        queues: u32,
    },
    /// Takes it off again; the kernel's default comes back.
    DefaultQueue {
        /// The device.
        device: String,
        /// Its index.
        ifindex: u32,
        /// How many queues it has.
        queues: u32,
    },
    /// Joins a multicast group.
    Join(Membership),
    /// Leaves a multicast group.
    Leave(Membership),
    /// Attaches a program.
    Attach {
        /// The device.
        device: String,
        /// The hook.
        hook: Hook,
    },
    /// Replaces another build's program in place.
    Replace {
        /// The device.
        device: String,
        /// The hook.
        hook: Hook,
        /// The program that is replaced.
        program: u32,
    },
    /// Takes a program off.
    Detach {
        /// The device.
        device: String,
        /// The hook.
        hook: Hook,
    },
}

impl Step {
    /// `+`, `~` or `-`, as in a plan.
    #[must_use]
    pub fn sign(&self) -> char {
        match self {
            Self::MakeTunnel(_) | Self::Join(_) | Self::Attach { .. } | Self::FairQueue { .. } => '+',
            Self::CompleteTunnel(_) | Self::Rxvlan { .. } | Self::Promiscuity { .. } | Self::Replace { .. } => '~',
            Self::DeleteTunnel(_) | Self::Leave(_) | Self::Detach { .. } | Self::DefaultQueue { .. } => '-',
        }
    }

    /// Does it. `devices` are those of the namespace.
    pub(super) fn make(&self, root: &Root, programs: &Programs, devices: &[Device]) -> Result<(), Error> {
        match self {
            Self::MakeTunnel(tunnel) | Self::CompleteTunnel(tunnel) => make_tunnel(tunnel, root, programs),
            Self::Rxvlan { ifindex, on: false, .. } => Ok(ethtool::set_offload(*ifindex, ethtool::RX_VLAN, false)?),
            Self::Promiscuity { device, ifindex, on: true } => Ok(link::set_promiscuity(*ifindex, device, true)?),
            Self::FairQueue { device, ifindex, queues } => Ok(fq::install(*ifindex, device, *queues)?),
            Self::Join(membership) => Ok(address::join(*membership)?),
            Self::Attach { device, hook } | Self::Replace { device, hook, .. } => {
                Ok(datapath::attach(root, programs, find(devices, device)?, *hook)?)
            }
            Self::DeleteTunnel(_) | Self::Rxvlan { on: true, .. } | Self::Leave(_) => self.take_off(root),
            Self::DefaultQueue { .. } | Self::Promiscuity { on: false, .. } | Self::Detach { .. } => {
                self.take_off(root)
            }
        }
    }

    /// Does it, where it takes something off the host; a step that puts something on is left alone.
    pub(super) fn take_off(&self, root: &Root) -> Result<(), Error> {
        match self {
            Self::DeleteTunnel(tunnel) => Ok(tunnel.delete()?),
            Self::Rxvlan { ifindex, on: true, .. } => Ok(ethtool::set_offload(*ifindex, ethtool::RX_VLAN, true)?),
            Self::Promiscuity { device, ifindex, on: false } => Ok(link::set_promiscuity(*ifindex, device, false)?),
            Self::DefaultQueue { device, ifindex, .. } => Ok(fq::uninstall(*ifindex, device)?),
            Self::Leave(membership) => Ok(address::leave(*membership)?),
            Self::Detach { device, hook } => Ok(datapath::detach(root, device, *hook)?),
            Self::MakeTunnel(_) | Self::CompleteTunnel(_) | Self::Join(_) | Self::FairQueue { .. } => Ok(()),
            Self::Rxvlan { on: false, .. } | Self::Promiscuity { on: true, .. } => Ok(()),
            Self::Attach { .. } | Self::Replace { .. } => Ok(()),
        }
    }

    /// Is it about a tunnel device, which keeps its program for as long as it receives?
    pub(super) fn is_of_tunnel(&self) -> bool {
        matches!(self, Self::DeleteTunnel(_) | Self::Detach { hook: Hook::FromTunnel, .. })
    }

    /// Takes it back.
    pub(super) fn undo(&self, root: &Root, programs: &Programs, devices: &[Device]) -> Result<(), Error> {
        match self {
            Self::MakeTunnel(tunnel) => {
                tunnel.delete()?;
                Ok(datapath::detach(root, &tunnel.name, Hook::FromTunnel)?)
            }
            Self::CompleteTunnel(_) => Ok(()),
            Self::DeleteTunnel(tunnel) => make_tunnel(tunnel, root, programs),
            Self::Rxvlan { ifindex, on, .. } => Ok(ethtool::set_offload(*ifindex, ethtool::RX_VLAN, !*on)?),
            Self::Promiscuity { device, ifindex, on } => Ok(link::set_promiscuity(*ifindex, device, !*on)?),
            Self::FairQueue { device, ifindex, .. } => Ok(fq::uninstall(*ifindex, device)?),
            Self::DefaultQueue { device, ifindex, queues } => Ok(fq::install(*ifindex, device, *queues)?),
            Self::Join(membership) => Ok(address::leave(*membership)?),
            Self::Leave(membership) => Ok(address::join(*membership)?),
            Self::Attach { device, hook } => Ok(datapath::detach(root, device, *hook)?),
            Self::Replace { device, hook, program } => match Programs::with(root, *hook, *program)? {
                Some(before) => Ok(datapath::attach(root, &before, find(devices, device)?, *hook)?),
                // Its pins are gone; this build's program works with the same maps.
                None => Ok(()),
            },
            Self::Detach { device, hook } => match devices.iter().find(|found| found.name == *device) {
                Some(device) => Ok(datapath::attach(root, programs, device, *hook)?),
                None => Ok(()),
            },
        }
    }
}

/// Makes a tunnel device whose program is attached before it can receive: nothing of a tenant's enters the host's stack.
fn make_tunnel(tunnel: &OwnVxlan, root: &Root, programs: &Programs) -> Result<(), Error> {
    let index = tunnel.create()?;
    datapath::attach(root, programs, find(&netlink::devices()?, &tunnel.name)?, Hook::FromTunnel)?;
    Ok(tunnel.raise(index)?)
}

fn find<'d>(devices: &'d [Device], name: &str) -> Result<&'d Device, Error> {
    let gone = || NetlinkError::Refused {
        operation: format!("attach to device {name}"),
        source: rustix::io::Errno::NODEV.into(),
    };
    Ok(devices.iter().find(|device| device.name == name).ok_or_else(gone)?)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeTunnel(tunnel) | Self::CompleteTunnel(tunnel) | Self::DeleteTunnel(tunnel) => {
                write!(f, "tunnel device {} on UDP port {}", tunnel.name, tunnel.port)
            }
            Self::Rxvlan { device, on, .. } => {
                write!(f, "rxvlan offload of device {device}: {}", if *on { "on" } else { "off" })
            }
            Self::Promiscuity { device, on, .. } => {
                write!(f, "promiscuous mode of device {device}: {}", if *on { "on" } else { "off" })
            }
            Self::FairQueue { device, .. } => write!(f, "queueing discipline fq on device {device}"),
            Self::DefaultQueue { device, .. } => {
                write!(f, "queueing discipline fq on device {device}: the default is back")
            }
            Self::Join(membership) | Self::Leave(membership) => write!(f, "multicast group {}", membership.group),
            Self::Attach { device, hook } | Self::Replace { device, hook, .. } | Self::Detach { device, hook } => {
                write!(f, "program {hook} on device {device}")
            }
        }
    }
}

/// Is it that a device has gone since it was listed? Then there is nothing left to undo on it.
pub(super) fn is_gone(error: &Error) -> bool {
    match error {
        Error::Netlink(error) => error.is_gone(),
        Error::Datapath(DatapathError::Failed { source, .. }) => {
            let errno = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
            errno == Some(rustix::io::Errno::NODEV.raw_os_error())
        }
        _ => false,
    }
}
