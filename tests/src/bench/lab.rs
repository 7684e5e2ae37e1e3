//! One hypervisor under load: every packet generated, forwarded and counted on one CPU, in a closed loop.
//!
//! ```text
//!              guest's end  g0 ═ vnet11 ┐          ┌ eth1 ═ port1  the wire's end
//!                                      └ hypervisor ┘
//!   guest → wire   generated frames received on vnet11 as a tap receives them, counted and dropped on port1
//!   wire → guest   generated frames sent by port1 into eth1's driver, counted and dropped on g0
//! ```

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
pub use netpath_common::floor::{LONG, SHORT};

use super::floor::{BATCH, Floor, Frames};
use super::stations::{GUEST, HERE, REMOTE, THERE, THERE_MAC, VNI};
use crate::{
    packet::{Outer, guest},
    topology::{Link, NetNs},
};

/// The guest's device on the hypervisor.
pub const GUEST_DEVICE: &str = "vnet11";
/// The hypervisor's uplink.
pub const UPLINK: &str = "eth1";
/// The guest's own end.
pub const GUEST_END: &str = "g0";
/// The wire's end.
pub const WIRE_END: &str = "port1";
/// How long the last frames may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Actions of generated frames, as XDP numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dropped at once: what the generator itself costs.
    Drop = 1,
    /// Received by the device on which they are generated.
    Receive = 2,
    /// Sent out of the device on which they are generated.
    Send = 3,
}

/// Where frames are generated, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A guest's small frames, on its device.
    Guest,
    /// The same in a tunnel, on the wire's end.
    Wire,
}

/// A hypervisor with one guest and one uplink.
pub struct Lab {
    /// The hypervisor.
    pub hypervisor: NetNs,
    /// The guest and the wire.
    pub far: NetNs,
    programs: Floor,
    source: Source,
    inner: usize,
}

impl Lab {
    /// A lab whose small frames come from `source`. `floor` is the object with the benchmark's own programs; those that
    /// redirect do it to the other side, those that count do it for frames of `counted` bytes.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path, source: Source, action: Action, counted: usize) -> Result<Self> {
        Self::sized(floor, source, action, counted, SHORT)
    }

    /// The same with guests' frames of `inner` bytes.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn sized(floor: &Path, source: Source, action: Action, counted: usize, inner: usize) -> Result<Self> {
        let (hypervisor, far) = (NetNs::new("bench")?, NetNs::new("far")?);
        hypervisor.run(|| -> Result<()> {
            Link::veth(GUEST_DEVICE, GUEST_END, &far)?.up()?;
            let uplink = Link::veth(UPLINK, WIRE_END, &far)?;
            wire_end(&uplink)?;
            uplink.address(HERE, 24)?;
            uplink.neighbour(THERE, THERE_MAC)
        })?;
        far.run(|| -> Result<()> {
            Link::named(GUEST_END).up()?;
            wire_end(&Link::named(WIRE_END))
        })?;
        let out = if source == Source::Guest { UPLINK } else { GUEST_DEVICE };
        let target = hypervisor.run(|| Link::named(out).index())?;
        let globals = [("TARGET", target), ("ACTION", action as u32), ("COUNTED", counted as u32)];
        let programs = Floor::load(floor, &globals, &[])?;
        let lab = Self { hypervisor, far, programs, source, inner };
        lab.programs.template(lab.template()?)?;
        lab.programs.prepare(&[generator(source)])?;
        Ok(lab)
    }

    fn template(&self) -> Result<Vec<u8>> {
        // Generators write the beginning of a frame; what is behind it is zero.
        let mut payload = vec![0; self.inner - 42];
        payload[..SHORT - 42].fill(0x5a);
        let inner = |from, to| guest(from).to(to).udp(1000, 2000).payload(payload).build();
        let mut bytes = match self.source {
            Source::Guest => inner(GUEST, REMOTE),
            Source::Wire => {
                let uplink = self.hypervisor.run(|| Link::named(UPLINK).read_mac())?;
                Outer::new(VNI, (THERE_MAC, THERE), (uplink, HERE)).wrap(&inner(REMOTE, GUEST))
            }
        };
        bytes.truncate(LONG);
        Ok(bytes)
    }

    /// Attaches one of the benchmark's own XDP programs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn xdp(&self, name: &str, ns: &NetNs, device: &str) -> Result<()> {
        self.programs.xdp(name, ns, &[device])
    }

    /// Attaches one of the benchmark's own TC programs, at ingress.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tc(&self, name: &str, ns: &NetNs, device: &str) -> Result<()> {
        self.programs.tc(name, ns, &[device])
    }

    /// Counts on the far end of the way, in the driver or in the stack.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn count(&self, in_driver: bool) -> Result<()> {
        let end = if self.source == Source::Guest { WIRE_END } else { GUEST_END };
        if in_driver { self.xdp("sink_xdp", &self.far, end) } else { self.tc("sink_tc", &self.far, end) }
    }

    /// Generates `frames` frames and waits until the last is counted; nanoseconds a frame. A run that lost frames, to a
    /// queue of the kernel's that was full for a moment, is not a measurement: it is said, and run again.
    ///
    /// # Errors
    /// When frames are lost in every attempt, or arrive with another length than they must have.
    pub fn run(&self, frames: u32) -> Result<f64> {
        const ATTEMPTS: usize = 3;
        let mut attempt = self.attempt(frames);
        for _ in 1..ATTEMPTS {
            let Err(lost) = &attempt else { break };
            eprintln!("run again: {lost}");
            attempt = self.attempt(frames);
        }
        attempt
    }

    fn attempt(&self, frames: u32) -> Result<f64> {
        let before = self.programs.received()?;
        let start = Instant::now();
        let mut elapsed = self.generate(frames)?;
        while self.programs.received()? - before < u64::from(frames) && start.elapsed() < PATIENCE {
            elapsed = start.elapsed();
        }
        let counted = self.programs.received()? - before;
        ensure!(counted == u64::from(frames), "{frames} frames sent, {counted} received");
        Ok(elapsed.as_nanos() as f64 / f64::from(frames))
    }

    /// Generates `frames` frames that go nowhere; nanoseconds a frame.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run_generator(&self, frames: u32) -> Result<f64> {
        Ok(self.generate(frames)?.as_nanos() as f64 / f64::from(frames))
    }

    /// Frames that have arrived at the far end of the way so far.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received(&self) -> Result<u64> {
        self.programs.received()
    }

    /// Generates frames, and answers how long that took with all that they set off on this CPU.
    fn generate(&self, frames: u32) -> Result<Duration> {
        let (ns, device, len) = match self.source {
            Source::Guest => (&self.hypervisor, GUEST_DEVICE, self.inner),
            Source::Wire => (&self.far, WIRE_END, self.inner + LONG - SHORT),
        };
        let generator = generator(self.source);
        self.programs.generate(Frames { generator, ns, device, len, count: frames, batch: BATCH })
    }
}

fn generator(source: Source) -> &'static str {
    match source {
        Source::Guest => "send_short",
        Source::Wire => "send_long",
    }
}

/// Takes a device up as an end of a wire: sums are done, and a tunnel packet of full size fits.
///
/// # Errors
/// When the kernel refuses.
pub fn wire_end(link: &Link) -> Result<()> {
    link.mtu(1600)?;
    link.offload("tx-checksum-ip-generic", false)?;
    link.up()
}
