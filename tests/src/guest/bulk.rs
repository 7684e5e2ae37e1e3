//! Bulk TCP between two guests, each byte compared.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
};

use anyhow::{Context, Result, ensure};

use super::{KernelGuest, PATIENCE};
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
    let listener = to.run(|| TcpListener::bind((address, port))).context("listening")?;
    let target = listener.local_addr()?;
    let receiver = to.spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wanted = block();
        let mut got = vec![0; BLOCK];
        for number in 0..megabytes {
            stream.read_exact(&mut got).with_context(|| format!("block {number}"))?;
            wanted[..8].copy_from_slice(&(number as u64).to_be_bytes());
            ensure!(got == wanted, "block {number} arrived with other bytes");
        }
        Ok(stream.write_all(b"done")?)
    });
    from.run(|| -> Result<()> {
        let mut stream =
            TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("connecting {target}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bytes = block();
        for number in 0..megabytes {
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            stream.write_all(&bytes).with_context(|| format!("sending block {number}"))?;
        }
        let mut done = [0; 4];
        stream.read_exact(&mut done).context("waiting for the receiver's word")
    })?;
    receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
