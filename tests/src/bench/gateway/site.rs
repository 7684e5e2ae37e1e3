//! A host between a tunnel and a public link, under load.
//!
//! ```text
//!   guests' host  port1 ═ eth1 ─ [netpath, or Linux] ─ eth2 ═ port2  upstream router
//!   out     frames in a tunnel, sent by port1 into eth1's driver; counted on port2, from public addresses
//!   back    frames to the public ends that were noted on port2, sent by port2 into eth2's driver; counted on port1, in a tunnel
//! ```

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netpath_common::floor::Traffic;

use super::plan::{
    FIRST_VNI, GATEWAY_MAC, OUTSIDE, PUBLIC_END, PUBLIC_UPLINK, ROUTER, ROUTER_MAC, SERVICE, guest, guest_mac,
};
use crate::{
    bench::{
        floor::{BATCH, Floor, Frames},
        lab::{Action, LONG, SHORT, UPLINK, WIRE_END, wire_end},
        stations::{HERE, THERE, THERE_MAC},
    },
    packet::{Checksum, Outer, Packet, checksum},
    topology::{Link, NetNs},
};

/// Frames that are generated at a time where they take longer than others: the first ones of connections.
pub const FIRST_BATCH: u32 = 32;
/// How long the last frames may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From guests to the outside.
    Out,
    /// Replies.
    Back,
}

/// What is generated.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which way.
    pub direction: Direction,
    /// How many connections, a power of two.
    pub connections: u32,
    /// How many frames.
    pub frames: u32,
    /// Their TTL.
    pub ttl: u8,
    /// Length in bytes of what has to arrive at the far ends; `None` for what a gateway makes of the frames.
    pub counted: Option<usize>,
    /// Frames that are generated at a time. What takes the kernel longer than 2 ms it puts off, and the loop is no longer
    /// closed.
    pub batch: u32,
}

impl Load {
    /// Each connection's packets in turn, `frames` of them.
    pub fn new(direction: Direction, connections: u32, frames: u32) -> Self {
        Self { direction, connections, frames, ttl: 64, counted: None, batch: BATCH }
    }
}

/// What the measured host does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It is routed and translated.
    Gateway,
    /// It leaves as it came.
    Redirect,
    /// It is not even sent.
    Nothing,
}

/// A host, and a namespace that is all around it.
pub struct Site {
    /// The host that is measured.
    pub host: NetNs,
    /// The guests' host and the upstream router.
    pub far: NetNs,
    programs: Floor,
    work: Work,
    noted: Cell<u32>,
}

