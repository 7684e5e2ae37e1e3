//! Requests and their responses: one byte each by UDP, one at a time, between a guest on a veth and another host.
//!
//! Both sides and all between them run on one CPU, so a round trip is the sum of all costs and of two wake-ups.

use std::{
    net::UdpSocket,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    machine::own_last_cpu,
    pair::{Forwarder, Pair, Port},
    stations::{GUEST, REMOTE},
    statistics::quantile,
    subject::UplinkMode,
};

/// The experiment.
pub const NAME: &str = "request and response";
const METRICS: &[&str] = &["p50, µs", "p99, µs", "p99.9, µs", "round trips/s"];
const ROUND_TRIPS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// The two pairs, built once.
pub struct Latency {
    netpath: Pair,
    netpath_xdp: Pair,
    bridge: Pair,
}

impl Latency {
    /// Builds both.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn new(floor: &Path) -> Result<Self> {
        Ok(Self {
            netpath: Pair::new(floor, Port::Veth, Forwarder::Netpath(UplinkMode::Auto))?,
            netpath_xdp: Pair::new(floor, Port::Veth, Forwarder::Netpath(UplinkMode::Xdp))?,
            bridge: Pair::new(floor, Port::Veth, Forwarder::Bridge)?,
        })
    }

    /// The experiment over both.
    pub fn experiment(&self) -> Experiment<'_> {
        let ratio = |name, metric, numerator, denominator| Comparison {
            name,
            metric,
            numerator,
            denominator: Some(denominator),
            bound: Bound::Shown,
        };
        Experiment {
            name: NAME,
            metrics: METRICS,
            variants: vec![
                Variant::with_metrics("netpath", || round_trips(&self.netpath)),
                Variant::with_metrics("netpath again", || round_trips(&self.netpath)),
                Variant::with_metrics("netpath, uplink_mode xdp", || round_trips(&self.netpath_xdp)),
                Variant::with_metrics("bridge + vxlan", || round_trips(&self.bridge)),
            ],
            comparisons: vec![
                ratio("round trips/s, times bridge + vxlan", 3, "netpath", "bridge + vxlan"),
                ratio("p50, bridge + vxlan over netpath", 0, "bridge + vxlan", "netpath"),
                ratio("p99, bridge + vxlan over netpath", 1, "bridge + vxlan", "netpath"),
                ratio("p99.9, bridge + vxlan over netpath", 2, "bridge + vxlan", "netpath"),
                ratio("round trips/s, uplink_mode xdp, times bridge", 3, "netpath, uplink_mode xdp", "bridge + vxlan"),
                ratio("round trips/s, netpath against itself", 3, "netpath again", "netpath"),
            ],
        }
    }
}

fn round_trips(pair: &Pair) -> Result<Vec<f64>> {
    let server = pair.guest.ns().run(|| UdpSocket::bind((GUEST.ip, 0)))?;
    server.set_read_timeout(Some(Duration::from_millis(200)))?;
    let target = server.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let answering = pair.guest.ns().spawn(move || answer(&server, &stopped));
    let asked = pair.remote.run(|| -> Result<Vec<f64>> {
        let client = UdpSocket::bind((REMOTE.ip, 0))?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.connect(target)?;
        own_last_cpu()?;
        ask(&client)
    });
    stop.store(true, Ordering::Relaxed);
    answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    asked
}

fn answer(server: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    own_last_cpu()?;
    let mut byte = [0; 16];
    while !stop.load(Ordering::Relaxed) {
        // Nothing for a while: time to look whether there is more to come.
        if let Ok((len, from)) = server.recv_from(&mut byte) {
            server.send_to(&byte[..len], from)?;
        }
    }
    Ok(())
}

fn ask(client: &UdpSocket) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    let mut byte = [0; 16];
    let start = Instant::now();
    for _ in 0..ROUND_TRIPS {
        let sent = Instant::now();
        client.send(&[0x5a])?;
        client.recv(&mut byte).context("a response is missing")?;
        times.push(sent.elapsed().as_nanos() as f64 / 1000.0);
    }
    let rate = ROUND_TRIPS as f64 / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Ok(vec![quantile(&times, 0.5), quantile(&times, 0.99), quantile(&times, 0.999), rate])
}
