//! How exact a NIC's limit of 5 Gbit/s is, which guests with a stack of their own hardly reach on a small machine: frames of full
//! size that a driver generates.

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::bench::{
    experiment::{Bound, Comparison, Experiment, Variant},
    lab::{Action, LONG, Lab, SHORT, Source},
    subject::{Subject, UplinkMode},
};

/// Frames that a guest sends.
pub const FROM_GUEST: &str = "limits: 5 Gbit/s, 1464-byte UDP from a guest";
/// Frames for a guest.
pub const TO_GUEST: &str = "limits: 5 Gbit/s, 1464-byte UDP to a guest";
/// The rate, as definitions have it.
const RATE: &str = "5Gbps";
/// Length in bytes of a guest's frame: behind the outer headers it fills an MTU of 1500.
const FRAME: usize = 1464;
/// Frames that are generated between two looks at the clock.
const AT_ONCE: u32 = 25_000;
/// After so long credit is used up.
const SETTLING: Duration = Duration::from_secs(1);
/// For so long a rate is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// The same without a limit.
const UNLIMITED_WINDOW: Duration = Duration::from_secs(1);

/// A hypervisor whose guest has the limit, or none.
pub struct Exactness {
    name: &'static str,
    lab: Lab,
    subject: Subject,
    is_limited: Cell<bool>,
}

impl Exactness {
    /// Builds it, and applies netpath. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn new(floor: &Path, source: Source) -> Result<Self> {
        let (name, action, counted) = match source {
            Source::Guest => (FROM_GUEST, Action::Receive, FRAME + LONG - SHORT),
            Source::Wire => (TO_GUEST, Action::Send, FRAME),
        };
        let lab = Lab::sized(floor, source, action, counted, FRAME)?;
        lab.count(source == Source::Wire)?;
        let subject = Subject::apply(&lab.hypervisor, UplinkMode::Xdp)?;
        Ok(Self { name, lab, subject, is_limited: Cell::new(false) })
    }

    /// The experiment.
    pub fn experiment(&self) -> Experiment<'_> {
        let [limited, unlimited] = [RATE, "no limit"];
        let value = |name, numerator, bound| Comparison { name, metric: 0, numerator, denominator: None, bound };
        Experiment {
            name: self.name,
            metrics: &["Gbit/s"],
            variants: vec![
                Variant::new(limited, || self.run(true, WINDOW)),
                Variant::new(unlimited, || self.run(false, UNLIMITED_WINDOW)),
            ],
            comparisons: vec![
                value("what 5 Gbit/s lets pass, at least", limited, Bound::AtLeast(4.75)),
                value("what 5 Gbit/s lets pass, at most", limited, Bound::AtMost(5.25)),
                value("what comes", unlimited, Bound::AtLeast(6.0)),
            ],
        }
    }

    /// Gbit/s of frames that arrive, each as long as a guest has it.
    fn run(&self, is_limited: bool, window: Duration) -> Result<f64> {
        if self.is_limited.replace(is_limited) != is_limited {
            self.subject.change(|zone| {
                if is_limited {
                    zone["networks"][0]["nics"][0]["network_rate"] = RATE.into();
                }
            })?;
        }
        self.generate(SETTLING)?;
        let (before, start) = (self.lab.received()?, Instant::now());
        self.generate(window)?;
        let (frames, elapsed) = (self.lab.received()? - before, start.elapsed());
        Ok(frames as f64 * FRAME as f64 * 8.0 / elapsed.as_secs_f64() / 1e9)
    }

    fn generate(&self, window: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < window {
            self.lab.run_generator(AT_ONCE).with_context(|| self.subject.drops())?;
        }
        Ok(())
    }
}