impl Site {
    /// A host that has its links, and nothing that forwards. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path, work: Work, out: Direction) -> Result<Self> {
        let (host, far) = (NetNs::new("gateway")?, NetNs::new("around")?);
        host.run(|| -> Result<()> {
            for (device, end) in [(UPLINK, WIRE_END), (PUBLIC_UPLINK, PUBLIC_END)] {
                wire_end(&Link::veth(device, end, &far)?)?;
            }
            let uplink = Link::named(UPLINK);
            uplink.address(HERE, 24)?;
            uplink.neighbour(THERE, THERE_MAC)
        })?;
        far.run(|| -> Result<()> {
            wire_end(&Link::named(WIRE_END))?;
            let public = Link::named(PUBLIC_END);
            public.mac(ROUTER_MAC)?;
            wire_end(&public)?;
            public.address(ROUTER, 24)
        })?;
        let target = if out == Direction::Out { PUBLIC_UPLINK } else { UPLINK };
        let target = host.run(|| Link::named(target).index())?;
        let action = if work == Work::Nothing { Action::Drop } else { Action::Send };
        let programs = Floor::load(floor, &[("TARGET", target), ("ACTION", action as u32)], &[])?;
        programs.prepare(&["send_flows", "send_replies"])?;
        Ok(Self { host, far, programs, work, noted: Cell::new(0) })
    }

    /// Has the host's drivers poll. Without XDP, a veth's driver receives what XDP sends to it only with GRO on; NICs have
    /// it on too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn polls(&self) -> Result<()> {
        let devices = [UPLINK, PUBLIC_UPLINK];
        self.host.run(|| devices.iter().try_for_each(|device| Link::named(device).offload("rx-gro", true)))
    }

    /// Attaches one of the benchmark's own XDP programs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn xdp(&self, name: &str, ns: &NetNs, devices: &[&str]) -> Result<()> {
        self.programs.xdp(name, ns, devices)
    }

    /// Attaches one of the benchmark's own TC programs, at ingress.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tc(&self, name: &str, ns: &NetNs, devices: &[&str]) -> Result<()> {
        self.programs.tc(name, ns, devices)
    }

    /// Counts what arrives at both far ends, in the driver or in the stack.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn count(&self, in_driver: bool) -> Result<()> {
        let (far, ends) = (&self.far, [WIRE_END, PUBLIC_END]);
        if in_driver { self.xdp("sink_flows_xdp", far, &ends) } else { self.tc("sink_flows_tc", far, &ends) }
    }

    /// Has each connection send a packet each way, if that is not how things are, and notes their public ends.
    ///
    /// # Errors
    /// When frames are lost.
    pub fn establish(&self, connections: u32) -> Result<()> {
        if self.work == Work::Gateway && self.noted.get() != connections {
            let out = Load { batch: FIRST_BATCH, ..Load::new(Direction::Out, connections, connections) };
            again(|| self.attempt(&out, true)).context("opening connections")?;
            let back = Load { direction: Direction::Back, ..out };
            again(|| self.attempt(&back, false)).context("answering them")?;
            self.noted.set(connections);
        }
        Ok(())
    }

    /// Says that no connection is known any more.
    pub fn forgotten(&self) {
        self.noted.set(0);
    }

    /// Generates packets of connections that are established, and waits until the last is counted; nanoseconds a frame.
    ///
    /// # Errors
    /// When frames are lost in every attempt.
    pub fn run(&self, load: &Load) -> Result<f64> {
        self.establish(load.connections)?;
        again(|| self.attempt(load, false))
    }

    /// Generates packets, and waits until the last is counted; nanoseconds a frame.
    ///
    /// # Errors
    /// When frames are lost.
    pub fn attempt(&self, load: &Load, note: bool) -> Result<f64> {
        let before = self.received()?;
        let start = Instant::now();
        let mut elapsed = self.generate(load, note)?;
        if self.work != Work::Nothing {
            while self.received()? - before < u64::from(load.frames) && start.elapsed() < PATIENCE {
                elapsed = start.elapsed();
            }
            let counted = self.received()? - before;
            ensure!(counted == u64::from(load.frames), "{} frames sent, {counted} received", load.frames);
        }
        Ok(elapsed.as_nanos() as f64 / f64::from(load.frames))
    }

    /// Frames counted so far.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received(&self) -> Result<u64> {
        self.programs.received()
    }

    /// Generates frames, and answers how long that took with all that they set off on this CPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn generate(&self, load: &Load, note: bool) -> Result<Duration> {
        self.prepare(load, note)?;
        let (generator, device, len) = match load.direction {
            Direction::Out => ("send_flows", WIRE_END, LONG),
            Direction::Back => ("send_replies", PUBLIC_END, SHORT),
        };
        let frames = Frames { generator, ns: &self.far, device, len, count: load.frames, batch: load.batch };
        self.programs.generate(frames)
    }

    /// Tells the generator and the sinks what is to come.
    fn prepare(&self, load: &Load, note: bool) -> Result<()> {
        let (mut bytes, ip) = match load.direction {
            Direction::Out => (self.tunnelled(load.ttl)?, 64),
            Direction::Back => (self.reply(load.ttl)?, 14),
        };
        // The sums are without the checksums themselves; ports and position are zero in the template.
        let udp = ip + 20;
        bytes[ip + 10..ip + 12].fill(0);
        bytes[udp + 6..udp + 8].fill(0);
        let ip_sum = sum(&bytes[ip..udp]);
        let len = SHORT - 34;
        let udp_sum = sum(&bytes[ip + 12..udp]) + 17 + len as u32 + sum(&bytes[udp..udp + len]);
        let usual = match (load.direction, self.work) {
            (Direction::Out, Work::Gateway) | (Direction::Back, Work::Redirect | Work::Nothing) => SHORT,
            _ => LONG,
        };
        self.programs.template(bytes)?;
        let counted = load.counted.unwrap_or(usual) as u32;
        let traffic = Traffic { next: 0, mask: load.connections - 1, ip_sum, udp_sum, note: note.into(), counted };
        self.programs.set("TRAFFIC", traffic)
    }

    /// What the first guest sends, its port and its payload's first word zero.
    fn tunnelled(&self, ttl: u8) -> Result<Vec<u8>> {
        let inner = Packet::between(guest_mac(0, 0), GATEWAY_MAC, guest(0, 0).into(), OUTSIDE.into());
        let uplink = self.host.run(|| Link::named(UPLINK).read_mac())?;
        Ok(Outer::new(FIRST_VNI, (THERE_MAC, THERE), (uplink, HERE)).wrap(&datagram(inner, ttl, 0, SERVICE)))
    }

    /// What the outside answers, to no address and port.
    fn reply(&self, ttl: u8) -> Result<Vec<u8>> {
        let uplink = self.host.run(|| Link::named(PUBLIC_UPLINK).read_mac())?;
        let packet = Packet::between(ROUTER_MAC, uplink, OUTSIDE.into(), std::net::Ipv4Addr::UNSPECIFIED.into());
        Ok(datagram(packet, ttl, SERVICE, 0))
    }
}

/// Measures, and measures again where frames were lost, to a queue of the kernel's that was full for a moment: that is no
/// measurement, and it is said.
///
/// # Errors
/// When frames are lost in every attempt.
pub fn again(mut attempt: impl FnMut() -> Result<f64>) -> Result<f64> {
    const ATTEMPTS: usize = 4;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(lost) => eprintln!("run again: {lost}"),
            measured => return measured,
        }
    }
    attempt()
}

fn datagram(packet: Packet, ttl: u8, from: u16, to: u16) -> Vec<u8> {
    let mut payload = [0x5a; SHORT - 42];
    payload[..4].fill(0);
    packet.ttl(ttl).dont_fragment().checksum(Checksum::Right).udp(from, to).payload(payload).build()
}

fn sum(bytes: &[u8]) -> u32 {
    u32::from(checksum::sum(bytes))
}
