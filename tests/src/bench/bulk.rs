//! Bulk TCP from another host into a guest's tap, over an underlay with MTU-sized frames.
//!
//! Both hosts, the wire and the guest run on one CPU: the rate is that of all work together.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    machine::own_last_cpu,
    pair::{Forwarder, Pair, Port},
    stations::GUEST,
    subject::UplinkMode,
};

/// The experiment.
pub const NAME: &str = "bulk TCP into a tap";
const METRICS: &[&str] = &["Gbit/s"];
/// For this long nothing is counted: slow start.
const WARM_UP: Duration = Duration::from_millis(300);
/// For this long bytes are counted.
const WINDOW: Duration = Duration::from_millis(2000);
const BLOCK: usize = 256 << 10;

/// The two pairs, built once.
pub struct Bulk {
    netpath: Pair,
    netpath_xdp: Pair,
    bridge: Pair,
}

impl Bulk {
    /// Builds both.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn new(floor: &Path) -> Result<Self> {
        Ok(Self {
            netpath: Pair::new(floor, Port::Tap, Forwarder::Netpath(UplinkMode::Auto))?,
            netpath_xdp: Pair::new(floor, Port::Tap, Forwarder::Netpath(UplinkMode::Xdp))?,
            bridge: Pair::new(floor, Port::Tap, Forwarder::Bridge)?,
        })
    }

    /// The experiment over both.
    pub fn experiment(&self) -> Experiment<'_> {
        let ratio = |name, numerator, denominator, bound| Comparison {
            name,
            metric: 0,
            numerator,
            denominator: Some(denominator),
            bound,
        };
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![
                Variant::new("netpath", || throughput(&self.netpath)),
                Variant::new("netpath again", || throughput(&self.netpath)),
                Variant::new("netpath, uplink_mode xdp", || throughput(&self.netpath_xdp)),
                Variant::new("bridge + vxlan", || throughput(&self.bridge)),
            ],
            comparisons: vec![
                ratio("netpath, times bridge + vxlan", "netpath", "bridge + vxlan", Bound::AtLeast(1.0)),
                ratio(
                    "uplink_mode xdp, times bridge + vxlan",
                    "netpath, uplink_mode xdp",
                    "bridge + vxlan",
                    Bound::Shown,
                ),
                ratio("netpath against itself", "netpath again", "netpath", Bound::Shown),
            ],
        }
    }
}

/// Gbit/s of one connection from the remote host to the guest.
fn throughput(pair: &Pair) -> Result<f64> {
    let listener = pair.guest.ns().run(|| TcpListener::bind((GUEST.ip, 0)))?;
    let target = listener.local_addr()?;
    let receiver = pair.guest.ns().spawn(move || receive(&listener));
    let sent = pair.remote.run(|| send(TcpStream::connect_timeout(&target, Duration::from_secs(5))?));
    let gbits = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    sent.context("sending")?;
    Ok(gbits)
}

/// Sends until the receiver hangs up.
fn send(mut stream: TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    own_last_cpu()?;
    let block = vec![0x5a; BLOCK];
    let start = Instant::now();
    while stream.write_all(&block).is_ok() {
        ensure!(start.elapsed() < Duration::from_secs(30), "the receiver never hung up");
    }
    Ok(())
}

fn receive(listener: &TcpListener) -> Result<f64> {
    let (mut stream, _) = listener.accept()?;
    own_last_cpu()?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut block = vec![0; BLOCK];
    let mut read_for = |wanted: Duration| -> Result<(u64, Duration)> {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < wanted {
            bytes += stream.read(&mut block).context("nothing arrives")? as u64;
        }
        Ok((bytes, start.elapsed()))
    };
    read_for(WARM_UP)?;
    let (bytes, elapsed) = read_for(WINDOW)?;
    stream.shutdown(Shutdown::Both)?;
    ensure!(bytes > 0, "the sender hung up");
    Ok(bytes as f64 * 8.0 / elapsed.as_nanos() as f64)
}
