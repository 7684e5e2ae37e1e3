//! What the data path's packets cost while somebody watches: `monitor`, metrics that are scraped each second, and `top`.
//!
//! ```text
//! last CPU     generator ─► data path ─► counted      the figure: the cost of a packet
//! the others   monitor, metrics, top                  what they burn themselves is not in it
//! ```

use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    lab::{Lab, Source},
    machine::spare_last_cpu,
    packets,
    subject::Subject,
};
use crate::{metrics::Server, monitor::Monitor, pty::Pty};

/// The experiment with frames from a guest.
pub const GUEST_TO_WIRE: &str = "watched: guest to wire, 60-byte UDP";
/// The experiment with frames from the wire.
pub const WIRE_TO_GUEST: &str = "watched: wire to guest, 60-byte UDP";
const NOBODY: &str = "nobody watches";
const AGAIN: &str = "nobody, again";
/// Frames of one run: two to three seconds.
const FRAMES: u32 = 3_000_000;
/// Between two scrapes.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long a screen is read before it is looked whether to go on.
const GLANCE: Duration = Duration::from_millis(50);

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    Monitor,
    Metrics,
    Top,
}

const ALONE: [(&str, Watcher); 3] =
    [("monitor", Watcher::Monitor), ("metrics", Watcher::Metrics), ("top", Watcher::Top)];
const ALL: &str = "all three";

/// A hypervisor under load, and what is started beside it.
pub struct Watched {
    lab: Lab,
    subject: Subject,
    source: Source,
}

impl Watched {
    /// Makes the hypervisor.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path, source: Source) -> Result<Self> {
        let (lab, subject) = packets::measured(floor, source)?;
        Ok(Self { lab, subject, source })
    }

    /// The experiment.
    pub fn experiment(&self) -> Experiment<'_> {
        let variant = |name, watchers: &'static [(&str, Watcher)]| Variant::new(name, move || self.run(watchers));
        let mut variants = vec![variant(NOBODY, &[]), variant(AGAIN, &[]), variant(ALL, &ALONE)];
        variants.extend(ALONE.iter().map(|alone| variant(alone.0, std::slice::from_ref(alone))));
        let ratio =
            |name, numerator, bound| Comparison { name, metric: 0, numerator, denominator: Some(NOBODY), bound };
        let most = Bound::AtMost(1.05);
        Experiment {
            name: if self.source == Source::Guest { GUEST_TO_WIRE } else { WIRE_TO_GUEST },
            metrics: &["ns/packet"],
            variants,
            comparisons: vec![
                ratio("with monitor", ALONE[0].0, most),
                ratio("with metrics, scraped each second", ALONE[1].0, most),
                ratio("with top", ALONE[2].0, most),
                ratio("with all three", ALL, most),
                ratio("nobody against nobody", AGAIN, Bound::Shown),
            ],
        }
    }

    /// Nanoseconds a packet while these watch.
    fn run(&self, watchers: &[(&str, Watcher)]) -> Result<f64> {
        let watching = watchers.iter().map(|(_, watcher)| self.begin(*watcher)).collect::<Result<Vec<_>>>()?;
        let measured = self.lab.run(FRAMES).with_context(|| self.subject.drops())?;
        watching.into_iter().try_for_each(Watching::end)?;
        Ok(measured)
    }

    /// Starts one, off the CPU that is measured on, and waits until it watches.
    fn begin(&self, watcher: Watcher) -> Result<Watching> {
        let netpath = self.subject.netpath().clone();
        let ns = self.lab.hypervisor.clone();
        let (stop, stopped) = channel();
        let (ready, is_ready) = channel();
        let thread = thread::spawn(move || -> Result<()> {
            spare_last_cpu()?;
            let goes_on = |wait| stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout);
            match watcher {
                Watcher::Monitor => {
                    let _monitor = Monitor::begin(&netpath, &["monitor"]);
                    ready.send(())?;
                    while goes_on(INTERVAL) {}
                }
                Watcher::Metrics => {
                    let server = Server::start(&netpath, &ns);
                    let scrape = || ensure_answered(&server.ask("GET /metrics"));
                    scrape()?;
                    ready.send(())?;
                    while goes_on(INTERVAL) {
                        scrape()?;
                    }
                }
                Watcher::Top => {
                    let mut top = Pty::start(netpath.command(["top"]), 80, 24)?;
                    top.wait("network", |screen| screen.lines().iter().any(|line| line.contains("blue-web")))?;
                    ready.send(())?;
                    while goes_on(Duration::ZERO) {
                        top.watch(GLANCE)?;
                    }
                }
            }
            Ok(())
        });
        let watching = Watching { thread, stop };
        match is_ready.recv() {
            Ok(()) => Ok(watching),
            // It has ended without being ready.
            Err(_) => {
                watching.end()?;
                anyhow::bail!("{watcher:?} has ended")
            }
        }
    }
}

/// Somebody who watches.
struct Watching {
    thread: JoinHandle<Result<()>>,
    stop: Sender<()>,
}

impl Watching {
    /// Has him end, and says whether he has watched until then.
    fn end(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn ensure_answered((status, body): &(String, String)) -> Result<()> {
    ensure!(status == "200" && !body.is_empty(), "the metrics answer {status}");
    Ok(())
}
