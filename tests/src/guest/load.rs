//! Traffic that goes on until it is dropped, and how much of it arrives.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::PATIENCE;
use crate::topology::NetNs;

/// How often the threads of a load look whether it is to end.
const TICK: Duration = Duration::from_millis(50);
/// The least that a generator sleeps between datagrams.
const PACE: Duration = Duration::from_micros(500);
/// The headers of a datagram: Ethernet, IPv4, UDP.
const DATAGRAM_HEADERS: usize = 42;
/// How long a rate is measured at a time while it settles.
const SETTLING_WINDOW: Duration = Duration::from_secs(1);
/// Bytes that a receiver may be behind: more than comes while it is not scheduled.
const BACKLOG: libc::c_int = 16 << 20;

/// How a load is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Flows, at ports that follow each other.
    pub flows: u16,
    /// Processors that its threads are kept on, the last ones; `None` for any.
    pub cpus: Option<usize>,
    /// Datagrams that are given to the kernel at a time (UDP GSO); 1 for one by one.
    pub segments: usize,
    /// The guests' MTU, from an IPv4 header on.
    pub mtu: usize,
}

impl Shape {
    /// This many flows, as they come.
    #[must_use]
    pub const fn flows(flows: u16) -> Self {
        Self { flows, cpus: None, segments: 1, mtu: 1500 }
    }

    /// UDP payload of each datagram: 1400 bytes where the MTU is Ethernet's.
    const fn datagram(self) -> usize {
        self.mtu - 100
    }

    /// Bytes of a datagram's frame.
    #[must_use]
    pub const fn datagram_frame(self) -> usize {
        self.datagram() + DATAGRAM_HEADERS
    }

    /// The part of full TCP frames that is payload: 1448 bytes of 1514 where the MTU is Ethernet's and timestamps are on.
    #[must_use]
    pub fn tcp_payload(self) -> f64 {
        const HEADERS: usize = 52;
        const ETHERNET: usize = 14;
        (self.mtu - HEADERS) as f64 / (self.mtu + ETHERNET) as f64
    }

    /// TCP payload with its headers.
    fn on_the_wire(self, payload: u64) -> u64 {
        (payload as f64 / self.tcp_payload()) as u64
    }

