//! A guest with the kernel's own stack: a namespace with one NIC.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{PATIENCE, Relay, raw::wait_readable};
use crate::{
    packet::Endpoint,
    topology::{Link, NetNs, netns::sysctl},
};

/// The name of a kernel guest's NIC.
pub const NIC: &str = "eth0";

/// A namespace that plays a guest.
#[derive(Debug)]
pub struct KernelGuest {
    ns: NetNs,
    station: Endpoint,
    _relay: Option<Relay>,
}

impl KernelGuest {
    /// Configures `eth0` of a namespace with the station's addresses and a default way to `gateway`.
    pub fn new(ns: NetNs, station: Endpoint, gateway: Option<IpAddr>, relay: Option<Relay>) -> Result<Self> {
        ns.run(|| -> Result<()> {
            sysctl("net/ipv4/ping_group_range", "0 0")?;
            let nic = Link::named(NIC);
            nic.mac(station.mac)?;
            nic.address(station.ip, 24)?;
            nic.up()?;
            nic.address(station.ip6, 64)?;
            match gateway {
                Some(gateway) => nic.route(std::net::Ipv4Addr::UNSPECIFIED, 0, Some(gateway)),
                None => Ok(()),
            }
        })?;
        Ok(Self { ns, station, _relay: relay })
    }

    /// Its namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its addresses.
    pub fn station(&self) -> Endpoint {
        self.station
    }

    /// Sends echo requests until one is answered.
    pub fn ping(&self, to: impl Into<IpAddr>) -> Result<()> {
        let to = to.into();
        self.ns.run(|| ping(to, 32, PATIENCE)).with_context(|| format!("{} pings {to}", self.station.ip))
    }

    /// Whether an echo request to an address that should not answer is answered within `patience`.
    pub fn reaches(&self, to: impl Into<IpAddr>, patience: Duration) -> bool {
        let to = to.into();
        self.ns.run(|| ping(to, 32, patience)).is_ok()
    }

    /// Binds a UDP socket of the guest.
    pub fn udp(&self, port: u16) -> Result<UdpSocket> {
        let ip = self.station.ip;
        let socket = self.ns.run(|| UdpSocket::bind((ip, port)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Sends a UDP payload to another guest and gets it back from there.
    pub fn exchanges_udp(&self, other: &KernelGuest, payload: &[u8]) -> Result<()> {
        let (here, there) = (self.udp(0)?, other.udp(0)?);
        let target: SocketAddr = there.local_addr()?;
        let mut buffer = vec![0; 65_536];
        here.send_to(payload, target)?;
        let (got, from) = there.recv_from(&mut buffer).context("the request did not arrive")?;
        ensure!(&buffer[..got] == payload, "{got} bytes arrived, which are not the {} sent", payload.len());
        there.send_to(&buffer[..got], from)?;
        let (got, _) = here.recv_from(&mut buffer).context("the reply did not arrive")?;
        ensure!(&buffer[..got] == payload, "the reply has other bytes");
        Ok(())
    }
}

/// Echo requests every 200 ms until an answer or the deadline.
fn ping(to: IpAddr, len: usize, patience: Duration) -> Result<()> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8u8, 0u8),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket() takes plain numbers.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("opening a ping socket");
    }
    // SAFETY: the descriptor was just made and nobody else owns it. A ping socket sends and receives like UDP.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let deadline = Instant::now() + patience;
    let mut sequence = 0u16;
    while Instant::now() < deadline {
        sequence += 1;
        let mut message = vec![request, 0, 0, 0, 0, 0];
        message.extend(sequence.to_be_bytes());
        message.resize(8 + len, 0x5a);
        // An unreachable neighbour is reported here or not at all; either way the next round tries again.
        let _ = socket.send_to(&message, (to, 0));
        let mut answer = vec![0; 8 + len];
        let round = deadline.min(Instant::now() + Duration::from_millis(200));
        while wait_readable(std::os::fd::AsFd::as_fd(&socket), round) {
            if let Ok((got, from)) = socket.recv_from(&mut answer)
                && got == 8 + len
                && answer[0] == reply
                && from.ip() == to
            {
                return Ok(());
            }
        }
    }
    bail!("{to} did not answer {sequence} echo requests in {patience:?}")
}
