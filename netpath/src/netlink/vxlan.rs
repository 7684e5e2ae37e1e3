//! netpath's own vxlan device: collect-metadata, so that one device decapsulates every VNI of a UDP port.

use std::{fs, io, path::PathBuf};

use netpath_common::Mac;
use rustix::io::Errno;

use super::{
    Device, NetlinkError,
    codec::{ACK, CREATE, EXCLUSIVE, Message},
    device::IFINFO_LEN,
    socket::Socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT_RANGE: u16 = 10;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFF_UP: u32 = 1;

/// The largest MTU a vxlan device over IPv4 takes (65 535 less the outer headers): it must never be what refuses a frame.
const MTU: u32 = 65_485;
/// Outer UDP source ports (RFC 6335's dynamic range, which RFC 7348 section 5 recommends).
const SOURCE_PORTS: (u16, u16) = (49_152, 65_535);

/// A request to make, raise or remove netpath's vxlan device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnVxlan {
    /// Device name.
    pub name: String,
    /// UDP port.
    pub port: u16,
    /// MAC address, by which the instance that made the device knows it again: see [`own_mac`].
    pub mac: Mac,
}

/// The MAC address of the tunnel devices that the instance with this pin root makes: locally administered, `02:6e:70`
/// and 24 bits of the root's FNV-1a hash. It is there from the moment the device is, unlike an alias.
#[must_use]
pub fn own_mac(root: &str) -> Mac {
    let hash = root.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, a, b, c] = hash.to_be_bytes();
    Mac([0x02, 0x6e, 0x70, a, b, c])
}

impl OwnVxlan {
    /// Makes the device, still down, with forwarding on for this device only: `bpf_fib_lookup` answers
    /// `BPF_FIB_LKUP_RET_FWD_DISABLED` for a lookup that begins at a device without it. An existing device of the
    /// right kind is completed. IPv6 is off on it: the host has no business in a tenant's network. Returns its index.
    ///
    /// # Errors
    /// [`NetlinkError::Taken`] when another device has the name; otherwise when the kernel refuses.
    pub fn create(&self) -> Result<u32, NetlinkError> {
        let socket = Socket::route()?;
        let (name, port) = (&self.name, self.port);
        let operation = format!("create vxlan device {name} on UDP port {port}");
        match socket.ask(&operation, self.creation()) {
            Err(error) if error.errno() == Some(Errno::EXIST.raw_os_error()) => {}
            other => drop(other?),
        }
        // EEXIST is said of a name, and of a port that another device holds.
        let taken = || NetlinkError::Taken { name: name.clone(), port };
        let index = self.find()?.ok_or_else(taken)?.index;
        self.allow_forwarding()?;
        self.forbid_ipv6()?;
        Ok(index)
    }

    /// Brings the device up. From here on it receives: its program must be attached.
    ///
    /// # Errors
    /// When the kernel refuses: `EADDRINUSE` when another vxlan device holds the port.
    pub fn raise(&self, index: u32) -> Result<(), NetlinkError> {
        Socket::route()?.ask(&format!("bring up device {}", self.name), up(index)).map(drop)
    }

    /// Removes the device; one that is gone, or is not this one though it has its name, is left as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&self) -> Result<(), NetlinkError> {
        let Some(device) = self.find()? else { return Ok(()) };
        let mut header = [0; IFINFO_LEN];
        header[4..8].copy_from_slice(&device.index.to_ne_bytes());
        let request = Message::new(RTM_DELLINK, ACK, &header);
        match Socket::route()?.ask(&format!("delete vxlan device {}", self.name), request) {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Is this the device, as far as a name, a kind, a port and a MAC address tell?
    #[must_use]
    pub fn is(&self, device: &Device) -> bool {
        let settings = device.vxlan.is_some_and(|vxlan| vxlan.external && vxlan.port == self.port);
        settings && device.name == self.name && device.mac == Some(self.mac)
    }

    fn find(&self) -> Result<Option<Device>, NetlinkError> {
        Ok(super::devices()?.into_iter().find(|device| self.is(device)))
    }

    /// Is this the device that [`OwnVxlan::create`] makes, whole?
    #[must_use]
    pub fn is_complete(&self, device: &Device) -> bool {
        self.is(device) && device.is_up && self.forwards()
    }

    fn creation(&self) -> Message {
        let (low, high) = SOURCE_PORTS;
        let range = [low.to_be_bytes(), high.to_be_bytes()].concat();
        Message::new(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &[0; IFINFO_LEN])
            .text(IFLA_IFNAME, &self.name)
            .attribute(IFLA_ADDRESS, &self.mac.0)
            .attribute(IFLA_MTU, &MTU.to_ne_bytes())
            .nest(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |m| {
                    m.attribute(IFLA_VXLAN_COLLECT_METADATA, &[1])
                        .attribute(IFLA_VXLAN_LEARNING, &[0])
                        .attribute(IFLA_VXLAN_PORT, &self.port.to_be_bytes())
                        .attribute(IFLA_VXLAN_PORT_RANGE, &range)
                        .attribute(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, &[1])
                })
            })
    }

    fn allow_forwarding(&self) -> Result<(), NetlinkError> {
        if self.forwards() {
            return Ok(());
        }
        fs::write(self.forwarding(), "1").map_err(|source| NetlinkError::Refused {
            operation: format!("turn on IPv4 forwarding of device {}", self.name),
            source,
        })
    }

    /// A kernel without IPv6 has nothing to turn off.
    fn forbid_ipv6(&self) -> Result<(), NetlinkError> {
        let setting: PathBuf = ["/proc/sys/net/ipv6/conf", &self.name, "disable_ipv6"].iter().collect();
        match fs::write(setting, "1") {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NetlinkError::Refused { operation: format!("turn off IPv6 on device {}", self.name), source })
            }
            _ => Ok(()),
        }
    }

    fn forwards(&self) -> bool {
        let read: io::Result<String> = fs::read_to_string(self.forwarding());
        read.is_ok_and(|value| value.trim() == "1")
    }

    /// `/proc/sys/net` shows the namespace of the thread that opens it. A dot in a device's name stays a dot there.
    fn forwarding(&self) -> PathBuf {
        ["/proc/sys/net/ipv4/conf", &self.name, "forwarding"].iter().collect()
    }
}

/// Sets `IFF_UP` and leaves the other flags.
fn up(index: u32) -> Message {
    let mut header = [0; IFINFO_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    Message::new(RTM_NEWLINK, ACK, &header)
}
