//! Bulk TCP between two guests, each byte compared.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use super::{KernelGuest, PATIENCE, bind_when_free, raw::wait_readable};
use crate::{pace::paced, topology::NetNs};

const BLOCK: usize = 1 << 20;

impl KernelGuest {
    /// Sends `megabytes`, [`paced`], over one TCP connection to `other`, over IPv4 or IPv6, and compares what arrives.
    pub fn sends_tcp(&self, other: &KernelGuest, megabytes: usize, ipv6: bool) -> Result<()> {
        let to = other.station();
        let address = if ipv6 { IpAddr::V6(to.ip6) } else { IpAddr::V4(to.ip) };
        tcp(self.ns(), other.ns(), address, 0, paced(megabytes))
    }
}

/// One TCP connection from a namespace to an address of another: every block is compared on arrival.
pub fn tcp(from: &NetNs, to: &NetNs, address: IpAddr, port: u16, megabytes: usize) -> Result<()> {
    let listener = to.run(|| bind_when_free(|| TcpListener::bind((address, port)))).context("listening")?;
    let target = listener.local_addr()?;
    let receiver = to.spawn(move || -> Result<()> {
        let (mut stream, _) = accept(&listener)?;
        receive(&mut stream, megabytes)?;
        Ok(stream.write_all(b"done")?)
    });
    from.run(|| -> Result<()> {
        let mut stream =
            TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("connecting {target}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&mut stream, megabytes)?;
        let mut done = [0; 4];
        stream.read_exact(&mut done).context("waiting for the receiver's word")
    })?;
    receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One TCP connection from a namespace to `to`, which leads to a listener at `at` in another: `megabytes`, [`paced`], go there and
/// as many come back, each block compared. Gives the address that the listener saw the connection come from.
pub fn tcp_both_ways(
    from: &NetNs,
    there: &NetNs,
    to: SocketAddr,
    at: SocketAddr,
    megabytes: usize,
) -> Result<SocketAddr> {
    let megabytes = paced(megabytes);
    let listener =
        there.run(|| bind_when_free(|| TcpListener::bind(at))).with_context(|| format!("listening at {at}"))?;
    let echo = there.spawn(move || -> Result<SocketAddr> {
        let (mut stream, peer) = accept(&listener)?;
        receive(&mut stream, megabytes)?;
        send(&mut stream, megabytes)?;
        Ok(peer)
    });
    let here = from.run(|| -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&mut stream, megabytes).context("outwards")?;
        receive(&mut stream, megabytes).context("backwards")
    });
    // What the listener has to say is why the other end failed, if both did.
    let peer = echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match (here, peer) {
        (Err(here), Err(there)) => Err(there.context(format!("{here:#}"))),
        (Err(here), Ok(_)) => Err(here),
        (Ok(()), peer) => peer,
    }
}

/// The next connection, with its deadlines set.
pub fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    if !wait_readable(listener.as_fd(), Instant::now() + PATIENCE) {
        bail!("nobody connected");
    }
    let (stream, peer) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok((stream, peer))
}

fn send(stream: &mut TcpStream, megabytes: usize) -> Result<()> {
    let mut bytes = block();
    for number in 0..megabytes {
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        stream.write_all(&bytes).with_context(|| format!("sending block {number}"))?;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, megabytes: usize) -> Result<()> {
    let (mut wanted, mut got) = (block(), vec![0; BLOCK]);
    for number in 0..megabytes {
        stream.read_exact(&mut got).with_context(|| format!("block {number}"))?;
        wanted[..8].copy_from_slice(&(number as u64).to_be_bytes());
        ensure!(got == wanted, "block {number} arrived with other bytes");
    }
    Ok(())
}

/// A block without repetition in it (xorshift64).
fn block() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(BLOCK);
    while bytes.len() < BLOCK {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_ne_bytes());
    }
    bytes
}