    /// Keeps the calling thread on one of the processors: the next one for each `turn`.
    fn keep(self, turn: usize) -> Result<()> {
        let Some(cpus) = self.cpus else { return Ok(()) };
        let mut set = CpuSet::new();
        set.set(thread::available_parallelism()?.get() - 1 - turn % cpus);
        sched_setaffinity(None, &set).context("keeping a thread on a processor")
    }
}

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
        Self::udp_in(Shape::flows(1), from, there, target, rate)
    }

    /// The same in a shape, at that rate together.
    ///
    /// # Errors
    /// A socket could not be had.
    pub fn udp_in(shape: Shape, from: &NetNs, there: &NetNs, target: SocketAddr, rate: u64) -> Result<Self> {
        let mut load = Self::new();
        for flow in 0..shape.flows {
            let target = SocketAddr::new(target.ip(), target.port() + flow);
            let receiver = there.run(|| UdpSocket::bind(target)).with_context(|| format!("listening at {target}"))?;
            receiver.set_read_timeout(Some(TICK))?;
            set(&receiver, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BACKLOG)?;
            let sender = from.run(|| UdpSocket::bind("0.0.0.0:0"))?;
            sender.connect(target)?;
            if shape.segments > 1 {
                set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, shape.datagram() as libc::c_int)?;
            }
            load.datagrams(
                (shape, usize::from(flow)),
                (from, sender),
                (there, receiver),
                rate / u64::from(shape.flows),
            );
        }
        Ok(load)
    }

    /// One flow's threads.
    fn datagrams(
        &mut self,
        (shape, flow): (Shape, usize),
        (from, sender): (&NetNs, UdpSocket),
        (there, receiver): (&NetNs, UdpSocket),
        rate: u64,
    ) {
        let (stop, received) = (self.stop.clone(), self.received.clone());
        self.threads.push(there.spawn(move || {
            if !kept(shape, flow + 1) {
                return;
            }
            let mut buffer = vec![0; 2 * shape.datagram()];
            while !stop.load(Ordering::Relaxed) {
                if let Ok(len) = receiver.recv(&mut buffer) {
                    received.fetch_add((len + DATAGRAM_HEADERS) as u64, Ordering::Relaxed);
                }
            }
        }));
        let (stop, sent) = (self.stop.clone(), self.sent.clone());
        self.threads.push(from.spawn(move || {
            if !kept(shape, flow) {
                return;
            }
            let block = vec![0x5a; shape.segments * shape.datagram()];
            let frames = (shape.segments * shape.datagram_frame()) as u64;
            // Flows take turns. In step they would be one burst, and then nothing for as long as all of it takes.
            let mut own = frames * flow as u64 / u64::from(shape.flows);
            let bytes_a_second = rate as f64 / 8.0;
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let early = own as f64 / bytes_a_second - start.elapsed().as_secs_f64();
                // What a busy machine has kept it from sending it does not send at once: limits rightly refuse that.
                let latest = (start.elapsed().as_secs_f64() - TICK.as_secs_f64()) * bytes_a_second;
                own = own.max(latest as u64);
                if early >= 0.0 {
                    thread::sleep(Duration::from_secs_f64(early.clamp(PACE.as_secs_f64(), TICK.as_secs_f64())));
                } else if sender.send(&block).is_ok() {
                    own += frames;
                    sent.fetch_add(frames, Ordering::Relaxed);
                }
            }
        }));
    }

    /// TCP connections to `target`, each as fast as it gets; counted in the bytes of frames with Ethernet's MTU.
    ///
    /// # Errors
    /// A connection could not be opened.
    pub fn tcp(from: &NetNs, there: &NetNs, target: SocketAddr, flows: u16) -> Result<Self> {
        Self::tcp_in(Shape::flows(flows), from, there, target)
    }

    /// The same in a shape.
    ///
    /// # Errors
    /// A connection could not be opened.
    pub fn tcp_in(shape: Shape, from: &NetNs, there: &NetNs, target: SocketAddr) -> Result<Self> {
        let mut load = Self::new();
        let listener = there.run(|| TcpListener::bind(target)).with_context(|| format!("listening at {target}"))?;
        for flow in 0..usize::from(shape.flows) {
            let sender = from
                .run(|| TcpStream::connect_timeout(&target, PATIENCE))
                .with_context(|| format!("connecting {target}"))?;
            let (receiver, _) = listener.accept()?;
            load.connection((shape, flow), (from, sender), (there, receiver))?;
        }
        Ok(load)
    }

    fn connection(
        &mut self,
        (shape, flow): (Shape, usize),
        (from, mut sender): (&NetNs, TcpStream),
        (there, mut receiver): (&NetNs, TcpStream),
    ) -> Result<()> {
        receiver.set_read_timeout(Some(TICK))?;
        sender.set_write_timeout(Some(TICK))?;
        let (stop, received) = (self.stop.clone(), self.received.clone());
        self.threads.push(there.spawn(move || {
            if !kept(shape, flow + 1) {
                return;
            }
            let mut buffer = vec![0; 1 << 18];
            while !stop.load(Ordering::Relaxed) {
                match receiver.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(len) => drop(received.fetch_add(shape.on_the_wire(len as u64), Ordering::Relaxed)),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        }));
        let stop = self.stop.clone();
        self.threads.push(from.spawn(move || {
            if !kept(shape, flow) {
                return;
            }
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

    /// Waits until what arrives is `rate`, in bits per second, within 5 %: a machine that is busy with other things may take a while
    /// for it. Answers the rate seen.
    ///
    /// # Errors
    /// When it never is, or when more has arrived meanwhile than the rate and its credit allow: a second's worth at most, for a flow
    /// that has paused, the burst, and what was on its way.
    pub fn settle(&self, rate: u64) -> Result<f64> {
        self.settle_above(rate, 0.95)
    }

    /// The same where less of the rate will do, on a machine that may be too busy for all of it.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn settle_above(&self, rate: u64, least: f64) -> Result<f64> {
        let rate = rate as f64;
        let (start, before) = (Instant::now(), self.received());
        loop {
            let seen = self.rate(SETTLING_WINDOW);
            if (least..=1.05).contains(&(seen / rate)) {
                return Ok(seen);
            }
            let elapsed = start.elapsed();
            let bytes = (self.received() - before) as f64;
            let most = rate / 8.0 * (elapsed.as_secs_f64() * 1.05 + 2.5);
            ensure!(bytes <= most, "{bytes} bytes in {elapsed:?}, of a rate of {rate} bit/s");
            ensure!(elapsed < PATIENCE, "{seen:.0} bit/s, of a rate of {rate}");
        }
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

/// Whether the calling thread is where it belongs; without that, nothing arrives, and why is said here.
fn kept(shape: Shape, turn: usize) -> bool {
    let kept = shape.keep(turn);
    if let Err(error) = &kept {
        eprintln!("{error:#}");
    }
    kept.is_ok()
}

/// Sets an option of a socket that is a number.
fn set(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
    let (place, len) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the call reads one number, at that place and of that length.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, place, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).with_context(|| format!("setting option {option} of a socket")),
    }
}
