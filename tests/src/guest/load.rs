//! Traffic that goes on until it is dropped, and how much of it arrives.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::PATIENCE;
use crate::topology::NetNs;

/// How often the threads of a load look whether it is to end.
const TICK: Duration = Duration::from_millis(50);
/// UDP payload of each datagram: a frame of 1442 bytes.
pub const DATAGRAM: usize = 1400;
/// The headers of such a datagram: Ethernet, IPv4, UDP.
pub const DATAGRAM_HEADERS: usize = 42;

/// One or several flows from one namespace to another.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { stop: Arc::default(), sent: Arc::default(), received: Arc::default(), threads: Vec::new() }
    }

    /// Datagrams to `target`, at a rate in bits per second of their frames.
    ///
    /// # Errors
    /// A socket could not be had.
    pub fn udp(from: &NetNs, there: &NetNs, target: SocketAddr, rate: u64) -> Result<Self> {
        let mut load = Self::new();
        let receiver = there.run(|| UdpSocket::bind(target)).with_context(|| format!("listening at {target}"))?;
        receiver.set_read_timeout(Some(TICK))?;
        let sender = from.run(|| UdpSocket::bind("0.0.0.0:0"))?;
        sender.connect(target)?;
        let (stop, received) = (load.stop.clone(), load.received.clone());
        load.threads.push(there.spawn(move || {
            let mut buffer = [0; 2 * DATAGRAM];
            while !stop.load(Ordering::Relaxed) {
                if let Ok(len) = receiver.recv(&mut buffer) {
                    received.fetch_add((len + DATAGRAM_HEADERS) as u64, Ordering::Relaxed);
                }
            }
        }));
        let (stop, sent) = (load.stop.clone(), load.sent.clone());
        load.threads.push(from.spawn(move || {
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_secs_f64() * rate as f64 / 8.0) as u64;
                if sent.load(Ordering::Relaxed) >= due {
                    // The generator's own pace.
                    thread::sleep(Duration::from_micros(500));
                } else if sender.send(&[0x5a; DATAGRAM]).is_ok() {
                    sent.fetch_add((DATAGRAM + DATAGRAM_HEADERS) as u64, Ordering::Relaxed);
                }
            }
        }));
        Ok(load)
    }

    /// TCP connections to `target`, each as fast as it gets; counted in the bytes of frames with Ethernet's MTU.
    ///
    /// # Errors
    /// A connection could not be opened.
    pub fn tcp(from: &NetNs, there: &NetNs, target: SocketAddr, flows: usize) -> Result<Self> {
        let mut load = Self::new();
        let listener = there.run(|| TcpListener::bind(target)).with_context(|| format!("listening at {target}"))?;
        for _ in 0..flows {
            let sender = from
                .run(|| TcpStream::connect_timeout(&target, PATIENCE))
                .with_context(|| format!("connecting {target}"))?;
            let (receiver, _) = listener.accept()?;
            load.connection(from, sender, there, receiver)?;
        }
        Ok(load)
    }

    fn connection(
        &mut self,
        from: &NetNs,
        mut sender: TcpStream,
        there: &NetNs,
        mut receiver: TcpStream,
    ) -> Result<()> {
        receiver.set_read_timeout(Some(TICK))?;
        sender.set_write_timeout(Some(TICK))?;
        let (stop, received) = (self.stop.clone(), self.received.clone());
        self.threads.push(there.spawn(move || {
            let mut buffer = vec![0; 1 << 18];
            while !stop.load(Ordering::Relaxed) {
                match receiver.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(len) => drop(received.fetch_add(on_the_wire(len as u64), Ordering::Relaxed)),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        }));
        let stop = self.stop.clone();
        self.threads.push(from.spawn(move || {
            let block = vec![0x5a; 1 << 17];
            while !stop.load(Ordering::Relaxed) {
                match sender.write(&block) {
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        }));
        Ok(())
    }

    /// Bytes of frames that were sent; of UDP only.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of frames that have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bits per second that arrive while `window` passes.
    #[must_use]
    pub fn rate(&self, window: Duration) -> f64 {
        let (before, start) = (self.received(), Instant::now());
        thread::sleep(window);
        (self.received() - before) as f64 * 8.0 / start.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// TCP payload with its headers: 1448 bytes of a frame of 1514 are payload where timestamps are on.
fn on_the_wire(payload: u64) -> u64 {
    payload * 1514 / 1448
}
